"""Load a model by name, by folder, or as a module, and check its sites.

    model = gh.load("Qwen/Qwen3-0.6B")            # hub
    model = gh.load("small")                      # models/small of the workspace, else a folder, else the hub
    model = gh.load("runs/lora")                  # an adapter that PEFT saved, merged into its base
    model = gh.load(module, tokenizer=t, sites=gh.models.SiteMap(...))

Only safetensors are read, and no code from a repository is ever run.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glasshouse.models.adapters import base_of, is_adapter, merged
from glasshouse.models.checks import check_sites
from glasshouse.models.families import SiteMap, family_of, supported
from glasshouse.models.model import Model
from glasshouse.models.origins import SOURCE, name_here, noted, root
from glasshouse.types import NAME_PATTERN, NUMBER, UserError
from glasshouse.workspace import Workspace, read_manifest

_HUB_SECONDS = 10  # for the one question whether the hub knows a name
# What transformers raises of a value that it did not expect, where it checks and where it first uses it.
_CONFIG_ERRORS = (ValueError, KeyError, TypeError, AttributeError, AssertionError, ZeroDivisionError, RecursionError)


def load(
    source: str | Path | nn.Module,
    *,
    tokenizer: Any = None,
    sites: SiteMap | None = None,
    name: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    workspace: Workspace | str | Path | None = None,
) -> Model:
    """A model with its sites checked on a short input.

    source: a name in the workspace's models/, a folder in Hugging Face format, a name on the hub, or a module, which is
    taken as it is and set to `eval()`. A folder with an adapter is that merged into the model it names as its base,
    with its own tokenizer where it has one (see `adapters`).
    sites: for a module outside the table of families. dtype: "float32", "bfloat16", "float16" or "auto" (as saved);
    None: as the workspace opened it, else float32. device: CUDA where there is one, else the CPU.
    Raises `UserError`, one line, for a name that does not exist or cannot be reached, an architecture outside the
    table, a config that builds no model or one of fewer blocks than are stored, weights that are no safetensors, a
    tokenizer with more tokens than the embedding, a row that does not fit.
    """
    check_device(device)
    if isinstance(source, nn.Module):
        module, family = source, sites or _family(getattr(source, "config", None), type(source).__name__)
        chosen_name = name or type(source).__name__.lower()
    else:
        where, local_only = _find(str(source), workspace)
        here = name_here(str(source), workspace)
        chosen_name, dtype = name or here, dtype or noted(root(workspace) / "models" / here).get("dtype", "float32")
        adapter = where if is_adapter(where) else ""
        if adapter:
            where, local_only = _find(base_of(adapter), workspace)
        module, family = _from_pretrained(where, local_only, dtype, sites)
        own = adapter and (Path(adapter) / "tokenizer_config.json").is_file()
        tokenizer = tokenizer or (_tokenizer(adapter, True) if own else _tokenizer(where, local_only))
        module = merged(module, adapter) if adapter else module
        module.requires_grad_(False)
    module = module.to(device or _device(module, source)).eval()
    config = getattr(module, "config", None)
    model = Model(module, tokenizer, family.adapt(family, config) if config else family, name=chosen_name)
    _check_vocabulary(model)
    check_sites(model)
    return model


def check_device(device: str | None) -> None:
    """Raises `UserError` unless it is None, "cpu", or a CUDA device or "mps" of this machine."""
    kind, _, index = str(device or "cpu").partition(":")
    have = torch.cuda.device_count()
    number = index if NUMBER.fullmatch(index) else ""
    if kind == "cuda" and not int(number or 0) < have:
        raise UserError(f"expected device {device}, but this machine has {have} CUDA devices; leave --device out")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError("expected device mps, but this machine has none; leave --device out")
    if kind not in ("cpu", "cuda", "mps") or index != number:
        raise UserError(f"expected device cpu, cuda or cuda:N, got {device!r}")


def _check_vocabulary(model: Model) -> None:
    """Tokens that were added to the tokenizer's own may lie beyond the embedding, as Gemma 3's for images do in its
    models of text alone; should one occur, the run says so."""
    tokens, rows = getattr(model.tokenizer, "vocab_size", 0), model.vocabulary
    if rows is not None and tokens > rows:
        raise UserError(
            f"expected a tokenizer of at most {rows} tokens, as many as the embedding of {model.name} has, got one of "
            f"{tokens}; give the tokenizer that the model was trained with"
        )


def _device(module: nn.Module, source: Any) -> str | torch.device:
    if isinstance(source, nn.Module):
        return next(module.parameters()).device
    return default_device()


def default_device() -> str:
    """ "cuda" where there is one, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _family(config: Any, what: str) -> SiteMap:
    row = family_of(getattr(config, "model_type", ""))
    if row is None:
        kind = getattr(config, "model_type", None)
        raise UserError(
            f"expected a model of one of the families {supported()}, got {f'model_type {kind!r}' if kind else what}; "
            "load it yourself and pass the module: gh.load(module, tokenizer=..., sites=SiteMap(...))"
        )
    return row


