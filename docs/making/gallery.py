"""The gallery: `python docs/making/gallery.py` runs its commands and keeps their pictures in build/gallery.

The demo must have been made (`make demo`). Figures of several runs are drawn from a smaller brain, and those of
`make figures` and `make finetuning` are shown if they were drawn before. The demo itself is not changed.
"""

import contextlib
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "build/gallery"
WIDTH = 1400
FINDINGS = {"check": (1,)}  # exit codes that say something about a run, and are no failure
RUN, SMALL, MANY = "build/demo/run", "build/small", "build/small/many"
DATA = f"--data planted:{SMALL}"
PREPARED = (
    f"bddn plant {SMALL} --images 320 --radius 0.35 --layers 4",
    f"bddn extract demo --weights {SMALL}/backbone {DATA} --out {SMALL}/small.zarr",
    f"bddn controls {SMALL}/small.zarr {DATA} --out {SMALL}/controls --only untrained --only no_topology --only pixels "
    "--only gabor --only ridge_layer --only shuffled",
    f"bddn ensemble {SMALL}/small.zarr {DATA} --out {MANY} --fits 3 --spec fast",
)
FIT, UNTRAINED, FREE = (f"{SMALL}/controls/{name}" for name in ("fit", "untrained", "no_topology"))
NETWORK = f"--spec demo --weights {SMALL}/backbone"
SHOWN = ("train-0001_nsd-00013", "train-0002_nsd-00020", "train-0003_nsd-00027")
FOLDER = "subj01/training_split/training_images"
IMAGES = " ".join(f"--images {SMALL}/{FOLDER}/{name}.png" for name in SHOWN)


@dataclass(frozen=True)
class Figure:
    """A figure: its picture in the working folder, its title, what it shows, and the command that makes it."""

    picture: str
    title: str
    words: str
    command: str

    @property
    def name(self) -> str:
        """The name of the picture in the gallery."""
        stem = "_".join(Path(self.picture).parts[-3:]).rpartition(".")[0]
        return f"{stem}{Path(self.picture).suffix}"


MAPS = f"bddn maps {RUN}"
FILM = f"bddn film {RUN} --out learning.gif"
OF_IMAGES = f"{FIT} {IMAGES} {NETWORK}"
GROUPS: dict[str, tuple[Figure, ...]] = {
    "One run": (
        Figure(
            f"{RUN}/maps/layer_map.png",
            "Layer",
            "The layer of each voxel; brightness is the confidence.",
            f"bddn maps {RUN}",
        ),
        Figure(f"{RUN}/maps/score_map.png", "Score", "R² on the test images.", MAPS),
        Figure(f"{RUN}/maps/place_map.png", "Place", "The place in the image.", MAPS),
        Figure(f"{RUN}/maps/scale_map.png", "Scale", "Local or global token.", MAPS),
        Figure(f"{RUN}/maps/size.png", "Size", "The size of the receptive field, with `fast`.", MAPS),
        Figure(f"{RUN}/maps/ceiling.png", "Ceiling", "The noise ceiling, if it is known.", MAPS),
        Figure(
            f"{RUN}/maps/confidence.png",
            "Any column",
            "Any column of `voxels.parquet`.",
            f"bddn maps {RUN} --columns confidence --views flat",
        ),
        Figure(
            "learning.gif",
            "Film",
            "The layer map from the first step to the last.",
            f"bddn film {RUN} --out learning.gif",
        ),
        Figure(
            f"{RUN}/predicted/responses.png",
            "Predicted responses",
            "Of this brain to any pictures.",
            f"bddn predict {RUN} photos",
        ),
        Figure(
            f"{FIT}/check/check.png",
            "Second opinion",
            "The map of the fit beside that of brute force.",
            f"bddn check {FIT} --cache {SMALL}/small.zarr {DATA}",
        ),
        Figure(
            f"{FIT}/calibration/calibration.png",
            "Calibration",
            "Known slopes, planted on the run's cache, and what a fit finds.",
            f"bddn calibrate {FIT} --cache {SMALL}/small.zarr {DATA} --brains 4",
        ),
    ),
    "Several runs": (
        Figure(
            f"{SMALL}/controls/controls.png", "Controls", "The fit and its controls on the same images.", PREPARED[2]
        ),
        Figure(
            f"{MANY}/ensemble/maps/depth_width.png",
            "Width of intervals",
            "The width of the interval of depth, of an ensemble.",
            f"bddn maps {MANY}/ensemble",
        ),
        Figure(
            f"{SMALL}/compared/differences.png",
            "Differences",
            "Where one network predicts better; without a difference hatched.",
            f"bddn compare {FIT} {UNTRAINED} --out {SMALL}/compared",
        ),
        Figure("figures/layers.png", "Layers", "Layer maps side by side.", f"bddn figure layers {FIT} {UNTRAINED}"),
        Figure(
            "figures/figure2.png",
            "Figure 2",
            "What each ROI reads of images.",
            f"bddn figure figure2 {OF_IMAGES}",
        ),
        Figure("figures/figure3.png", "Figure 3", "Ablations, places, layers.", f"bddn figure figure3 {FIT} {FREE}"),
        Figure("figures/figure4.png", "Figure 4", "Scores of models.", f"bddn figure figure4 {FIT} {UNTRAINED}"),
        Figure("figures/figure5.png", "Figure 5", "Layers of several fits.", f"bddn figure figure5 {FIT} {UNTRAINED}"),
        Figure("figures/figure7.png", "Figure 7", "Before and after.", f"bddn figure figure7 {UNTRAINED} {FIT}"),
        Figure(
            "figures/figure8.png",
            "Figure 8",
            "Clusters by channels.",
            f"bddn figure figure8 {FIT} {UNTRAINED}",
        ),
        Figure(
            "figures/figure9.png",
            "Figure 9",
            "Channels of ROIs of several runs.",
            f"bddn figure figure9 {OF_IMAGES}",
        ),
    ),
    "Of a longer work": (
        Figure("build/figures/figures/figure6.png", "Figure 6", "Layers and time-steps of diffusion.", "make figures"),
        Figure(
            "build/finetuning/out/forgetting_curve.png",
            "Forgetting",
            "Brain score, old and new task along a fine-tuning.",
            "make finetuning",
        ),
    ),
}


