"""Vision transformers of the `transformers` library, and foreign checkpoints that fit its classes.

What is taken is always the output of a block: the residual stream, before any final norm.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bddn.backbones import convert
from bddn.backbones.base import weights_sha256
from bddn.backbones.hooks import Taps, compile_blocks, frozen
from bddn.backbones.layers import select
from bddn.backbones.preprocess import squash
from bddn.backbones.weights import file_of, folder_of
from bddn.errors import BackboneError, SpecError
from bddn.spec import CacheSpec, FamilySpec
from bddn.tokens import LayerTokens, Tokens

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Family:
    """What there is to know of a class of transformers.

    Attributes
    ----------
    model : str
        The class.
    kinds : tuple of str
        Values of `model_type` in the config.json of checkpoints that hold its weights.
    cls : bool
        Whether its sequences begin with a CLS token; if not, its blocks give maps (B, H, W, C).
    options : mapping
        Of its constructor.
    interpolates : bool
        Whether its forward must be told to fit the position codes to another image size.
    """

    model: str
    kinds: tuple[str, ...]
    cls: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    interpolates: bool = False


FAMILIES = {
    "clip": Family("CLIPVisionModel", ("clip", "clip_vision_model"), interpolates=True),
    # MAE's encoder is this class too: its own class shuffles the patches of every image.
    "vit": Family("ViTModel", ("vit", "vit_mae"), options={"add_pooling_layer": False}, interpolates=True),
    "dinov2": Family("Dinov2Model", ("dinov2",)),
    "dinov2_registers": Family("Dinov2WithRegistersModel", ("dinov2_with_registers",)),
    "sam": Family("SamVisionModel", ("sam", "sam_vision_model"), cls=False),
}
INITIAL_STD = 0.02  # of random weights, the default of all classes but SAM's, whose 1e-10 gives next to nothing
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
IDENTITY_FIELDS = (  # of a configuration: what decides the tokens besides the weights
    "global_attn_indexes",
    "hidden_act",
    "hidden_size",
    "image_size",
    "intermediate_size",
    "layer_norm_eps",
    "mlp_dim",
    "mlp_ratio",
    "num_attention_heads",
    "num_hidden_layers",
    "num_register_tokens",
    "patch_size",
    "qkv_bias",
    "use_abs_pos",
    "use_rel_pos",
    "use_swiglu_ffn",
    "window_size",
)


class VisionTransformer:
    """A frozen vision transformer; its layers are its blocks, `block_0` and on.

    Parameters
    ----------
    spec : CacheSpec
        With a backbone of a family.
    device : str
        Where it runs: 'cpu' or 'cuda'.

    Raises
    ------
    BackboneError
        Where the weights cannot be found or do not fit the architecture.
    SpecError
        Where the spec asks for something that this model cannot do.
    """

    def __init__(self, spec: CacheSpec, device: str = "cpu") -> None:
        assert isinstance(spec.backbone, FamilySpec)
        assert spec.weights is not None
        self._spec, self._device = spec, device
        self._family = FAMILIES[spec.backbone.family]
        self._model = load(spec).eval().requires_grad_(False)
        config, place = self._model.config, spec.weights.place
        self._places = _places(spec, self._family, config)
        self._n_leading = int(self._family.cls) + getattr(config, "num_register_tokens", 0)
        self._options = (
            {"interpolate_pos_encoding": spec.image_hw != (config.image_size, config.image_size)}
            if self._family.interpolates
            else {}
        )
        self._native = _processor(spec) if spec.preprocess == "native" else None
        blocks = {f"block_{i}": block for i, block in enumerate(_blocks(self._model))}
        self.layers = select(spec.backbone.layers, tuple(blocks), place)
        self.identity: dict[str, Any] = {
            "class": type(self._model).__name__,
            "weights_sha256": weights_sha256(self._model.state_dict()),
            "config": {name: getattr(config, name) for name in IDENTITY_FIELDS if hasattr(config, name)},
            "processor": None if self._native is None else self._native.to_dict(),
            "made_with": {name: version(name) for name in ("torch", "transformers", "pillow")},
        }
        self._model.to(device)
        if spec.compile:
            compile_blocks(blocks)
        self._taps = Taps({name: blocks[name] for name in self.layers}, self._take)

    def preprocess(self, image: "Image") -> Tensor:
        """See `Backbone.preprocess`."""
        size = self._spec.image_hw
        if self._native is None:
            return squash(image, size)
        pixels: Tensor = self._native(image, return_tensors="pt")["pixel_values"][0]
        if pixels.shape[1:] != size:
            raise SpecError(
                "spec",
                expected=f"image_size to be that of the native preprocessing, {list(pixels.shape[1:])}",
                got=str(list(size)),
                fix="Correct image_size in the spec.",
            )
        return pixels

    def __call__(self, pixels: Tensor) -> Tokens:
        """See `Backbone.__call__`."""
        with frozen(self._device, self._spec.autocast):
            pixels = pixels.to(self._device)
            return Tokens(self._taps.run(lambda: self._model(pixels, **self._options), self.layers))

    def _take(self, name: str, output: Any) -> LayerTokens:
        state: Tensor = output[0] if isinstance(output, tuple) else output
        if self._family.cls:
            tokens = LayerTokens.of_sequence(state, self._n_leading, self._places)
        else:
            tokens = LayerTokens(state.permute(0, 3, 1, 2))
        return tokens.pooled(self._spec.grid, self._spec.global_token)


def load(spec: CacheSpec) -> Any:
    """The model, in float32 on the CPU, with every weight from where the spec says.

    Raises
    ------
    BackboneError, SpecError
        Where weights are missing, do not fit, or are those of another architecture.
    """
    assert isinstance(spec.backbone, FamilySpec)
    assert spec.weights is not None
    _quiet()
    weights, family, architecture = spec.weights, FAMILIES[spec.backbone.family], spec.backbone.architecture
    if weights.random is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(weights.random)
            return untrained(family, {**architecture, "initializer_range": INITIAL_STD} if architecture else {})
    if weights.format is not None:
        return _converted(family, architecture, file_of(weights), weights.format)
    folder = folder_of(weights)
    open_clip = [folder / name for name in OPEN_CLIP_FILES if (folder / name).is_file()]
    if spec.backbone.family == "clip" and open_clip and not (folder / "config.json").is_file():
        return _converted(family, architecture, open_clip[0], "open_clip")
    model = _pretrained(family, folder)
    differ = [
        f"{name} {_as_json(value)} → {_as_json(getattr(model.config, name, None))}"
        for name, value in architecture.items()
        if _as_json(getattr(model.config, name, None)) != _as_json(value)
    ]
    if differ:
        raise BackboneError(
            weights.place,
            expected="weights of the spec's architecture",
            got=f"another one: {', '.join(differ)}",
            fix="Use a checkpoint of this architecture, or correct backbone.architecture.",
        )
    return model


def untrained(family: Family, architecture: Mapping[str, Any]) -> Any:
    """The class with the weights that its constructor gives, on torch's present device."""
    import transformers

    model_class = getattr(transformers, family.model)
    known = model_class.config_class().to_dict()
    unknown = sorted(architecture.keys() - known.keys())
    if unknown or not architecture:
        raise SpecError(
            "backbone.architecture",
            expected=f"fields of {model_class.config_class.__name__}",
            got=f"unknown: {', '.join(unknown)}" if unknown else "none, without which the network cannot be built",
            fix="Correct it, after the specs in cache_specs/.",
        )
    try:
        return model_class(model_class.config_class(**architecture), **family.options).eval()
    except Exception as error:
        raise SpecError(
            "backbone.architecture",
            expected=f"a network of class {family.model}",
            got=_first_line(error),
            fix="Correct the fields that it names.",
        ) from error


