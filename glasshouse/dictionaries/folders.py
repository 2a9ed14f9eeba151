"""Dictionaries on disk: `cfg.json` and `sae_weights.safetensors` as SAELens 6 writes them, and what we add beside.

    d = dictionary("resid6")             # of the workspace, or a folder: ours, or SAELens' TopK, JumpReLU or standard

What SAELens has no key for (each feature's largest activation, the site's typical norm) is in
`statistics.safetensors`, so that SAELens loads our folders without a complaint.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from glasshouse.dictionaries.dictionary import Dictionary, Threshold
from glasshouse.types import NAME_PATTERN, Site, UserError
from glasshouse.workspace import Workspace, write_atomically

CONFIG, WEIGHTS, STATISTICS, REPORT = "cfg.json", "sae_weights.safetensors", "statistics.safetensors", "report.json"
SAELENS_WRITTEN_FOR = "6.54.12"
MEASURES = ("unexplained", "l0", "dead", "dense", "loss_recovered", "error_norm")  # of a report: numbers or estimates

# SAELens' architecture -> how its activation is read. Transcoders and the rest come with their own rooms.
ARCHITECTURES: dict[str, Callable[[dict[str, Any], dict[str, Tensor]], Threshold]] = {
    "standard": lambda config, tensors: Threshold(kind="relu"),
    "topk": lambda config, tensors: Threshold(kind="topk", k=int(config["k"])),
    "jumprelu": lambda config, tensors: Threshold(kind="jumprelu", threshold_F=tensors["threshold"]),
}


def dictionary(source: str | Path, *, ws: Workspace | None = None, name: str | None = None) -> Dictionary:
    """A dictionary of the workspace by name, or of a folder in our form or SAELens' TopK, JumpReLU or standard form.

    Raises `UserError` for a folder that is missing, truncated, of another architecture or of tensors that do not fit.
    """
    if isinstance(source, str) and NAME_PATTERN.fullmatch(source):
        found = ws if ws is not None else (Workspace.open(create=False) if not Path(source).is_dir() else None)
        if found is not None and (found.exists("dictionaries", source) or not Path(source).is_dir()):
            found.manifest("dictionaries", source)
            return read_folder(found.path("dictionaries", source), name=name or source)
    return read_folder(Path(source), name=name)


def write_folder(dictionary: Dictionary, folder: Path) -> None:
    """Write cfg.json, sae_weights.safetensors, statistics.safetensors and report.json into an existing folder."""
    tensors = {key: getattr(dictionary, key).cpu().contiguous() for key in ("W_enc", "b_enc", "W_dec", "b_dec")}
    config: dict[str, Any] = {
        "d_in": dictionary.width,
        "d_sae": dictionary.n_features,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": SAELENS_WRITTEN_FOR,
            "model_name": dictionary.model_name,
            "hook_name": hook_name(dictionary.site),
            "glasshouse_name": dictionary.name,
            "glasshouse_site": str(dictionary.site),
        },
        "architecture": {"relu": "standard"}.get(dictionary.activation.kind, dictionary.activation.kind),
    }
    if dictionary.activation.kind == "topk":
        config |= {"k": dictionary.activation.k, "rescale_acts_by_decoder_norm": False}
    if dictionary.activation.threshold_F is not None:
        tensors["threshold"] = dictionary.activation.threshold_F.cpu().contiguous()
    save_file(tensors, folder / WEIGHTS)
    if dictionary.max_activation is not None and dictionary.typical_norm is not None:
        statistics = {
            "max_activation": dictionary.max_activation.cpu().contiguous(),
            "typical_norm": torch.tensor(dictionary.typical_norm, dtype=torch.float64),
        }
        save_file(statistics, folder / STATISTICS)
    write_atomically(folder / CONFIG, json.dumps(config, indent=1))
    write_atomically(folder / REPORT, json.dumps(dictionary.report, indent=1))


def hook_name(site: Site) -> str:
    """TransformerLens' name of a site, which SAELens' users expect; the site itself where there is none (`mlp_in`: its
    `hook_mlp_in` stands before the norm). What leaves a block is named by that block: the last has none after it."""
    if site.kind == "embed" or (site.kind == "resid" and site.layer == 0):
        return "blocks.0.hook_resid_pre"  # `hook_embed` lacks the positions that GPT-2 adds
    if site.kind == "resid" and site.layer is not None:
        return f"blocks.{site.layer - 1}.hook_resid_post"
    hooks = {
        "resid_mid": "hook_resid_mid",
        "attn_out": "hook_attn_out",
        "mlp_out": "hook_mlp_out",
        "mlp_act": "mlp.hook_post",
        "z": "attn.hook_z",
    }
    if site.kind in hooks and site.layer is not None:
        return f"blocks.{site.layer}.{hooks[site.kind]}"
    return str(site)


# -- reading ---------------------------------------------------------------------------------------------------------


def read_folder(folder: Path, *, name: str | None = None) -> Dictionary:
    """The dictionary in a folder. Raises `UserError` as `dictionary` does."""
    config = _as_version_6(folder, _read_config(folder))
    architecture = config["architecture"]
    tensors = _read_tensors(folder / WEIGHTS)
    scale_F = _finetuned_scale(folder, config, tensors)
    needed = ["W_enc", "b_enc", "W_dec", "b_dec"] + (["threshold"] if architecture == "jumprelu" else [])
    if missing := [key for key in needed if key not in tensors]:
        raise UserError(f"expected tensors {', '.join(needed)} in {folder / WEIGHTS}, found no {', '.join(missing)}")
    tensors = {key: tensors[key].float() for key in needed}
    _check_shapes(folder, config, tensors)
    k = config.get("k")
    if architecture == "topk" and (not isinstance(k, int) or isinstance(k, bool) or k < 1):
        raise UserError(f"expected a whole number k of at least 1 in {folder / CONFIG}, found {k!r}")
    activation = ARCHITECTURES[architecture](config, tensors)
    _fold_options(folder, config, tensors)
    if scale_F is not None:  # SAELens multiplies codes by it before it decodes, and does not show them so
        tensors["W_dec"] = tensors["W_dec"] * scale_F[:, None]
    metadata = _object(folder, config, "metadata")
    _fold_centring(folder, config, metadata, tensors)
    found = Dictionary(
        name=name or _name(folder, metadata),
        site=_site(folder, config, metadata),
        model_name=metadata.get("model_name") or config.get("model_name"),
        activation=activation,
        report=_read_report(folder),
        origin="glasshouse" if "glasshouse_name" in metadata else "saelens",
        W_enc=tensors["W_enc"],
        b_enc=tensors["b_enc"],
        W_dec=tensors["W_dec"],
        b_dec=tensors["b_dec"],
    )
    return _with_statistics(folder, found)


def _read_config(folder: Path) -> dict[str, Any]:
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"expected a dictionary folder with {CONFIG} and {WEIGHTS} at {folder}, found "
            f"{'no ' + CONFIG if folder.is_dir() else 'no such folder'}; give the folder that holds {CONFIG}"
        )
    config = _read_json(folder / CONFIG)
    if not isinstance(config, dict):
        raise UserError(f"expected a JSON object in {folder / CONFIG}, found {type(config).__name__}")
    return config


def _as_version_6(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The config as SAELens 6 writes it. Before, a TopK could be `standard` with the activation "topk", and its k was
    among the activation's arguments."""
    architecture = config.get("architecture")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise UserError(
            f"expected a dictionary of architecture {', '.join(ARCHITECTURES)} in {folder}, found "
            f"{_shown(architecture)}; convert it first"
        )
    said = [config[key] for key in ("activation_fn_str", "activation_fn") if config.get(key) is not None]
    activation = said[0] if said else "relu"
    known = ("relu",) if architecture == "jumprelu" else ("relu", "topk")
    if any(one != activation for one in said) or activation not in known:
        raise UserError(
            f"expected one activation, {' or '.join(known)}, of the {architecture} dictionary in {folder / CONFIG}, "
            f"found {' and '.join(map(_shown, said))}; convert it first"
        )
    if "topk" in (activation, architecture):
        arguments = _object(folder, config, "activation_fn_kwargs")
        return {**config, "architecture": "topk", "k": arguments.get("k") if config.get("k") is None else config["k"]}
    return config


