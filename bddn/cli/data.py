"""Commands on datasets and image sets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bddn.cli.shared import as_table, clear_errors, example

if TYPE_CHECKING:
    from bddn.errors import DataError

SHOWN_SIZES = 3
SHOWN_IMAGES = 6
SHARES = (8, 1, 1)

data_app = typer.Typer(help="Inspect datasets and image sets.", no_args_is_help=True)


@data_app.callback()
def group() -> None:
    """Inspect datasets and image sets."""


@data_app.command(epilog=example("bddn data check folder:EuroSAT --per-class 50"))
@clear_errors
def check(
    name: Annotated[str, typer.Argument(help="A dataset or an image set; see 'bddn datasets'.", metavar="KIND:PATH")],
    per_class: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of training images of each class that an image set must allow.", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split of an image set.")] = 0,
) -> None:
    """Read all of a dataset of responses or of an image set, and print what is in it.

    Exit code 2 says that it cannot be used.
    """
    from bddn.data.image_sets.kinds import IMAGE_SETS
    from bddn.data.plugins import dataset_kinds
    from bddn.errors import DataError

    kind = name.partition(":")[0]
    if kind in IMAGE_SETS:
        _check_images(name, per_class, seed)
    elif kind in dataset_kinds():
        _check_dataset(name)
    else:
        kinds = (*dataset_kinds(), *IMAGE_SETS)
        raise DataError(
            f"'{name}'",
            expected=f"KIND:PATH with KIND one of {', '.join(kinds)}",
            got=f"KIND '{kind}'",
            fix="See 'bddn datasets'.",
        )


@data_app.command(epilog=example("bddn data show planted:demo --out demo.png --rois V1,EBA"))
@clear_errors
def show(
    name: Annotated[str, typer.Argument(help="A dataset; see 'bddn datasets'.", metavar="KIND:PATH")],
    out: Annotated[Path, typer.Option(help="The figure: a .png, .svg or .pdf file; a .csv file is written beside it.")],
    rois: Annotated[
        str | None,
        typer.Option(help="ROIs, separated by commas; by default up to four that there are.", show_default=False),
    ] = None,
    dpi: Annotated[int, typer.Option(min=20, max=1200, help="Pixels per inch; figures are 10 inches wide.")] = 150,
) -> None:
    """Draw the images to which ROIs respond most and least, with maps of ROIs, deviations and noise ceilings.

    All responses are read once. If the images are those that the ROIs are known for, images and responses belong
    together.
    """
    from bddn.data import open_dataset
    from bddn.data.dataset import about
    from bddn.errors import DataError
    from bddn.figures.data_sheet import data_sheet
    from bddn.figures.grid import draw_grid
    from bddn.figures.single import FORMATS
    from bddn.files.atomic import write_csv
    from bddn.files.output import check_file
    from bddn.stats.preferred_images import groups_of, preferred_images
    from bddn.text import listed

    kind, out = out.suffix[1:].lower(), check_file(out)
    if kind not in FORMATS:
        raise DataError("--out", expected=f"a file .{', .'.join(FORMATS)}", got=out.name, fix="Give another name.")
    dataset = open_dataset(name)
    found = preferred_images(dataset, groups_of(dataset.voxels(), None if rois is None else listed(rois)), SHOWN_IMAGES)
    sheet = data_sheet(dataset, found)
    stem, numbers = out.with_suffix(""), out.with_suffix(".csv")
    draw_grid(sheet.rows, stem, sheet.title, sheet.heading, dpi=dpi, formats=(kind,), numbers=False)
    write_csv(numbers, found.table)
    typer.echo(f"figure: {out}; responses of the ROIs to all images: {numbers}")
    if not about(dataset).shows_images:
        typer.echo(f"note: the figure contains images of the dataset. {about(dataset).terms}")


@data_app.command(epilog=example("bddn data split nsd:NSD,subject=1 shared515 --out shared515.json"))
@clear_errors
def split(
    name: Annotated[str, typer.Argument(help="A dataset; see 'bddn datasets'.", metavar="KIND:PATH")],
    test: Annotated[str, typer.Argument(help="Name of a set of test images; 'bddn data check' lists them.")],
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the images for validation.")] = 0,
) -> None:
    """Write a split that holds out a set of images, for 'split_by: {file: FILE}' in the spec of a fit.

    A ninth of the other images are for validation.
    """
    from bddn.data import open_dataset
    from bddn.data.dataset import named_tests
    from bddn.data.splits import split_off
    from bddn.errors import DataError
    from bddn.files.atomic import write_json

    dataset = open_dataset(name)
    sets = named_tests(dataset)
    if test not in sets:
        raise DataError(
            f"'{test}'",
            expected=f"a test set of {dataset.name}",
            got=f"none of this name; it has {', '.join(sets) or 'no test set'}",
            fix="Give another name, or write the JSON file yourself: lists train, val and test of stimulus ids.",
        )
    found = split_off(dataset.stimuli.ids, sets[test], SHARES, seed)
    write_json(out, found.to_dict())
    typer.echo(f"{out}: {len(found.train)} train, {len(found.val)} validate, {len(found.test)} test ({test})")


@data_app.command(epilog=example("bddn data init mylab --out mylab/data.yaml"))
@clear_errors
def init(
    folder: Annotated[Path, typer.Argument(help="Folder with your own data.")],
    out: Annotated[Path, typer.Option(help="New YAML file in this folder, to be completed.", show_default=False)],
) -> None:
    """Begin the YAML file of your own data (table:FILE.yaml) from what is in a folder.

    Guesses are marked by '# ?', and what only you can know by "?". An existing file is never overwritten.
    """
    from bddn.data.own.scan import scan
    from bddn.data.own.template import OPEN, begin
    from bddn.text import word

    found = scan(folder)
    text = begin(folder, found, out)
    for words in found.unreadable:
        typer.echo(f"note: not readable: {words}")
    images = sum(found.images.values())
    typer.echo(f"found: {images} images in {len(found.images)} folders, {len(found.files)} tables and arrays")
    typer.echo(f"{out}: {text.count('# ?')} guesses to check, {text.count(': ' + OPEN)} questions to answer")
    typer.echo(f"next: edit it, then run 'bddn data check {word(f'table:{out}')}'")


def _check_images(name: str, per_class: int | None, seed: int) -> None:
    import numpy as np

    from bddn.data.image_sets.class_split import class_split, largest_per_class
    from bddn.data.image_sets.kinds import open_images
    from bddn.data.image_sets.set_check import inspect_image_set

    found = inspect_image_set(open_images(name))
    images = found.images
    lines = {
        "image set": name,
        "images": f"{len(images)} of {len(images.classes)} classes, {_sizes(found.sizes)}",
        "groups": f"{len(set(images.groups))}, each in one part of a split" if images.groups else "none",
        "digest": found.digest or "-",
    }
    groups = np.array(images.groups or (), object)
    rows = [
        {
            "class": one,
            "images": f"{n}",
            "share": f"{100 * n / len(images):.1f} %",
            **({"groups": f"{len(set(groups[images.labels == k]))}"} if images.groups else {}),
        }
        for k, (one, n) in enumerate(images.counts().items())
    ]
    typer.echo(f"{_aligned(lines)}\n\n{as_table(rows)}\n")
    _finish(found.notes, found.unreadable)
    most = largest_per_class(images, seed)
    split = class_split(images, per_class or max(most, 1), seed)
    n = f"{per_class} (at most {most})" if per_class else f"at most {most}"
    typer.echo(
        f"good: {n} training images per class, {len(split.train)} in all; {len(split.test)} are left to evaluate on"
    )


def _check_dataset(name: str) -> None:
    from bddn.data import open_dataset
    from bddn.data.dataset import TRIALS_IN_WORDS, named_tests, remarks
    from bddn.data.dataset import about as about_of
    from bddn.data.dataset_check import inspect_dataset

    dataset = open_dataset(name)
    found, about, sets = inspect_dataset(dataset), about_of(dataset), named_tests(dataset)
    voxels, ceiling = found.voxels, found.voxels["ceiling"]
    sides = [f"{hemi or 'hemisphere not known'} {n}" for hemi, n in voxels["hemi"].value_counts(sort=False).items()]
    rois = voxels.loc[voxels["roi"] != "", "roi"].value_counts(sort=False)
    known = f"of {ceiling.notna().sum()} voxels, mean {ceiling.mean():.3f}" if ceiling.notna().any() else "unknown"
    covariates = [name + (f" ({n} unknown)" if n else "") for name, n in found.covariates.items()]
    lines = {
        "dataset": dataset.name,
        "images": f"{found.n_images}, {_sizes(found.sizes)}",
        "voxels": f"{len(voxels)} ({', '.join(sides)})",
        "ROIs": ", ".join(f"{roi} {n}" for roi, n in rois.items()) or "none",
        "responses": (f"{found.n_responses} rows, " if found.n_responses > found.n_images else "")
        + f"finite, mean {found.mean:.3g}, standard deviation {found.std:.3g}; {TRIALS_IN_WORDS[about.trials]}",
        **({"covariates": ", ".join(covariates)} if covariates else {}),
        "ceilings": known,
        **({"test sets": ", ".join(f"{one} {len(ids)}" for one, ids in sets.items())} if sets else {}),
        **({} if dataset.truth() is None else {"truth": "known, because the brain is planted"}),
        "about": f"{about.responses} {about.terms}",
    }
    typer.echo(f"{_aligned(lines)}\n")
    constant = [f"responses of {found.n_constant} voxels are constant"] if found.n_constant else []
    _finish([*remarks(dataset), *constant, *found.notes], found.unreadable)
    typer.echo("good: all images and responses can be read")


def _finish(notes: Sequence[str], unreadable: "Sequence[DataError]") -> None:
    """Print notes, and raise the errors of images as one."""
    from bddn.data.checking import combined_error

    for words in notes:
        typer.echo(f"note: {words}")
    if unreadable:
        raise combined_error(unreadable)


def _sizes(sizes: Mapping[tuple[int, int], int]) -> str:
    """Return the sizes of images as text, the most frequent first."""
    ordered = sorted(sizes, key=lambda size: (-sizes[size], size))
    shown = ", ".join(f"{width} × {height} ({sizes[width, height]})" for width, height in ordered[:SHOWN_SIZES])
    if len(ordered) == 1:
        return f"{ordered[0][0]} × {ordered[0][1]} pixels"
    more = f" and {len(ordered) - SHOWN_SIZES} more sizes" if len(ordered) > SHOWN_SIZES else ""
    return f"{shown}{more}, in pixels" if ordered else "none can be read"


def _aligned(lines: Mapping[str, str]) -> str:
    """Return labels and texts, which are wrapped, in two columns."""
    import textwrap

    width = max(len(label) for label in lines) + 2
    return "\n".join(
        textwrap.fill(
            text,
            100,
            initial_indent=f"{label:<{width}}",
            subsequent_indent=" " * width,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for label, text in lines.items()
    )
