"""Images per second of `extract` against the bare forward in the same run, and its memory against the number of images.

Small here; `--true-size` measures and keeps figures.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from bddn.backbones.registry import load_spec, open_backbone
from bddn.backbones.transformers_kind import family_of
from bddn.backbones.weights.pretrained import load
from bddn.cortex.fsaverage import N_VERTICES
from bddn.data.dataset import Stimuli
from bddn.extraction import extract
from bddn.extraction.job import Compute, Job, Owners, compute_all
from bddn.machine.parallel import choose_device, n_threads
from bddn.planted.brain import image_path, write_subject
from bddn.planted.scenes import draw_scene
from bddn.progress import Advance
from bddn.spec import CacheSpec, FamilySpec, TransformersSpec, WeightsSpec
from bddn.store.reader import Cache
from bench.command import measured
from bench.report import keep
from bench.test_whole_way import write_network

MEMORY_TOLERANCE = 0.05  # of the smaller peak


def network(folder: Path, n_layers: int, width: int, size: int, patch: int) -> CacheSpec:
    write_network(folder, n_layers, width, size, patch, head_width=64 if width % 64 == 0 else 32)
    return CacheSpec(
        title="bench", backbone=FamilySpec(family="clip"), weights=WeightsSpec(folder=str(folder)), image_size=size
    )


def pictures(folder: Path, n: int) -> Stimuli:
    """Scenes of 425 px, every second one a JPEG and the others PNG."""
    rng = np.random.default_rng(0)
    paths = [folder / f"nsd-{i:05d}.{'png' if i % 2 else 'jpg'}" for i in range(n)]
    folder.mkdir()
    for path in paths:
        draw_scene(rng).save(path)
    return Stimuli(tuple(path.stem for path in paths), tuple(paths))


class Took(NamedTuple):
    """Seconds by the clock, and of all cores together, which hardly depend on what else the machine does."""

    wall: float
    cpu: float


class Timed:
    """Computes shards as `extract` does by itself, and tells the seconds from the first lease to the last record."""

    def __init__(self) -> None:
        self.took = Took(0.0, 0.0)
        self.batch = 0

    @contextmanager
    def __call__(self, job: Job) -> Iterator[Compute]:
        self.batch = job.source.batch

        def compute(shards: list[int], advance: Advance) -> Owners:
            others: list[Owners] = []
            self.took = seconds(lambda: others.append(compute_all(job, shards, advance)))
            return others[0]

        yield compute


class Bare:
    """The network alone on pixels that are there already: no decoding, no hooks, no pooling, nothing written."""

    def __init__(self, model: nn.Module, pixels: Tensor, device: str) -> None:
        self._model = model.eval().to(device)
        self._pixels, self._device = pixels.to(device), device

    def _forward(self, pixels: Tensor) -> None:
        with torch.inference_mode():
            self._model(pixel_values=pixels)

    def parallel(self, size: int) -> None:
        """Several batches at once, each on one core."""
        with ThreadPoolExecutor(n_threads(), initializer=torch.set_num_threads, initargs=(1,)) as threads:
            list(threads.map(self._forward, self._pixels.split(size)))

    def textbook(self, size: int) -> None:
        """Batch by batch, with torch's own threads."""
        for batch in self._pixels.split(size):
            self._forward(batch)
        if self._device == "cuda":
            torch.cuda.synchronize()


def seconds(work: Callable[[], object]) -> Took:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Took(time.perf_counter() - wall, time.process_time() - cpu)


