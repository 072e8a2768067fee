"""The command `bddn calibrate`."""

from pathlib import Path
from typing import Annotated

import typer

from bddn.cli.hierarchy import ROIS
from bddn.cli.shared import DATASET, DEVICE, MEMORY, Device, clear_errors, stops_cleanly

FIGURE = "calibration"


@clear_errors
def calibrate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    cache: Annotated[str, typer.Option(help="The cache that the run was fitted to.", show_default=False)],
    data: Annotated[str, DATASET],
    brains: Annotated[
        int, typer.Option(min=4, max=1000, help="Number of planted brains, each of which is fitted.")
    ] = 10,
    rois: Annotated[str | None, ROIS] = None,
    device: Annotated[Device, DEVICE] = "auto",
    memory: Annotated[float | None, MEMORY] = None,
) -> None:
    """Correct the hierarchy slope: plant known slopes into the run's cache, and fit them as the run was fitted.

    It also tells the error of the depth of single voxels. Finished fits are kept: after an interruption, the same
    command resumes, also with more brains.
    """
    from bddn.data import open_dataset
    from bddn.evaluation.calibration.calibration import FOLDER, NUMBERS, TABLE, corrected_in_words, read_calibration
    from bddn.evaluation.calibration.refits import calibrate_run
    from bddn.evaluation.slopes import ordered_rois
    from bddn.figures.calibrated import draw_calibration
    from bddn.files.output import check_folder
    from bddn.run import read_run
    from bddn.store.reader import Cache

    ideal = ordered_rois(rois)
    found, folder = read_run(run), run / FOLDER
    check_folder(folder)
    replaces = (folder / NUMBERS).is_file() and read_calibration(found, ideal) is None
    with stops_cleanly():
        made = calibrate_run(
            found, Cache(cache), open_dataset(data), brains, ideal, device=device, memory_gib=memory
        )  # fmt: skip
    numbers = made.to_dict()
    draw_calibration(numbers, folder / FIGURE, found.metrics["title"])
    typer.echo(f"slope {made.slope:.2f}; {corrected_in_words(numbers)}")
    depth = numbers["depth"]
    typer.echo(f"depth of single voxels: RMSE {depth['rmse']:.2f}, bias {depth['bias']:+.2f}, gain {depth['gain']:.2f}")
    late = numbers["n_not_converged"] + (numbers["run_converged"] is False)
    if late:
        typer.echo(
            f"not converged: {late} of {len(made.brains) + 1} fits, the run among them."
            if numbers["run_converged"] is False
            else f"not converged: {late} of {len(made.brains)} fits of planted brains."
        )
    if replaces:
        typer.echo("note: it replaces that of other ROIs, whose fits are kept: the same command as before restores it.")
    typer.echo(f"calibration: {folder / NUMBERS}, {folder / TABLE}, {folder / FIGURE}.png")
