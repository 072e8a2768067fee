"""Measure the order in which a network returns the places of an image.

Shapes do not show whether 196 tokens are 14 rows of 14 places. So the network gets images with one bright patch at
known places: the tokens that change most are those of the patch. In another order, features would be stored at wrong
places, and every map of places would be wrong.

Some layers cannot be measured: late layers may mix all places, so that no token changes much more than others. These
are allowed. A layer is refused only on strong evidence.

Shape letters: K patches, H rows, W columns of a layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bddn.backbones.backbone import Backbone, ShowsFullSize
from bddn.backbones.orders import known_orders, moved
from bddn.backbones.shapes import MAX_LEADING, grids
from bddn.errors import BackboneError
from bddn.spec import CacheSpec
from bddn.tokens import LayerTokens

if TYPE_CHECKING:
    from PIL.Image import Image

CELLS = 8  # a patch is one cell of 8 rows and 8 columns
PATCHES = ((0, 2), (1, 6), (2, 0), (3, 4), (5, 7), (6, 1), (7, 3))  # no two in a row or column, no symmetry
BATCH = 1 + len(PATCHES)

# Agreement is the share of pairs in which a token of the patch changes more than another token: 1 at most, 0.5 by
# chance. The values were chosen on random networks of many kinds, and on networks that mix all places. A CNN trained on
# ImageNet (EfficientNet-Lite0) has at least 0.95 in every layer at its own image size.
MIN_ROWS_AGREEMENT = 0.75  # least mean agreement with row-major order
MIN_OTHER_AGREEMENT = 0.95  # least mean agreement with another order
MIN_ADVANTAGE = 0.1  # least difference to the agreement, or correlation, with row-major order
MIN_SHARPNESS = 10.0  # least ratio of the largest changes to the mean change, for a patch with a clear place
HERE, ELSEWHERE = 0.95, 0.75  # agreement of a patch with its own place: at least, or below
MIN_ELSEWHERE = 4  # least number of patches elsewhere; at most one other patch may be at its own place
FEW_PLACES = 16  # with fewer places, one of many orders may agree by chance
ON_CHANNELS = "places on the axis that is taken for channels, as in (B, C, T)"


@dataclass(frozen=True)
class Order:
    """The measured order of one layer.

    Attributes
    ----------
    kind : {'rows', 'mixed', 'other', 'constant'}
        Row by row; unknown, because each change affects all places; another order; or tokens that do not depend on the
        image.
    name : str
        Name of another order, if it is known.
    agreement : float
        Agreement with row-major order: share of pairs in which a token of the patch changes more; 0.5 by chance.
    """

    kind: Literal["rows", "mixed", "other", "constant"]
    name: str = ""
    agreement: float = 0.0


def check_order(backbone: Backbone, spec: CacheSpec) -> None:
    """Raise a BackboneError, with the order if it is known, if local tokens of a layer are not in row-major order."""
    for layer, order in measure_orders(backbone, spec).items():
        if order.kind == "constant":
            raise BackboneError(
                f"layer '{layer}'",
                expected="local tokens that depend on the image",
                got="the same tokens for different images",
                fix="Choose another layer, or correct the module or its preprocessing.",
            )
        if order.kind == "other":
            raise BackboneError(
                f"layer '{layer}'",
                expected="local tokens in the order of the image, row by row",
                got=f"another order: {order.name or 'an unknown one'}. In images with one bright patch, tokens changed "
                "at other places than that of the patch",
                fix="Wrap the network in a small module that returns its tokens row by row, or choose other layers.",
            )


def measure_orders(backbone: Backbone, spec: CacheSpec) -> dict[str, Order]:
    """Return the order of the places of each layer, measured with 8 images.

    Parameters
    ----------
    backbone : Backbone
    spec : CacheSpec
        Its spec, for the sizes of images and batches.

    Returns
    -------
    dict of str to Order
        Orders by layer, or by module if the network runs in steps.
    """
    n = max(2, min(spec.batch_size, BATCH)) - 1
    changes: dict[str, list[Tensor]] = {}
    on_channels: dict[str, list[Tensor]] = {}
    n_leading: dict[str, int] = {}
    for start in range(0, len(PATCHES), n):
        cells = [None, *PATCHES[start : start + n]]
        pixels = torch.stack([backbone.preprocess(patch_image(spec.image_hw, cell)) for cell in cells])
        for layer, (change, of_channels, n_leading[layer]) in _changes(backbone, pixels).items():
            changes.setdefault(layer, []).append(change)
            on_channels.setdefault(layer, []).append(of_channels)
    return {
        layer: Order("other", ON_CHANNELS)
        if _are_places(torch.cat(on_channels[layer]), spec.image_hw)
        else order_of(torch.cat(parts), spec.image_hw, n_leading[layer])
        for layer, parts in changes.items()
    }


def patch_image(size: tuple[int, int], cell: tuple[int, int] | None) -> "Image":
    """Return an image of coloured noise, with a bright patch in one `cell` (row, column) of 8 × 8, or without patch.

    Parameters
    ----------
    size : (int, int)
        Height and width.
    """
    from PIL import Image

    height, width = size
    noise = np.random.default_rng(0)
    coarse = Image.fromarray(noise.integers(60, 196, (CELLS, CELLS, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) + noise.normal(0, 12, (*size, 3))
    if cell is not None:
        pixels[_span(cell[0], height), _span(cell[1], width)] = 245 + noise.normal(0, 4, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def order_of(changes: Tensor, image_hw: tuple[int, int], n_leading: int = 0) -> Order:
    """Return the order of the places of a layer.

    Parameters
    ----------
    changes : Tensor, (K, H, W)
        Change of the token at each place for each patch.
    image_hw : (int, int)
        Height and width of the images.
    n_leading : int
        Number of tokens, such as a CLS token, that are taken to come before the places.
    """
    h, w = changes.shape[1:]
    if not changes.isfinite().all() or h * w < 2:
        return Order("mixed")
    if not changes.any():
        return Order("constant")
    shares = _shares(image_hw, (h, w))
    covered = _covered(shares)
    excess = _excess(changes.flatten(1).double())
    ranks = excess.argsort(1).argsort(1).double()
    agreements = _agreements(ranks, covered)
    agreement = float(agreements.mean())
    shifts = list(moved(h, w, n_leading))
    orders = [*known_orders(h, w), *shifts]
    best, name = max((float(_agreements(ranks, covered[:, order.reshape(-1)]).mean()), name) for name, order in orders)
    is_elsewhere = _is_elsewhere(agreements, _sharpness(excess, covered), excess.argmax(1))
    if best >= MIN_OTHER_AGREEMENT and best - agreement >= MIN_ADVANTAGE and (is_elsewhere or h * w >= FEW_PLACES):
        return Order("other", name, agreement)
    for name, order in shifts:
        if _agreements(ranks, covered[:, order]).mean() >= MIN_OTHER_AGREEMENT and _is_better(excess, shares, order):
            return Order("other", name, agreement)
    if is_elsewhere:
        return Order("other", "", agreement)
    return Order("rows" if agreement >= MIN_ROWS_AGREEMENT else "mixed", "", agreement)


def summary(orders: dict[str, Order]) -> list[str]:
    """Return the orders as text, one line for each kind of layer."""
    words = {
        "rows": "row by row",
        "mixed": "unknown, because each place changes with the whole image",
        "constant": "none: the tokens do not depend on the image",
    }
    groups: dict[str, list[str]] = {}
    for layer, order in orders.items():
        text = words.get(order.kind) or f"NOT row by row, but {order.name or 'in an unknown order'}"
        groups.setdefault(text, []).append(layer)
    return [f"{text}: {_listed(layers)}" for text, layers in groups.items()]


def _changes(backbone: Backbone, pixels: Tensor) -> dict[str, tuple[Tensor, Tensor, int]]:
    """Return changes (K, H, W) and those of channels (K, C) for each layer, and its number of tokens without a place;
    the first image of `pixels` has no patch."""

    def change(tokens: LayerTokens) -> tuple[Tensor, Tensor, int]:
        local, register = tokens.local_.float(), tokens.register
        n_leading = int(tokens.global_ is not None) + (0 if register is None else register.shape[1])
        difference = (local[1:] - local[:1]).abs()
        return difference.mean(1).cpu(), difference.mean((2, 3)).cpu(), n_leading

    if isinstance(backbone, ShowsFullSize):
        return backbone.each_layer(pixels, change)
    return {layer: change(tokens) for layer, tokens in backbone(pixels).items()}


def _are_places(changes: Tensor, image_hw: tuple[int, int]) -> bool:
    """Return whether the channels of a layer, whose changes are (K, C), are its places row by row, maybe after some
    leading tokens."""
    if not changes.isfinite().all():
        return False
    for (_, n), places in grids(changes.shape[1], [(0, n) for n in range(MAX_LEADING + 1)], image_hw):
        ranks = _excess(changes[:, n:].double()).argsort(1).argsort(1).double()
        agreements = _agreements(ranks, _covered(_shares(image_hw, places)))
        if len(ranks[0]) >= FEW_PLACES and agreements.mean() >= MIN_OTHER_AGREEMENT:
            return True
    return False


def _excess(changes: Tensor) -> Tensor:
    """Return the excess change (K, H × W): the change of each token with each patch, minus its usual change.

    The usual change of tokens and of patches is subtracted; tokens that change with every patch count less.
    """
    usual = changes.median(0).values
    excess = changes - usual
    excess = excess - excess.median(1, keepdim=True).values
    return excess / (usual + 0.1 * changes.max(1).values.mean())


def _shares(image_hw: tuple[int, int], places: tuple[int, int]) -> Tensor:
    """Return the share of each place that a patch covers, (K, H × W)."""
    shown = torch.zeros(len(PATCHES), 1, *image_hw)
    for i, (row, column) in enumerate(PATCHES):
        shown[i, :, _span(row, image_hw[0]), _span(column, image_hw[1])] = 1
    return F.adaptive_avg_pool2d(shown, places).flatten(1)


def _covered(shares: Tensor) -> Tensor:
    """Return the places that a patch covers, or covers most, (K, H × W) bool."""
    return shares >= shares.max(1, keepdim=True).values / 2


def _is_better(excess: Tensor, shares: Tensor, order: Tensor) -> bool:
    """Return whether an order correlates better with the changes than row-major order, for all patches but one.

    Orders that move places by one or two agree almost as row-major order does, if a patch covers several places. So the
    exact shares are compared here, of the patches whose places the order moves.
    """
    better = _correlations(excess, shares[:, order]) - _correlations(excess, shares)
    better = better[(shares[:, order] != shares).any(1)]
    return len(better) >= MIN_ELSEWHERE and float(better.mean()) >= MIN_ADVANTAGE and int((better <= 0).sum()) <= 1


def _correlations(a: Tensor, b: Tensor) -> Tensor:
    """Return the correlation of each row of two matrices, (K,)."""
    a, b = (F.normalize((one - one.mean(1, keepdim=True)).double(), dim=1) for one in (a, b))
    return (a * b).sum(1)


def _agreements(ranks: Tensor, covered: Tensor) -> Tensor:
    """Return the share of pairs in which a covered token changes more than another (area under the ROC curve), (K,)."""
    n = covered.sum(1)
    above = (ranks * covered).sum(1) - n * (n - 1) / 2
    return above / (n * (covered.shape[1] - n)).clamp_min(1)


def _sharpness(excess: Tensor, covered: Tensor) -> Tensor:
    """Return the mean of the largest changes (as many as a patch has tokens) divided by the mean of all, (K,)."""
    n = covered.sum(1)
    largest = excess.sort(1, descending=True).values.clamp_min(0)
    top = (largest * (torch.arange(excess.shape[1])[None] < n[:, None])).sum(1) / n
    return top / excess.abs().mean(1).clamp_min(1e-30)


def _is_elsewhere(agreements: Tensor, sharpness: Tensor, tops: Tensor) -> bool:
    """Return whether most patches change tokens at a place that is not their own, each at a different place."""
    sharp = sharpness >= MIN_SHARPNESS
    here = sharp & (agreements >= HERE)
    elsewhere = sharp & (agreements < ELSEWHERE)
    return int(here.sum()) <= 1 and len(tops[elsewhere].unique()) >= MIN_ELSEWHERE


def _span(cell: int, size: int) -> slice:
    start = min(round(cell * size / CELLS), size - 1)
    return slice(start, max(start + 1, round((cell + 1) * size / CELLS)))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} … {names[-1]} ({len(names)})"
