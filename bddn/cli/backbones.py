"""Backbones: which there are, what is cached of them, and their weights."""

import re
import shutil
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bddn.cli.shared import SPEC, as_table, clear_errors
from bddn.errors import BackboneError, BddnError, SpecError

if TYPE_CHECKING:
    from bddn.backbones.module import HookedModule
    from bddn.spec import CacheSpec
    from bddn.store.layout import Layout

N_IMAGES = 9841  # of a subject of the Algonauts 2023 data
SHORT = {"dinov2_registers": "dinov2+reg", "stable_diffusion": "SD U-Net"}
LONGEST_LICENCE = 12
WIDTH = 100  # columns, where the terminal does not tell
CAN_GO = ("groups", "grid", "family", "licence")  # where the table is too wide, in this order

backbones_app = typer.Typer(help="Which backbones there are, and what is cached of them.")


@clear_errors
def fetch(
    specs: Annotated[list[str], typer.Argument(help="Names of specs in cache_specs/, or .yaml files.")],
    offline: Annotated[
        bool, typer.Option("--offline", help="Only tell what is there; exit code 2 where something is missing.")
    ] = False,
) -> None:
    """Download the weights of backbones; no other command does. What is there is kept, and no network is asked."""
    from bddn.backbones.fetch import fetch as download
    from bddn.backbones.fetch import is_here, is_remote, where
    from bddn.backbones.registry import load_spec

    opened = {name: load_spec(name) for name in specs}
    missing: list[str] = []
    refused: list[BddnError] = []
    for name, spec in opened.items():
        if where(spec) is None:
            typer.echo(f"{name}: nothing to download, {_source(spec)}")
        elif is_here(spec):
            typer.echo(f"{name}: there, {_from_to(spec)}")
        elif offline:
            missing.append(name)
            typer.echo(f"{name}: missing, {_from_to(spec)}")
        else:
            try:
                download(spec)
                typer.echo(f"{name}: fetched, {_from_to(spec)}")
            except BddnError as error:  # the others may be had
                refused.append(error)
    for one in refused[:-1]:
        typer.echo(f"error: {one}", err=True)
    if refused:
        raise refused[-1]
    if missing:
        remote = [name for name in missing if is_remote(opened[name])]
        local = [name for name in missing if name not in remote]
        fixes = [f"Run 'bddn fetch {' '.join(remote)}' where there is a network."] if remote else []
        fixes += [f"Correct the paths of {', '.join(local)}, or make what they name."] if local else []
        raise BackboneError(
            f"weights of {', '.join(missing)}",
            expected="them on this machine",
            got=f"{len(missing)} of {len(opened)} missing",
            fix=" ".join(fixes),
        )


@backbones_app.callback(invoke_without_command=True)
@clear_errors
def backbones(context: typer.Context) -> None:
    """All specs that can be called by name: their networks, and what is cached of them.

    MB are those of an image in the cache, before compression.
    """
    if context.invoked_subcommand is not None:
        return
    from bddn.backbones.registry import load_spec, spec_names

    specs = {name: load_spec(name) for name in spec_names()}
    short = _abbreviated({group for spec in specs.values() for group in spec.groups})
    rows = [_row(name, spec, short) for name, spec in specs.items()]
    groups = ", ".join(f"{letter} {group}" for group, letter in short.items())
    typer.echo(  # at once, so that `| head` does no harm
        f"{as_table(_fitting(rows, shutil.get_terminal_size((WIDTH, 24)).columns))}\n\n"
        "blocks: number × channels; image: side/patch in pixels; grid: patches; MB: of an image in the cache;\n"
        f"here: the weights on this machine; groups: {groups}; ?: the weights tell"
    )


