"""Run one extraction until all shards are written, by this job or by other jobs on the same store."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from bddn.backbones.backbone import Backbone, CanChange
from bddn.backbones.layers import matched
from bddn.backbones.probe import check_order
from bddn.backbones.registry import open_backbone
from bddn.data import Dataset
from bddn.data.checking import check_images
from bddn.data.dataset_check import check_ids
from bddn.data.united import Subjects
from bddn.errors import DataError, SpecError
from bddn.extraction.job import Compute, Job, Work, in_this_process
from bddn.extraction.preflight import check_disk, check_place, refuse_other_content
from bddn.extraction.source import TokenSource, infer_layout, network_identity
from bddn.machine.parallel import choose_device, n_threads
from bddn.machine.settings import own_settings
from bddn.progress import Advance, progress, say
from bddn.spec import CacheSpec
from bddn.store.hashes import Hashes
from bddn.store.lease import LeaseMonitor
from bddn.store.manifest import is_sealed
from bddn.store.remote import open_files
from bddn.store.writer import Writer, new_header

POLL_S = 2.0  # interval of the checks for shards that other jobs compute


@dataclass(frozen=True)
class Extraction:
    """The result of `extract`.

    Attributes
    ----------
    digest : str or None
        Digest of the sealed store; None if shards of other parts are still missing.
    n_images, n_shards, n_computed : int
        Images and shards of the store, and shards computed by this call.
    reused : bool
        Whether the store was sealed before this call.
    versions : list of str
        A description of each library whose version differs from the one that wrote a reused store.
    """

    digest: str | None
    n_images: int
    n_shards: int
    n_computed: int
    reused: bool
    versions: list[str]


@own_settings()
def extract(
    spec: CacheSpec,
    dataset: Dataset | Subjects,
    out: str | Path,
    *,
    device: str = "auto",
    part: tuple[int, int] = (1, 1),
    work: Work | None = None,
    backbone: Backbone | None = None,
    tell: Callable[[str], object] = warnings.warn,
) -> Extraction:
    """Write the tokens of all images of a dataset into a store and seal it, or resume an interrupted extraction.

    Several extractions may write one store at the same time; each shard is written by one of them. A sealed store with
    the same content is not changed.

    Parameters
    ----------
    spec : CacheSpec
    dataset : Dataset or Subjects
        `Subjects` are several datasets, whose images are extracted together.
    out : str or Path
        A folder, or a URL that fsspec can open.
    device : {'auto', 'cpu', 'cuda'}
        Device of the backbone; with `work` on a cluster, the device of its workers.
    part : (int, int)
        (i, N) extracts every Nth shard, starting at the ith (from 1). The part that finishes last seals the store.
    work : Work, optional
        Where shards are computed, for example on a cluster; by default one after the other in this process.
    backbone : Backbone, optional
        An open backbone on `device`, as `bddn.from_module` returns it; by default the backbone of the spec.
    tell : function of str
        Callback for notes on how images are decoded, for example that transparent parts become white in some of them.
        It is called before the long work; by default it gives a Python warning.

    Raises
    ------
    BddnError
        If the spec, images, weights or an existing store are invalid or do not belong together.
    """
    if work is None or device == "auto":
        device = choose_device(device)
    if work is not None and backbone is not None:
        raise SpecError(
            "backbone",
            expected="a backbone that workers can open themselves",
            got="a backbone that is open in this process",
            fix="Write a spec with backbone.module, an import path.",
        )
    job, versions = prepare(spec, dataset, out, device, backbone, tell)
    writer = job.writer
    shards = list(range(len(writer.layout.shards)))
    reused = writer.is_sealed
    if reused:
        return Extraction(writer.digest(), len(dataset.stimuli), len(shards), 0, True, versions)
    pending = writer.pending(shards[part[0] - 1 :: part[1]])
    n_images = sum(stop - start for start, stop in (writer.layout.shards[k] for k in pending))
    with progress("extract", n_images, "images") as advance, (work or in_this_process)(job) as compute:
        n_computed = _finish(job, pending, compute, advance)
    store_digest = None if writer.uncommitted() else writer.seal()
    return Extraction(store_digest, len(dataset.stimuli), len(shards), n_computed, False, versions)


def prepare(
    spec: CacheSpec,
    dataset: Dataset | Subjects,
    out: str | Path,
    device: str,
    backbone: Backbone | None = None,
    tell: Callable[[str], object] = warnings.warn,
) -> tuple[Job, list[str]]:
    """Open the backbone, check the images, and create the store or check the existing one.

    Returns
    -------
    job : Job
    versions : list of str
        See `Extraction`.
    """
    check_place(out)
    files = open_files(out)
    for one in dataset.datasets if isinstance(dataset, Subjects) else (dataset,):
        check_ids(one)  # a missing folder is an error, too, before the network is opened
    if backbone is None:
        backbone = open_backbone(spec, device if torch.cuda.is_available() else "cpu")
    elif isinstance(backbone, CanChange):
        backbone.check_unchanged()
    for line in matched(spec.backbone.layers if spec.backbone else None, backbone.layers):
        say(f"layers: {line}")
    stimuli = dataset.stimuli
    if isinstance(dataset, Subjects):
        say(f"images: {dataset.in_words()}")
    try:
        layout = infer_layout(spec, backbone, stimuli)
    except DataError:
        check_images(stimuli)  # its error names all damaged images, not only the first
        raise
    network = network_identity(spec, backbone, device).parts
    refuse_other_content(files, new_header(layout, stimuli.ids, Hashes.of([]), network))
    sealed = is_sealed(files)
    if not sealed:
        check_order(backbone, spec)
        check_disk(files, layout.disk_bytes())
    checked = check_images(stimuli, decode=not sealed)  # the slowest check (minutes) comes last
    for words in checked.notes:
        tell(words)
    images = Hashes.of(checked.sha256)
    header = new_header(layout, stimuli.ids, images, network, getattr(stimuli, "aliases", None))
    writer = Writer(files, layout, stimuli.ids, images, header)
    versions = writer.prepare()
    source = TokenSource(spec, backbone, stimuli, images, layout, device, n_threads())
    return Job(source, writer, LeaseMonitor(files)), versions


def _finish(job: Job, shards: list[int], compute: Compute, advance: Advance) -> int:
    """Compute shards, also of jobs that die, until all have a record. Return how many were computed here."""
    writer, n_computed, todo = job.writer, 0, shards
    while todo:
        others = compute(todo, advance)
        n_computed += len(todo) - len(others)
        todo = writer.uncommitted(list(others))
        job.monitor.observe(todo)
        for shard in others.keys() - set(todo):
            start, stop = writer.layout.shards[shard]
            advance(stop - start, note="some by other jobs", earlier=True)
        if todo and len(todo) == len(others):
            owner = others[todo[0]]
            advance(0, note=f"waiting for {owner.get('host')}, process {owner.get('pid')}")
            time.sleep(POLL_S)
    return n_computed
