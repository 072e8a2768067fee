"""Measure the cost of a lossy precision: fit a sample of a cache with rounded tokens, and compare scores and maps."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bddn.data import Dataset
from bddn.data.trials import response_ids
from bddn.encoder.factor_topy import new_encoder
from bddn.encoder.fit import Fitted, fit
from bddn.encoder.parts import Parts
from bddn.errors import SpecError
from bddn.machine.settings import own_settings
from bddn.run.splitting import split_of
from bddn.spec import FitSpec
from bddn.stats.hierarchy import depth
from bddn.store.precision import precision
from bddn.store.reader import Cache
from bddn.stream.features import Features
from bddn.stream.loader import Streamed
from bddn.stream.order import evenly


@dataclass(frozen=True)
class Receipt:
    """The cost of one precision, compared with the stored tokens, over the sampled voxels.

    Attributes
    ----------
    precision : str
        The precision; 'another seed' fits the stored tokens with another seed, as a reference for the size of changes.
    image_bytes : int
        Bytes of one image.
    r2 : float
        Mean brain score on the test images.
    r2_change : float
        Mean change of the score; `r2_change_sd` is its standard deviation over voxels.
    depth_change : float
        Mean absolute change of the selected depth (0 is the first layer, 1 the last).
    layer_changed : float
        Share of voxels with another strongest layer.
    place_change : float
        Mean distance between the selected places (the image is 2 wide).
    """

    precision: str
    image_bytes: int
    r2: float
    r2_change: float
    r2_change_sd: float
    depth_change: float
    layer_changed: float
    place_change: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_text(self) -> dict[str, str]:
        """Return a row of text for a table."""
        return {
            "precision": self.precision,
            "kB/image": f"{self.image_bytes / 1e3:.1f}",
            "R²": f"{self.r2:.4f}",
            "R² change": f"{self.r2_change:+.5f} ± {self.r2_change_sd:.5f}",
            "depth change": f"{self.depth_change:.4f}",
            "other layer": f"{100 * self.layer_changed:.1f} %",
            "place change": f"{self.place_change:.4f}",
        }


@own_settings()
def receipt(
    cache: Cache, dataset: Dataset, choices: Sequence[str], spec: FitSpec, n_images: int, n_voxels: int
) -> list[Receipt]:
    """Fit a sample with the stored tokens, with the stored tokens and another seed, and with each precision.

    Parameters
    ----------
    cache : Cache
        A sealed cache. The precisions are compared with its own.
    dataset : Dataset
    choices : sequence of str
        Precisions as in a cache spec.
    spec : FitSpec
    n_images, n_voxels : int
        Size of the sample, which is taken at regular steps.

    Raises
    ------
    BddnError
        If a precision is unknown or cannot represent the tokens, or the cache and the dataset do not belong together.
    """
    for choice in choices:
        _check(choice)
    chosen = [dataset.stimuli.ids[i] for i in evenly(np.arange(len(dataset.stimuli)), n_images)]
    every = response_ids(dataset)
    rows = np.flatnonzero(np.isin(every, chosen))
    ids = [every[row] for row in rows]
    images = [*dict.fromkeys(ids)]  # as their tokens are kept
    voxels = evenly(np.arange(len(dataset.voxels())), n_voxels)
    responses = torch.from_numpy(dataset.responses(rows)[:, voxels])
    coords_mm = torch.from_numpy(dataset.coords_mm()[voxels])
    layers = cache.select_layers(spec.layers)
    widths = {layer.name: layer.channels for layer in layers}
    split = split_of(spec, images, cache)
    parts = Parts.of(split, ids)
    source = Streamed(cache, layers, ids).load()
    stored = source.features

    def fitted(features: Features, seed: int) -> Fitted:
        changed = spec.model_copy(update={"seed": seed})
        tokens = replace(source, features=features)
        return fit(new_encoder(coords_mm, widths, cache.grid, changed), tokens, responses.__getitem__, parts, changed)

    reference, size = fitted(stored, spec.seed), cache.layout.image_bytes()
    own = cache.layout.precision.name
    receipts = [_compare(own, size, reference, reference)]
    receipts.append(_compare(f"{own}, another seed", size, fitted(stored, spec.seed + 1), reference))
    for choice in choices:
        rounded, n_bytes = _rounded(stored, choice, images, cache.layout.shard_images)
        receipts.append(_compare(choice, round(n_bytes / len(images)), fitted(rounded, spec.seed), reference))
    return receipts


def _check(choice: str) -> None:
    try:
        precision(choice)
    except ValueError:
        raise SpecError(
            "--precision",
            expected="float16, bfloat16, float32, bitround:1 to bitround:9 or int8, separated by commas",
            got=repr(choice),
            fix="Correct the name.",
        ) from None


def _rounded(features: Features, choice: str, ids: Sequence[str], shard_images: int) -> tuple[Features, int]:
    """Return the features as a cache of another precision would give them, and their size there in bytes."""
    kept, n_bytes = precision(choice), 0

    def round_trip(values: Tensor, name: str) -> Tensor:
        nonlocal n_bytes
        parts = []
        for i in range(0, len(values), shard_images):
            filled = kept.fill(values[i : i + shard_images].float().numpy(), name, ids[i : i + shard_images])
            rows, scale = kept.finish(filled)
            n_bytes += kept.stored_bytes(rows)
            parts.append(kept.decode(rows, scale))
        return torch.cat(parts)

    local = [round_trip(v, "local") for v in features.local]
    global_ = [round_trip(v, "global") for v in features.global_]
    return Features(local, global_), n_bytes


def _compare(name: str, image_bytes: int, result: Fitted, reference: Fitted) -> Receipt:
    change = result.r2_test - reference.r2_test
    weights = [fitted.selection.layer.numpy() for fitted in (result, reference)]
    places = [fitted.selection.place.numpy() for fitted in (result, reference)]
    return Receipt(
        precision=name,
        image_bytes=image_bytes,
        r2=float(np.nanmean(result.r2_test)),
        r2_change=float(np.nanmean(change)),
        r2_change_sd=float(np.nanstd(change)),
        depth_change=float(np.abs(depth(weights[0]) - depth(weights[1])).mean()),
        layer_changed=float((weights[0].argmax(1) != weights[1].argmax(1)).mean()),
        place_change=float(np.linalg.norm(places[0] - places[1], axis=1).mean()),
    )