def rates(
    spec: CacheSpec,
    model: nn.Module,
    n_images: int,
    n_rounds: int,
    device: str,
    folder: Path,
    textbook: bool = True,
) -> dict[str, dict[str, Any]]:
    """Images per second of `extract` and of the bare forward of a model that has the spec's weights, in turn.

    On a CPU the textbook forward, which is the slower one, may be left out.
    """
    dataset: Any = SimpleNamespace(name="bench", stimuli=pictures(folder / "images", n_images))
    backbone = open_backbone(spec, device)
    pixels = torch.stack([backbone.preprocess(dataset.stimuli.image(i)) for i in range(n_images)])
    del backbone
    bare, timed = Bare(model, pixels, device), Timed()
    found: dict[str, list[float]] = {"whole command": []}
    cpu: dict[str, list[float]] = {}

    def extracted(i: int) -> Took:
        out = folder / f"{i}.zarr"
        whole = seconds(lambda: extract(spec, dataset, out, device=device, work=timed))
        assert len(Cache(out).ids) == n_images
        found["whole command"].append(n_images / whole.wall)
        return timed.took

    extracted(-1)  # to warm up
    found["whole command"].clear()
    sides: dict[str, Callable[[int], Took]] = {"extract": extracted}
    if textbook or device != "cpu":
        sides["textbook forward"] = lambda i: seconds(lambda: bare.textbook(spec.batch_size))
    if device == "cpu":
        sides["parallel forward"] = lambda i: seconds(lambda: bare.parallel(timed.batch))
    for i in range(n_rounds):
        for name in list(sides) if i % 2 else reversed(sides):  # what else the machine does strikes all alike
            took = sides[name](i)
            found.setdefault(name, []).append(n_images / took.wall)
            cpu.setdefault(name, []).append(took.cpu / n_images)
    medians = {name: statistics.median(each) for name, each in found.items()}
    bests = {name: max(each) for name, each in found.items()}
    forwards = [name for name in sides if name != "extract"]
    by_round = [rate / max(found[name][i] for name in forwards) for i, rate in enumerate(found["extract"])]
    ratios = {
        "of medians": medians["extract"] / max(medians[name] for name in forwards),
        "of bests": bests["extract"] / max(bests[name] for name in forwards),
        "median by round": statistics.median(by_round),
        "by round": by_round,
        "of CPU seconds": min(statistics.median(cpu[name]) for name in forwards) / statistics.median(cpu["extract"]),
    }
    return {
        "batch": {"parallel": timed.batch, "textbook": spec.batch_size},
        "images_per_s": found,
        "median_images_per_s": medians,
        "cpu_s_per_image": cpu,
        "extract_over_best_forward": ratios,
    }


SIDES = {
    "extract": "from the first lease to the last record: decoding, forward, pooling, rounding, writing",
    "whole command": "the same with opening the network, checking all images and sealing",
    "parallel forward": "prepared batches of batch.parallel images, one on each core; nothing else",
    "textbook forward": "prepared batches of batch.textbook images, one after the other; nothing else",
    "of CPU seconds": "CPU seconds per image of the best forward over those of extract: steadier on a busy machine",
}


def test_rate_against_the_bare_forward(true_size: bool, tmp_path: Path) -> None:
    from transformers import CLIPVisionModel

    device = choose_device("auto")
    n_images = (2048 if device == "cuda" else 64) if true_size else 12
    spec = network(tmp_path / "network", *((12, 768, 224, 16) if true_size else (2, 64, 32, 8)))
    assert spec.weights is not None
    model = CLIPVisionModel.from_pretrained(spec.weights.folder)
    found = rates(spec, model, n_images, 6 if true_size else 2, device, tmp_path)
    if true_size:
        what = f"{n_images} images of 425 px (JPEG and PNG) through ViT-B/16 at 224 px, all 12 layers stored"
        keep(f"extract_rate_{device}", {"what": what, **SIDES, **found, "load_1min": os.getloadavg()[0]})


