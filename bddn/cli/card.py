"""What a spec says of its backbone, in words: the card of `bddn backbones show`."""

from typing import TYPE_CHECKING, Any

from bddn.errors import BddnError, SpecError

if TYPE_CHECKING:
    from bddn.backbones.module import HookedModule
    from bddn.spec import CacheSpec
    from bddn.store.layout import Layout

N_IMAGES = 9841  # of a subject of the Algonauts 2023 data


def card_of(spec: "CacheSpec") -> list[tuple[str, str]]:
    """Labels and texts; a label is empty where a text goes on. A module of the user's own is opened and run once."""
    from bddn.backbones.fetch import where
    from bddn.backbones.layers import matched
    from bddn.backbones.module import open_module
    from bddn.spec import ModuleSpec

    about = spec.backbone
    if about is None:
        raise SpecError(
            f"spec '{spec.title}'", expected="the key 'backbone'", got="none", fix="Add a family or a module."
        )
    module = open_module(spec) if isinstance(about, ModuleSpec) else None
    if module is not None:
        channels = {name: form.channels for name, form in module.forms.items()}
        places = {name: form.places for name, form in module.forms.items()}
    else:
        channels, places = layers_told(spec)
    here, place = weights_here(spec), where(spec)
    lines = [
        ("title", spec.title),
        ("class", _class(spec, module)),
        ("weights", source_of(spec) + {"yes": ", on this machine", "no": ", not on this machine"}.get(here, "")),
        *([("", str(place))] if place is not None and here == "yes" else []),
        ("licence", spec.licence or "not told"),
        *([("groups", ", ".join(spec.groups))] if spec.groups else []),
        *(("" if i else "architecture", line) for i, line in enumerate(_architecture(spec))),
        ("image", _preprocessing(spec)),
    ]
    if not channels:
        return [*lines, ("layers", "told by the weights; with backbone.architecture in the spec they are listed here")]
    layout = layout_of(spec, channels, N_IMAGES)
    sizes = ", ".join(dict.fromkeys(height_width(hw) for hw in places.values()))
    lines += [
        ("places", f"{sizes} → {height_width(spec.grid)} in the cache"),
        *(("" if i else "layers", line) for i, line in enumerate(_layers(channels, module))),
        *(("", line) for line in matched(about.layers, list(channels))),
        *(("" if i else "order", line) for i, line in enumerate(_order(spec, module, here))),
        *(("" if i else "cached", line) for i, line in enumerate(_cached(spec, places, module))),
        ("precision", spec.precision + (f", forward pass in {spec.autocast}" if spec.autocast else "")),
        ("image takes", f"{layout.image_bytes() / 1e6:.3f} MB"),
        (f"{N_IMAGES:,} take", f"{layout.disk_bytes() / 1e9:.1f} GB"),
    ]
    return lines


def layers_told(spec: "CacheSpec") -> tuple[dict[str, int], dict[str, tuple[int, int]]]:
    """Channels and places of the layers, as far as the spec tells them."""
    from bddn.backbones.outline import is_told, outline, places

    return (outline(spec), places(spec)) if is_told(spec) else ({}, {})


def layout_of(spec: "CacheSpec", channels: dict[str, int], n_images: int) -> "Layout":
    """The layout of a cache of so many images."""
    from bddn.store.layout import Layout

    return Layout.of_spec(spec, channels, n_images)


def weights_here(spec: "CacheSpec") -> str:
    """Whether the weights are on this machine: yes, no, or - where none are needed."""
    from bddn.backbones.fetch import is_here, where

    return "-" if where(spec) is None else "yes" if is_here(spec) else "no"


def source_of(spec: "CacheSpec") -> str:
    """Where the weights come from."""
    from bddn.spec import ModuleSpec

    weights = spec.weights
    if weights is None:
        return f"the module {spec.backbone.module} brings them" if isinstance(spec.backbone, ModuleSpec) else "none"
    if weights.hub is not None:
        return f"hub {weights.hub}, revision {weights.revision or 'main'}"
    if weights.random is not None:
        return weights.place
    kind = "folder " if weights.folder is not None else "file " if weights.file is not None else ""
    return f"{kind}{weights.place}" + (f", format {weights.format}" if weights.format else "")


def from_to(spec: "CacheSpec") -> str:
    """Where the weights come from, and where they are kept."""
    from bddn.backbones.fetch import is_remote, where

    return f"{source_of(spec)} → {where(spec)}" if is_remote(spec) else source_of(spec)


