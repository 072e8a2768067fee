"""Commands on backbones: the list, what is cached of each, and their weights."""

import re
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from bddn.cli.card import card_of, from_to, height_width, image_bytes, places_range, source_of, weights_here
from bddn.cli.shared import SPEC, as_table, clear_errors, example, stops_cleanly
from bddn.errors import BackboneError, BddnError
from bddn.text import cut

if TYPE_CHECKING:
    from bddn.backbones.weights.fetch import Fetched
    from bddn.spec import CacheSpec

LONGEST_LICENCE = 12
WIDTH = 100  # default number of columns
OPTIONAL_COLUMNS = ("family", "grid", "groups", "licence")  # left out in this order if the table is too wide

backbones_app = typer.Typer(help="List backbones, and show what is cached of them.")


@clear_errors
def fetch(
    specs: Annotated[list[str], typer.Argument(help="Names of specs in cache_specs/, or .yaml files.")],
    offline: Annotated[
        bool, typer.Option("--offline", help="Only say what is on this machine; exit code 2 if something is missing.")
    ] = False,
    lock: Annotated[
        bool,
        typer.Option(
            "--lock",
            help="Record commits and hashes in weights.lock in the working directory. If this file is there, all "
            "commands use its commits, and other files are refused.",
        ),
    ] = False,
) -> None:
    """Download the weights of backbones. No other command downloads.

    An interrupted download continues. Existing files are checked by their hashes, and need no network.
    """
    from bddn.backbones.registry import load_spec
    from bddn.backbones.weights.fetch import fetch as download
    from bddn.backbones.weights.fetch import is_remote, location_of

    opened = {name: load_spec(name) for name in specs}
    missing: dict[str, str] = {}  # or damaged
    refused: list[BddnError] = []
    for name, spec in opened.items():
        if location_of(spec) is None:
            typer.echo(f"{name}: nothing to download, {source_of(spec)}")
            continue
        try:
            with stops_cleanly():
                found = download(spec, offline=offline)
            if lock:
                _record(spec, found)
        except BddnError as error:  # other downloads may succeed
            refused.append(error)
        else:
            typer.echo(f"{name}: {found.state}, {from_to(spec)}")
            if found.state in ("missing", "damaged"):
                missing[name] = found.state
    for one in refused[:-1]:
        typer.echo(f"error: {one}", err=True)
    if refused:
        raise refused[-1]
    if missing:
        remote = [name for name in missing if is_remote(opened[name])]
        local = [name for name in missing if name not in remote]
        fixes = [f"Run 'bddn fetch {' '.join(remote)}' on a machine with network access."] if remote else []
        fixes += [f"Correct the paths of {', '.join(local)}, or create these files."] if local else []
        raise BackboneError(
            f"weights of {', '.join(missing)}",
            expected="all weights on this machine",
            got=" and ".join(f"{n} of {len(opened)} {state}" for state, n in Counter(missing.values()).items()),
            fix=" ".join(fixes),
        )


def _record(spec: "CacheSpec", found: "Fetched") -> None:
    """Write the files of a spec into the lock file."""
    from bddn.backbones.weights.local import snapshot_of
    from bddn.backbones.weights.lock import record

    if spec.weights is not None and found.contents:
        folder = None if spec.weights.hub is None else snapshot_of(spec.weights)
        record(spec.weights, None if folder is None else folder.name, found.contents)


@backbones_app.callback(invoke_without_command=True)
@clear_errors
def backbones(context: typer.Context) -> None:
    """List all specs by name, with their networks and what is cached of them.

    MB is the size of an image in the cache, before compression.
    """
    if context.invoked_subcommand is not None:
        return
    from bddn.backbones.registry import load_specs

    specs = load_specs()
    short = _abbreviated({group for spec in specs.values() for group in spec.groups})
    rows = [_row(name, spec, short) for name, spec in specs.items()]
    groups = ", ".join(f"{letter} {group}" for group, letter in short.items() if letter != group)
    typer.echo(  # in one call, because of `| head`
        f"{as_table(_fitting(rows, shutil.get_terminal_size((WIDTH, 24)).columns))}\n\n"
        "blocks: number × channels; image: side/patch in pixels; grid: patches; MB: of one cached image;\n"
        f"here: weights on this machine; groups: {groups}; ?: depends on the weights"
    )


@backbones_app.command(epilog=example("bddn backbones show sam_b"))
@clear_errors
def show(spec: Annotated[str, SPEC]) -> None:
    """Describe one backbone: its network, its input, and exactly what is cached of it."""
    from bddn.backbones.registry import load_spec

    said: list[str] = []
    for label, text in card_of(load_spec(spec)):
        lines = textwrap.wrap(text, WIDTH - 14, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        said += [f"{'' if i else label:<14}{line}" for i, line in enumerate(lines)]
    typer.echo("\n".join(said))


def _row(name: str, spec: "CacheSpec", short: dict[str, str]) -> dict[str, str]:
    from bddn.backbones.kind import Description, kind_of

    said = Description("none", "none") if spec.backbone is None else kind_of(spec).describe(spec)
    side = str(spec.image_hw[0]) if len(set(spec.image_hw)) == 1 else height_width(spec.image_hw)
    n = len(said.outline)
    return {
        "name": name,
        "family": said.family,
        "blocks": said.blocks,
        "image": f"{side}/{said.patch}" if said.patch else side,
        "grid": places_range(said) if n else "-",
        "layers": str(n or "?"),
        "MB": f"{image_bytes(spec, said) / 1e6:.2f}" if n else "?",
        "here": weights_here(spec),
        "licence": cut(spec.licence or "-", LONGEST_LICENCE),
        "groups": ",".join(short[group] for group in spec.groups) or "-",
    }


def _abbreviated(groups: Iterable[str]) -> dict[str, str]:
    """Return short names of groups: the first letter and the number, such as t1 for table1, if these are unique."""
    short = {group: re.sub(r"^([a-z])[a-z]*(?=\d+$)", r"\1", group) for group in sorted(groups)}
    return short if len(set(short.values())) == len(short) else {group: group for group in short}


def _fitting(rows: list[dict[str, str]], columns: int) -> list[dict[str, str]]:
    """Return the rows without the columns that do not fit the terminal; `bddn backbones show` prints all."""
    for gone in ("", *OPTIONAL_COLUMNS):
        rows = [{key: cell for key, cell in row.items() if key != gone} for row in rows]
        widths = [max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]]
        if sum(widths) + 2 * (len(widths) - 1) <= columns:
            break
    return rows
