"""Find out how to read the layers of a user's own network, by running it on two batch sizes."""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bddn.backbones.backbone import weights_sha256
from bddn.backbones.outputs import TensorInfo, choose, tensors_in
from bddn.backbones.shapes import Form, infer
from bddn.backbones.weights.loading import SHOWN
from bddn.errors import BackboneError, SpecError
from bddn.spec import CacheSpec, HookedSpec
from bddn.text import shorten
from bddn.tokens import Prefix

BATCHES = (2, 1)  # batch sizes of the two passes; the axis that changes is that of images
CLS_NAME = re.compile(r"(^|[._])(cls|class)($|\.|_?(tok|emb|pos|query))")  # of a CLS token among the weights
REGISTER_NAME = re.compile(r"(^|[._])(reg|registers?)($|\.|_?(tok|emb))")
Outputs = dict[str, TensorInfo]


def forms_of(
    module: nn.Module,
    chosen: Mapping[str, nn.Module],
    run: Callable[[Tensor], object],
    spec: CacheSpec,
    answers: HookedSpec,
    prefix: Prefix | None = None,
    *,
    packed: bool = False,
) -> dict[str, tuple[str, Form]]:
    """Return for each chosen submodule the path of its tokens in the output and their form, in the order of running.

    Parameters
    ----------
    module : Module
    chosen : mapping of str to Module
        Submodules by the names of their layers.
    run : function of pixels (B, 3, H, W)
        Runs the whole network.
    spec : CacheSpec
        Gives the image size and the global token.
    answers : HookedSpec
        The user's settings for ambiguous outputs.
    prefix : (int, int), optional
        CLS tokens and registers of sequences, if the network's class tells them.
    packed : bool
        Whether the first axis of outputs contains the tokens of all images, one image after the other.

    Raises
    ------
    BackboneError
        If the network does not run on such images.
    SpecError
        If the form of an output is ambiguous or unknown, or if a submodule does not run exactly once per batch.
    """
    place = type(module).__name__
    before = _buffers(module)
    cut: set[tuple[int, int]] = set()
    first, second = (_outputs(module, chosen, run, spec, n, packed, cut) for n in BATCHES)
    changed = [name for name, value in _buffers(module).items() if before.get(name, value) != value]
    if changed:
        raise BackboneError(
            place,
            expected="a network that a pass in eval mode does not change",
            got=f"other values of {shorten(changed, SHOWN)} after it",
            fix="Turn off what its forward updates or begins with the first images, such as running means.",
        )
    for name in chosen:
        times = [len(seen.get(name, ())) for seen in (first, second)]
        if times != [1, 1]:
            raise SpecError(
                f"'layers' of {place}",
                expected="submodules that run once per batch",
                got=f"'{name}', which {'does not run' if not any(times) else f'runs {max(times)} times'}",
                fix="Name other submodules in 'layers'.",
            )
    weights = [name for name, _ in module.named_parameters()]
    has_cls = any(map(CLS_NAME.search, weights)) or not any(map(REGISTER_NAME.search, weights))
    forms = {}
    for name, (seen,) in first.items():
        both = seen, second[name][0]
        path = choose(name, both, BATCHES, spec.image_hw, answers.output)
        shapes = both[0][path].shape, both[1][path].shape
        settings = answers.leading_tokens, answers.channels, prefix
        form = infer(name, shapes, BATCHES, spec.image_hw, *settings, has_cls=has_cls, cut=cut)
        forms[name] = path, form
    without = [name for name, (_, form) in forms.items() if not form.prefix[0]]
    if without and spec.global_token == "cls":
        form = forms[without[0]][1]
        n = form.prefix[1]
        raise SpecError(
            f"layer '{without[0]}'",
            expected="a CLS token, because global_token is cls",
            got=f"{form}{', and weights with the name of registers, but none with that of a CLS token' if n else ''}",
            fix="Set global_token: mean in the spec"
            f"{f', or leading_tokens: {n} if the first of these {n} tokens is a CLS token' if n else ''}.",
        )
    return forms


def unpacked(tensor: Tensor, n_images: int) -> Tensor:
    """Return a tensor (B × T, ...) as (B, T, ...), if its first axis has a multiple of `n_images` entries."""
    fits = tensor.ndim > 0 and tensor.shape[0] % n_images == 0
    return tensor.unflatten(0, (n_images, -1)) if fits else tensor


