"""`bddn audit` on many images: seconds, CPU seconds and peak memory. Small here; `--true-size` keeps figures.

Reading images takes time in proportion to their number, so it is measured on fewer of them. Comparing them takes time
in proportion to the square, so it is measured on as many thumbnails and tokens as NSD has images.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from bddn.data import open_dataset
from bddn.evaluation.leaks import AtHand, find_pairs
from bddn.evaluation.seen_images import Fingerprints
from bddn.planted.brain import image_path
from bddn.stats.fingerprints import SIDE
from bench.caches import layout, write
from bench.command import measured
from bench.report import keep
from bench.subjects import write_sized
from photographs import noise

NSD_IMAGES, NSD_SIDE, WIDTH = 73_000, 425, 768
MAX_SECONDS, MAX_GIB = 15 * 60, 2.0


def test_true_size(true_size: bool, tmp_path: Path) -> None:
    """Images of 425 × 425 pixels with the spectrum of photographs, two of which are the same."""
    n_images, side, n_compared = (5000, NSD_SIDE, NSD_IMAGES) if true_size else (40, 96, 300)
    data = write_sized(tmp_path, n_images, n_voxels=20, n_layers=1, width=WIDTH, chunk=16, shard=256)
    rng = np.random.default_rng(0)
    for i, image in enumerate(_noises(rng, n_images, side)):
        Image.fromarray(image).save(image_path(tmp_path / "subj01", i), compress_level=1)
    image_path(tmp_path / "subj01", 3).write_bytes(image_path(tmp_path / "subj01", 1).read_bytes())
    made = layout(n_images, 1, WIDTH, 16, 256)

    def tokens(shard: int) -> dict[str, np.ndarray]:
        start, stop = made.shards[shard]
        own = np.random.default_rng([1, shard])
        return {
            path: made.precision.fill(own.normal(size=(stop - start, *shape)).astype(np.float32), path, [""] * 256)
            for path, shape in made.arrays().items()
        }

    write(tmp_path / "own.zarr", made, tokens, open_dataset(data).stimuli)
    out = tmp_path / "audit"
    read = measured("audit", tmp_path / "own.zarr", "--data", data, "--out", out, accept=(1,))
    command = [sys.executable, __file__, str(n_compared)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    seconds, cpu_seconds, peak_gib, n_pairs = map(float, done.stdout.split()[-4:])
    assert n_pairs == 1
    if true_size:
        total = read["cpu_seconds"] * NSD_IMAGES / n_images + cpu_seconds
        keep(
            "audit_cpu",
            {
                "what": f"all pairs of images of {side} × {side} pixels, with tokens of {WIDTH} channels",
                "n_images": n_images,
                "n_compared": n_compared,
                "command": read,
                "compare": {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_gib": peak_gib},
                "n_extrapolated": NSD_IMAGES,
                "extrapolated_cpu_seconds": total,
            },
        )
        assert total / 2 <= MAX_SECONDS  # on two cores: images are read, and blocks compared, in parallel
        assert max(read["peak_gib"], peak_gib) <= MAX_GIB


def _compare(n: int) -> None:
    """Compare n thumbnails and tokens, two of which are the same; print seconds, peak memory and the pairs found."""
    rng = np.random.default_rng(2)
    ids = [f"nsd-{i:05d}" for i in range(n)]
    thumbnails = np.empty((n, SIDE, SIDE), np.uint8)
    for i, image in enumerate(_noises(rng, n, SIDE)):
        thumbnails[i] = image[..., 1]
    thumbnails[2] = thumbnails[0]
    hashes = {stimulus: stimulus for stimulus in ids}
    images = Fingerprints(hashes, hashes, {stimulus: row for row, stimulus in enumerate(ids)}, thumbnails)
    tokens = rng.normal(size=(n, WIDTH)).astype(np.float32)
    start, cpu = time.perf_counter(), time.process_time()
    pairs, _ = find_pairs(AtHand(ids, [""] * n, ids, tokens, images))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(seconds, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, len(pairs))


def _noises(rng: np.random.Generator, n: int, side: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield n different RGB images with the spectrum of photographs: each is the mean of two parts of large images."""
    large = [np.asarray(noise(rng, 5 * side), np.uint16) for _ in range(2)]
    for _ in range(n):
        (top, left), (below, right) = rng.integers(0, 4 * side, (2, 2))
        parts = large[0][top : top + side, left : left + side], large[1][below : below + side, right : right + side]
        yield ((parts[0] + parts[1]) // 2).astype(np.uint8)


if __name__ == "__main__":
    _compare(int(sys.argv[1]))
