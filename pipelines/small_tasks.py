"""Write three small image sets from what packages ship, to try fine-tuning without a download.

    python pipelines/small_tasks.py build/tasks

OUT/digits       scikit-learn's 1,797 handwritten digits, 8 × 8 in grey, enlarged; ten classes
OUT/textures     crops of scikit-image's photographs of surfaces, by surface; six classes
OUT/photographs  crops of other photographs, by photograph; five classes. It stands for the old task, what a network
                 knows before it is fine-tuned on one of the two others

Each is a folder per class, as `folder:OUT/digits` reads it. A photograph is cut into cells, and each crop comes from a
cell of its own, at a random place in it. So two crops never share a pixel, and however images are divided into training
and test images, both come from separate regions of each photograph. Crops are grey and of one mean and contrast, so
that neither colour nor brightness names the class. An existing OUT of the same seed is kept.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from PIL import Image

from bddn.cli import clear_errors
from bddn.errors import DataError, MismatchError
from bddn.files import atomic
from bddn.files.output import check_folder, is_vacant, new_folder

SIDE = 64  # of an image, in pixels
CELL, CROP = 48, 42  # sides of a cell of a photograph, and of the crop inside it
PER_CLASS = 100  # crops, or as many as a photograph has cells
LEAST_CONTRAST = (
    5.0  # standard deviation of the grey values (0 to 255) of a cell; flat ones, as of the sky, are left out
)
MEAN, DEVIATION = 128.0, 48.0  # of the grey values of a crop
DONE = "small_tasks.json"

SKIMAGE, SKLEARN = ("skimage", "data", "scikit-image"), ("sklearn", "datasets/images", "scikit-learn")
TEXTURES = {
    "brick": (SKIMAGE, "brick.png"),
    "grass": (SKIMAGE, "grass.png"),
    "gravel": (SKIMAGE, "gravel.png"),
    "stars": (SKIMAGE, "hubble_deep_field.jpg"),
    "tissue": (SKIMAGE, "ihc.png"),
    "vessels": (SKIMAGE, "retina.jpg"),
}
PHOTOGRAPHS = {
    "astronaut": (SKIMAGE, "astronaut.png"),
    "coffee": (SKIMAGE, "coffee.png"),
    "flower": (SKLEARN, "flower.jpg"),
    "motorcycle": (SKIMAGE, "motorcycle_left.png"),
    "temple": (SKLEARN, "china.jpg"),
}
Grey = npt.NDArray[np.float64]


@clear_errors
def small_tasks(
    out: Annotated[Path, typer.Argument(help="Folder of the image sets.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the places of the crops.")] = 0,
) -> None:
    """Write digits, textures and photographs, a folder per class each."""
    counts = write_small_tasks(out, seed)
    for name, classes in counts.items():
        typer.echo(f"folder:{out / name}: {sum(classes.values())} images, {len(classes)} classes")


def write_small_tasks(out: Path, seed: int = 0) -> dict[str, dict[str, int]]:
    """Write the image sets, and return their numbers of images by set and class.

    Raises
    ------
    DataError
        If a package or one of its photographs is missing.
    MismatchError
        If `out` holds other files, or image sets of another seed.
    """
    photos = {name: _photograph(*place) for name, place in (TEXTURES | PHOTOGRAPHS).items()}
    packages = {name: version(name) for name in ("scikit-image", "scikit-learn", "pillow")}
    about = {"seed": seed, "made_with": packages}
    if not is_vacant(out, DONE, "OUT"):
        return _existing(out, about)
    check_folder(out, "OUT")
    rng = np.random.default_rng([seed, 11])
    with new_folder(out, DONE) as aside:
        counts = {
            "digits": _write(aside / "digits", _digits()),
            "textures": _write(aside / "textures", _crops(photos, TEXTURES, rng)),
            "photographs": _write(aside / "photographs", _crops(photos, PHOTOGRAPHS, rng)),
        }
        atomic.write_json(aside / DONE, about | {"images": counts})
    return counts


def _existing(out: Path, about: dict[str, object]) -> dict[str, dict[str, int]]:
    try:
        found = json.loads((out / DONE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    if found.get("images") is None or any(found.get(name) != value for name, value in about.items()):
        raise MismatchError(
            out,
            expected="an empty folder, or the same small image sets",
            got="image sets of another seed or of other versions of packages" if found else "other files",
            fix="Give another folder, or delete this one.",
        )
    counts: dict[str, dict[str, int]] = found["images"]
    return counts


def _digits() -> Iterator[tuple[str, Image.Image]]:
    """Yield classes and images; ink is white."""
    from sklearn.datasets import load_digits

    found = load_digits()
    for grey, label in zip(found.images, found.target, strict=True):
        small = Image.fromarray(np.uint8(np.round(grey * 255 / 16)))
        yield str(label), small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB")


def _crops(
    photos: Mapping[str, Grey], names: Iterable[str], rng: np.random.Generator
) -> Iterator[tuple[str, Image.Image]]:
    """Yield classes and crops."""
    for name in names:
        for top, left in places(photos[name], rng):
            yield name, _enlarged(photos[name][top : top + CROP, left : left + CROP])


def places(photo: Grey, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return the upper left corners of the crops of a photograph (H, W), each in a cell of its own."""
    tops, lefts = (range(0, size - CELL + 1, CELL) for size in photo.shape)
    cells = [(top, left) for top in tops for left in lefts]
    cells = [(top, left) for top, left in cells if photo[top : top + CELL, left : left + CELL].std() >= LEAST_CONTRAST]
    chosen = rng.permutation(len(cells))[:PER_CLASS]
    shifts = rng.integers(CELL - CROP + 1, size=(len(chosen), 2)).tolist()
    return [(cells[at][0] + down, cells[at][1] + right) for at, (down, right) in zip(chosen, shifts, strict=True)]


def _enlarged(crop: Grey) -> Image.Image:
    """Return a crop as an image of the common mean and contrast."""
    values = MEAN + DEVIATION * (crop - crop.mean()) / max(crop.std(), 1e-3)
    small = Image.fromarray(np.uint8(np.clip(np.round(values), 0, 255)))
    return small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB")


def _write(folder: Path, images: Iterator[tuple[str, Image.Image]]) -> dict[str, int]:
    """Save images as FOLDER/CLASS/CLASS_0000.png; return their numbers by class."""
    counts: dict[str, int] = {}
    for name, image in images:
        (folder / name).mkdir(parents=True, exist_ok=True)
        image.save(folder / name / f"{name}_{counts.get(name, 0):04d}.png", compress_level=1)
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


def _photograph(place: tuple[str, str, str], name: str) -> Grey:
    """Return the grey values (H, W) of a photograph that a package ships; the package itself is not imported."""
    package, inside, known_as = place
    spec = find_spec(package)
    path = None if spec is None or spec.origin is None else Path(spec.origin).parent / inside / name
    if path is None or not path.is_file():
        raise DataError(
            "small image sets",
            expected=f"the package {known_as} with its photograph {name}",
            got="no such package" if path is None else "the package without this file",
            fix=f"Install it: pip install {known_as}.",
        )
    with Image.open(path) as image:
        return np.asarray(np.asarray(image.convert("RGB"), np.float64).mean(axis=2))


if __name__ == "__main__":
    typer.run(small_tasks)
