"""A user's own torch module as a backbone: hooks on its submodules, and forms inferred from one pass."""

import hashlib
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from bddn.backbones import code
from bddn.backbones.backbone import weights_sha256
from bddn.backbones.first_run import forms_of
from bddn.backbones.hooked import HookedNetwork
from bddn.backbones.hooks import LayerHooks, compile_blocks
from bddn.backbones.imported import check_as_imported
from bddn.backbones.layers import select
from bddn.backbones.outputs import tensor_at
from bddn.backbones.preprocess import squash
from bddn.backbones.weights.loading import SHOWN, first_line
from bddn.backbones.weights.local import STATE
from bddn.backbones.weights.own import load_state, refuse_other_state, write_state
from bddn.errors import BackboneError, BddnError, SpecError
from bddn.identity import PROBE
from bddn.machine.parallel import single_threaded_kernels
from bddn.machine.settings import own_settings
from bddn.spec import CacheSpec, HookedSpec, ModuleSpec
from bddn.text import shorten
from bddn.tokens import LayerTokens, Prefix

if TYPE_CHECKING:
    from PIL.Image import Image

PREPROCESSED = 8  # more calls with one image: a random flip shows in one of them in 255 of 256 cases


@dataclass(frozen=True)
class Library:
    """The library that a network is a class of: its version tells the code, which otherwise its source does.

    Attributes
    ----------
    package : str
    built_from : mapping
        What the library builds the network from, as JSON types, for the identity.
    prefix : (int, int), optional
        CLS tokens and registers before the local tokens of its sequences.
    """

    package: str
    built_from: Mapping[str, Any]
    prefix: Prefix | None = None


