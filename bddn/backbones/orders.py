"""Orders of the places of an image, other than row by row, that networks may use.

An order is a list of places, each with its number in row-major order: position i of the sequence (or of the map, read
row by row) contains the token of place `order[i]`.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def known_orders(h: int, w: int) -> Iterator[tuple[str, Tensor]]:
    """Yield names and orders, int64, of h × w places that occur in networks or by mistakes in reshaping."""
    places = torch.arange(h * w).view(h, w)
    yield from _turned(places)
    back_and_forth = places.clone()
    back_and_forth[1::2] = back_and_forth[1::2].flip(1)
    yield "row by row, every second row backwards", back_and_forth
    sides = [side for side in range(2, min(h, w) + 1) if h % side == 0 and w % side == 0 and side < max(h, w)]
    for side in sides:
        blocks = places.view(h // side, side, w // side, side)
        yield f"window by window, of {side}×{side} places", windows(places, (side,))
        yield f"one in {side} rows and columns first", blocks.permute(1, 3, 0, 2)
        for inner in [i for i in sides if i < side and side % i == 0]:
            yield (
                f"window by window, of {side}×{side} places, each in windows of {inner}×{inner}",
                windows(places, (side, inner)),
            )
    n_halvings, units = 0, places[None]
    while _can_be_halved(units):
        n_halvings, units = n_halvings + 1, _halved(units)
        if n_halvings > 1:  # one halving gives every 2nd place of rows and columns
            side = 2**n_halvings
            yield f"mask units of {side}×{side} places, as Hiera's", units


def moved(h: int, w: int, n_leading: int) -> Iterator[tuple[str, Tensor]]:
    """Yield names and orders of h × w places, where some of the `n_leading` tokens that are taken to come before them
    come after them, or one of them in their middle."""
    for n in range(1, n_leading + 1):
        those = "one of its leading tokens comes" if n == 1 else f"{n} of its leading tokens come"
        yield f"{those} last, after the places", torch.arange(h * w).roll(-n)
    if n_leading:
        first, second = torch.arange(h * w).tensor_split([h * w // 2])
        yield "one of its leading tokens comes in the middle of the places", torch.cat([first.roll(-1), second])


def windows(places: Tensor, sides: Sequence[int]) -> Tensor:
    """Return places window by window, row by row inside the innermost windows.

    Parameters
    ----------
    places : Tensor, (..., H, W)
    sides : sequence of int
        Sides of nested windows in places, outer first. At the right and bottom edge windows may be cut.

    Returns
    -------
    Tensor, (..., H × W)
    """
    if not sides:
        return places.flatten(-2)
    side, inner = sides[0], sides[1:]
    h, w = places.shape[-2:]
    if h % side or w % side:
        blocks = [block for row in places.split(side, -2) for block in row.split(side, -1)]
        return torch.cat([windows(block, inner) for block in blocks], -1)
    blocks_of = places.unflatten(-2, (h // side, side)).unflatten(-1, (w // side, side)).transpose(-3, -2)
    return windows(blocks_of, inner).flatten(-3)


def mask_units(places: Tensor, n_halvings: int) -> Tensor:
    """Return places (H, W) in the order of Hiera, (H × W,): halved repeatedly, with the four corners of each 2×2 as the
    slowest index."""
    units = places[None]
    for _ in range(n_halvings):
        units = _halved(units)
    return units.flatten()


def _turned(places: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "column by column (transposed)", places.T
    yield "upside down", places.flip(0)
    yield "mirrored left to right", places.flip(1)
    yield "turned by 180°", places.flip(0, 1)
    yield "turned by 90°", places.rot90(1)
    yield "turned by 270°", places.rot90(3)
    yield "transposed along the other diagonal", places.rot90(2).T


def _can_be_halved(units: Tensor) -> bool:
    return units.shape[1] % 2 == 0 and units.shape[2] % 2 == 0 and max(units.shape[1:]) > 2


def _halved(units: Tensor) -> Tensor:
    n, h, w = units.shape
    return units.view(n, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3).reshape(4 * n, h // 2, w // 2)
