"""Vision transformers of the `transformers` library.

Features are always outputs of blocks: the residual stream, before any final norm.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from bddn.backbones.backbone import weights_sha256
from bddn.backbones.family_kind import FAMILIES, Family
from bddn.backbones.hooked import HookedNetwork
from bddn.backbones.hooks import LayerHooks, compile_blocks
from bddn.backbones.layers import select
from bddn.backbones.preprocess import squash
from bddn.backbones.weights.loading import first_line, refuse_cls
from bddn.backbones.weights.local import folder_of
from bddn.backbones.weights.pretrained import load
from bddn.errors import BackboneError, SpecError
from bddn.spec import CacheSpec, FamilySpec
from bddn.tokens import LayerTokens

if TYPE_CHECKING:
    from PIL.Image import Image


IDENTITY_FIELDS = (  # fields of a configuration that determine the tokens, besides the weights
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


class VisionTransformer(HookedNetwork):
    """A frozen vision transformer; its layers are its blocks `block_0`, `block_1`, ….

    Parameters
    ----------
    spec : CacheSpec
        Its backbone has a `family`.
    device : str
        'cpu' or 'cuda'.

    Raises
    ------
    BackboneError
        If the weights are missing or do not fit the architecture.
    SpecError
        If this model does not support the spec.
    """

    def __init__(self, spec: CacheSpec, device: str = "cpu") -> None:
        about = spec.section(FamilySpec)
        assert spec.weights is not None
        self.spec, self._device = spec, device
        self._family = FAMILIES[about.family]
        self._model = load(spec.weights, self._family, about.architecture).eval().requires_grad_(False)
        config, place = self._model.config, spec.weights.place
        self._places = _places(spec, self._family, config)
        self._prefix = int(self._family.cls), getattr(config, "num_register_tokens", 0)
        self._options = (
            {"interpolate_pos_encoding": spec.image_hw != _pair(config.image_size)} if self._family.interpolates else {}
        )
        self._native = _processor(spec) if spec.preprocess == "native" else None
        blocks = {f"block_{i}": block for i, block in enumerate(_blocks(self._model))}
        self.layers = select(about.layers, tuple(blocks), place)
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
        self._hooks = LayerHooks({name: blocks[name] for name in self.layers}, self._read)

    def preprocess(self, image: "Image") -> Tensor:
        size = self.spec.image_hw
        if self._native is None:
            return squash(image, size)
        try:
            pixels: Tensor = self._native(image, return_tensors="pt")["pixel_values"][0]
        except (LookupError, TypeError, ValueError) as error:
            raise BackboneError(
                type(self._native).__name__,
                expected=f"an image processor that takes an RGB image of {image.width} × {image.height} pixels",
                got=first_line(error),
                fix="Correct preprocessor_config.json, or set preprocess: paper in the spec.",
            ) from error
        if pixels.shape[1:] != size:
            raise SpecError(
                "spec",
                expected=f"the image_size of the native preprocessing, {list(pixels.shape[1:])}",
                got=str(list(size)),
                fix="Correct image_size in the spec.",
            )
        return pixels

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """See `Trainable.save`: a folder in the Hugging Face format, with the image processor if it is used."""
        super().save(folder, state)
        if self._native is not None:
            self._native.save_pretrained(folder)

    def _forward(self, pixels: Tensor) -> object:
        return self._model(pixels, **self._options)

    def _read(self, name: str, output: Any) -> LayerTokens:
        state: Tensor = output[0] if isinstance(output, tuple) else output
        if self._family.cls:
            return LayerTokens.of_sequence(state, self._prefix, self._places)
        return LayerTokens(state.permute(0, 3, 1, 2))


def _blocks(model: Any) -> nn.ModuleList:
    """Return the list of blocks, independent of its name in the class."""
    depth = model.config.num_hidden_layers
    found = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == depth]
    assert found, f"{type(model).__name__} has no list of {depth} blocks"
    return found[0]


def _places(spec: CacheSpec, family: Family, config: Any) -> tuple[int, int]:
    """Return rows and columns of patches, or raise an error if the network does not support the spec."""
    assert spec.weights is not None
    (height, width), (rows, columns) = spec.image_hw, _pair(config.patch_size)
    place = f"spec '{spec.title}'"
    if (channels := getattr(config, "num_channels", 3)) != 3:
        raise BackboneError(
            spec.weights.place,
            expected="a network that reads RGB images",
            got=f"one with num_channels: {channels}",
            fix="Give it as backbone.module, in a module that makes its channels of red, green and blue.",
        )
    if height % rows or width % columns:
        patch = rows if rows == columns else f"{rows} × {columns}"
        raise SpecError(
            place,
            expected=f"image_size to be a multiple of the patch size {patch}",
            got=f"{height} × {width}",
            fix="Correct image_size in the spec.",
        )
    trained = _pair(config.image_size)
    only = not family.cls or trained[0] != trained[1]  # whose position codes transformers does not interpolate
    if only and spec.image_hw != trained:
        raise SpecError(
            place,
            expected=f"image_size: {config.image_size}, the only size of this {family.model}",
            got=f"{height} × {width}",
            fix="Correct image_size in the spec.",
        )
    if not family.cls:
        refuse_cls(spec)
    return height // rows, width // columns


def _pair(size: "int | Sequence[int]") -> tuple[int, int]:
    """Return height and width, of which a configuration may have one number."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _processor(spec: CacheSpec) -> Any:
    from transformers import AutoImageProcessor

    assert spec.weights is not None
    if spec.weights.hub is None and spec.weights.folder is None:
        raise SpecError(
            f"spec '{spec.title}'",
            expected="weights in the Hugging Face format, because preprocess is native",
            got=spec.weights.place,
            fix="Set preprocess: paper in the spec.",
        )
    folder = folder_of(spec.weights)
    try:
        return AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil", trust_remote_code=False)
    except Exception as error:
        raise BackboneError(
            folder,
            expected="preprocessor_config.json for native preprocessing",
            got=first_line(error),
            fix="Add the file, or set preprocess: paper in the spec.",
        ) from error
