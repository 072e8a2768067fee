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

from bddn.backbones import code
from bddn.backbones.backbone import weights_sha256
from bddn.backbones.first_run import forms_of, noise
from bddn.backbones.hooks import Keep, LayerHooks, compile_blocks, frozen, pooling
from bddn.backbones.imported import check_as_imported
from bddn.backbones.layers import select
from bddn.backbones.outputs import tensor_at
from bddn.backbones.preprocess import squash
from bddn.errors import BackboneError, SpecError
from bddn.identity import PROBE
from bddn.machine.parallel import single_threaded_kernels
from bddn.machine.settings import own_settings
from bddn.spec import CacheSpec, ModuleSpec
from bddn.tokens import LayerTokens, Tokens

if TYPE_CHECKING:
    from PIL.Image import Image


class HookedModule:
    """A frozen module whose chosen submodules are its layers; see `from_module`.

    Parameters
    ----------
    module : Module
    answers : ModuleSpec
        Which submodules, and how their outputs are read where that is not clear.
    preprocess : function of a PIL image, optional
    spec : CacheSpec
    device : str

    Attributes
    ----------
    spec : CacheSpec
        To extract with.
    forms : dict of str to Form
        How the tokens of each layer are read, early to late.
    """

    def __init__(
        self,
        module: nn.Module,
        answers: ModuleSpec,
        preprocess: "Callable[[Image], Tensor] | None",
        spec: CacheSpec,
        device: str = "cpu",
    ) -> None:
        self.spec, self._device, self._preprocess = spec, device, preprocess
        self._module = module.eval()
        place = type(module).__name__
        # With all names of a module that has several: such a one runs several times, and is refused for that.
        submodules = {name: one for name, one in module.named_modules(remove_duplicate=False) if name}
        if answers.layers is None:
            raise SpecError(
                f"'layers' of {place}",
                expected="which of its submodules are stored",
                got="none named",
                fix=f"Choose some, by names or globs, of: {', '.join(submodules)}.",
            )
        weights = weights_sha256(module.state_dict())
        self._module.to(device)
        named = [str(layer) for layer in answers.layers]  # the children of a Sequential are called 0, 1, …
        chosen = {name: submodules[name] for name in select(named, tuple(submodules), place)}
        read = forms_of(module, chosen, self._run, spec, answers)
        self.forms = {name: form for name, (_, form) in read.items()}
        self._paths = {name: path for name, (path, _) in read.items()}
        self.layers = tuple(read)
        if spec.compile:
            compile_blocks(chosen)
        self._hooks = LayerHooks({name: chosen[name] for name in self.layers}, self._read)
        self.identity: dict[str, Any] = {
            "class": f"{type(module).__module__}.{type(module).__qualname__}",
            "weights_sha256": weights,
            "structure_sha256": hashlib.sha256(repr(module).encode()).hexdigest(),
            "layers": {name: self._told(name) for name in self.layers},
            "preprocess_sha256": None if preprocess is None else self._preprocessed_noise(),
            "code": self._code(),
            "made_with": {name: version(name) for name in ("torch", "pillow")},
        }

    @property
    def device(self) -> str:
        """Where the module is."""
        return self._device

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
        return Tokens(self.each_layer(pixels, pooling(self.spec.grid, self.spec.global_token)))

    def each_layer(self, pixels: Tensor, keep: Keep) -> dict[str, Any]:
        """See `ShowsFullSize.each_layer`."""
        return self._hooks.run(lambda: self._run(pixels), self.layers, keep)

    def _run(self, pixels: Tensor) -> object:
        with frozen(self._device, self.spec.autocast):
            return self._module(pixels.to(self._device))

    def _numbers(self, pixels: Tensor) -> dict[str, Any]:
        """What stands for the tokens of each layer, in full precision where the weights are."""
        full = all(weight.dtype == torch.float32 for weight in self._module.parameters())
        with frozen(self._device, None if full else self.spec.autocast):
            pixels = pixels.to(self._device)
            return self._hooks.run(lambda: self._module(pixels), self.layers, code.numbers)

    def _read(self, name: str, output: Any) -> LayerTokens:
        return self.forms[name].tokens(tensor_at(output, self._paths[name]))

    def _told(self, name: str) -> str:
        path = self._paths[name]
        return f"output {path}: {self.forms[name]}" if path else str(self.forms[name])

    def _code(self) -> dict[str, Any]:
        """What of the code decides the tokens; see `bddn.backbones.code`."""
        with single_threaded_kernels():  # the same last bits whatever the number of threads
            measured = code.measure(self._numbers, noise(2, self.spec.image_hw))
        preprocess = {} if self._preprocess is None else {"preprocess": code.source_of_function(self._preprocess)}
        return {"source": code.sources(self._module) | preprocess, PROBE: measured}

    def _preprocessed_noise(self) -> str:
        """The hash of what the user's preprocessing makes of a picture of noise."""
        from PIL import Image

        noise = torch.randint(256, (300, 425, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        pixels = self.preprocess(Image.fromarray(noise.numpy()))
        return hashlib.sha256(pixels.contiguous().numpy().tobytes()).hexdigest()


@own_settings()
def from_module(
    module: nn.Module,
    layers: Sequence[str] | None = None,
    preprocess: "Callable[[Image], Tensor] | None" = None,
    *,
    device: str = "cpu",
    leading_tokens: int | None = None,
    channels: Literal["first", "last"] | None = None,
    output: int | str | None = None,
    **fields: Any,
) -> HookedModule:
    """A backbone of any torch module that takes pixels (B, 3, H, W).

    `bddn.extract(backbone, dataset, out)` caches its tokens.

    Parameters
    ----------
    module : Module
        It is set to eval mode.
    layers : sequence of str
        Submodules whose outputs are stored: names or globs, as in `named_modules`. `*` stands for one level of a name,
        `**` for any number of levels.
    preprocess : function of a PIL image, optional
        Gives float32 pixels (3, H, W); by default squash to image_size, ImageNet mean and deviation.
    device : str
    leading_tokens, channels, output : optional
        Answers where an output can be read in several ways; see `ModuleSpec`.
    **fields
        Of `CacheSpec`: title, image_size, grid, global_token, ….

    Raises
    ------
    SpecError
        Where a layer's output can be read in several ways, or in none.
    """
    given = {"title": type(module).__name__, "preprocess": "paper" if preprocess is None else "native"}
    spec = CacheSpec.parse(given | fields, "fields of from_module")
    answers = {"layers": layers, "leading_tokens": leading_tokens, "channels": channels, "output": output}
    about = ModuleSpec.parse({"module": "a.network:given"} | answers, "arguments of from_module")
    return HookedModule(module, about, preprocess, spec, device)


def open_module(spec: CacheSpec, device: str = "cpu") -> HookedModule:
    """The backbone of a spec whose `backbone.module` is an import path.

    The working directory is searched last.

    Raises
    ------
    BackboneError
        Where it cannot be imported, or does not give a module.
    """
    about = spec.section(ModuleSpec)
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
    return HookedModule(module, about, preprocess, spec, device)


def _made(path: str) -> Any:
    package, _, function = path.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found = getattr(importlib.import_module(package), function)
        check_as_imported(package)
        return found()
    except BackboneError:
        raise
    except Exception as error:
        raise _not_made(path, f"{type(error).__name__}: {error}") from error


def _not_made(path: str, got: str) -> BackboneError:
    return BackboneError(
        f"backbone.module '{path}'",
        expected="an importable function that returns a torch module, or a pair of it and a preprocessing",
        got=got,
        fix="Correct the path or the function; install its package, or run where it lies.",
    )
