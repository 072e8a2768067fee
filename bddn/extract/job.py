"""One extraction: what is to be done, and going on until all of it is done, by this job or another."""

import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from bddn import __version__
from bddn.backbones.base import Backbone
from bddn.backbones.registry import open_backbone
from bddn.data import Dataset, Stimuli
from bddn.errors import SpecError
from bddn.extract.preflight import check_disk, check_images
from bddn.extract.rows import Job
from bddn.extract.shards import Work, compute_all
from bddn.parallel import choose_device, n_threads
from bddn.progress import Advance, progress
from bddn.spec import CacheSpec
from bddn.store.layout import Layer, Layout
from bddn.store.manifest import is_sealed
from bddn.store.precision import precision
from bddn.store.remote import open_files
from bddn.store.writer import Writer, new_header

POLL_S = 2.0  # between looks at shards that other jobs are working on


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
    elif backbone is not None:
        raise SpecError(
            "backbone",
            expected="one that workers can open themselves",
            got="one that is open in this process",
            fix="Write a spec with backbone.module, an import path.",
        )
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
