"""In which order a network gives the places of an image, measured.

Shapes do not tell whether 196 tokens are 14 rows of 14 places. So the network sees pictures in which one patch is
bright, at places that are known: the tokens that change most are those of the patch. Where they lie elsewhere, features
would be stored at wrong places, and every map of places would be wrong.

Some layers cannot be measured: late ones may mix all places, so that no token changes much more than the others. They
are allowed. A layer is refused only on strong evidence.

Shape letters: K patches, H rows, W columns of a layer.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bddn.backbones.backbone import Backbone, ShowsFullSize
from bddn.backbones.orders import known_orders
from bddn.errors import BackboneError
from bddn.spec import CacheSpec
from bddn.tokens import LayerTokens

if TYPE_CHECKING:
    from PIL.Image import Image

CELLS = 8  # a patch is a cell of so many rows and columns
PATCHES = ((0, 2), (1, 6), (2, 0), (3, 4), (5, 7), (6, 1), (7, 3))  # no two in a row or column, no symmetry
BATCH = 1 + len(PATCHES)

# Agreement is how often a token of the patch changes more than another one: 1 where it always does, 0.5 by chance.
# These values were chosen after measuring random networks of many kinds and ones made to mix all places. A CNN trained
# on ImageNet (EfficientNet-Lite0) has 0.95 and more in every layer at its own image size.
FOUND = 0.75  # mean agreement with row-major order, from which it is that order
NAMED = 0.95  # mean agreement with another order, from which it is that order
BETTER = 0.1  # by which it must be better than that with row-major order
SHARP = 10.0  # how many times more the tokens that change most do so than all, from which a patch is at some place
HERE, ELSEWHERE = 0.95, 0.75  # agreement of such a patch with its own place, from which it is there or below which not
MOST = 4  # patches that must be elsewhere, while at most one of the others is where it belongs
FEW_PLACES = 16  # with less, one of many orders may agree by chance


@dataclass(frozen=True)
class Order:
    """What was measured of one layer.

    Attributes
    ----------
    kind : {'rows', 'mixed', 'other', 'constant'}
        Row by row; not to be told, since a change anywhere changes all places; another order; or tokens that do not
        depend on the image.
    name : str
        Of another order, if it is a known one.
    agreement : float
        With row-major order: how often a token of the patch changes more than another token; 0.5 by chance.
    """

    kind: Literal["rows", "mixed", "other", "constant"]
    name: str = ""
    agreement: float = 0.0


def check_order(backbone: Backbone, spec: CacheSpec) -> None:
    """Refuse a network of which a layer's local tokens are not in row-major order.

    Raises
    ------
    BackboneError
        Naming the layer and, where it is known, the order.
    """
    for layer, order in measure_orders(backbone, spec).items():
        if order.kind == "constant":
            raise BackboneError(
                f"layer '{layer}'",
                expected="local tokens that depend on the image",
                got="the same ones for pictures that differ",
                fix="Choose another layer, or correct the module or its preprocessing.",
            )
        if order.kind == "other":
            raise BackboneError(
                f"layer '{layer}'",
                expected="local tokens row by row, as the places of the image",
                got=f"another order: {order.name or 'none that is known'}. Pictures with one bright patch changed "
                "tokens at other places than that of the patch",
                fix="Put the network into a small module that returns its tokens row by row, or choose other layers.",
            )


def measure_orders(backbone: Backbone, spec: CacheSpec) -> dict[str, Order]:
    """The order of the places of each layer, from 8 pictures.

    Parameters
    ----------
    backbone : Backbone
    spec : CacheSpec
        Of the backbone, for the size of its images and of a batch.

    Returns
    -------
    dict of str to Order
        By layer; for a network that runs in steps, by module.
    """
    n = max(2, min(spec.batch_size, BATCH)) - 1
    changes: dict[str, list[Tensor]] = {}
    for start in range(0, len(PATCHES), n):
        cells = [None, *PATCHES[start : start + n]]
        pixels = torch.stack([backbone.preprocess(picture(spec.image_hw, cell)) for cell in cells])
        for layer, change in _changes(backbone, pixels).items():
            changes.setdefault(layer, []).append(change)
    return {layer: order_of(torch.cat(parts), spec.image_hw) for layer, parts in changes.items()}


def picture(size: tuple[int, int], cell: tuple[int, int] | None) -> "Image":
    """A picture of coloured noise, with a bright patch in one cell (row, column) of 8 × 8.

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


