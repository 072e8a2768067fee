"""What a network of the transformers library reads instead of pixels (B, 3, H, W).

Shape letters: B images, H rows and W columns of patches, P pixels along the side of a patch, T frames.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bddn.backbones.orders import windows
from bddn.backbones.weights.loading import first_line
from bddn.errors import BackboneError, SpecError
from bddn.spec import TransformersSpec

Arguments = tuple[Any, ...]


def arguments(about: TransformersSpec, config: Any) -> Callable[[Tensor], Arguments]:
    """Return a function from pixels (B, 3, height, width) to the positional arguments of the network's forward.

    Parameters
    ----------
    about : TransformersSpec
    config : configuration of transformers
        Its `patch_size` is needed for patches.
    """
    if about.input == "image":
        return lambda pixels: (pixels,)
    if about.input == "video":
        return lambda pixels: (pixels[:, None].expand(-1, about.frames, -1, -1, -1),)
    if about.input == "patches":
        return lambda pixels: _patches(pixels, config.patch_size)
    assert isinstance(about.order, tuple)
    merged = about.order[-1]
    return lambda pixels: _packed(pixels, config.patch_size, merged, about.frames)


def check_patches(about: TransformersSpec, model: Any) -> None:
    """Compare patches with those that the image processor of a network's class makes of an image, if it has one.

    Its numbers may be in another order inside a patch, and patches in another one, which no shape shows: position codes
    and weights would then meet other pixels.

    Raises
    ------
    SpecError
        If they differ.
    BackboneError
        If its image processor cannot be opened here.
    """
    if about.input not in ("patches", "packed"):
        return
    import transformers
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

    package = type(model).__module__.split(".")[-2]
    names = IMAGE_PROCESSOR_MAPPING_NAMES.get(package, {})
    name = names.get("pil", names.get("torchvision"))
    if name is None:
        return
    patch, merged = model.config.patch_size, about.order[-1] if isinstance(about.order, tuple) else 1
    image = np.random.default_rng(0).integers(256, size=(2 * merged * patch, 4 * merged * patch, 3), dtype=np.uint8)
    try:
        processor = getattr(transformers, name)()
        sizes = {"patch_size": patch, "merge_size": merged, "temporal_patch_size": about.frames}
        for field in sizes.keys() & vars(processor).keys():
            setattr(processor, field, sizes[field])
        plain = {"do_resize": False, "do_rescale": False, "do_normalize": False, "return_tensors": "pt"}
        own = processor(Image.fromarray(image), **plain)["pixel_values"].flatten().float()
    except Exception as error:
        raise BackboneError(
            f"{type(model).__name__} of transformers",
            expected=f"its image processor, {name}, to compare patches with",
            got=first_line(error),
            fix="Install what it needs, or choose another network.",
        ) from error
    made = arguments(about, model.config)(torch.from_numpy(image).permute(2, 0, 1)[None].float())[0].flatten()
    if not torch.equal(own[: len(made)], made) or own[len(made) :].any():  # NaFlex pads with zeros
        raise SpecError(
            f"backbone.input: {about.input}",
            expected=f"patches as {name} of transformers makes them",
            got="other numbers of patches, or in another order",
            fix="Correct order and frames in the spec; or give the network as backbone.module, in a module that cuts "
            "pixels into patches as its image processor does.",
        )


def _patches(pixels: Tensor, patch: int) -> Arguments:
    """Return patches (B, H × W, P × P × 3), row by row, a mask (B, H × W) of ones, and rows and columns (B, 2)."""
    grid = _grid(pixels, patch)
    n, h, w = grid.shape[:3]
    shapes = torch.tensor([[h, w]] * n, device=pixels.device)
    mask = torch.ones(n, h * w, dtype=torch.int32, device=pixels.device)
    return grid.permute(0, 1, 2, 4, 5, 3).reshape(n, h * w, -1), mask, shapes


def _packed(pixels: Tensor, patch: int, merged: int, frames: int) -> Arguments:
    """Return patches (B × H × W, 3 × T × P × P), image by image in windows of `merged` × `merged` patches, and frames,
    rows and columns (B, 3)."""
    grid = _grid(pixels, patch)
    n, h, w = grid.shape[:3]
    order = windows(torch.arange(h * w).view(h, w), (merged,)).to(pixels.device)
    ordered = grid.flatten(1, 2)[:, order]
    repeated = ordered[:, :, :, None].expand(-1, -1, -1, frames, -1, -1)
    return repeated.reshape(n * h * w, -1), torch.tensor([[1, h, w]] * n, device=pixels.device)


def _grid(pixels: Tensor, patch: int) -> Tensor:
    """Return patches (B, H, W, 3, P, P)."""
    split: Tensor = pixels.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))
    return split.permute(0, 2, 4, 1, 3, 5)
