"""Compute tokens from images: decode, run the backbone in batches, and round to the stored precision."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor

from bddn import __version__
from bddn.backbones.backbone import Backbone
from bddn.data import Stimuli
from bddn.data.decoding import DECODING
from bddn.errors import BackboneError, BddnError, DataError, SpecError
from bddn.extraction.device import Arrays, OnDevice, on_cpu
from bddn.identity import Identity
from bddn.machine.parallel import ahead, error_text, is_out_of_memory, n_threads, use_one_thread
from bddn.spec import CacheSpec
from bddn.store.layout import Layout
from bddn.store.precision import TokenRows

CPU_BATCH = 8  # most images in a batch: more are no faster on one core, and leave cores idle at the end of a shard
BATCHES_ON_DEVICE = 3  # batches at the same time: one waits for its images, one is computed, one is rounded
BATCHES_AHEAD = 2  # batches of images that are decoded ahead for a device


@dataclass(frozen=True)
class TokenSource:
    """A source of tokens, which are computed on request.

    Attributes
    ----------
    spec : CacheSpec
    backbone : Backbone
        An open backbone on `device`.
    stimuli : Stimuli
        The images; row r is `stimuli.ids[r]`.
    images : sequence of str
        SHA-256 of the image files. A file with other bytes is refused when it is decoded.
    layout : Layout
        The layers, with their shapes and precision.
    device : str
        'cpu' or 'cuda'.
    threads : int
        Number of batches that are computed in parallel on a CPU. It changes the time but never the result.
    """

    spec: CacheSpec
    backbone: Backbone
    stimuli: Stimuli
    images: Sequence[str]
    layout: Layout
    device: str
    threads: int

    @property
    def batch(self) -> int:
        """Number of images in a forward pass."""
        return batch_size(self.spec, self.device)

    @property
    def at_once(self) -> int:
        """Number of batches that are processed at the same time."""
        return self.threads if self.device == "cpu" else BATCHES_ON_DEVICE

    @contextmanager
    def prefetch(self, rows: Iterable[int]) -> "Iterator[ImageQueue]":
        """Decode the images of these rows, in this order, while other batches are computed.

        The threads live as long as the context, because starting new threads for each shard would leak memory.
        """
        numbers = [self.at_once] if self.device == "cpu" else [self.at_once, n_threads()]
        pools = [ThreadPoolExecutor(n, initializer=use_one_thread) for n in numbers]
        try:
            yield ImageQueue(self, rows, pools[0], pools[1] if len(pools) > 1 else None)
        finally:
            for pool in pools:
                pool.shutdown(cancel_futures=True)

    def read(
        self, start: int, stop: int, images: "ImageQueue", advance: Callable[[int], object]
    ) -> dict[str, TokenRows]:
        """Compute the tokens of the images `start` to `stop`, rounded to the stored precision.

        On a CPU several batches run in parallel, each with single-threaded kernels. On a device they run one after the
        other.

        Parameters
        ----------
        start, stop : int
        images : ImageQueue
            From `prefetch`, whose rows must include these rows.
        advance : function of int
            Callback with the number of images of each finished batch.

        Returns
        -------
        dict of str to array
            By path ('local/LAYER', 'global/LAYER', …), (stop - start, ...) as `Precision.fill` returns it.

        Raises
        ------
        BddnError
            If an image has changed, the backbone fails, or its tokens are not finite in the stored precision.
        """
        layout, ids = self.layout, self.stimuli.ids
        filled: dict[str, TokenRows] = {
            path: np.empty((stop - start, *shape), layout.precision.filled) for path, shape in layout.arrays().items()
        }
        run = on_cpu if self.device == "cpu" else OnDevice()
        layers = [layer.name for layer in layout.layers]

        def forward(pixels: Tensor) -> Arrays:
            try:
                return run(self.backbone, pixels, layers)
            except BddnError:
                raise
            except (RuntimeError, MemoryError) as error:
                raise _failed(self.device, len(pixels), error) from error

        def compute(taken: tuple[range, list[Callable[[], Tensor]]]) -> int:
            rows, waiting = taken
            found = forward(torch.stack([image() for image in waiting]))
            for path, into in filled.items():
                rounded = layout.precision.fill(found[path], path, ids[rows.start : rows.stop])
                into[rows.start - start : rows.stop - start] = rounded
            return len(rows)

        batches = (range(first, min(first + self.batch, stop)) for first in range(start, stop, self.batch))
        taken = ((rows, images.request(rows)) for rows in batches)
        for n in ahead(compute, taken, 2 * self.at_once, images.threads):
            advance(n)
        return filled

    def pixels(self, row: int) -> Tensor:
        """Decode and preprocess one image, and return it as (3, H, W) float32.

        Raises
        ------
        DataError
            If its file is damaged, or does not have the SHA-256 in `images`.
        """
        return pixels_of(self.backbone, self.stimuli, row, self.images[row])


class ImageQueue:
    """The preprocessed images of some rows, in order, and the threads that run their batches.

    On a CPU each batch decodes its own images. For a device, all cores decode images ahead, also across the end of a
    shard, so that the device does not wait for the first images of the next shard.
    """

    def __init__(self, source: TokenSource, rows: Iterable[int], threads: Executor, decoders: Executor | None) -> None:
        self._source, self._rows, self._decoders = source, iter(rows), decoders
        self.threads = threads
        self._begun: deque[tuple[int, Future[Tensor]]] = deque()

    def request(self, rows: range) -> list[Callable[[], Tensor]]:
        """Return one callable per row that blocks until its image is decoded.

        Rows must be asked for in increasing order; skipped rows are cancelled.
        """
        if self._decoders is None:
            return [partial(self._source.pixels, row) for row in rows]
        return [self._next(row).result for row in rows]

    def _next(self, wanted: int) -> Future[Tensor]:
        assert self._decoders is not None
        most = BATCHES_AHEAD * self._source.batch
        while True:
            while len(self._begun) <= most and (row := next(self._rows, None)) is not None:
                self._begun.append((row, self._decoders.submit(self._source.pixels, row)))
            row, found = self._begun.popleft()
            if row == wanted:
                return found
            found.cancel()


def pixels_of(backbone: Backbone, stimuli: Stimuli, row: int, sha256: str) -> Tensor:
    """Decode and preprocess one image, and return it as (3, H, W) float32.

    Raises
    ------
    DataError
        If its file is damaged, or does not have this SHA-256.
    """
    image, found = stimuli.read(row)
    if found != sha256:
        raise DataError(
            stimuli.place(row),
            expected="the image that was checked at the start",
            got="different bytes",
            fix="Do not change images while this command runs, and run the same command again.",
        )
    return backbone.preprocess(image)


def batch_size(spec: CacheSpec, device: str) -> int:
    """Return the number of images in a forward pass. It is the same on every machine, since it may change last bits."""
    return min(spec.batch_size, CPU_BATCH) if device == "cpu" else spec.batch_size


def network_identity(spec: CacheSpec, backbone: Backbone, device: str) -> Identity:
    """Return what determines tokens besides the images: the parts `spec`, `backbone`, `decoding` and `made_with`.

    The batch size is not included: on a CPU it changes no bit, and on a GPU no more than another GPU model may. The
    parent of a fine-tuned network stands under `made_with`: it is recorded, but its tokens follow from the weights.
    """
    about = dict(backbone.identity)
    made_with = {
        "device": device,
        "bddn": __version__,
        **{name: version(name) for name in ("numcodecs", "zarr")},
        **about.pop("made_with"),
        **({} if spec.parent is None else {"parent": spec.parent.to_dict()}),
    }
    return Identity({"spec": spec.identity(), "decoding": DECODING, "backbone": about, "made_with": made_with})


def infer_layout(spec: CacheSpec, backbone: Backbone, stimuli: Stimuli) -> Layout:
    """Compute the tokens of the first image, and return the layout of the cache for their shapes.

    Raises
    ------
    SpecError
        If the spec asks for registers, and no layer has them.
    """
    tokens = backbone(backbone.preprocess(stimuli.image(0))[None])
    channels = {name: tokens[name].local_.shape[1] for name in backbone.layers}
    found = {name: tokens[name].register for name in backbone.layers}
    registers = {name: values.shape[1] for name, values in found.items() if values is not None}
    if spec.registers and not registers:
        raise SpecError(
            f"spec '{spec.title}'",
            expected="a network with registers, because registers is true",
            got="none in any layer",
            fix="Delete registers from the spec.",
        )
    return Layout.of_spec(spec, channels, len(stimuli), registers)


def _failed(device: str, n_images: int, error: Exception) -> BackboneError:
    memory = is_out_of_memory(error)
    return BackboneError(
        f"{device}, a batch of {n_images} images",
        expected="the network to run",
        got="no memory left" if memory else error_text(error),
        fix=f"Set batch_size: {max(1, n_images // 2)} in the spec and run the same command again: it resumes."
        if memory
        else "Run the same command again: it resumes.",
    )