def _class(spec: "CacheSpec", module: "HookedModule | None") -> str:
    from bddn.spec import FamilySpec

    if module is not None:
        return f"{module.identity['class']}, own module"
    if isinstance(spec.backbone, FamilySpec):
        from bddn.backbones.pretrained import FAMILIES

        return f"{FAMILIES[spec.backbone.family].model} of transformers, family {spec.backbone.family}"
    return "UNet2DConditionModel of diffusers, family stable_diffusion"


def _architecture(spec: "CacheSpec") -> list[str]:
    from bddn.spec import DiffusionSpec, FamilySpec

    def words(fields: Any) -> str:
        return ", ".join(f"{name} {_plain(value)}" for name, value in fields.items())

    about = spec.backbone
    if isinstance(about, DiffusionSpec):
        return [f"{part}: {words(fields)}" for part, fields in about.architecture.items()] or ["not told"]
    return [words(about.architecture) or "not told"] if isinstance(about, FamilySpec) else ["the module's own"]


def _preprocessing(spec: "CacheSpec") -> str:
    from bddn.spec import DiffusionSpec

    size = f"{height_width(spec.image_hw)} pixels"
    if isinstance(spec.backbone, DiffusionSpec):
        return f"squashed to {size} (bilinear, aspect not kept), scaled to [-1, 1]"
    if spec.preprocess == "paper":
        return f"squashed to {size} (bilinear, aspect not kept), ImageNet mean and deviation"
    return f"{size}, by the preprocessing that comes with the network"


def _layers(channels: dict[str, int], module: "HookedModule | None") -> list[str]:
    if module is not None:
        return [f"{name} → {form}" for name, form in module.forms.items()]
    groups: dict[int, list[str]] = {}
    for name, n in channels.items():
        groups.setdefault(n, []).append(name)
    lines = [f"{n} channels: {', '.join(names)}" for n, names in groups.items()]
    return [f"{len(channels)}, early to late", *lines]


def _order(spec: "CacheSpec", module: "HookedModule | None", here: str) -> list[str]:
    """In which order the places of the layers are, measured on the network if it can be opened."""
    if here == "no":
        return ["not measured, since the weights are not on this machine"]
    from bddn.backbones.probe import measure_orders, summary
    from bddn.backbones.registry import open_backbone
    from bddn.machine.parallel import choose_device

    try:
        backbone = module or open_backbone(spec, choose_device("auto"))
        return summary(measure_orders(backbone, spec))
    except BddnError as error:
        return [f"not measured: {error}"]


def _cached(spec: "CacheSpec", places: dict[str, tuple[int, int]], module: "HookedModule | None") -> list[str]:
    from bddn.spec import DiffusionSpec, FamilySpec

    about, grid = spec.backbone, height_width(spec.grid)
    sizes = ", ".join(dict.fromkeys(height_width(hw) for hw in places.values()))
    resized = f"resized bilinearly from {sizes} to {grid}"
    mean = f"global: the mean of the full {sizes} map" + ("s" if ", " in sizes else "")
    if isinstance(about, DiffusionSpec):
        return [
            f"outputs of U-Net blocks in a DDIM inversion of {about.n_steps} steps, empty prompt, no guidance; "
            f"BLOCK@tK is the block at step K, counted from the clean image (t1) to noise (t{about.n_steps});",
            f"local: maps, {resized}; {mean}",
        ]
    if isinstance(about, FamilySpec):
        from bddn.backbones.pretrained import FAMILIES

        cls, registers = FAMILIES[about.family].cls, bool(about.architecture.get("num_register_tokens"))
        what = "output of each transformer block (residual stream, before the final norm);"
        patches = "patch tokens"
    else:
        forms = list(module.forms.values()) if module is not None else []
        cls, registers = any(form.n_leading for form in forms), any(form.n_leading > 1 for form in forms)
        what, patches = "output of each submodule;", "tokens of places"
    global_ = "global: the CLS token" if spec.global_token == "cls" else mean
    left = ["CLS token"] if cls and spec.global_token == "mean" else []
    left += ["register tokens"] if registers else []
    out = f"; {' and '.join(left)} {'are' if registers else 'is'} left out" if left else ""
    return [what, f"local: {patches}, {resized}; {global_}{out}"]


def places_range(places: dict[str, tuple[int, int]]) -> str:
    """Rows and columns of all layers; rows of the smallest and largest where they differ."""
    sizes = sorted(set(places.values()))
    return height_width(sizes[0]) if len(sizes) == 1 else f"{sizes[0][0]}…{sizes[-1][0]}"


def height_width(size: tuple[int, int]) -> str:
    """Two sizes, with a cross."""
    return f"{size[0]}×{size[1]}"


def _plain(value: object) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
