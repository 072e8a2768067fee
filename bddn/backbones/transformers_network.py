"""Any network of the transformers library: its blocks found by their path, its tokens put row by row."""

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bddn.backbones.backbone import weights_sha256
from bddn.backbones.first_run import forms_of
from bddn.backbones.forward_inputs import arguments, check_patches
from bddn.backbones.hooked import HookedNetwork
from bddn.backbones.hooks import LayerHooks, compile_blocks
from bddn.backbones.kind import Outline
from bddn.backbones.layers import matching, select
from bddn.backbones.orders import mask_units, windows
from bddn.backbones.outputs import tensor_at
from bddn.backbones.preprocess import check_pixels, squash
from bddn.backbones.shapes import Form
from bddn.backbones.transformers_kind import class_name, family_of, identity_of, names_of, outline_of_blocks
from bddn.backbones.weights.loading import refuse_cls
from bddn.backbones.weights.local import folder_of
from bddn.backbones.weights.pretrained import load
from bddn.errors import BackboneError, SpecError
from bddn.spec import CacheSpec, HookedSpec, TransformersSpec
from bddn.spec.library import UNIT, wild_levels
from bddn.tokens import LayerTokens

if TYPE_CHECKING:
    from PIL.Image import Image

NOT_OF_TOKENS = {
    *("architectures", "dtype", "id2label", "label2id", "problem_type", "torch_dtype", "transformers_version"),
    *("out_features", "out_indices", "stage_names"),  # which maps a class for detectors returns
}
"""Fields of a configuration that are no part of a network's identity, besides names with `_` or `initializer` first."""


class TransformersNetwork(HookedNetwork):
    """A frozen network of the transformers library; its layers are its blocks.

    Parameters
    ----------
    spec : CacheSpec
        Its backbone has `family: transformers`.
    device : str
        'cpu' or 'cuda'.

    Attributes
    ----------
    forms : dict of str to Form
        How the output of each block that is stored contains tokens, early to late.

    Raises
    ------
    BackboneError
        If the weights are missing or do not fit, or the network does not run.
    SpecError
        If the spec does not fit the network.
    """

    def __init__(self, spec: CacheSpec, device: str = "cpu") -> None:
        about = spec.section(TransformersSpec)
        assert spec.weights is not None
        _check(spec, about)
        if spec.preprocess == "native" and (spec.weights.hub or spec.weights.folder):
            check_pixels(about.pixels, folder_of(spec.weights))
        told = outline_of_blocks(spec)
        self.spec, self._about, self._device = spec, about, device
        self._model = load(spec.weights, family_of(about), about.architecture).eval().requires_grad_(False)
        blocks = find_blocks(self._model, about.blocks)
        self.layers = select(about.layers, tuple(blocks), spec.weights.place)
        _check_config(spec, self._model.config)
        check_patches(about, self._model)
        self._arguments = arguments(about, self._model.config)
        self.identity = {
            "class": class_name(about),
            "weights_sha256": weights_sha256(self._model.state_dict()),
            "config": identity_config(self._model.config),
            "section": identity_of(about),
            "made_with": {name: version(name) for name in ("torch", "transformers", "pillow")},
        }
        self._model.to(device)
        # Blocks that are not stored may have other tokens, such as the last ones of PVT, CvT and EoMT.
        stored = {name: blocks[name] for name in self.layers}
        read = forms_of(
            self._model,
            blocks if about.order == "mask_units" else stored,
            self._run,
            spec,
            HookedSpec(output=about.output, channels=about.channels),
            prefix=about.not_local,
            packed=about.input == "packed",
        )
        self.forms = {name: form for name, (_, form) in read.items()}
        self._paths = {name: path for name, (path, _) in read.items()}
        _compare(spec, tuple(blocks), self.forms, told)
        self._order = {name: self._gathered(name) for name in self.layers}
        if spec.compile:
            compile_blocks(stored)
        self._hooks = LayerHooks(stored, self._read)
        self._measure()  # refuses random tokens, such as those of MAE's own class

    def preprocess(self, image: "Image") -> Tensor:
        """See `Backbone.preprocess`. `native` takes the whole image too, with the network's own mean and deviation."""
        if self.spec.preprocess == "paper":
            return squash(image, self.spec.image_hw)
        return squash(image, self.spec.image_hw, self._about.pixels.mean, self._about.pixels.std)

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """See `Trainable.save`: a folder in the Hugging Face format, of this network alone."""
        self._model.save_pretrained(folder, state_dict=dict(state), save_original_format=self._about.tower is None)

    def _forward(self, pixels: Tensor) -> object:
        return self._model(*self._arguments(pixels), **self._about.forward)

    def _read(self, name: str, output: Any) -> LayerTokens:
        form, tensor = self.forms[name], tensor_at(output, self._paths[name])
        if self._about.input == "packed":
            tensor = tensor.unflatten(0, (-1, sum(form.prefix) + form.places[0] * form.places[1]))
        if (order := self._order[name]) is not None:
            tensor = tensor.movedim(form.batch_dim, 0)[:, order].movedim(0, form.batch_dim)
        return form.tokens(tensor)

    def _gathered(self, name: str) -> Tensor | None:
        """Return which token of a sequence comes where: CLS tokens, the global one first; registers; then local tokens
        row by row.

        None if they already lie so."""
        form, about = self.forms[name], self._about
        if form.kind != "sequence":
            return None
        places = torch.arange(form.places[0] * form.places[1]).view(form.places)
        before, after = about.prefix, about.suffix
        first = list(range(before.cls + before.registers))
        end = [len(first) + places.numel() + i for i in range(after.cls + after.registers)]
        cls = first[: before.cls] + end[: after.cls]
        cls.insert(0, cls.pop(before.global_cls if before.cls else after.global_cls)) if cls else None
        leading = [*cls, *first[before.cls :], *end[after.cls :]]
        if about.order == "rows":
            order = places.flatten()
        elif about.order == "mask_units":
            last = min(form.places[0] for form in self.forms.values())
            order = mask_units(places, round(form.places[0] / last).bit_length() - 1)
        else:
            order = windows(places, about.order)
        index = torch.cat([torch.tensor(leading, dtype=torch.int64), order.argsort() + len(first)])
        return None if torch.equal(index, torch.arange(len(index))) else index.to(self._device)