def _converted(family: Family, architecture: Mapping[str, Any], path: Path, source: convert.Format) -> Any:
    model = untrained(family, architecture)
    convert.load_converted(model, path, source)
    return model


def _pretrained(family: Family, folder: Path) -> Any:
    import transformers

    config = folder / "config.json"
    if not config.is_file():
        raise BackboneError(
            folder,
            expected="a folder in the Hugging Face format, with config.json and model.safetensors",
            got="no config.json in it",
            fix="Correct weights.folder in the spec, or give --weights.",
        )
    try:
        kind = json.loads(config.read_bytes()).get("model_type")
        if kind not in family.kinds:
            raise ValueError(f"model_type '{kind}' in config.json, not {' or '.join(family.kinds)}")
        model, info = getattr(transformers, family.model).from_pretrained(
            folder,
            dtype=torch.float32,  # not the checkpoint's own, which may be half precision
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
            **family.options,
        )
    except Exception as error:
        raise BackboneError(
            folder,
            expected=f"weights of a {family.model}",
            got=_first_line(error),
            fix="Correct weights in the spec, or give --weights.",
        ) from error
    left = [key for key in info["unexpected_keys"] if _is_of_blocks(key)]
    wrong = {
        "missing": sorted(info["missing_keys"]),
        "of another shape": sorted(str(key) for key in info["mismatched_keys"]),
        "of blocks that config.json does not tell of": sorted(left),
    }
    if any(wrong.values()):
        raise BackboneError(
            folder,
            expected=f"the weights of a {family.model}, all and only those",
            got="; ".join(f"{len(keys)} {how}: {', '.join(keys[:8])}" for how, keys in wrong.items() if keys),
            fix="Use a checkpoint of this architecture.",
        )
    return model


