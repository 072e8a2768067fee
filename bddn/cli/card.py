"""What a spec says of its backbone, in words: the card of `bddn backbones show`."""

from typing import TYPE_CHECKING

from bddn.errors import BddnError

if TYPE_CHECKING:
    from bddn.backbones.backbone import Backbone
    from bddn.backbones.kind import Description
    from bddn.spec import CacheSpec
    from bddn.store.layout import Layout

N_IMAGES = 9841  # of a subject of the Algonauts 2023 data


def card_of(spec: "CacheSpec") -> list[tuple[str, str]]:
    """Labels and texts; a label is empty where a text goes on. A network that brings its weights is opened and run."""
    from bddn.backbones.fetch import where
    from bddn.backbones.kind import kind_of
    from bddn.backbones.layers import matched
    from bddn.backbones.registry import open_backbone

    kind, about = kind_of(spec), spec.backbone
    assert about is not None
    network = open_backbone(spec) if about.brings_weights else None
    said = kind.describe(spec, network)
    here, place = weights_here(spec), where(spec)
    lines = [
        ("title", spec.title),
        ("class", said.network),
        ("weights", source_of(spec) + {"yes": ", on this machine", "no": ", not on this machine"}.get(here, "")),
        *([("", str(place))] if place is not None and here == "yes" else []),
        ("licence", spec.licence or "not told"),
        *([("groups", ", ".join(spec.groups))] if spec.groups else []),
        *(("" if i else "architecture", line) for i, line in enumerate(said.architecture)),
        ("image", _preprocessing(spec, said)),
    ]
    if not said.outline:
        return [*lines, ("layers", "told by the weights; with backbone.architecture in the spec they are listed here")]
    layout = layout_of(spec, said, N_IMAGES)
    sizes = ", ".join(dict.fromkeys(height_width(layer.places) for layer in said.outline.values()))
    lines += [
        ("places", f"{sizes} → {height_width(spec.grid)} in the cache"),
        *(("" if i else "layers", line) for i, line in enumerate(said.layers or _layers(said))),
        *(("", line) for line in matched(about.layers, list(said.outline))),
        *(("" if i else "order", line) for i, line in enumerate(_order(spec, network, here))),
        *(("" if i else "cached", line) for i, line in enumerate(_cached(spec, said, sizes))),
        ("precision", spec.precision + (f", forward pass in {spec.autocast}" if spec.autocast else "")),
        ("image takes", f"{layout.image_bytes() / 1e6:.3f} MB"),
        (f"{N_IMAGES:,} take", f"{layout.disk_bytes() / 1e9:.1f} GB"),
    ]
    return lines


def layout_of(spec: "CacheSpec", said: "Description", n_images: int) -> "Layout":
    """The layout of a cache of so many images."""
    from bddn.store.layout import Layout

    return Layout.of_spec(spec, {name: layer.channels for name, layer in said.outline.items()}, n_images)


def weights_here(spec: "CacheSpec") -> str:
    """Whether the weights are on this machine: yes, no, or - where none are needed."""
    from bddn.backbones.fetch import is_here, where

    return "-" if where(spec) is None else "yes" if is_here(spec) else "no"


def source_of(spec: "CacheSpec") -> str:
    """Where the weights come from; of those of the hub that are on this machine, with their commit."""
    from bddn.backbones.kind import kind_of
    from bddn.backbones.weights import snapshot_of

    weights = spec.weights
    if weights is None:
        return "none" if spec.backbone is None else kind_of(spec).describe(spec).weights
    if weights.hub is not None:
        commit = getattr(snapshot_of(weights), "name", weights.revision)
        at = f", commit {commit}" if commit != weights.revision else ""
        return f"hub {weights.hub}, revision {weights.revision or 'main'}{at}"
    if weights.random is not None:
        return weights.place
    kind = "folder " if weights.folder is not None else "file " if weights.file is not None else ""
    words = {"format": weights.format, "SHA-256": weights.sha256}
    return ", ".join([f"{kind}{weights.place}", *(f"{name} {word}" for name, word in words.items() if word)])


def from_to(spec: "CacheSpec") -> str:
    """Where the weights come from, and where they are kept."""
    from bddn.backbones.fetch import is_remote, where

    return f"{source_of(spec)} → {where(spec)}" if is_remote(spec) else source_of(spec)


def _preprocessing(spec: "CacheSpec", said: "Description") -> str:
    size = f"{height_width(spec.image_hw)} pixels"
    if spec.preprocess == "native" and not said.pixels:
        return f"{size}, by the preprocessing that comes with the network"
    return f"squashed to {size} (bilinear, aspect not kept), {said.pixels or 'ImageNet mean and deviation'}"


def _layers(said: "Description") -> list[str]:
    groups: dict[int, list[str]] = {}
    for name, layer in said.outline.items():
        groups.setdefault(layer.channels, []).append(name)
    lines = [f"{n} channels: {', '.join(names)}" for n, names in groups.items()]
    return [f"{len(said.outline)}, early to late", *lines]


def _order(spec: "CacheSpec", network: "Backbone | None", here: str) -> list[str]:
    """In which order the places of the layers are, measured on the network if it can be opened."""
    if here == "no":
        return ["not measured, since the weights are not on this machine"]
    from bddn.backbones.probe import measure_orders, summary
    from bddn.backbones.registry import open_backbone
    from bddn.machine.parallel import choose_device

    try:
        backbone = network or open_backbone(spec, choose_device("auto"))
        return summary(measure_orders(backbone, spec))
    except BddnError as error:
        return [f"not measured: {error}"]


def _cached(spec: "CacheSpec", said: "Description", sizes: str) -> list[str]:
    mean = f"the mean of the full {sizes} map" + ("s" if ", " in sizes else "")
    global_ = "the CLS token" if spec.global_token == "cls" else mean
    left = ["CLS token"] if said.cls and spec.global_token == "mean" else []
    left += ["register tokens"] if said.registers else []
    out = f"; {' and '.join(left)} {'are' if said.registers else 'is'} left out" if left else ""
    resized = f"resized bilinearly from {sizes} to {height_width(spec.grid)}"
    return [said.stored, f"local: {said.local}, {resized}; global: {global_}{out}"]


def places_range(said: "Description") -> str:
    """Rows and columns of all layers; rows of the smallest and largest where they differ."""
    sizes = sorted({layer.places for layer in said.outline.values()})
    return height_width(sizes[0]) if len(sizes) == 1 else f"{sizes[0][0]}…{sizes[-1][0]}"


def height_width(size: tuple[int, int]) -> str:
    """Two sizes, with a cross."""
    return f"{size[0]}×{size[1]}"