def order_of(changes: Tensor, image_hw: tuple[int, int]) -> Order:
    """The order of the places of a layer.

    Parameters
    ----------
    changes : Tensor, (K, H, W)
        How much the token at each place changes with each patch.
    image_hw : (int, int)
        Height and width of the images.
    """
    h, w = changes.shape[1:]
    if not changes.isfinite().all() or h * w < 2:
        return Order("mixed")
    if not changes.any():
        return Order("constant")
    lit = _lit(image_hw, (h, w))
    excess = _excess(changes.flatten(1).double())
    ranks = excess.argsort(1).argsort(1).double()
    agreements = _agreements(ranks, lit)
    agreement = float(agreements.mean())
    others = [(float(_agreements(ranks, lit[:, order.reshape(-1)]).mean()), name) for name, order in known_orders(h, w)]
    best, name = max(others)
    is_elsewhere = _is_elsewhere(agreements, _sharpness(excess, lit), excess.argmax(1))
    if best >= NAMED and best - agreement >= BETTER and (is_elsewhere or h * w >= FEW_PLACES):
        return Order("other", name, agreement)
    if is_elsewhere:
        return Order("other", "", agreement)
    return Order("rows" if agreement >= FOUND else "mixed", "", agreement)


def summary(orders: dict[str, Order]) -> list[str]:
    """The orders in words, one line for each kind of layer."""
    words = {
        "rows": "row by row",
        "mixed": "not to be told, since each place changes with all of the image",
        "constant": "none: the tokens do not depend on the image",
    }
    groups: dict[str, list[str]] = {}
    for layer, order in orders.items():
        text = words.get(order.kind) or f"NOT row by row, but {order.name or 'in no order that is known'}"
        groups.setdefault(text, []).append(layer)
    return [f"{text}: {_listed(layers)}" for text, layers in groups.items()]


def _changes(backbone: Backbone, pixels: Tensor) -> dict[str, Tensor]:
    """(K, H, W) for each layer, from pixels of which the first are without a patch."""

    def change(tokens: LayerTokens) -> Tensor:
        local = tokens.local_.float()
        return (local[1:] - local[:1]).abs().mean(1).cpu()

    if isinstance(backbone, ShowsFullSize):
        return backbone.each_layer(pixels, change)
    return {layer: change(tokens) for layer, tokens in backbone(pixels).items()}


def _excess(changes: Tensor) -> Tensor:
    """(K, H × W): by how much more a token changes with a patch than it usually does.

    Some tokens change with everything, and some patches change all tokens: what is usual is taken off, and counts the
    less the more a token changes anyway.
    """
    usual = changes.median(0).values
    excess = changes - usual
    excess = excess - excess.median(1, keepdim=True).values
    return excess / (usual + 0.1 * changes.max(1).values.mean())


def _lit(image_hw: tuple[int, int], places: tuple[int, int]) -> Tensor:
    """(K, H × W) bool: the places that a patch covers, or covers most."""
    shown = torch.zeros(len(PATCHES), 1, *image_hw)
    for i, (row, column) in enumerate(PATCHES):
        shown[i, :, _span(row, image_hw[0]), _span(column, image_hw[1])] = 1
    covered = F.adaptive_avg_pool2d(shown, places).flatten(1)
    return covered >= covered.max(1, keepdim=True).values / 2


def _agreements(ranks: Tensor, lit: Tensor) -> Tensor:
    """(K,): how often a token of lit places changes more than one of the other places (area under the ROC curve)."""
    n = lit.sum(1)
    above = (ranks * lit).sum(1) - n * (n - 1) / 2
    return above / (n * (lit.shape[1] - n)).clamp_min(1)


def _sharpness(excess: Tensor, lit: Tensor) -> Tensor:
    """(K,): the mean of the largest changes, of as many tokens as a patch has, relative to the mean of all."""
    n = lit.sum(1)
    largest = excess.sort(1, descending=True).values.clamp_min(0)
    top = (largest * (torch.arange(excess.shape[1])[None] < n[:, None])).sum(1) / n
    return top / excess.abs().mean(1).clamp_min(1e-30)


def _is_elsewhere(agreements: Tensor, sharpness: Tensor, tops: Tensor) -> bool:
    """Whether most patches change tokens at a place that is not their own, each of them at another one."""
    sharp = sharpness >= SHARP
    here = sharp & (agreements >= HERE)
    elsewhere = sharp & (agreements < ELSEWHERE)
    return int(here.sum()) <= 1 and len(tops[elsewhere].unique()) >= MOST


def _span(cell: int, size: int) -> slice:
    start = min(round(cell * size / CELLS), size - 1)
    return slice(start, max(start + 1, round((cell + 1) * size / CELLS)))


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} … {names[-1]} ({len(names)})"
