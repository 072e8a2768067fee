"""The command `bddn audit`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bddn.cli.shared import DATASET, as_table, clear_errors
from bddn.errors import SpecError
from bddn.files.paths import expand_home

if TYPE_CHECKING:
    import pandas as pd

    from bddn.data import Dataset

MAX_ROWS = 12  # that are printed


@clear_errors
def audit(
    place: Annotated[str, typer.Argument(metavar="RUN|CACHE", help="A run folder, or a sealed feature cache.")],
    data: Annotated[str | None, DATASET] = None,
    cache: Annotated[
        str | None, typer.Option(help="The cache that the run was fitted to, for its tokens.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder, by default audit/ in the run folder, or NAME-audit of a cache.", show_default=False),
    ] = None,
) -> None:
    """Find images that are in two parts of a run's split, or twice in a cache: the same pixels, or nearly so.

    With --data, images are compared by pixels; with a cache, also by its tokens. Exit code 1 says that there are some.
    """
    from bddn.data import open_dataset
    from bddn.evaluation.leaks.auditing import FOLDER, NUMBERS, TABLE, audit_cache, audit_run, write_audit
    from bddn.files.output import check_folder
    from bddn.run import read_run
    from bddn.run.folder import ABOUT
    from bddn.store.reader import Cache

    folder = Path(expand_home(place))
    dataset = None if data is None else open_dataset(data)
    if (folder / ABOUT).is_file():
        out = out or folder / FOLDER
        check_folder(out)
        found = audit_run(read_run(folder), None if cache is None else Cache(cache), dataset)
    else:
        if cache is not None:
            raise SpecError(
                "--cache",
                expected=f"a run folder in front of it, with {ABOUT}",
                got=f"'{place}', which is none",
                fix="Give the run folder, or only the cache.",
            )
        store = Cache(place)
        out = out or Path(f"{store.name}-{FOLDER}")
        check_folder(out)
        found = audit_cache(store, dataset)
    write_audit(found, out)
    if len(found.pairs):
        typer.echo(as_table(to_text(found.pairs)))
        if len(found.pairs) > MAX_ROWS:
            typer.echo(f"… and {len(found.pairs) - MAX_ROWS} more pairs")
        typer.echo("")
    typer.echo(found.numbers["sentence"])
    drawn = draw(found.pairs, dataset, out, found.numbers["sentence"])
    typer.echo(f"audit: {', '.join(str(path) for path in (out / TABLE, out / NUMBERS, *drawn))}")
    if not found.is_clean:
        raise typer.Exit(1)


def to_text(pairs: "pd.DataFrame") -> list[dict[str, str]]:
    """Return the first pairs of an audit as rows of text."""

    def text(value: float, digits: int) -> str:
        return "-" if math.isnan(value) else f"{value:.{digits}f}"

    return [
        {
            "first": f"{row['first_part']} {row['first']}".strip(),
            "second": f"{row['second_part']} {row['second']}".strip(),
            "kind": row["kind"],
            "correlation": text(row["correlation"], 3),
            "bits": text(row["hash_bits"], 0),
            "tokens": text(row["token_distance"], 4),
        }
        for row in pairs.head(MAX_ROWS).to_dict("records")
    ]


def draw(pairs: "pd.DataFrame", dataset: "Dataset | None", out: Path, sentence: str) -> list[Path]:
    """Draw the pairs whose images are on this machine; remove the sheet of an earlier audit."""
    import numpy as np

    from bddn.evaluation.leaks.auditing import SHEET
    from bddn.figures.pairs import SIDE_PX, draw_pairs

    (out / f"{SHEET}.png").unlink(missing_ok=True)
    if dataset is None:
        return []
    stimuli = dataset.stimuli
    row_of = {stimulus: row for row, stimulus in enumerate(stimuli.ids)}
    here = [
        pair
        for pair in pairs.to_dict("records")
        if all(stimuli.paths[row_of[pair[side]]].exists() for side in ("first", "second"))
    ]
    if not here:
        return []

    def image(stimulus: str) -> "np.ndarray":
        return np.asarray(stimuli.image(row_of[stimulus]).resize((SIDE_PX, SIDE_PX)))

    return draw_pairs(here, image, out / SHEET, sentence)
