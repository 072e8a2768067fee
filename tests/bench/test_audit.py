"""`bddn audit` on as many images as NSD has: seconds, CPU seconds and peak memory. `--true-size` keeps figures.

Reading images takes time in proportion to their number, so it is measured on fewer of them. Comparing them takes time
in proportion to the square, so it is measured on as many thumbnails and tokens as NSD has images.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from bddn.data import Stimuli
from bddn.evaluation.leaks.leaks import AtHand, find_pairs
from bddn.evaluation.leaks.seen_images import Fingerprints, fingerprints
from bddn.stats.fingerprints import SIDE
from bench.command import in_a_process
from bench.report import keep
from photographs import noise

NSD_IMAGES, NSD_SIDE, WIDTH = 73_000, 425, 768
N_DIFFERENT = 500  # image files; the others are links to them, which take as long to read
MAX_SECONDS, MAX_GIB = 15 * 60, 2.0


def test_true_size(true_size: bool, tmp_path: Path) -> None:
    """Images of 425 × 425 pixels with the spectrum of photographs; among those that are compared, two are the same."""
    n_read, side, n_compared = (5000, NSD_SIDE, NSD_IMAGES) if true_size else (20, 96, 300)
    write_images(tmp_path, n_read, min(n_read, N_DIFFERENT), side)
    read, compared = _measured("read", tmp_path), _measured("compare", n_compared)
    assert read.pop("n") == n_read
    assert compared.pop("n") == 1
    if true_size:
        keep_figures(read, compared, n_read, n_compared)


def keep_figures(read: dict[str, float], compared: dict[str, float], n_read: int, n_compared: int) -> None:
    """Keep the figures, extrapolated to the images of NSD."""
    cpu_seconds = read["cpu_seconds"] * NSD_IMAGES / n_read + compared["cpu_seconds"]
    thumbnails_gib = NSD_IMAGES * SIDE**2 / 2**30
    keep(
        "audit_cpu",
        {
            "what": f"{n_read} images of {NSD_SIDE} × {NSD_SIDE} pixels (PNG) read; thumbnails and tokens of {WIDTH} "
            f"channels of {n_compared} images compared, all pairs; extrapolated to {NSD_IMAGES} images",
            "read": read,
            "compare": compared,
            "extrapolated_cpu_seconds": cpu_seconds,
            "extrapolated_seconds_on_2_cores": cpu_seconds / 2,  # both steps use all cores
        },
    )
    assert cpu_seconds / 2 <= MAX_SECONDS
    assert max(read["peak_gib"] + thumbnails_gib, compared["peak_gib"]) <= MAX_GIB


def write_images(folder: Path, n: int, n_different: int, side: int) -> None:
    """Write some images, and links to them under other names."""
    for i, image in enumerate(_noises(np.random.default_rng(0), n_different, side)):
        Image.fromarray(image).save(folder / f"{i:05d}.png", compress_level=1)
    for i in range(n_different, n):
        (folder / f"{i:05d}.png").hardlink_to(folder / f"{i % n_different:05d}.png")


def read_images(folder: str) -> Callable[[], int]:
    """Return a function that reads all images of a folder, and returns their number."""
    paths = tuple(sorted(Path(folder).iterdir()))
    stimuli = Stimuli(tuple(path.stem for path in paths), paths)
    return lambda: len(fingerprints(stimuli, stimuli.ids).thumbnails)


def compare_images(n: str) -> Callable[[], int]:
    """Return a function that compares n images with each other, two of which are the same, and counts the pairs."""
    rng = np.random.default_rng(2)
    ids = [f"nsd-{i:05d}" for i in range(int(n))]
    thumbnails = np.empty((len(ids), SIDE, SIDE), np.uint8)
    for i, image in enumerate(_noises(rng, len(ids), SIDE)):
        thumbnails[i] = image[..., 1]
    thumbnails[2] = thumbnails[0]
    hashes = {stimulus: stimulus for stimulus in ids}
    images = Fingerprints(hashes, hashes, {stimulus: row for row, stimulus in enumerate(ids)}, thumbnails)
    tokens = rng.normal(size=(len(ids), WIDTH)).astype(np.float32)
    return lambda: len(find_pairs(AtHand(ids, [""] * len(ids), ids, tokens, images))[0])


def _noises(rng: np.random.Generator, n: int, side: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield n different RGB images with the spectrum of photographs: each is the mean of two parts of large images."""
    large = [np.asarray(noise(rng, max(5 * side, 1280)), np.uint16) for _ in range(2)]
    for _ in range(n):
        (top, left), (below, right) = rng.integers(0, len(large[0]) - side, (2, 2))
        parts = large[0][top : top + side, left : left + side], large[1][below : below + side, right : right + side]
        yield ((parts[0] + parts[1]) // 2).astype(np.uint8)


def _measured(what: str, argument: object) -> dict[str, float]:
    """Run a step in a process of its own; return seconds, CPU seconds, peak memory, and what it counted (`n`)."""
    done = in_a_process(__file__, what, argument)
    assert done.returncode == 0, done.stderr
    names = ("seconds", "cpu_seconds", "peak_gib", "n")
    return dict(zip(names, map(float, done.stdout.split()), strict=True))


if __name__ == "__main__":
    step = {"read": read_images, "compare": compare_images}[sys.argv[1]](sys.argv[2])
    start, cpu = time.perf_counter(), time.process_time()
    n_found = step()
    figures = time.perf_counter() - start, time.process_time() - cpu
    print(*figures, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, n_found)
