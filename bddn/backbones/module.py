"""A torch module of the user's own as a backbone: hooks on its submodules, and shapes told from one pass."""

import hashlib
import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from bddn.backbones.base import weights_sha256
from bddn.backbones.hooks import Taps, compile_blocks, frozen
from bddn.backbones.layers import select
from bddn.backbones.preprocess import squash
from bddn.backbones.shapes import Form, infer, tensor_of
from bddn.errors import BackboneError, SpecError
from bddn.spec import CacheSpec, ModuleSpec
from bddn.tokens import LayerTokens, Tokens

if TYPE_CHECKING:
    from PIL.Image import Image

BATCHES = (2, 3)  # images of the two passes that tell which axis is that of images


class HookedModule:
    """A frozen module whose chosen submodules are its layers; see `from_module`.

    Attributes
    ----------
    spec : CacheSpec
        To extract with.
    forms : dict of str to Form
        What each layer gives, early to late.
    """

    def __init__(
        self,
        module: nn.Module,
        layers: Sequence[str | int] | None,
        preprocess: "Callable[[Image], Tensor] | None",
        spec: CacheSpec,
        device: str = "cpu",
        leading_tokens: int | None = None,
        channels: Literal["first", "last"] | None = None,
    ) -> None:
        self.spec, self._device, self._preprocess = spec, device, preprocess
        self._module = module.eval()
        place = f"{type(module).__name__}"
        submodules = {name: one for name, one in module.named_modules() if name}
        if layers is None:
            raise SpecError(
                f"'layers' of {place}",
                expected="which of its submodules are stored",
                got="none named",
                fix=f"Choose some, by names or globs, of: {', '.join(submodules)}.",
            )
        weights = weights_sha256(module.state_dict())
        self._module.to(device)
        named = [str(layer) for layer in layers]  # the children of a Sequential are called 0, 1, …
        chosen = {name: submodules[name] for name in select(named, tuple(submodules), place)}
        self.forms = self._look(chosen, place, leading_tokens, channels)
        self.layers = tuple(self.forms)
        self.identity: dict[str, Any] = {
            "class": f"{type(module).__module__}.{type(module).__qualname__}",
            "weights_sha256": weights,
            "structure_sha256": hashlib.sha256(repr(module).encode()).hexdigest(),
            "layers": {name: str(form) for name, form in self.forms.items()},
            "preprocess_sha256": None if preprocess is None else self._fingerprint(),
            "made_with": {name: version(name) for name in ("torch", "pillow")},
        }
        if spec.compile:
            compile_blocks(chosen)
        self._taps = Taps({name: chosen[name] for name in self.layers}, self._take)

    def preprocess(self, image: "Image") -> Tensor:
        """See `Backbone.preprocess`."""
        size = self.spec.image_hw
        if self._preprocess is None:
            return squash(image, size)
        pixels = self._preprocess(image)
        if not isinstance(pixels, Tensor) or pixels.shape != (3, *size) or pixels.dtype != torch.float32:
            got = f"{tuple(pixels.shape)} {pixels.dtype}" if isinstance(pixels, Tensor) else type(pixels).__name__
            raise BackboneError(
                "preprocess",
                expected=f"a tensor {(3, *size)} of float32, after image_size",
                got=got,
                fix="Correct the function, or image_size.",
            )
        return pixels

    def __call__(self, pixels: Tensor) -> Tokens:
        """See `Backbone.__call__`."""
        with frozen(self._device, self.spec.autocast):
            pixels = pixels.to(self._device)
            return Tokens(self._taps.run(lambda: self._module(pixels), self.layers))

    def _take(self, name: str, output: Any) -> LayerTokens:
        return self.forms[name].tokens(output).pooled(self.spec.grid, self.spec.global_token)

    def _look(
        self,
        chosen: dict[str, nn.Module],
        place: str,
        leading_tokens: int | None,
        channels: Literal["first", "last"] | None,
    ) -> dict[str, Form]:
        """Run the whole network on two numbers of images; the forms of the layers, in the order in which they ran."""
        passes = [self._shapes(chosen, place, n) for n in BATCHES]
        idle = sorted(chosen.keys() - passes[0].keys())
        again = [name for name, shapes in passes[0].items() if len(shapes) > 1]
        if idle or again:
            raise SpecError(
                f"'layers' of {place}",
                expected="submodules that run once for an image",
                got=f"'{again[0]}', which runs {len(passes[0][again[0]])} times" if again else f"'{idle[0]}', idle",
                fix="Name others in 'layers'.",
            )
        forms = {
            name: infer(name, (shapes[0], passes[1][name][0]), BATCHES, self.spec.image_hw, leading_tokens, channels)
            for name, shapes in passes[0].items()
        }
        without = [name for name, form in forms.items() if not form.n_leading]
        if without and self.spec.global_token == "cls":
            raise SpecError(
                f"layer '{without[0]}'",
                expected="a CLS token, since global_token is cls",
                got=str(forms[without[0]]),
                fix="Set global_token: mean in the spec.",
            )
        return forms

    def _shapes(self, chosen: dict[str, nn.Module], place: str, n_images: int) -> dict[str, list[tuple[int, ...]]]:
        seen: dict[str, list[tuple[int, ...]]] = {}

        def look(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                try:
                    seen.setdefault(name, []).append(tuple(tensor_of(output).shape))
                except TypeError as error:
                    raise SpecError(
                        f"layer '{name}'", expected="a tensor", got=str(error), fix="Choose another layer."
                    ) from None

            return hook

        hooks = [one.register_forward_hook(look(name)) for name, one in chosen.items()]
        noise = torch.Generator().manual_seed(0)
        pixels = torch.randn(n_images, 3, *self.spec.image_hw, generator=noise).to(self._device)
        try:
            with frozen(self._device, self.spec.autocast):
                self._module(pixels)
        except SpecError:
            raise
        except Exception as error:
            raise BackboneError(
                place,
                expected=f"a network that runs on pixels {tuple(pixels.shape)}",
                got=f"{type(error).__name__}: {error}",
                fix="Correct image_size, or the module.",
            ) from error
        finally:
            for one in hooks:
                one.remove()
        return seen

    def _fingerprint(self) -> str:
        """What the user's preprocessing makes of a picture of noise, hashed: code itself cannot be compared."""
        from PIL import Image

        noise = torch.randint(256, (300, 425, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        pixels = self.preprocess(Image.fromarray(noise.numpy()))
        return hashlib.sha256(pixels.contiguous().numpy().tobytes()).hexdigest()


def from_module(
    module: nn.Module,
    layers: Sequence[str] | None = None,
    preprocess: "Callable[[Image], Tensor] | None" = None,
    *,
    device: str = "cpu",
    leading_tokens: int | None = None,
    channels: Literal["first", "last"] | None = None,
    **fields: Any,
) -> HookedModule:
    """A backbone of any torch module that takes pixels (B, 3, H, W).

    `extract(backbone.spec, dataset, out, backbone=backbone)` caches its tokens.

    Parameters
    ----------
    module : Module
        It is set to eval mode.
    layers : sequence of str
        Submodules whose outputs are stored: names or globs, as in `named_modules`.
    preprocess : function of a PIL image, optional
        Gives float32 pixels (3, H, W); by default squash to image_size, ImageNet mean and deviation.
    device : str
    leading_tokens, channels : optional
        Answers where shapes alone do not tell; see `ModuleSpec`.
    **fields
        Of `CacheSpec`: title, image_size, grid, global_token, ….

    Raises
    ------
    SpecError
        Where a layer's output can be read in several ways, or in none.
    """
    given = {"title": type(module).__name__, "preprocess": "paper" if preprocess is None else "native"}
    spec = CacheSpec.parse(given | fields, "fields of from_module")
    return HookedModule(module, layers, preprocess, spec, device, leading_tokens, channels)


def open_module(spec: CacheSpec, device: str = "cpu") -> HookedModule:
    """The backbone of a spec whose `backbone.module` is an import path.

    The working directory is searched last.

    Raises
    ------
    BackboneError
        Where it cannot be imported, or does not give a module.
    """
    about = spec.backbone
    assert isinstance(about, ModuleSpec)
    made = _made(about.module)
    module, preprocess = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, nn.Module):
        raise _not_made(about.module, f"a {type(module).__name__}")
    if (preprocess is None) == (spec.preprocess == "native"):
        raise SpecError(
            f"spec '{spec.title}'",
            expected=f"preprocess: {'paper' if preprocess is None else 'native'}",
            got=f"{spec.preprocess}, but {about.module} gives {'no' if preprocess is None else 'a'} preprocessing",
            fix="Make the two agree.",
        )
    return HookedModule(module, about.layers, preprocess, spec, device, about.leading_tokens, about.channels)


def _made(path: str) -> Any:
    package, _, function = path.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        return getattr(importlib.import_module(package), function)()
    except Exception as error:
        raise _not_made(path, f"{type(error).__name__}: {error}") from error


def _not_made(path: str, got: str) -> BackboneError:
    return BackboneError(
        f"backbone.module '{path}'",
        expected="an importable function that returns a torch module, or a pair of it and a preprocessing",
        got=got,
        fix="Correct the path or the function; install its package, or run where it lies.",
    )
