"""The command `bddn predict`: predicted responses of a fitted brain to new images."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bddn.cli.shared import DEVICE, NETWORK, WEIGHTS, Device, clear_errors
from bddn.errors import BddnError, SpecError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from bddn.identity import Identity
    from bddn.predict import Network, Pictures
    from bddn.run import Run

RESPONSES, IMAGES, ABOUT, MAPS = "responses.npy", "images.csv", "predicted.json", "maps"
FIGURE = "responses"
DRAWN = 12
"""Largest number of images on the sheet, the first ones, so that it stays readable."""
MAX_STEM = 40  # characters of an image's name in the names of its maps


@clear_errors
def predict(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    images: Annotated[list[Path], typer.Argument(help="Images, and folders of PNG and JPEG files.")],
    spec: Annotated[str | None, NETWORK] = None,
    weights: Annotated[str | None, WEIGHTS] = None,
    device: Annotated[Device, DEVICE] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="A new folder, by default predicted/ in the run folder.", show_default=False)
    ] = None,
) -> None:
    """Predict the response of every voxel of a fitted brain to new images, as an array and as maps.

    This needs the network of the run, and refuses any other.
    """
    from bddn.files.output import check_new_or_result
    from bddn.predict import predict_pictures, prediction_identity, read_pictures
    from bddn.run import read_run

    found, folder = read_run(run), out or run / "predicted"
    check_new_or_result(folder, ABOUT, lambda: _occupied(folder, "a folder with other files"))
    pictures = read_pictures(images)
    identity = prediction_identity(found, pictures, device)
    n = f"{len(pictures)} images × {len(found.voxels)} voxels"
    if _is_done(folder, identity):
        typer.echo(f"predicted: {folder}, {n}, predicted before, kept")
        if _is_drawn(folder):
            return
    else:
        network = find_network(found, spec, weights, device)
        for words in network.version_differences:
            typer.echo(f"note: the cache was made with other versions, {words}")
        for words in pictures.notes:
            typer.echo(f"note: {words}")
        how = f"network {network.name}"
        try:
            write(folder, identity, found, network, pictures, predict_pictures(found, network, pictures))
        except FileExistsError:
            if not _is_done(folder, identity):
                raise
            how = "predicted meanwhile by another process, kept"
        typer.echo(f"predicted: {folder}, {n}, {how}")
    draw(folder, found, pictures)
    typer.echo(f"figure: {folder / FIGURE}.png" + (f", the first {DRAWN} images" if len(pictures) > DRAWN else ""))


def find_network(run: "Run", spec: str | None, weights: str | None, device: str) -> "Network":
    """Open the network of a run, by the options --spec, --weights and --device.

    Raises
    ------
    BddnError
        If the options do not lead to this network.
    """
    from bddn.backbones.registry import load_spec
    from bddn.cli.weights import with_weights
    from bddn.predict import open_network, specs_of

    specs = specs_of(run) if spec is None else {spec: load_spec(spec)}
    if weights is None:
        return open_network(run, specs, device)
    given, refused = {}, list[SpecError]()
    for name, one in specs.items():
        try:
            given[name] = with_weights(one, weights)
        except SpecError as error:  # another spec may have the format of the file
            refused.append(error)
    if refused and not given:
        raise refused[0]
    return open_network(run, given, device)


def write(
    folder: Path,
    identity: "Identity",
    run: "Run",
    network: "Network",
    pictures: "Pictures",
    responses: "npt.NDArray[np.float32]",
) -> None:
    """Write responses (n_images, n_voxels), the table of rows, and for every image a GIFTI file per hemisphere; of
    points, a NIfTI file if they are voxels of a volume.

    The folder appears complete or not at all, and contains all numbers before anything is drawn.

    Raises
    ------
    FileExistsError
        If another process has filled the folder meanwhile.
    """
    import numpy as np

    from bddn.cortex.frames import write_values
    from bddn.files.atomic import replace_file, write_json, write_text
    from bddn.files.output import new_folder
    from bddn.run.folder import frame_of_run

    with new_folder(folder, ABOUT) as aside:
        replace_file(aside / RESPONSES, lambda path: np.save(path, responses, allow_pickle=False))
        write_text(aside / IMAGES, _table(pictures))
        write_json(aside / ABOUT, {**identity.parts, "network": network.name, "network_made_with": network.made_with})
        frame = frame_of_run(run)
        for row, path in enumerate(pictures.stimuli.paths):
            stem = aside / MAPS / f"{row:05d}_{path.stem[:MAX_STEM]}"
            write_values(stem, run.voxels, {f"response to {path.name}": responses[row]}, frame)


def draw(folder: Path, run: "Run", pictures: "Pictures") -> None:
    """Draw a sheet of the first images with their maps, from the responses in the folder."""
    import numpy as np

    from bddn.figures.grid import draw_grid
    from bddn.figures.predicted import predicted

    responses = np.load(folder / RESPONSES, mmap_mode="r", allow_pickle=False)[:DRAWN]
    shown = pictures.part(0, DRAWN)
    names = [path.name for path in shown.stimuli.paths]
    sheet = predicted(run.voxels, responses, shown.thumbnails(), names)
    draw_grid(sheet.rows, folder / FIGURE, sheet.title, sheet.heading, numbers=False)


def _is_drawn(folder: Path) -> bool:
    """Return whether the sheet was drawn after the numbers were written. Its caption is the last file."""
    return (folder / f"{FIGURE}.png").is_file() and (folder / f"{FIGURE}.txt").is_file()


def _is_done(folder: Path, wanted: "Identity") -> bool:
    """Return whether the folder contains exactly these predictions; raise an error if it contains anything else."""
    from bddn.files.output import is_vacant
    from bddn.identity import Identity, only_made_with

    if is_vacant(folder, ABOUT):
        return False
    try:
        about = dict(json.loads((folder / ABOUT).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise _occupied(folder, "a folder with a damaged predicted.json") from error
    words = Identity(about).only(*wanted.parts).differences(wanted)
    if not only_made_with(words):
        raise _occupied(folder, f"predictions that differ in: {'; '.join(words)}")
    for word in words:
        typer.echo(f"note: predicted with other versions, {word}")
    return True


def _occupied(folder: Path, got: str) -> BddnError:
    from bddn.files.output import occupied

    fix = "Give another --out, or delete this one; nothing was written."
    return occupied(folder, got, "the predictions of this run for these images", fix)


def _table(pictures: "Pictures") -> str:
    import pandas as pd

    rows = {"row": range(len(pictures)), "file": pictures.stimuli.ids, "sha256": pictures.sha256}
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")