FAMILIES = ("siglip2_b16", "dinov3_b", "swinv2_b")
SMALL = {"image_size": 32, "patch_size": 8, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def test_rate_of_families_of_transformers(true_size: bool, tmp_path: Path) -> None:
    """As shipped but for random weights; without `--true-size` only the first one, small."""
    device = choose_device("auto")
    n_images = (1024 if device == "cuda" else 72) if true_size else 8
    reports = {}
    for name in FAMILIES if true_size else FAMILIES[:1]:
        (tmp_path / name).mkdir()
        spec = load_spec(name).model_copy(update={"weights": WeightsSpec(random=0)})
        about = spec.section(TransformersSpec)
        if not true_size:
            about = about.model_copy(update={"architecture": SMALL | {"intermediate_size": 128}})
            spec = spec.model_copy(update={"backbone": about, "image_size": 32})
        assert spec.weights is not None
        model = load(spec.weights, family_of(about), about.architecture)
        reports[name] = rates(spec, model, n_images, 3 if true_size else 1, device, tmp_path / name, textbook=False)
    if true_size:
        what = f"{n_images} images of 425 px (JPEG and PNG) through networks of family transformers, random weights"
        keep(f"extract_rate_families_{device}", {"what": what, **SIDES, **reports, "load_1min": os.getloadavg()[0]})


def write_subject_of(subject: Path, n_images: int) -> None:
    """A subject whose images are ten scenes again and again; 50 voxels."""
    rng = np.random.default_rng(0)
    scenes = [draw_scene(rng, 64) for _ in range(10)]
    for i in range(n_images):
        image_path(subject, i).parent.mkdir(parents=True, exist_ok=True)
        scene: Image.Image = scenes[i % 10]
        scene.save(image_path(subject, i), compress_level=1)
    vertices = np.sort(rng.choice(N_VERTICES, 50, replace=False))
    table = pd.DataFrame({"hemi": "lh", "vertex": vertices, "reach": 0.5, "upward": 0.5, "ceiling": 0.5})
    write_subject(subject, rng.normal(size=(n_images, 50)).astype(np.float32), table)


def peak_bytes(spec: Path, subject: Path, out: Path) -> float:
    """Peak memory of `bddn extract`."""
    found = measured("extract", spec, "--data", f"algonauts:{subject}", "--out", out, "--device", "cpu")
    return found["peak_gib"] * 2**30


def test_memory_does_not_grow_with_the_number_of_images(true_size: bool, tmp_path: Path) -> None:
    n_images, n_layers, width, shard = (256, 4, 256, 16) if true_size else (32, 2, 64, 16)
    made = network(tmp_path / "network", n_layers, width, 64, 8)
    made = made.model_copy(update={"shard_images": shard, "chunk_images": 16, "batch_size": 8})
    spec = tmp_path / "spec.yaml"
    spec.write_text(json.dumps({key: value for key, value in made.to_dict().items() if value is not None}))
    peaks, caches = {}, {}
    for times in (1, 8):
        subject, out = tmp_path / f"subj{times:02d}", tmp_path / f"{times}.zarr"
        write_subject_of(subject, times * n_images)
        peaks[times] = statistics.median([peak_bytes(spec, subject, out) for out in runs(out, 3 if true_size else 1)])
        caches[times] = Cache(out).layout.token_bytes()
    growth = peaks[8] - peaks[1]
    assert growth < MEMORY_TOLERANCE * peaks[1], f"{growth / 2**20:.1f} MiB more for 8 times the images"
    if true_size:
        assert caches[8] - caches[1] > 2 * MEMORY_TOLERANCE * peaks[1]  # or growth with the cache would not show
        keep(
            "extract_memory_cpu",
            {
                "what": f"{n_layers} layers x {width}, shards of {shard} images; median of 3 runs, each in a process",
                "images": {"1x": n_images, "8x": 8 * n_images},
                "cache_mib": {"1x": caches[1] / 2**20, "8x": caches[8] / 2**20},
                "peak_mib": {"1x": peaks[1] / 2**20, "8x": peaks[8] / 2**20},
                "growth": growth / peaks[1],
            },
        )


def runs(out: Path, n: int) -> list[Path]:
    """Where each of some runs writes; the last one to `out` itself."""
    return [*(out.with_suffix(f".{i}.zarr") for i in range(n - 1)), out]
