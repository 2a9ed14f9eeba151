"""Low-rank adapters (LoRA and its kin) as PEFT saves them: a folder with `adapter_config.json` and safetensors.

The adapter is merged into a copy of the model that it was trained on, W + B·A·α/r (Hu et al. 2021, arXiv:2106.09685,
§4.1), so that every site, edit and reply is that of a plain model; numbers are those of the two apart up to rounding.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from torch import nn

from glasshouse.types import UserError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def is_adapter(folder: str | Path) -> bool:
    return (Path(folder) / CONFIG).is_file()


def base_of(folder: str) -> str:
    """The model that the adapter in the folder was trained on: a name or a folder, as it says."""
    try:
        said = json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8"))
        base = said["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"expected an adapter's configuration in {Path(folder) / CONFIG}, found {error!r}") from None
    if not isinstance(base, str) or not base:
        raise UserError(f"expected base_model_name_or_path in {Path(folder) / CONFIG}, got {base!r}; write it there")
    return base


def merged(module: nn.Module, folder: str) -> nn.Module:
    """The module with the adapter merged in. Raises `UserError` without PEFT, for weights that are no safetensors, an
    adapter that cannot be merged (prompts, prefixes), and one that does not fit the module."""
    try:
        from peft import PeftConfig, get_peft_model, set_peft_model_state_dict
    except ImportError:
        raise UserError(f"expected peft to read the adapter in {folder}; pip install 'glasshouse[peft]'") from None
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    weights = Path(folder) / WEIGHTS
    if not weights.is_file():
        raise UserError(f"expected the adapter's weights as {WEIGHTS} in {folder}, found none (no pickle is read)")
    try:
        config: Any = PeftConfig.from_pretrained(folder)
        with warnings.catch_warnings(action="ignore"):  # of what it puts right itself; what does not fit is told below
            wrapped: Any = get_peft_model(module, config)  # type: ignore[arg-type]
        if not hasattr(wrapped.base_model, "merge_and_unload"):
            raise UserError(
                f"expected an adapter that can be merged into weights, such as LoRA, got {config.peft_type.value} in "
                f"{folder}"
            )
        given = load_file(weights)
        found: Any = set_peft_model_state_dict(wrapped, given)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"expected an adapter that fits {type(module).__name__} in {folder}, found a problem: {reason}"
        ) from None
    lacking = [key for key in found.missing_keys if "lora_" in key or "modules_to_save" in key]
    if not given or found.unexpected_keys or lacking:
        wrong = [*found.unexpected_keys, *lacking] or ["no weights"]
        raise UserError(
            f"expected an adapter that fits {type(module).__name__} in {folder}, {len(wrong)} of its weights do not "
            f"({', '.join(wrong[:3])}); check base_model_name_or_path in {CONFIG}"
        )
    plain: nn.Module = wrapped.merge_and_unload()
    return plain
