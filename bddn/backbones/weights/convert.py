"""Load checkpoints of other libraries into the vision transformers of `transformers`."""

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from bddn.backbones.weights.loading import SHOWN, common_prefix, refuse_misfits
from bddn.errors import BackboneError
from bddn.files.filekind import MISSING, PICKLE, SAFETENSORS, TORCH, explain
from bddn.text import shorten

Format = Literal["open_clip", "torchvision", "timm", "moco"]


@dataclass(frozen=True)
class _Names:
    """The parameter names of a format.

    Parameters
    ----------
    rules : dict
        From a pattern of a `transformers` name to the name in the file, without prefix. `|` separates alternatives.
        Parameters with one name in the file are fused in it: queries, keys and values, in this order.
    prefixes : tuple of str
        Prefixes of the tower's names; the first that occurs counts. Names without it belong to another network.
    other : str
        Pattern of the names, without prefix, of layers after the tower.
    """

    rules: dict[str, str]
    prefixes: tuple[str, ...]
    other: str


_TIMM = {
    r"embeddings\.cls_token": r"cls_token",
    r"embeddings\.position_embeddings": r"pos_embed",
    r"embeddings\.patch_embeddings\.projection\.(\w+)": r"patch_embed.proj.\1",
    r"layers\.(\d+)\.layernorm_before\.(\w+)": r"blocks.\1.norm1.\2",
    r"layers\.(\d+)\.attention\.[qkv]_proj\.(\w+)": r"blocks.\1.attn.qkv.\2",
    r"layers\.(\d+)\.attention\.o_proj\.(\w+)": r"blocks.\1.attn.proj.\2",
    r"layers\.(\d+)\.layernorm_after\.(\w+)": r"blocks.\1.norm2.\2",
    r"layers\.(\d+)\.mlp\.(fc[12])\.(\w+)": r"blocks.\1.mlp.\2.\3",
    r"layernorm\.(\w+)": r"norm.\1",
}
_TV = r"encoder.layers.encoder_layer_\1"
_TORCHVISION = {
    r"embeddings\.cls_token": r"class_token",
    r"embeddings\.position_embeddings": r"encoder.pos_embedding",
    r"embeddings\.patch_embeddings\.projection\.(\w+)": r"conv_proj.\1",
    r"layers\.(\d+)\.layernorm_before\.(\w+)": rf"{_TV}.ln_1.\2",
    r"layers\.(\d+)\.attention\.[qkv]_proj\.(\w+)": rf"{_TV}.self_attention.in_proj_\2",
    r"layers\.(\d+)\.attention\.o_proj\.(\w+)": rf"{_TV}.self_attention.out_proj.\2",
    r"layers\.(\d+)\.layernorm_after\.(\w+)": rf"{_TV}.ln_2.\2",
    r"layers\.(\d+)\.mlp\.fc1\.(\w+)": rf"{_TV}.mlp.0.\2|{_TV}.mlp.linear_1.\2",  # the second form is older than 0.13
    r"layers\.(\d+)\.mlp\.fc2\.(\w+)": rf"{_TV}.mlp.3.\2|{_TV}.mlp.linear_2.\2",
    r"layernorm\.(\w+)": r"encoder.ln.\1",
}
_OC = r"transformer.resblocks.\1"
_OPEN_CLIP = {
    r"embeddings\.class_embedding": r"class_embedding",
    r"embeddings\.position_embedding\.weight": r"positional_embedding",
    r"embeddings\.patch_embedding\.(\w+)": r"conv1.\1",
    r"pre_layrnorm\.(\w+)": r"ln_pre.\1",
    r"encoder\.layers\.(\d+)\.layer_norm([12])\.(\w+)": rf"{_OC}.ln_\2.\3",
    r"encoder\.layers\.(\d+)\.self_attn\.[qkv]_proj\.(\w+)": rf"{_OC}.attn.in_proj_\2",
    r"encoder\.layers\.(\d+)\.self_attn\.out_proj\.(\w+)": rf"{_OC}.attn.out_proj.\2",
    r"encoder\.layers\.(\d+)\.mlp\.fc1\.(\w+)": rf"{_OC}.mlp.c_fc.\2",
    r"encoder\.layers\.(\d+)\.mlp\.fc2\.(\w+)": rf"{_OC}.mlp.c_proj.\2",
    r"post_layernorm\.(\w+)": r"ln_post.\1",
}
_NAMES: dict[Format, _Names] = {
    "open_clip": _Names(_OPEN_CLIP, prefixes=("visual.", ""), other=r"proj"),
    "torchvision": _Names(_TORCHVISION, prefixes=("",), other=r"heads\..+"),
    "timm": _Names(_TIMM, prefixes=("",), other=r"(head|fc_norm)\..+|mask_token|decoder_.+"),
    "moco": _Names(_TIMM, prefixes=("module.base_encoder.",), other=r"head\..+"),
}
FORMATS: tuple[Format, ...] = get_args(Format)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint, on the CPU, with the names, shapes and dtypes of the file.

    Parameters
    ----------
    path : Path
        A `.safetensors` file, or a file of `torch.save`: a state dict, or a dict that contains one under `state_dict`
        (training of open_clip and MoCo) or `model` (MAE). Only tensors and plain Python are read from a pickle.

    Raises
    ------
    BackboneError
        If the file does not exist, is damaged or has another format, if its pickle would run code, or if it contains no
        tensors, sparse ones, or other objects besides tensors.
    """
    expected = "a checkpoint file: .safetensors, or a file of torch.save"
    if not path.is_file():
        got, fix = explain(path, "no such file", "Correct the path of the weights.", MISSING)
        raise BackboneError(path, expected=expected, got=got, fix=fix)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: object = load_file(path)
        else:  # files before torch 1.6 are not zip files and cannot be mapped
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch's own message advises an unsafe way to read
        got, fix = f"a truncated or damaged file, or another format ({type(error).__name__})", "Download it again."
        if code := re.search(r"[Uu]nsupported .*GLOBAL (\S+)", str(error)):
            got, fix = f"a pickle that needs {code[1]}", "If you trust the file, save only its state dict."
        else:
            own = (SAFETENSORS,) if path.suffix == ".safetensors" else (TORCH, PICKLE)
            got, fix = explain(path, got, fix, *own)
        raise BackboneError(path, expected=expected, got=got, fix=fix) from error
    for entry in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(entry), Mapping):
            _refuse_another(path, content, entry)
            content = content[entry]
    entries = content if isinstance(content, Mapping) else {type(content).__name__: None}
    tensors = {str(key): value for key, value in entries.items() if isinstance(value, Tensor)}
    others = [str(key) for key in entries if str(key) not in tensors]
    if others or not tensors:
        raise BackboneError(
            path,
            expected="tensors by name, at the top or under state_dict or model",
            got=f"other objects: {shorten(others, SHOWN)}" if others else "no tensors",
            fix="Save only the state dict with torch.save.",
        )
    refuse_not_dense(path, tensors)
    return tensors


def refuse_not_dense(place: object, state: Mapping[str, Tensor]) -> None:
    """Raise a BackboneError if weights are no plain arrays: sparse, quantized, split over processes, not there."""
    others = [f"{name} ({kind})" for name, one in state.items() if (kind := _not_dense(one))]
    if others:
        raise BackboneError(
            place,
            expected="dense weights",
            got=f"{len(others)} others: {shorten(others, SHOWN)}",
            fix="Convert them, as to_dense() converts sparse ones, and save them with their values.",
        )


def _not_dense(tensor: Tensor) -> str:
    if tensor.is_meta:
        return "without values"
    if tensor.layout is not torch.strided:
        return str(tensor.layout)
    return type(tensor).__name__ if hasattr(tensor, "__tensor_flatten__") else ""  # a class that wraps tensors


def _refuse_another(path: Path, content: Mapping[str, object], entry: str) -> None:
    """Raise a BackboneError if a file has the weights of a network twice, such as their moving average (EMA) too."""

    def names(state: object) -> set[str]:
        entries = state.items() if isinstance(state, Mapping) else ()
        return {str(key).removeprefix("module.") for key, value in entries if isinstance(value, Tensor)}

    own = names(content[entry])
    others = [str(key) for key, value in content.items() if key != entry and own & names(value)]
    if others:
        raise BackboneError(
            path,
            expected="the weights of one network",
            got=f"several under the same names: {shorten([entry, *others], SHOWN)}",
            fix="Save only the state dict that you mean with torch.save; what was evaluated is often the average, with "
            "ema in its name.",
        )


def load_converted(model: nn.Module, path: Path, source: Format) -> None:
    """Load a checkpoint of another library into a model of `transformers`, completely or not at all.

    Parameters
    ----------
    model : nn.Module
        For `open_clip` a `CLIPVisionModel`, else a `ViTModel` without pooling layer. It becomes float32. The caller's
        config sets what weights do not contain: number of heads, activation, epsilon of the norms (1e-5 in
        open_clip, else 1e-6).
    path : Path
        See `read_checkpoint`.
    source : Format
        Library whose names the file has: `open_clip`, a whole CLIP or only its visual tower; `torchvision`, its ViTs;
        `timm`, its ViTs and the releases of MAE; `moco`, MoCo v3, of which the base encoder is read.

    Raises
    ------
    BackboneError
        As in `read_checkpoint`, and if the file lacks a parameter of the model, has an unknown one, or one of another
        shape. The message uses the names of the file. The model is then unchanged.
    """
    state, names = read_checkpoint(path), _NAMES[source]
    prefix = next((p for p in names.prefixes if any(key.startswith(p) for key in state)), names.prefixes[0])
    targets: dict[str, dict[str, nn.Parameter]] = {}  # by name in the file: the parameter, or the fused ones
    for name, parameter in model.named_parameters():  # buffers are only position ids
        fused = re.search(r"\.([qkv])_proj\.", name)
        targets.setdefault(_name_in_file(name, names.rules, prefix, state), {})[fused[1] if fused else ""] = parameter
    parts = {key: [found[part] for part in ("", *"qkv") if part in found] for key, found in targets.items()}
    shapes = {key: (sum(len(part) for part in own), *own[0].shape[1:]) for key, own in parts.items()}

    others = [key for key in state if key.startswith(prefix) and key not in shapes]
    misfits = {
        "missing": [key for key in shapes if key not in state],
        "unknown": [key for key in others if not re.fullmatch(names.other, key.removeprefix(prefix))],
        "of another shape or type": [
            f"{key} {str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}, not {shapes[key]}"
            for key, value in state.items()
            if key in shapes and (value.shape != shapes[key] or not value.is_floating_point())
        ],
    }
    expected = f"the {len(shapes)} weights of this {type(model).__name__} under {source}'s names"
    fix = "Use a checkpoint of this architecture, or correct architecture and format in the spec."
    if before := common_prefix(misfits["missing"], misfits["unknown"]):
        fix = f"Save the state dict with names that do not begin with '{before}.', and give that file."
    refuse_misfits(path, expected, misfits, fix)
    model.float()
    with torch.no_grad():
        for key, own in parts.items():
            for part, value in zip(own, state[key].split([len(part) for part in own]), strict=True):
                part.copy_(value)


def _name_in_file(name: str, rules: dict[str, str], prefix: str, state: Mapping[str, Tensor]) -> str:
    """Return the name that a parameter of the model has, or should have, in the file."""
    for pattern, template in rules.items():
        if match := re.fullmatch(pattern, name):
            keys = [prefix + key for key in match.expand(template).split("|")]
            return next((key for key in keys if key in state), keys[0])
    raise BackboneError(
        name,
        expected="a parameter that the format contains",
        got="a model of another class, or of another version of transformers",
        fix="Install a version of transformers that this bddn was tested with.",
    )