def find_blocks(model: nn.Module, path: str) -> dict[str, nn.Module]:
    """Return the blocks of a network by the names of their layers, early to late.

    Raises
    ------
    SpecError
        If the path matches none.
    """
    modules = dict(model.named_modules())
    found = matching(path, tuple(modules))
    if not found:
        lists = [f"{name}.*" for name, one in modules.items() if isinstance(one, nn.ModuleList) and len(one) > 1]
        raise SpecError(
            "backbone.blocks",
            expected=f"the path of the blocks of a {type(model).__name__}",
            got=f"{path}, which matches nothing",
            fix=f"Set it to one of its lists of modules: {', '.join(lists[:8]) or 'it has none'}.",
        )
    first = wild_levels(path)[0]
    stages = Counter(name.split(".")[first] for name in found)
    return dict(zip(names_of(list(stages.values()), path), (modules[name] for name in found), strict=True))


def identity_config(config: Any) -> dict[str, Any]:
    """Return the fields of a configuration that differ from the defaults of its class, and of all configurations."""
    from transformers import PreTrainedConfig

    usual = PreTrainedConfig().to_dict()
    found = _without(config.to_dict(), type(config)().to_dict())
    nested = {name: _without(value, usual) for name, value in found.items() if isinstance(value, dict)}
    return {name: value for name, value in found.items() if name not in NOT_OF_TOKENS} | nested


def _without(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields that differ from defaults, without those that change no weight and no output."""
    return {
        name: value
        for name, value in sorted(fields.items())
        if not name.startswith(("_", "initializer"))
        and name not in ("id2label", "label2id", "dtype")
        and (name not in defaults or defaults[name] != value)
    }


def _check(spec: CacheSpec, about: TransformersSpec) -> None:
    if not about.not_local[0]:
        refuse_cls(spec)
    if about.pixels == UNIT and spec.preprocess == "paper":
        raise SpecError(
            f"spec '{spec.title}'",
            expected="preprocess: native, because the network normalizes pixels itself (pixels: unit)",
            got="paper, which would normalize them twice",
            fix="Set preprocess: native in the spec.",
        )


def _check_config(spec: CacheSpec, config: Any) -> None:
    """Raise a SpecError if prefix or order of the spec differ from what a configuration says of them."""
    about = spec.section(TransformersSpec)
    n_cls, n_registers = about.not_local
    told = {"num_cls_tokens": n_cls, "num_register_tokens": n_registers, "num_registers": n_registers}
    wrong = [f"{name} {getattr(config, name)}, not {n}" for name, n in told.items() if getattr(config, name, n) != n]
    if wrong:
        raise SpecError(
            f"spec '{spec.title}'",
            expected="the prefix of the network's configuration",
            got=", ".join(wrong),
            fix="Correct prefix in the spec.",
        )
    if about.input != "packed" or not hasattr(config, "spatial_merge_size"):  # others' order is only measured
        return
    outer = [config.window_size // config.patch_size] if hasattr(config, "window_size") else []
    order = [*outer, config.spatial_merge_size]
    if about.order != tuple(order):
        raise SpecError(
            f"spec '{spec.title}'",
            expected=f"order: {order}, as the network's configuration says",
            got=str(list(about.order)),
            fix="Correct order in the spec.",
        )


def _compare(spec: CacheSpec, blocks: Sequence[str], forms: Mapping[str, Form], told: Mapping[str, Any]) -> None:
    """Raise a SpecError if blocks are not as the spec says."""
    about = spec.section(TransformersSpec)
    n_cls, n_registers = about.not_local
    for name, form in forms.items():
        if form.prefix != about.not_local or (about.order != "rows" and form.kind != "sequence"):
            order = "" if about.order == "rows" else f" in the order {about.order}"
            raise SpecError(
                f"layer '{name}'",
                expected=f"{n_cls} CLS tokens, {n_registers} registers and places{order}, as prefix"
                f"{' and order' if order else ''} in the spec say",
                got=str(form),
                fix="Correct prefix or order in the spec; tokens that come after the places belong to suffix.",
            )
        if any(pixels % n for pixels, n in zip(spec.image_hw, form.places, strict=True)):
            raise SpecError(
                f"layer '{name}'",
                expected="an image_size that the places of each layer divide",
                got=f"{' × '.join(map(str, spec.image_hw))} pixels for {form.places[0]} × {form.places[1]} places: the "
                "network cuts or pads the image at its edge",
                fix="Correct image_size in the spec.",
            )
    found = dict.fromkeys(blocks, "a block") | {name: _sizes(form) for name, form in forms.items()}
    expected = {name: _sizes(outline) for name, outline in told.items()}
    names = [one for one in dict.fromkeys([*found, *expected]) if one in forms or (one in found) != (one in expected)]
    for name in names if told else ():
        if found.get(name) != expected.get(name):
            raise BackboneError(
                f"layer '{name}'",
                expected=f"{expected.get(name, 'no such block')}, as stages or architecture in the spec say",
                got=found.get(name, "no such block"),
                fix="Correct stages or architecture in the spec.",
            )


def _sizes(layer: Form | Outline) -> str:
    return f"{layer.channels} channels at {layer.places[0]}×{layer.places[1]} places"