# -- finding -----------------------------------------------------------------------------------------------------------


def _find(source: str, workspace: Workspace | str | Path | None) -> tuple[str, bool]:
    """(folder or hub name, whether to keep off the network)."""
    if NAME_PATTERN.fullmatch(source):
        folder = root(workspace) / "models" / source
        if (folder / "manifest.json").is_file():
            read_manifest(folder)
        if (folder / "config.json").is_file():
            return str(folder), True
        if (folder / SOURCE).is_file():  # opened from elsewhere; its weights were not copied
            return _elsewhere(folder)
    if Path(source).is_dir():
        if is_adapter(source):
            return source, True
        if not (Path(source) / "config.json").is_file():
            raise UserError(
                f"expected a model in Hugging Face format in {source}, found no config.json; check the folder"
            )
        _refuse_pickles(Path(source))
        return source, True
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise UserError(f"expected a folder at {source}, found none; check the path")
    return source, _hub_knows(source)


def _elsewhere(folder: Path) -> tuple[str, bool]:
    """Where the model of a workspace came from: a folder, or a name on the hub."""
    where = noted(folder)["source"]
    if Path(where).is_absolute() and not Path(where).is_dir():
        said = folder / SOURCE
        raise UserError(f"expected model {folder.name} at {where}, as {said} says, found none; open it again")
    return (where, True) if Path(where).is_dir() else (where, _hub_knows(where))