def noise(n_images: int, image_hw: tuple[int, int]) -> Tensor:
    """Return normal noise as pixels (n, 3, H, W) float32, the same for every network."""
    generator = torch.Generator().manual_seed(0)
    return torch.stack([torch.randn(3, *image_hw, generator=generator) for _ in range(n_images)])


def _buffers(module: nn.Module) -> dict[str, tuple[Any, ...]]:
    """Return shape and hash of each buffer that counts as a weight."""
    kept = module.state_dict().keys()
    found = {name: one for name, one in module.named_buffers() if name in kept}
    return {name: (one.shape, weights_sha256({"": one})) for name, one in found.items()}


def _outputs(
    module: nn.Module,
    chosen: Mapping[str, nn.Module],
    run: Callable[[Tensor], object],
    spec: CacheSpec,
    n_images: int,
    packed: bool,
    cut: set[tuple[int, int]],
) -> dict[str, list[Outputs]]:
    """Return the outputs of the submodules for `n_images` images, one entry per run of a submodule. Add rows and
    columns of the patches that convolutions cut images into to `cut`."""
    seen: dict[str, list[Outputs]] = {}

    def remember(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensors = {path: unpacked(one, n_images) if packed else one for path, one in tensors_in(output).items()}
            seen.setdefault(name, []).append({path: TensorInfo.of(tensor) for path, tensor in tensors.items()})

        return hook

    hooks = [one.register_forward_hook(remember(name)) for name, one in chosen.items()]

    def remember_patches(conv: nn.Conv2d, inputs: tuple[Any, ...], output: Any) -> None:
        if _cuts(conv, inputs):
            cut.add(tuple(output.shape[2:]))

    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            hooks += [conv.register_forward_pre_hook(_refuse_cuts), conv.register_forward_hook(remember_patches)]
    pixels = noise(n_images, spec.image_hw)
    try:
        run(pixels)
    except SpecError:
        raise
    except Exception as error:
        if seen.keys() == chosen.keys():  # what follows the last layer, such as a text decoder, is not needed
            return seen
        raise BackboneError(
            type(module).__name__,
            expected=f"a network that runs on pixels {tuple(pixels.shape)}",
            got=f"{type(error).__name__}: {error}",
            fix=_advice(module, error),
        ) from error
    finally:
        for one in hooks:
            one.remove()
    return seen


def _refuse_cuts(conv: nn.Conv2d, inputs: tuple[Any, ...]) -> None:
    """Raise a SpecError if a convolution cuts the image into patches, and leaves pixels over at its edge."""
    if not _cuts(conv, inputs):
        return
    sides, shape = conv.kernel_size, tuple(inputs[0].shape)
    if any(n > side and n % side for n, side in zip(shape[2:], sides, strict=True)):
        raise SpecError(
            "image_size",
            expected=f"a multiple of the patch size {' × '.join(map(str, sides))}, so that each pixel has a place",
            got=" × ".join(map(str, shape[2:])),
            fix="Correct image_size in the spec.",
        )


def _cuts(conv: nn.Conv2d, inputs: tuple[Any, ...]) -> bool:
    """Return whether a convolution cuts an image into patches."""
    shape = tuple(inputs[0].shape) if inputs else ()
    return len(shape) == 4 and shape[1] == 3 and conv.stride == conv.kernel_size and conv.padding in ((0, 0), "valid")


def _advice(module: nn.Module, error: Exception) -> str:
    if "image size" in str(error) and "interpolate_pos_encoding" in inspect.signature(module.forward).parameters:
        return (
            "For another image size than in training its forward has the option interpolate_pos_encoding: true (under "
            "'forward' in a spec of family: transformers). Set it, or correct image_size."
        )
    types = {p.dtype for p in module.parameters() if p.is_floating_point()}
    if types and torch.float32 not in types:
        name = str(types.pop()).removeprefix("torch.")
        return (
            f"Its weights are {name}, but pixels are float32: call float() on the module, and set autocast in the spec "
            "for a lower precision; or correct image_size."
        )
    return "Correct image_size, the module, or what it is given (in family: transformers by input and forward)."