class HookedModule(HookedNetwork):
    """A frozen module whose selected submodules are its layers; see `from_module`.

    Parameters
    ----------
    module : Module
    answers : HookedSpec
        Selected submodules, and settings for ambiguous outputs.
    preprocess : function of a PIL image, optional
    spec : CacheSpec
    device : str
    library : Library, optional
        Where the network comes from, if it is not the user's own.

    Attributes
    ----------
    forms : dict of str to Form
        Form of each layer's output, early to late.
    """

    def __init__(
        self,
        module: nn.Module,
        answers: HookedSpec,
        preprocess: "Callable[[Image], Tensor] | None",
        spec: CacheSpec,
        device: str = "cpu",
        library: Library | None = None,
    ) -> None:
        _check_ready(module)
        self.spec, self._device, self._preprocess, self._library = spec, device, preprocess, library
        try:
            self._model = module.eval()
        except NotImplementedError as error:
            raise _not_python(
                module, f"one that cannot be set to eval mode ({first_line(error)})", "torch.export"
            ) from error
        place = type(module).__name__
        # Include all names of a module with several names: it runs several times, which is an error.
        submodules = {name: one for name, one in module.named_modules(remove_duplicate=False) if name}
        if answers.layers is None:
            raise SpecError(
                f"'layers' of {place}",
                expected="names or globs of the submodules to store",
                got="nothing",
                fix=f"Set it to some of: {', '.join(submodules)}.",
            )
        weights = weights_sha256(module.state_dict())
        self._model.to(device)
        named = [str(layer) for layer in answers.layers]  # names of a Sequential's children are 0, 1, …
        chosen = {name: submodules[name] for name in select(named, tuple(submodules), place)}
        for one in chosen.values():
            _check_python(one)
        read = forms_of(module, chosen, self._run, spec, answers, library.prefix if library else None)
        self.forms = {name: form for name, (_, form) in read.items()}
        self._paths = {name: path for name, (path, _) in read.items()}
        self.layers = tuple(read)
        if spec.compile:
            compile_blocks(chosen)
        self._hooks = LayerHooks({name: chosen[name] for name in self.layers}, self._read)
        structure = hashlib.sha256(repr(module).encode()).hexdigest()
        self.identity: dict[str, Any] = {
            "class": f"{type(module).__module__}.{type(module).__qualname__}",
            "weights_sha256": weights,
            **(library.built_from if library else {"structure_sha256": structure}),
            "layers": {name: self._describe_layer(name) for name in self.layers},
            "preprocess_sha256": None if preprocess is None else self._preprocessed_noise(),
            "code": self._code(),
            "made_with": {name: version(name) for name in ("torch", "pillow", *([library.package] if library else []))},
        }

    @property
    def device(self) -> str:
        """Where the module is."""
        return self._device

    def preprocess(self, image: "Image") -> Tensor:
        size = self.spec.image_hw
        if self._preprocess is None:
            return squash(image, size)
        try:
            pixels = self._preprocess(image)
        except (BddnError, MemoryError):
            raise
        except Exception as error:
            raise BackboneError(
                "preprocess",
                expected=f"a function that makes pixels of an RGB image of {image.width} × {image.height} pixels",
                got=first_line(error),
                fix="Correct the function.",
            ) from error
        if not isinstance(pixels, Tensor) or pixels.shape != (3, *size) or pixels.dtype != torch.float32:
            got = f"{tuple(pixels.shape)} {pixels.dtype}" if isinstance(pixels, Tensor) else type(pixels).__name__
            raise BackboneError(
                "preprocess",
                expected=f"a float32 tensor of shape {(3, *size)}, as image_size in the spec says",
                got=got,
                fix="Correct the function, or image_size.",
            )
        return pixels

    def check_unchanged(self) -> None:
        training = [name or "the network itself" for name, one in self._model.named_modules() if one.training]
        others = weights_sha256(self._model.state_dict()) != self.identity["weights_sha256"]
        # a hook that was added, or a number that the code reads
        changed = not (training or others) and self._code()[PROBE] != self.identity["code"][PROBE]
        if training or others or changed:
            raise BackboneError(
                type(self._model).__name__,
                expected="the network as from_module was given it, in eval mode",
                got="other weights"
                if others
                else "other outputs for the same image, with the same weights"
                if changed
                else f"training mode in {shorten(training, SHOWN)}",
                fix="Call from_module again, which sets eval mode and reads the weights that are there now.",
            )

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """See `Trainable.save`: a safetensors file."""
        write_state(state, folder / STATE)

    def _forward(self, pixels: Tensor) -> object:
        return self._model(pixels)

    def _read(self, name: str, output: Any) -> LayerTokens:
        return self.forms[name].tokens(tensor_at(output, self._paths[name]))

    def _describe_layer(self, name: str) -> str:
        path = self._paths[name]
        return f"output {path}: {self.forms[name]}" if path else str(self.forms[name])

    def _code(self) -> dict[str, Any]:
        """Return the entries of the identity about code; see `bddn.backbones.code`."""
        with single_threaded_kernels():  # so that last bits do not depend on the number of threads
            measured = self._measure()
        if self._library is not None:
            return {"source": code.sources(self._model, self._library.package), PROBE: measured}
        preprocess = {} if self._preprocess is None else {"preprocess": code.source_of_function(self._preprocess)}
        return {"source": code.sources(self._model) | preprocess, PROBE: measured}

    def _preprocessed_noise(self) -> str:
        """Return the hash of the preprocessed pixels of an image of noise.

        Raises
        ------
        BackboneError
            If the pixels are drawn at random, or are in memory that the next image overwrites.
        """
        from PIL import Image

        noise = torch.randint(256, (300, 425, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
        pixels = self.preprocess(Image.fromarray(noise))
        first = _bytes_of(pixels)
        self.preprocess(Image.fromarray(255 - noise))
        overwritten = _bytes_of(pixels) != first
        others = (_bytes_of(self.preprocess(Image.fromarray(noise))) for _ in range(PREPROCESSED))
        if overwritten or any(other != first for other in others):
            raise BackboneError(
                "preprocess",
                expected="the same pixels for the same image, in memory of their own",
                got="pixels that the next image overwrites" if overwritten else "other pixels when it is called again",
                fix="Return a new tensor." if overwritten else "Leave out what is random, such as crops and flips.",
            )
        return hashlib.sha256(first).hexdigest()


def _bytes_of(pixels: Tensor) -> bytes:
    return pixels.detach().contiguous().numpy().tobytes()


def _check_python(module: object) -> None:
    """Raise a BackboneError if something is not made of Python modules."""
    is_script = isinstance(module, torch.jit.ScriptModule)
    if is_script or not isinstance(module, nn.Module):
        got = "a module of torch.jit" if is_script else "no torch module"
        raise _not_python(module, got, "torch.jit.script or torch.jit.trace")


def _not_python(module: object, got: str, before: str) -> BackboneError:
    return BackboneError(
        type(module).__name__,
        expected="a network of Python modules, whose submodules can be read while they run",
        got=got,
        fix=f"Give the module itself, as it was before {before}.",
    )


def _check_ready(module: nn.Module) -> None:
    """Raise a BackboneError if a network is not made of Python modules, or has no weights in memory."""
    _check_python(module)
    if any(hasattr(one, "_orig_mod") for one in module.modules()):
        raise BackboneError(
            type(module).__name__,
            expected="a network of Python modules, whose submodules can be read while they run",
            got="what torch.compile returned, which fuses submodules",
            fix="Give the module itself, its attribute _orig_mod; 'compile: true' in the spec compiles the layers.",
        )
    own = [*module.named_parameters(), *module.named_buffers()]
    without = [name for name, one in own if one.is_meta or isinstance(one, UninitializedParameter)]
    if without:
        raise BackboneError(
            type(module).__name__,
            expected="weights in memory",
            got=f"{len(without)} weights without values: {shorten(without, SHOWN)}",
            fix="Load its weights first; run a network with lazy modules once.",
        )
    refuse_other_state(module)


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
    """Return a backbone of any torch module that takes pixels (B, 3, H, W).

    `bddn.extract(backbone, dataset, out)` caches its tokens.

    Parameters
    ----------
    module : Module
        The network; it is set to eval mode.
    layers : sequence of str
        Submodules whose outputs are stored: names or globs of `named_modules`. `*` matches one level of a name, `**`
        any number of levels.
    preprocess : function of a PIL image, optional
        Returns float32 pixels (3, H, W). Default: resize to image_size, normalize by ImageNet mean and deviation.
    device : str
    leading_tokens, channels, output : optional
        Settings for ambiguous outputs; see `ModuleSpec`.
    **fields
        Fields of `CacheSpec`: title, image_size, grid, global_token, ….

    Raises
    ------
    SpecError
        If the form of a layer's output is ambiguous or unknown.
    """
    given = {"title": type(module).__name__, "preprocess": "paper" if preprocess is None else "native"}
    spec = CacheSpec.parse(given | fields, "fields of from_module")
    answers = {"layers": layers, "leading_tokens": leading_tokens, "channels": channels, "output": output}
    about = ModuleSpec.parse({"module": "a.network:given"} | answers, "arguments of from_module")
    return HookedModule(module, about, preprocess, spec, device)


def open_module(spec: CacheSpec, device: str = "cpu") -> HookedModule:
    """Return the backbone of a spec whose `backbone.module` is an import path.

    The working directory is searched last.

    Raises
    ------
    BackboneError
        If it cannot be imported, or does not return a module.
    """
    about = spec.section(ModuleSpec)
    made = _call_function(about.module)
    module, preprocess = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, nn.Module):
        raise _not_a_module(about.module, f"a {type(module).__name__}")
    if (preprocess is None) == (spec.preprocess == "native"):
        raise SpecError(
            f"spec '{spec.title}'",
            expected=f"preprocess: {'paper' if preprocess is None else 'native'}",
            got=f"{spec.preprocess}, but {about.module} returns {'no' if preprocess is None else 'a'} preprocessing",
            fix="Change one of the two.",
        )
    if about.state is not None:
        load_state(module, Path(about.state))
    return HookedModule(module, about, preprocess, spec, device)


def _call_function(path: str) -> Any:
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
        raise _not_a_module(path, f"{type(error).__name__}: {error}") from error


def _not_a_module(path: str, got: str) -> BackboneError:
    return BackboneError(
        f"backbone.module '{path}'",
        expected="an importable function that returns a torch module, or a pair of module and preprocessing",
        got=got,
        fix="Correct the path or the function; install its package, or run in its folder.",
    )
