"""The description of a spec's backbone in `bddn backbones show`."""

from typing import TYPE_CHECKING

from bddn.errors import BddnError

if TYPE_CHECKING:
    from bddn.backbones.backbone import Backbone
    from bddn.backbones.kind import Description
    from bddn.spec import CacheSpec, WeightsSpec
    from bddn.store.layout import Layout

N_IMAGES = 9841  # images of a subject in the Algonauts 2023 data


def card_of(spec: "CacheSpec") -> list[tuple[str, str]]:
    """Return labels and texts; '' continues the previous text. A network that brings its weights is opened and run."""
    from bddn.backbones.kind import kind_of
    from bddn.backbones.layers import matched
    from bddn.backbones.registry import open_backbone
    from bddn.backbones.weights.fetch import location_of

    kind, about = kind_of(spec), spec.backbone
    assert about is not None
    network = open_backbone(spec) if about.brings_weights else None
    said = kind.describe(spec, network)
    here, place = weights_here(spec), location_of(spec)
    why = "known only from the weights; set backbone.architecture in the spec to list them"
    if not said.outline and network is None and here != "no":
        try:
            network = open_backbone(spec)
            said = kind.describe(spec, network)
        except BddnError as error:
            why = f"not known: {error}"
    lines = [
        ("title", spec.title),
        ("class", said.network),
        ("weights", source_of(spec) + {"yes": ", on this machine", "no": ", not on this machine"}.get(here, "")),
        *([("", str(place))] if place is not None and here == "yes" else []),
        *([("fine-tuned", str(spec.parent))] if spec.parent is not None else []),
        ("licence", spec.licence or "unknown"),
        *([("mirror", f"spec {spec.weights.mirror}")] if spec.weights is not None and spec.weights.mirror else []),
        *([("groups", ", ".join(spec.groups))] if spec.groups else []),
        *(("" if i else "architecture", line) for i, line in enumerate(said.architecture)),
        ("image", _preprocessing(spec, said)),
    ]
    if not said.outline:
        return [*lines, ("layers", why)]
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


def image_bytes(spec: "CacheSpec", said: "Description") -> int:
    """Return the size in bytes of the tokens of one image, as `Layout.image_bytes`, without loading the store."""
    from bddn.spec.cache import VALUE_BYTES

    n_others = spec.grid[0] * spec.grid[1] + 1
    n_values = sum(one.channels * (n_others + one.n_registers * spec.registers) for one in said.outline.values())
    return VALUE_BYTES[spec.precision.partition(":")[0]] * n_values


def layout_of(spec: "CacheSpec", said: "Description", n_images: int) -> "Layout":
    """Return the layout of a cache of `n_images` images."""
    from bddn.store.layout import Layout

    channels = {name: layer.channels for name, layer in said.outline.items()}
    registers = {name: layer.n_registers for name, layer in said.outline.items() if spec.registers}
    return Layout.of_spec(spec, channels, n_images, registers)


def weights_here(spec: "CacheSpec") -> str:
    """Return whether the weights are on this machine: yes, no, or - if none are needed."""
    from bddn.backbones.weights.fetch import is_available, location_of

    return "-" if location_of(spec) is None else "yes" if is_available(spec) else "no"


def source_of(spec: "CacheSpec") -> str:
    """Return the source of the weights, with the commit if they are from the hub and on this machine."""
    from bddn.backbones.kind import kind_of
    from bddn.backbones.weights.local import snapshot_of

    weights = spec.weights
    if weights is None:
        return "none" if spec.backbone is None else kind_of(spec).describe(spec).weights
    if weights.hub is not None:
        commit = getattr(snapshot_of(weights), "name", weights.revision)
        at = f", commit {commit}" if commit != weights.revision else ""
        return f"hub {weights.hub}, revision {weights.revision or 'main'}{at}{_locked(weights)}"
    if weights.random is not None:
        return weights.place
    kind = "folder " if weights.folder is not None else "file " if weights.file is not None else ""
    words = {"format": weights.format, "SHA-256": weights.sha256}
    about = ", ".join([f"{kind}{weights.place}", *(f"{name} {word}" for name, word in words.items() if word)])
    return about + _locked(weights)


def _locked(weights: "WeightsSpec") -> str:
    from bddn.backbones.weights.lock import FILE, read_lock

    return f" as in {FILE}" if read_lock().of(weights) else ""


def from_to(spec: "CacheSpec") -> str:
    """Return the source of the weights and the place where they are stored."""
    from bddn.backbones.weights.fetch import is_remote, location_of

    return f"{source_of(spec)} → {location_of(spec)}" if is_remote(spec) else source_of(spec)


def _preprocessing(spec: "CacheSpec", said: "Description") -> str:
    size = f"{height_width(spec.image_hw)} pixels"
    positions = f"; {said.positions}" if said.positions else ""
    if spec.preprocess == "native" and not said.pixels:
        return f"{size}, by the network's own preprocessing{positions}"
    scaled = said.pixels or "ImageNet mean and deviation"
    return f"resized to {size} (bilinear, aspect ratio not kept), {scaled}{positions}"


def _layers(said: "Description") -> list[str]:
    groups: dict[int, list[str]] = {}
    for name, layer in said.outline.items():
        groups.setdefault(layer.channels, []).append(name)
    lines = [f"{n} channels: {', '.join(names)}" for n, names in groups.items()]
    return [f"{len(said.outline)}, early to late", *lines]


def _order(spec: "CacheSpec", network: "Backbone | None", here: str) -> list[str]:
    """Return the order of the places of the layers, measured on the network if it can be opened."""
    if here == "no":
        return ["not measured, because the weights are not on this machine"]
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
    global_ += "" if said.cls is not False else ", because no layer has a CLS token"
    left = ["CLS token"] if said.cls and spec.global_token == "mean" else []
    left += ["register tokens"] if said.registers and not spec.registers else []
    out = f"; {' and '.join(left)} {'are' if 'register tokens' in left else 'is'} left out" if left else ""
    out += "; registers: as they are, for other programs (no fit reads them)" if spec.registers else ""
    resized = f"resized bilinearly from {sizes} to {height_width(spec.grid)}"
    return [said.stored, f"local: {said.local}, {resized}; global: {global_}{out}"]


def places_range(said: "Description") -> str:
    """Return rows and columns of all layers; if they differ, the smallest and largest number of rows."""
    sizes = sorted({layer.places for layer in said.outline.values()})
    return height_width(sizes[0]) if len(sizes) == 1 else f"{sizes[0][0]}…{sizes[-1][0]}"


def height_width(size: tuple[int, int]) -> str:
    """Return two sizes with a cross, such as 14×14."""
    return f"{size[0]}×{size[1]}"