def figures() -> list[Figure]:
    """All figures, in the order of the page."""
    return [figure for group in GROUPS.values() for figure in group]


def drawn() -> list[Path]:
    """The pictures that were drawn."""
    return [path for figure in figures() if (path := PICTURES / figure.name).is_file()]


def page(_: str) -> str:
    """The gallery as Markdown; a picture that was not drawn is left out."""
    parts = []
    for title, group in GROUPS.items():
        parts.append(f"## {title}")
        if group == GROUPS["Several runs"]:
            parts += ["These are drawn from a smaller brain:", _code("\n".join(PREPARED))]
        for figure in group:
            shown = f"![{figure.title}: {figure.words}](gallery/{figure.name})"
            pictures = [shown] if PICTURES / figure.name in drawn() else []
            parts += [f"### {figure.title}", figure.words, _code(figure.command), *pictures]
    return "\n\n".join(parts)


def _code(text: str) -> str:
    return f'```bash why="is run by the build of these pages where the demo was made"\n{text}\n```'


def main() -> None:
    """Run all commands, in a folder of their own, and keep the pictures."""
    demo, work = ROOT / "build/demo", PICTURES / "work"
    if not (demo / "run/report.html").is_file():
        sys.exit(f"error: {demo}: expected the demo; got none. Run 'make demo' first.")
    shutil.rmtree(PICTURES, ignore_errors=True)
    (work / "build/demo").mkdir(parents=True)
    for part in demo.iterdir():
        if part.name != "run":
            (work / "build/demo" / part.name).symlink_to(part.resolve())
    shutil.copytree(demo / "run", work / RUN)
    for name in ("figures", "finetuning"):
        (work / "build" / name).symlink_to(ROOT / "build" / name)
    with contextlib.chdir(work):
        Path("photos").mkdir()
        for name in SHOWN:
            shutil.copy(Path("build/demo") / FOLDER / f"{name}.png", "photos")
        _draw()


def _draw() -> None:
    from bddn.cli import app

    commands = dict.fromkeys([*PREPARED, *(figure.command for figure in figures())])
    for command in commands:
        program, *words = shlex.split(command)
        if program == "bddn":
            sys.stdout.write(f"{command}\n")
            sys.stdout.flush()
            if (code := app(words, standalone_mode=False)) not in (None, 0, *FINDINGS.get(words[0], ())):
                sys.exit(f"error: exit code {code} of: {command}")
        for figure in figures():
            if figure.command == command and (program == "bddn" or Path(figure.picture).is_file()):
                keep(Path(figure.picture), PICTURES / figure.name)


def keep(picture: Path, place: Path, n_colours: int = 256) -> None:
    """Copy a picture, smaller and with few colours; a film as it is."""
    if picture.suffix != ".png":
        shutil.copy(picture, place)
        return
    with Image.open(picture) as image:
        image.load()
    small = image.convert("RGB")
    if small.width > WIDTH:
        small = small.resize((WIDTH, round(small.height * WIDTH / small.width)), Image.Resampling.LANCZOS)
    small.quantize(n_colours, dither=Image.Dither.NONE).save(place, optimize=True)


if __name__ == "__main__":
    main()
