"""One extraction: what is to be done, and doing it shard by shard, in one process or in many."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from bddn import __version__
from bddn.backbones.base import Backbone
from bddn.backbones.registry import open_backbone
from bddn.data import Dataset, Stimuli
from bddn.errors import BackboneError, DataError, SpecError
from bddn.extract.preflight import check_disk, check_images
from bddn.parallel import n_threads
from bddn.progress import Advance, progress
from bddn.spec import CacheSpec
from bddn.store.layout import Layer, Layout
from bddn.store.lease import Lease, Watch
from bddn.store.manifest import is_sealed
from bddn.store.precision import Rows, precision
from bddn.store.remote import open_files
from bddn.store.writer import Writer, new_header
from bddn.tokens import Tokens

if TYPE_CHECKING:
    from PIL.Image import Image

POLL_S = 2.0  # between looks at shards that other jobs are working on
DECODERS = 4  # threads that prepare images for a device

ANOTHER = {"host": "another process", "pid": "?"}
Owners = dict[int, dict[str, Any]]


@dataclass(frozen=True)
class Extraction:
    """What `extract` did.

    Attributes
    ----------
    digest : str or None
        Of the sealed store; None where shards of other jobs are still missing.
    n_images, n_shards, n_computed : int
        Of the store, and how many of its shards were computed now.
    reused : bool
        Whether the store had been sealed before.
    versions : list of str
        In words, the libraries whose versions differ from those that wrote a store that was sealed before.
    """

    digest: str | None
    n_images: int
    n_shards: int
    n_computed: int
    reused: bool
    versions: list[str]


@dataclass(frozen=True)
class Job:
    """All that a worker must know to compute a shard.

    Attributes
    ----------
    spec : CacheSpec
    stimuli : Stimuli
    writer : Writer
        Of the store.
    device : str
        'cpu' or 'cuda'.
    threads : int
        Batches that are computed at once, on a CPU.
    """

    spec: CacheSpec
    stimuli: Stimuli
    writer: Writer
    device: str
    threads: int


class Work(Protocol):
    """Does what can be done of some shards; returns those that other jobs hold, with their owners."""

    def __call__(self, job: Job, backbone: Backbone, shards: list[int], advance: Advance) -> Owners: ...


def extract(
    spec: CacheSpec,
    dataset: Dataset,
    out: str | Path,
    *,
    device: str = "auto",
    part: tuple[int, int] = (1, 1),
    work: Work | None = None,
    backbone: Backbone | None = None,
) -> Extraction:
    """Write the tokens of all images of a dataset into a store and seal it; go on with one that was interrupted.

    Several extractions may write one store at once: each shard is written by one of them. A sealed store of the same
    content is left as it is.

    Parameters
    ----------
    spec : CacheSpec
    dataset : Dataset
    out : str or Path
        A folder, or a URL that fsspec can open.
    device : {'auto', 'cpu', 'cuda'}
        Where the backbone runs; with `work` on a cluster, that of its workers.
    part : (int, int)
        (i, N): only every Nth shard, beginning with the ith, counted from 1; the last of the N parts seals.
    work : Work, optional
        How shards are computed, for instance on a cluster; by default one after the other in this process.
    backbone : Backbone, optional
        One that is open already, on `device`, as `bddn.backbones.from_module` gives it; without it, that of the spec.

    Raises
    ------
    BddnError
        Where the spec, images, weights or an existing store do not fit.
    """
    if work is None:
        device = choose_device(device)
    job, backbone, versions = prepare(spec, dataset, out, device, backbone)
    writer = job.writer
    shards = list(range(len(writer.layout.shards)))
    reused = writer.is_sealed
    if reused:
        return Extraction(writer.digest(), len(dataset.stimuli), len(shards), 0, True, versions)
    pending = writer.pending(shards[part[0] - 1 :: part[1]])
    n_images = sum(stop - start for start, stop in (writer.layout.shards[k] for k in pending))
    with progress("extract", n_images, "images") as advance:
        n_computed = _finish(job, backbone, pending, work or compute_all, advance)
    store_digest = None if writer.uncommitted() else writer.seal()
    return Extraction(store_digest, len(dataset.stimuli), len(shards), n_computed, False, versions)


def prepare(
    spec: CacheSpec, dataset: Dataset, out: str | Path, device: str, backbone: Backbone | None = None
) -> tuple[Job, Backbone, list[str]]:
    """Check images, open the backbone, and make the store or check the one that is there."""
    stimuli, files = dataset.stimuli, open_files(out)
    images = check_images(stimuli, decode=not is_sealed(files))
    if backbone is None:
        backbone = open_backbone(spec, device if torch.cuda.is_available() else "cpu")
    layout = layout_of(spec, backbone, stimuli)
    ids = list(stimuli.ids)
    header = new_header(layout, ids, images, identity(spec, backbone, device))
    writer = Writer(files, layout, ids, images, header)
    versions = writer.prepare()
    if not writer.is_sealed:
        check_disk(files, layout.disk_bytes())
    return Job(spec, stimuli, writer, device, n_threads()), backbone, versions


def choose_device(device: str) -> str:
    """'cpu' or 'cuda'; 'auto' is cuda where there is one.

    Raises
    ------
    SpecError
        Where the device is not there.
    """
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise SpecError("--device", expected="a CUDA device", got="none that torch can use", fix="Use --device cpu.")
    return ("cuda" if there else "cpu") if device == "auto" else device


def layout_of(spec: CacheSpec, backbone: Backbone, stimuli: Stimuli) -> Layout:
    """The layout of the store, by a look at the tokens of one image."""
    sample = backbone(backbone.preprocess(stimuli.image(0))[None])
    return Layout(
        n_images=len(stimuli),
        layers=tuple(Layer(name, sample[name].local_.shape[1]) for name in backbone.layers),
        grid=spec.grid,
        precision=precision(spec.precision),
        chunk_images=spec.chunk_images,
        shard_images=spec.shard_images,
    )


def identity(spec: CacheSpec, backbone: Backbone, device: str) -> dict[str, Any]:
    """What decides the tokens besides the images. `made_with` is apart: other versions may give other last bits."""
    about = dict(backbone.identity)
    made_with = {"device": device, "bddn": __version__, **{name: version(name) for name in ("numcodecs", "zarr")}}
    return {"spec": spec.identity(), "made_with": {**made_with, **about.pop("made_with")}, "backbone": about}


def compute_all(job: Job, backbone: Backbone, shards: list[int], advance: Advance) -> Owners:
    """Compute shards one after the other in this process. See `Work`."""
    watch, others = Watch(job.writer.files), {}
    for shard in shards:
        owner = compute(job, backbone, shard, watch, advance)
        if owner is not None:
            others[shard] = owner
    return others


def compute(
    job: Job, backbone: Backbone, shard: int, watch: Watch, advance: Callable[[int], object]
) -> dict[str, Any] | None:
    """Compute, write and commit one shard. Returns None, or who else holds it."""
    lease = watch.take(shard)
    if not isinstance(lease, Lease):
        return lease
    with lease:
        if job.writer.is_committed(shard):
            return ANOTHER
        filled = read_tokens(job, backbone, *job.writer.layout.shards[shard], advance)
        return None if job.writer.write(shard, filled, lease) else ANOTHER


def _finish(job: Job, backbone: Backbone, shards: list[int], work: Work, advance: Advance) -> int:
    """Work until every shard has a record, also of those that other jobs are busy with, should these die."""
    n_computed, todo = 0, shards
    while todo:
        others = work(job, backbone, todo, advance)
        n_computed += len(todo) - len(others)
        todo = job.writer.uncommitted(list(others))
        for shard in others.keys() - set(todo):
            start, stop = job.writer.layout.shards[shard]
            advance(stop - start, note="some by other jobs")
        if todo and len(todo) == len(others):
            owner = others[todo[0]]
            advance(0, note=f"waiting for {owner.get('host')}, process {owner.get('pid')}")
            time.sleep(POLL_S)
    return n_computed


def read_tokens(
    job: Job, backbone: Backbone, start: int, stop: int, advance: Callable[[int], object]
) -> dict[str, Rows]:
    """Tokens of the images `start` to `stop`, by array, rounded to the stored precision.

    On a CPU several batches run at once, each with single-threaded kernels, so that the number of threads changes the
    time and never the result. On a device they run one after the other, while images are prepared ahead.
    """
    layout, stimuli = job.writer.layout, job.stimuli
    filled: dict[str, Rows] = {
        path: np.empty((stop - start, *shape), layout.precision.filled) for path, shape in layout.arrays().items()
    }
    on_cpu = job.device == "cpu"
    forward = nullcontext() if on_cpu else threading.Lock()

    def batch(first: int) -> int:
        rows = range(first, min(first + job.spec.batch_size, stop))
        pixels = torch.stack([backbone.preprocess(_image(job, i)) for i in rows])
        with forward:
            tokens = _forward(job, backbone, pixels)
        ids = stimuli.ids[first : rows.stop]
        for layer in layout.layers:
            found = tokens[layer.name]
            assert found.global_ is not None
            for path, values in (
                (f"local/{layer.name}", found.local_.permute(0, 2, 3, 1)),
                (f"global/{layer.name}", found.global_),
            ):
                filled[path][first - start : rows.stop - start] = layout.precision.fill(values.cpu().numpy(), path, ids)
        return len(rows)

    with ThreadPoolExecutor(
        job.threads if on_cpu else DECODERS, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        for n in pool.map(batch, range(start, stop, job.spec.batch_size)):
            advance(n)
    return filled


def _forward(job: Job, backbone: Backbone, pixels: torch.Tensor) -> Tokens:
    try:
        return backbone(pixels)
    except RuntimeError as error:
        memory = isinstance(error, torch.OutOfMemoryError)
        raise BackboneError(
            f"{job.device}, a batch of {len(pixels)} images",
            expected="the network to run",
            got="no memory left" if memory else str(error).strip().splitlines()[0],
            fix=f"Set batch_size: {max(1, len(pixels) // 2)} in the spec and run the same command again: it goes on."
            if memory
            else "Run the same command again: it goes on where it stopped.",
        ) from error


def _image(job: Job, i: int) -> "Image":
    image, sha256 = job.stimuli.read(i)
    if sha256 != job.writer.images[i]:
        raise DataError(
            job.stimuli.paths[i],
            expected="the image that was checked at the start",
            got="other bytes",
            fix="Leave the images alone while they are extracted; run the same command again.",
        )
    return image