@backbones_app.command()
@clear_errors
def show(spec: Annotated[str, SPEC]) -> None:
    """Tell of one backbone what it is, what it sees, and exactly what is cached of it."""
    from bddn.backbones.registry import load_spec

    said: list[str] = []
    for label, text in _card(load_spec(spec)):
        lines = textwrap.wrap(text, WIDTH - 14, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        said += [f"{'' if i else label:<14}{line}" for i, line in enumerate(lines)]
    typer.echo("\n".join(said))


def _row(name: str, spec: "CacheSpec", short: dict[str, str]) -> dict[str, str]:
    from bddn.spec import FamilySpec, ModuleSpec

    about = spec.backbone
    architecture: dict[str, Any] = about.architecture if isinstance(about, FamilySpec) else {}
    depth, width, patch = (str(architecture.get(f, "?")) for f in ("num_hidden_layers", "hidden_size", "patch_size"))
    side = str(spec.image_hw[0]) if len(set(spec.image_hw)) == 1 else _hw(spec.image_hw)
    own = about is None or isinstance(about, ModuleSpec)
    channels, places = ({}, {}) if own else _told(spec)
    family = "own module" if about is None or isinstance(about, ModuleSpec) else about.family
    return {
        "name": name,
        "family": SHORT.get(family, family),
        "blocks": f"{depth}×{width}" if isinstance(about, FamilySpec) else "-",
        "image": f"{side}/{patch}" if isinstance(about, FamilySpec) else side,
        "grid": _range(places) if places else "-",
        "layers": str(len(channels)) if channels else "?",
        "MB": f"{_layout(spec, channels, 1).image_bytes() / 1e6:.2f}" if channels else "?",
        "here": _here(spec),
        "licence": _cut(spec.licence or "-", LONGEST_LICENCE),
        "groups": ",".join(short[group] for group in spec.groups) or "-",
    }


def _abbreviated(groups: Iterable[str]) -> dict[str, str]:
    """Groups by the first letter and the number, where that tells them apart: table1 is t1."""
    short = {group: re.sub(r"^([a-z])[a-z]*(?=\d+$)", r"\1", group) for group in sorted(groups)}
    return short if len(set(short.values())) == len(short) else {group: group for group in short}


def _fitting(rows: list[dict[str, str]], columns: int) -> list[dict[str, str]]:
    """The rows without the columns that a terminal has no place for; `bddn backbones show` tells all."""
    for gone in ("", *CAN_GO):
        rows = [{key: cell for key, cell in row.items() if key != gone} for row in rows]
        widths = [max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]]
        if sum(widths) + 2 * (len(widths) - 1) <= columns:
            break
    return rows


def _card(spec: "CacheSpec") -> list[tuple[str, str]]:
    from bddn.backbones.fetch import where
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
        channels, places = _told(spec)
    here, place = _here(spec), where(spec)
    lines = [
        ("title", spec.title),
        ("class", _class(spec, module)),
        ("weights", _source(spec) + {"yes": ", on this machine", "no": ", not on this machine"}.get(here, "")),
        *([("", str(place))] if place is not None and here == "yes" else []),
        ("licence", spec.licence or "not told"),
        *([("groups", ", ".join(spec.groups))] if spec.groups else []),
        *(("" if i else "architecture", line) for i, line in enumerate(_architecture(spec))),
        ("image", _preprocessing(spec)),
    ]
    if not channels:
        return [*lines, ("layers", "told by the weights; with backbone.architecture in the spec they are listed here")]
    layout = _layout(spec, channels, N_IMAGES)
    sizes = ", ".join(dict.fromkeys(_hw(hw) for hw in places.values()))
    lines += [
        ("places", f"{sizes} → {_hw(spec.grid)} in the cache"),
        *(("" if i else "layers", line) for i, line in enumerate(_layers(channels, module))),
        *(("" if i else "cached", line) for i, line in enumerate(_cached(spec, places, module))),
        ("precision", spec.precision + (f", forward pass in {spec.autocast}" if spec.autocast else "")),
        ("image takes", f"{layout.image_bytes() / 1e6:.3f} MB"),
        (f"{N_IMAGES:,} take", f"{layout.disk_bytes() / 1e9:.1f} GB"),
    ]
    return lines


def _told(spec: "CacheSpec") -> tuple[dict[str, int], dict[str, tuple[int, int]]]:
    """Channels and places of the layers, as far as the spec tells them."""
    from bddn.backbones.outline import is_told, outline, places

    return (outline(spec), places(spec)) if is_told(spec) else ({}, {})


def _layout(spec: "CacheSpec", channels: dict[str, int], n_images: int) -> "Layout":
    from bddn.store.layout import Layer, Layout
    from bddn.store.precision import precision

    return Layout(
        n_images=n_images,
        layers=tuple(Layer(name, n) for name, n in channels.items()),
        grid=spec.grid,
        precision=precision(spec.precision),
        chunk_images=spec.chunk_images,
        shard_images=spec.shard_images,
    )


def _here(spec: "CacheSpec") -> str:
    from bddn.backbones.fetch import is_here, where

    return "-" if where(spec) is None else "yes" if is_here(spec) else "no"


def _source(spec: "CacheSpec") -> str:
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


def _from_to(spec: "CacheSpec") -> str:
    from bddn.backbones.fetch import is_remote, where

    return f"{_source(spec)} → {where(spec)}" if is_remote(spec) else _source(spec)


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

    size = f"{_hw(spec.image_hw)} pixels"
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


def _cached(spec: "CacheSpec", places: dict[str, tuple[int, int]], module: "HookedModule | None") -> list[str]:
    from bddn.spec import DiffusionSpec, FamilySpec

    about, grid = spec.backbone, _hw(spec.grid)
    sizes = ", ".join(dict.fromkeys(_hw(hw) for hw in places.values()))
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


def _range(places: dict[str, tuple[int, int]]) -> str:
    sizes = sorted(set(places.values()))
    return _hw(sizes[0]) if len(sizes) == 1 else f"{sizes[0][0]}…{sizes[-1][0]}"


def _hw(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _plain(value: object) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