def _finetuned_scale(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> Tensor | None:
    """What a fine-tuned dictionary of SAELens before version 6 multiplies its codes by when it decodes, (F,)."""
    scale_F = tensors.get("finetuning_scaling_factor", tensors.get("scaling_factor"))
    if not config.get("finetuning_scaling_factor"):
        if scale_F is not None and not torch.allclose(scale_F.float(), torch.ones(())):
            raise UserError(
                f"expected finetuning_scaling_factor true in {folder / CONFIG}, as {WEIGHTS} has one that is not 1, "
                "found none; say there whether it holds"
            )
        return None
    F = tensors["b_enc"].shape if "b_enc" in tensors else None
    if scale_F is None or scale_F.shape != F or not torch.isfinite(scale_F).all():
        raise UserError(
            f"expected finetuning_scaling_factor in {folder / WEIGHTS}, a finite number a feature, as {CONFIG} says, "
            f"found {'none' if scale_F is None else 'another tensor'}; copy the folder again"
        )
    return scale_F.float()


def _object(folder: Path, holder: dict[str, Any], key: str) -> dict[str, Any]:
    found = holder.get(key) or {}
    if not isinstance(found, dict):
        raise UserError(f"expected a JSON object as {key} in {folder / CONFIG}, found {_shown(found)}; mend it there")
    return found


def _shown(value: Any) -> str:
    """A value that came in place of another, short enough for a line."""
    return repr(value) if value is None or (isinstance(value, str) and len(value) < 80) else type(value).__name__


def _read_report(folder: Path) -> dict[str, Any]:
    """The report beside; empty where there is none."""
    file = folder / REPORT
    report = _read_json(file) if file.is_file() else {}
    if not isinstance(report, dict):
        raise UserError(f"expected a JSON object in {file}, found {type(report).__name__}; leave the file out")
    for key in MEASURES:
        numbers = [0.0] if report.get(key) is None else _numbers(report[key])
        if not numbers or (key == "l0" and not 0 <= numbers[0] < math.inf):
            raise UserError(
                f"expected {key} in {file} to be a number, or an estimate with value, low and high, found another "
                "value; leave the file out"
            )
    return report


def _numbers(measure: Any) -> list[float]:
    """A number, or value, low and high of an estimate; empty where it is neither."""
    parts = [measure.get(part) for part in ("value", "low", "high")] if isinstance(measure, dict) else [measure]
    numbers = [part for part in parts if isinstance(part, int | float) and not isinstance(part, bool)]
    return numbers if len(numbers) == len(parts) else []


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise UserError(f"expected JSON in {file}, found one too deeply nested to read; copy it again") from None
    except (OSError, ValueError) as error:
        raise UserError(f"expected JSON in {file}, found a file that does not parse ({error}); copy it again") from None


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(file, "pt") as handle:
            return {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118  (not a dict)
    except FileNotFoundError:
        raise UserError(f"expected weights at {file}, found no such file; copy the folder again") from None
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"expected safetensors in {file}, found a file that does not read, perhaps truncated ({error}); "
            "copy it again"
        ) from None


def _check_shapes(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    if tensors["W_enc"].dim() != 2:
        raise UserError(f"expected W_enc of two dimensions in {folder}, found {tuple(tensors['W_enc'].shape)}")
    D, F = tensors["W_enc"].shape
    if not D or not F:
        raise UserError(f"expected at least one feature in {folder / WEIGHTS}, found W_enc of shape {(D, F)}")
    expected = {"b_enc": (F,), "W_dec": (F, D), "b_dec": (D,), "threshold": (F,)}
    for key, tensor in tensors.items():
        if key in expected and tuple(tensor.shape) != expected[key]:
            raise UserError(
                f"expected {key} of shape {expected[key]} beside W_enc {(D, F)} in {folder}, found "
                f"{tuple(tensor.shape)}; copy the folder again"
            )
        if not torch.isfinite(tensor).all():
            raise UserError(f"expected finite numbers in {folder / WEIGHTS}, found others in {key}")
    for key, size in (("d_in", D), ("d_sae", F)):
        if config.get(key, size) != size:
            raise UserError(f"expected {key} = {config[key]!r} as {folder / CONFIG} says, found {size} in {WEIGHTS}")


def _fold_options(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """SAELens' options that can be folded into weights are; the others are refused."""
    for key in ("normalize_activations", "reshape_activations", "hook_head_index"):
        if config.get(key) not in (None, "none"):
            raise UserError(
                f"expected {key} 'none' in {folder / CONFIG}, found {config[key]!r}; save it with that folded in"
            )
    if config.get("rescale_acts_by_decoder_norm"):
        # SAELens picks and returns pre-activations times the length of their decoder row, and decodes by unit rows.
        # A row of zeros, of a feature that writes nothing, stays one.
        norm_F = tensors["W_dec"].norm(dim=1).clamp(min=1e-12)
        tensors["W_enc"], tensors["b_enc"] = tensors["W_enc"] * norm_F, tensors["b_enc"] * norm_F
        tensors["W_dec"] = tensors["W_dec"] / norm_F[:, None]
    if config.get("apply_b_dec_to_input", True):  # SAELens' default
        tensors["b_enc"] = tensors["b_enc"] - tensors["b_dec"] @ tensors["W_enc"]


def _fold_centring(
    folder: Path, config: dict[str, Any], metadata: dict[str, Any], tensors: dict[str, Tensor]
) -> None:  # fmt: skip
    """Of a dictionary that was trained on TransformerLens' `center_writing_weights`, in which what stands in the stream
    has no mean over its width: the mean is taken away before it encodes."""
    site, key = _site(folder, config, metadata), "model_from_pretrained_kwargs"
    given = _object(folder, metadata, key) or _object(folder, config, key)
    if given.get("center_writing_weights") and site.kind in ("embed", "resid", "resid_mid", "attn_out", "mlp_out"):
        tensors["W_enc"] = tensors["W_enc"] - tensors["W_enc"].mean(dim=0)


def _name(folder: Path, metadata: dict[str, Any]) -> str:
    for text in (metadata.get("glasshouse_name"), folder.name.lower(), folder.resolve().name.lower()):
        if isinstance(text, str) and NAME_PATTERN.fullmatch(text):
            return text
    return "imported"


def _site(folder: Path, config: dict[str, Any], metadata: dict[str, Any]) -> Site:
    text = metadata.get("glasshouse_site") or metadata.get("hook_name") or config.get("hook_name")
    if not isinstance(text, str):
        raise UserError(f"expected the site (metadata.hook_name) in {folder / CONFIG}, found {text!r}; add it there")
    return Site.parse(text)


def _with_statistics(folder: Path, found: Dictionary) -> Dictionary:
    if not (folder / STATISTICS).is_file():
        return found
    statistics = _read_tensors(folder / STATISTICS)
    try:
        maxima_F, norm = statistics["max_activation"].float(), float(statistics["typical_norm"])
    except (KeyError, ValueError, RuntimeError) as error:
        raise UserError(
            f"expected max_activation and typical_norm in {folder / STATISTICS}, found none ({error})"
        ) from None
    if tuple(maxima_F.shape) != (found.n_features,):
        raise UserError(f"expected {found.n_features} numbers in {folder / STATISTICS}, found {tuple(maxima_F.shape)}")
    if not 0 < norm < math.inf or not bool(((maxima_F >= 0) & (maxima_F < math.inf)).all()):
        raise UserError(
            f"expected finite numbers in {folder / STATISTICS}, typical_norm above 0 and max_activation at least 0, "
            f"found others; leave the file out, and they are measured"
        )
    return found.with_statistics(maxima_F, norm)
