"""How the layers of a network of the user's own are read, found out by running it on two numbers of images."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bddn.backbones.outputs import Seen, choose, tensors_in
from bddn.backbones.shapes import Form, infer
from bddn.errors import BackboneError, SpecError
from bddn.spec import CacheSpec, ModuleSpec

BATCHES = (2, 1)  # images of the two passes that tell which axis is that of images
Outputs = dict[str, Seen]


def forms_of(
    module: nn.Module,
    chosen: Mapping[str, nn.Module],
    run: Callable[[Tensor], object],
    spec: CacheSpec,
    answers: ModuleSpec,
) -> dict[str, tuple[str, Form]]:
    """For each chosen submodule, where in its output the tokens are and how they are read, in the order of running.

    Parameters
    ----------
    module : Module
    chosen : mapping of str to Module
        Submodules by the names of their layers.
    run : function of pixels (B, 3, H, W)
        Runs the whole network, as in an extraction.
    spec : CacheSpec
        For the size of the images and the global token.
    answers : ModuleSpec
        What the user said of outputs that can be read in several ways.

    Raises
    ------
    BackboneError
        Where the network does not run on such images.
    SpecError
        Where an output can be read in several ways, or in none, or a submodule does not run once for a batch.
    """
    place = type(module).__name__
    first, second = (_outputs(module, chosen, run, spec, n) for n in BATCHES)
    for name in chosen:
        times = [len(seen.get(name, ())) for seen in (first, second)]
        if times != [1, 1]:
            raise SpecError(
                f"'layers' of {place}",
                expected="submodules that run once for a batch of images",
                got=f"'{name}', which {'does not run' if not any(times) else f'runs {max(times)} times'}",
                fix="Name others in 'layers'.",
            )
    forms = {}
    for name, (seen,) in first.items():
        both = seen, second[name][0]
        path = choose(name, both, BATCHES, spec.image_hw, answers.output)
        shapes = both[0][path].shape, both[1][path].shape
        form = infer(name, shapes, BATCHES, spec.image_hw, answers.leading_tokens, answers.channels)
        forms[name] = path, form
    without = [name for name, (_, form) in forms.items() if not form.n_leading]
    if without and spec.global_token == "cls":
        raise SpecError(
            f"layer '{without[0]}'",
            expected="a CLS token, since global_token is cls",
            got=str(forms[without[0]][1]),
            fix="Set global_token: mean in the spec.",
        )
    return forms


def noise(n_images: int, image_hw: tuple[int, int]) -> Tensor:
    """The same normal noise for every network, as pixels (n, 3, H, W)."""
    generator = torch.Generator().manual_seed(0)
    return torch.stack([torch.randn(3, *image_hw, generator=generator) for _ in range(n_images)])


def _outputs(
    module: nn.Module, chosen: Mapping[str, nn.Module], run: Callable[[Tensor], object], spec: CacheSpec, n_images: int
) -> dict[str, list[Outputs]]:
    """What the submodules return for so many images, for each time that they run."""
    seen: dict[str, list[Outputs]] = {}

    def remember(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensors = tensors_in(output)
            seen.setdefault(name, []).append({path: Seen.of(tensor) for path, tensor in tensors.items()})

        return hook

    hooks = [one.register_forward_hook(remember(name)) for name, one in chosen.items()]
    pixels = noise(n_images, spec.image_hw)
    try:
        run(pixels)
    except Exception as error:
        raise BackboneError(
            type(module).__name__,
            expected=f"a network that runs on pixels {tuple(pixels.shape)}",
            got=f"{type(error).__name__}: {error}",
            fix=_advice(module),
        ) from error
    finally:
        for one in hooks:
            one.remove()
    return seen


def _advice(module: nn.Module) -> str:
    types = {p.dtype for p in module.parameters() if p.is_floating_point()}
    if types and torch.float32 not in types:
        name = str(types.pop()).removeprefix("torch.")
        return (
            f"Its weights are {name} and pixels are float32: call float() on the module, and set autocast in the spec "
            "for a lower precision; or correct image_size."
        )
    return "Correct image_size, or the module."