def _is_of_blocks(key: str) -> bool:
    """Whether a key that the class does not know is of a vision encoder's blocks, not of a head or another tower."""
    return ".layer" in f".{key}" and not any(word in key for word in ("text_model", "decoder", "prompt_encoder"))


def _blocks(model: Any) -> nn.ModuleList:
    """The blocks, wherever the class keeps them."""
    depth = model.config.num_hidden_layers
    found = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == depth]
    assert found, f"{type(model).__name__} has no list of {depth} blocks"
    return found[0]


def _places(spec: CacheSpec, family: Family, config: Any) -> tuple[int, int]:
    """Rows and columns of patches; errors where this network cannot do what the spec asks for."""
    assert spec.weights is not None
    (height, width), patch = spec.image_hw, config.patch_size
    place = f"spec '{spec.title}'"
    if height % patch or width % patch:
        raise SpecError(
            place,
            expected=f"image_size to be a multiple of the patch size {patch}",
            got=f"{height} × {width}",
            fix="Correct image_size in the spec.",
        )
    if not family.cls and spec.image_hw != (config.image_size, config.image_size):
        raise SpecError(
            place,
            expected=f"image_size: {config.image_size}, the only one of a {family.model}",
            got=f"{height} × {width}",
            fix="Correct image_size in the spec.",
        )
    if not family.cls and spec.global_token == "cls":
        raise SpecError(
            place,
            expected="global_token: mean, since this network has no CLS token",
            got="cls",
            fix="Set global_token: mean in the spec.",
        )
    return height // patch, width // patch


def _processor(spec: CacheSpec) -> Any:
    from transformers import AutoImageProcessor

    assert spec.weights is not None
    if spec.weights.hub is None and spec.weights.folder is None:
        raise SpecError(
            f"spec '{spec.title}'",
            expected="weights in the Hugging Face format, where preprocess is native",
            got=spec.weights.place,
            fix="Set preprocess: paper.",
        )
    folder = folder_of(spec.weights)
    try:
        return AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
    except Exception as error:
        raise BackboneError(
            folder,
            expected="preprocessor_config.json for native preprocessing",
            got=_first_line(error),
            fix="Add the file, or set preprocess: paper.",
        ) from error


def _quiet() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()  # ours is enough
    logging.set_verbosity_error()  # what it warns of is an error here, or wanted


def _as_json(value: Any) -> str:
    return json.dumps(value)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).strip().splitlines()[:1])}"
