"""The command `bddn score`."""

from pathlib import Path
from typing import Annotated

import typer

from bddn.cli.shared import DATASET, clear_errors


@clear_errors
def score(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    cache: Annotated[list[str], typer.Option(help="The caches that the runs were fitted to.", show_default=False)],
    data: Annotated[list[str], DATASET],
) -> None:
    """Predict the test images of runs, and keep measured and predicted responses in the folder `score/` of each run.

    Other commands use them: no other needs the cache again.
    """
    from bddn.data import open_dataset
    from bddn.evaluation.held_out import predict_held_out
    from bddn.run import read_run
    from bddn.store.reader import Cache

    found = [read_run(run) for run in runs]
    caches, datasets = [Cache(place) for place in cache], [open_dataset(name) for name in data]
    for run in found:
        held_out = predict_held_out(run, caches, datasets)
        typer.echo(f"score: {run.folder / 'score'}, {len(held_out.ids)} test images")
