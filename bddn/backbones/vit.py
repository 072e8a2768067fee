"""Vision transformers of the `transformers` library: for now, CLIP vision towers."""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bddn.backbones.base import squash, weights_sha256
from bddn.errors import BackboneError, SpecError
from bddn.spec import CacheSpec
from bddn.tokens import LayerTokens, Tokens

if TYPE_CHECKING:
    from PIL.Image import Image


CONFIG_FIELDS = (  # what decides the tokens besides the weights
    "hidden_act",
    "hidden_size",
    "image_size",
    "intermediate_size",
    "layer_norm_eps",
    "num_attention_heads",
    "num_hidden_layers",
    "patch_size",
)


class ClipVision:
    """A CLIP vision tower; its layers are the outputs of its blocks, before the final norm.

    Parameters
    ----------
    spec : CacheSpec
        Which weights, image size, preprocessing and layers.
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
        from transformers import CLIPVisionModel
        from transformers.utils import logging

        logging.disable_progress_bar()  # ours is enough
        source = spec.weights.folder or spec.weights.hub or ""
        self._model = _load(CLIPVisionModel, spec).eval().requires_grad_(False)
        config = self._model.config
        if spec.image_size % config.patch_size:
            raise SpecError(
                source,
                expected=f"image_size to be a multiple of the patch size {config.patch_size}",
                got=f"{spec.image_size}",
                fix="Correct image_size in the spec.",
            )
        self._size = spec.image_size
        self._side = spec.image_size // config.patch_size
        self._interpolate = spec.image_size != config.image_size
        self._native = _processor(spec) if spec.preprocess == "native" else None
        self._global_token = spec.global_token
        self.layers = tuple(f"block_{i}" for i in range(config.num_hidden_layers))
        self.identity: dict[str, Any] = {
            "class": type(self._model).__name__,
            "weights_sha256": weights_sha256(self._model.state_dict()),
            "config": {name: getattr(config, name) for name in CONFIG_FIELDS},
            "processor": None if self._native is None else self._native.to_dict(),
            "made_with": {name: version(name) for name in ("torch", "transformers", "pillow")},
        }
        self._device = device
        self._model.to(device)

    def preprocess(self, image: "Image") -> Tensor:
        """See `Backbone.preprocess`."""
        if self._native is None:
            return squash(image, self._size)
        pixels: Tensor = self._native(image, return_tensors="pt")["pixel_values"][0]
        if pixels.shape[1:] != (self._size, self._size):
            raise SpecError(
                "spec",
                expected=f"image_size to be that of the native preprocessing, {tuple(pixels.shape[1:])}",
                got=str(self._size),
                fix="Correct image_size in the spec.",
            )
        return pixels

    def __call__(self, pixels: Tensor) -> Tokens:
        """See `Backbone.__call__`."""
        with torch.inference_mode():
            states = self._model(
                pixels.to(self._device), output_hidden_states=True, interpolate_pos_encoding=self._interpolate
            ).hidden_states[1:]  # the first is the input of block 0
        return Tokens({name: self._layer(state) for name, state in zip(self.layers, states, strict=True)})

    def _layer(self, state: Tensor) -> LayerTokens:
        cls, patches = state[:, 0], state[:, 1:]
        local = patches.transpose(1, 2).unflatten(2, (self._side, self._side))
        return LayerTokens(local, cls if self._global_token == "cls" else patches.mean(1))


def _load(model_class: Any, spec: CacheSpec) -> Any:
    weights = spec.weights
    if weights.folder is not None and not (Path(weights.folder) / "config.json").is_file():
        raise BackboneError(
            weights.folder,
            expected="a folder in the Hugging Face format, with config.json and model.safetensors",
            got="no such folder" if not Path(weights.folder).is_dir() else "no config.json in it",
            fix="Correct weights.folder in the spec, or give --weights.",
        )
    source = weights.folder or weights.hub or ""
    try:
        model, info = model_class.from_pretrained(
            source,
            revision=weights.revision or "main",
            dtype=torch.float32,  # not the checkpoint's own, which may be half precision
            output_loading_info=True,
            trust_remote_code=False,
        )
    except Exception as error:
        raise BackboneError(
            source,
            expected=f"weights of a {model_class.__name__}",
            got=f"{type(error).__name__}: {str(error).strip().splitlines()[0]}",
            fix="Check the id and the network, or download the weights and give their folder with --weights.",
        ) from error
    missing = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if missing:
        raise BackboneError(
            source,
            expected=f"all weights of a {model_class.__name__}",
            got=f"{len(missing)} missing or of another shape: {', '.join(missing[:8])}",
            fix="Use a checkpoint of this architecture.",
        )
    return model


def _processor(spec: CacheSpec) -> Any:
    from transformers import AutoImageProcessor

    source = spec.weights.folder or spec.weights.hub or ""
    try:
        return AutoImageProcessor.from_pretrained(source, revision=spec.weights.revision or "main", backend="pil")
    except Exception as error:
        raise BackboneError(
            source,
            expected="preprocessor_config.json for native preprocessing",
            got=f"{type(error).__name__}: {str(error).strip().splitlines()[0]}",
            fix="Add the file, or set preprocess: paper.",
        ) from error
