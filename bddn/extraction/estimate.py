"""Estimate what an extraction needs of disk, memory, device and time, and which settings would make it fit."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import psutil
import torch

from bddn.backbones.backbone import Backbone
from bddn.backbones.registry import open_backbone
from bddn.data import Dataset
from bddn.data.checking import check_images
from bddn.extraction.source import TokenSource, batch_size, infer_layout
from bddn.machine.memory import free_bytes, free_device_bytes
from bddn.machine.parallel import choose_device, n_threads
from bddn.machine.settings import own_settings
from bddn.spec import CacheSpec
from bddn.store.files import LocalFiles
from bddn.store.layout import Layout
from bddn.store.precision import precision
from bddn.store.remote import open_files
from bddn.store.requests import Requests, requests
from bddn.store.writer import arrays_at_once
from bddn.text import count

TIMED_BATCHES = 3  # per thread, after one batch that is not timed
SMALLER = ("bitround:6", "int8")


@dataclass(frozen=True)
class Plan:
    """The estimated needs of an extraction.

    Attributes
    ----------
    n_images, n_layers, n_shards : int
        A shard is one task.
    requests : Requests or None
        Requests to an object store; None if the cache is a folder.
    image_bytes, disk_bytes : int
        Stored tokens of one image, and the whole cache.
    free_disk_bytes : int or None
        None if it is unknown.
    ram_bytes, free_ram_bytes : int
        Memory for the network, batches and shards, and the memory that this process can use.
    device : str
    device_bytes, free_device_bytes : int or None
        None on a CPU.
    images_per_s : float
        Measured on a few batches, including decoding.
    advice : list of str
        Settings that would make it fit; empty if it fits.
    notes : list of str
        Notes on how the tried images are decoded.
    """

    n_images: int
    n_layers: int
    n_shards: int
    requests: Requests | None
    image_bytes: int
    disk_bytes: int
    free_disk_bytes: int | None
    ram_bytes: int
    free_ram_bytes: int
    device: str
    device_bytes: int | None
    free_device_bytes: int | None
    images_per_s: float
    advice: list[str]
    notes: list[str]

    @property
    def seconds(self) -> float:
        """Estimated time of the whole extraction on this machine."""
        return self.n_images / self.images_per_s

    def lines(self) -> list[str]:
        """Return the plan as lines of text."""
        disk = "" if self.free_disk_bytes is None else f" ({self.free_disk_bytes / 1e9:.1f} GB free)"
        device = "none, on the CPU"
        if self.device_bytes is not None and self.free_device_bytes is not None:
            device = f"{self.device_bytes / 1e9:.2f} GB ({self.free_device_bytes / 1e9:.1f} GB free)"
        words = [
            f"images   {self.n_images}, {count(self.n_layers, 'layer')}, {count(self.n_shards, 'shard')}",
            f"image    {self.image_bytes / 1e6:.3f} MB",
            f"disk     {self.disk_bytes / 1e9:.2f} GB{disk}",
            f"memory   {self.ram_bytes / 1e9:.2f} GB ({self.free_ram_bytes / 1e9:.1f} GB free)",
            f"device   {device}",
            f"time     {timedelta(seconds=round(self.seconds))} at {self.images_per_s:.1f} images/s",
        ]
        if self.requests is not None:
            words.insert(3, f"requests {_request_counts(self.requests)}")
        words += [f"note     among the tried images, {note}" for note in self.notes]
        return words + ([f"does not fit; this would fit, {one}" for one in self.advice] or ["it fits"])


@own_settings()
def plan(
    spec: CacheSpec, dataset: Dataset, out: str | Path = ".", device: str = "auto", n_images: int | None = None
) -> Plan:
    """Run a few batches and estimate the needs of the whole extraction. Write nothing.

    Parameters
    ----------
    spec : CacheSpec
    dataset : Dataset
    out : str or Path
        The place of the cache, whose free space is measured.
    device : {'auto', 'cpu', 'cuda'}
    n_images : int, optional
        Plan for this number of images; the rate is still measured on images of `dataset`.


    Raises
    ------
    BddnError
        If the spec, images or weights are invalid or do not belong together.
    """
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    device = choose_device(device)
    backbone = open_backbone(spec, device)
    layout = infer_layout(spec, backbone, dataset.stimuli)
    if n_images is not None:
        layout = replace(layout, n_images=n_images)
    images_per_s, notes = _time(spec, dataset, layout, backbone, device)
    resident = process.memory_info().rss - before
    files, on_device = open_files(out), device == "cuda"
    free_disk = files.free_bytes()
    ram = resident + shard_bytes_in_memory(layout)
    free_ram = free_bytes() + resident
    return Plan(
        n_images=layout.n_images,
        n_layers=len(layout.layers),
        n_shards=layout.n_shards,
        requests=None if isinstance(files, LocalFiles) else requests(layout),
        image_bytes=layout.image_bytes(),
        disk_bytes=layout.disk_bytes(),
        free_disk_bytes=free_disk,
        ram_bytes=ram,
        free_ram_bytes=free_ram,
        device=device,
        device_bytes=torch.cuda.max_memory_allocated() if on_device else None,
        free_device_bytes=free_device_bytes() + torch.cuda.memory_allocated() if on_device else None,
        images_per_s=images_per_s,
        advice=advice(spec, layout, free_disk, free_ram - resident),
        notes=notes,
    )


def summarise(plans: Mapping[str, Plan]) -> tuple[list[dict[str, str]], list[str]]:
    """Return one table row per extraction and one for all, and advice on what does not fit."""

    def row(name: str, found: Sequence[Plan]) -> dict[str, str]:
        asked = [one.requests.total for one in found if one.requests is not None]
        return {
            "spec": name,
            "images": f"{sum(one.n_images for one in found):,}",
            "layers": str(sum(one.n_layers for one in found)),
            "tasks": f"{sum(one.n_shards for one in found):,}",
            "GB": f"{sum(one.disk_bytes for one in found) / 1e9:,.2f}",
            **({"requests": f"{sum(asked):,}"} if asked else {}),
            f"{found[0].device} hours": f"{sum(one.seconds for one in found) / 3600:,.2f}",
        }

    rows = [row(name, [one]) for name, one in plans.items()] + [row("all", list(plans.values()))]
    words = [f"{name}: {advised}" for name, one in plans.items() for advised in one.advice]
    needed, free = sum(one.disk_bytes for one in plans.values()), next(iter(plans.values())).free_disk_bytes
    if free is not None and needed > free and not words:
        words.append(f"all: disk: {needed / 1e9:.2f} GB together, {free / 1e9:.2f} GB free")
    return rows, words


def _request_counts(asked: Requests) -> str:
    kinds = {name: getattr(asked, name) for name in ("reads", "writes", "lists", "deletes")}
    return f"{asked.total:,} ({', '.join(f'{n:,} {name}' for name, n in kinds.items())})"


def shard_bytes_in_memory(layout: Layout) -> int:
    """Return the memory in bytes for two shards (one is computed, one is written) and encoded copies of arrays."""
    n = min(layout.shard_images, layout.n_images)
    size = np.dtype(layout.precision.filled).itemsize
    arrays = [n * size * int(np.prod(shape)) for shape in layout.arrays().values()]
    n_copies = 3 if layout.precision.scaled else 1
    return min(2, layout.n_shards) * sum(arrays) + n_copies * sum(sorted(arrays)[-arrays_at_once() :])


def advice(spec: CacheSpec, layout: Layout, free_disk: int | None, free_ram: int) -> list[str]:
    """Return settings with which the cache would fit the disk and a shard the memory; empty if they fit already."""
    words = []
    if free_disk is not None and layout.disk_bytes() > free_disk:
        half = (max(1, layout.grid[0] // 2), max(1, layout.grid[1] // 2))
        choices = {f"precision: {name}": replace(layout, precision=precision(name)) for name in SMALLER}
        choices[f"grid: [{half[0]}, {half[1]}]"] = replace(layout, grid=half)
        choices["every second layer in 'layers'"] = replace(layout, layers=layout.layers[::2])
        fitting = [
            f"{name} ({other.disk_bytes() / 1e9:.1f} GB)"
            for name, other in choices.items()
            if other.disk_bytes() <= free_disk
        ]
        words.append("disk: " + (" or ".join(fitting) or "no single setting suffices; use a larger disk"))
    if shard_bytes_in_memory(layout) > free_ram:
        n = next(
            (
                n
                for n in range(layout.shard_images, 0, -spec.chunk_images)
                if shard_bytes_in_memory(replace(layout, shard_images=n)) <= free_ram
            ),
            None,
        )
        words.append(f"memory: shard_images: {n}" if n else "memory: a smaller grid, or fewer layers")
    return words


def _time(
    spec: CacheSpec, dataset: Dataset, layout: Layout, backbone: Backbone, device: str
) -> tuple[float, list[str]]:
    """Measure decoding, forward pass and rounding over a few batches; return images per second, and notes on images."""
    stimuli, threads = dataset.stimuli, n_threads()
    n = min(len(stimuli), batch_size(spec, device) * (threads if device == "cpu" else 1) * TIMED_BATCHES)
    checked = check_images(stimuli.part(range(n)))
    source = TokenSource(spec, backbone, stimuli, checked.sha256, layout, device, threads)

    def read(stop: int) -> None:
        with source.prefetch(range(stop)) as prefetched:
            source.read(0, stop, prefetched, lambda n: None)

    read(-(-n // TIMED_BATCHES))
    started = time.perf_counter()
    read(n)
    return n / (time.perf_counter() - started), checked.notes