def _refuse_pickles(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    pickles = [p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt")]
    found = f"only {', '.join(sorted(pickles)[:3])}, pickles, which can run code" if pickles else "none"
    raise UserError(
        f"expected weights as safetensors in {folder}, found {found}; "
        "convert them with save_pretrained(..., safe_serialization=True) where you trust them"
    )


def _hub_knows(name: str) -> bool:
    """Ask the hub once whether the name exists. True: it cannot be reached but the model is in the cache."""
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        cached = isinstance(try_to_load_from_cache(name, "config.json"), str)
    except HFValidationError:
        raise UserError(f"expected a name in the workspace, a folder or a name on the hub, got {name!r}") from None
    if constants.HF_HUB_OFFLINE or os.environ.get("TRANSFORMERS_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        if cached:
            return True
        raise UserError(
            f"expected model {name!r} in the workspace, a folder or the hub's cache, found none, and offline mode is "
            "on (HF_HUB_OFFLINE); download it first, or give a folder"
        )
    try:
        HfApi().model_info(name, timeout=_HUB_SECONDS)
    except GatedRepoError:
        raise UserError(
            f"model {name!r} is gated on the hub; accept its terms there and log in with `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"no model named {name!r} in the workspace, as a folder, or on the hub; "
            "check the name, or log in if it is private"
        ) from None
    except Exception as error:  # requests', httpx' or httpx2's, by the version of huggingface_hub: no common base
        if cached:
            return True
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"no model named {name!r} in the workspace or as a folder, and the hub cannot be reached ({reason}); "
            "check the name, the network, or give a folder"
        ) from None
    return False


# -- reading -----------------------------------------------------------------------------------------------------------


def _from_pretrained(where: str, local_only: bool, dtype: str, sites: SiteMap | None) -> tuple[nn.Module, SiteMap]:
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    if dtype not in ("float32", "bfloat16", "float16", "auto"):
        raise UserError(f"expected dtype float32, bfloat16, float16 or auto, got {dtype!r}")
    common: dict[str, Any] = {"trust_remote_code": False, "local_files_only": local_only}
    try:
        config = AutoConfig.from_pretrained(where, **common)
    except (*_CONFIG_ERRORS, StrictDataclassError, OSError) as error:
        raise UserError(_config_problem(where, error)) from None
    family = sites or _family(config, where)
    auto = AutoModelForCausalLM if "logits" in family.places else AutoModel
    if family.attention:
        common["attn_implementation"] = family.attention
    try:
        with no_bar():
            module, info = auto.from_pretrained(  # type: ignore[misc]
                where, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **common
            )
    except ImportError as error:
        raise UserError(
            f"expected weights that are not quantised in {where}, found some that need another package to read "
            f"({_reason(error)}); save the model without quantisation, or install that"
        ) from None
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"expected whole weights as safetensors in {where}, and a config.json that fits them, found a problem: "
            f"{_reason(error)}"
        ) from None
    except (*_CONFIG_ERRORS, StrictDataclassError) as error:  # what a config says is first used here
        raise UserError(_config_problem(where, error)) from None
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise UserError(
            f"expected every weight of {type(module).__name__} in {where}, {len(missing)} are missing "
            f"({', '.join(missing[:3])}); download or save the model again"
        )
    if beyond := _beyond(module, family, info["unexpected_keys"]):
        raise UserError(
            f"expected weights of as many blocks as config.json says in {where}, found others besides "
            f"({', '.join(beyond[:3])}); mend the number of layers there"
        )
    return module, family


def _beyond(module: nn.Module, family: SiteMap, unexpected: Iterable[str]) -> list[str]:
    """Those weights that are of blocks which the module lacks, whether they were saved with a head or without. Others
    that it has no use for, such as another head's, are none of its own."""
    base = f"{getattr(module, 'base_model_prefix', '')}."
    lists = "|".join(map(re.escape, {family.blocks, base + family.blocks, family.blocks.removeprefix(base)}))
    have = {f"{name}." for name, _ in module.named_modules()}
    found = {key: re.match(rf"(?:{lists})\.([0-9]+)\.", key) for key in sorted(unexpected)}
    return [key for key, block in found.items() if block and f"{family.blocks}.{block[1]}." not in have]


@contextlib.contextmanager
def no_bar() -> Iterator[None]:
    """Without transformers' bars for weights that are copied or saved; a download keeps its own."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _config_problem(where: str, error: Exception) -> str:
    if "trust_remote_code" in str(error) or "does not recognize this architecture" in str(error):
        return (
            f"expected a model of one of the families {supported()} in {where}, got an architecture that transformers "
            "does not know (code from a repository is never run); load it yourself and pass the module: "
            "gh.load(module, tokenizer=..., sites=SiteMap(...))"
        )
    return f"expected a config.json that makes a model in {where}, found a problem: {_reason(error)}"


def _reason(error: Exception) -> str:
    """transformers' own words, in a line: the first of several, with the next where it is a heading."""
    lines = str(error).strip().splitlines()
    if isinstance(error, KeyError):  # says the key and nothing else
        return f"no entry {error}"
    if not lines:
        return type(error).__name__
    return " ".join(line.strip() for line in lines[:2]) if lines[0].endswith(":") else lines[0]


def _tokenizer(where: str, local_only: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False, local_files_only=local_only)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise UserError(
            f"expected a tokenizer in {where}, found none that loads ({_reason(error)}); pass tokenizer="
        ) from None
    if tokenizer.vocab_size <= len(tokenizer.all_special_tokens):  # made of nothing when its files are missing
        raise UserError(f"expected a tokenizer in {where}, found one without a vocabulary; pass tokenizer=")
    return tokenizer
