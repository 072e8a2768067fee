"""Orders of the places of an image, other than row by row, that networks may use.

An order is a list of places, each with its number in row-major order: position i of the sequence (or of the map, read
row by row) contains the token of place `order[i]`.
"""

from collections.abc import Iterator

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
        yield f"window by window, of {side}×{side} places", blocks.permute(0, 2, 1, 3)
        yield f"every {side}th place of rows and columns first", blocks.permute(1, 3, 0, 2)
        for inner in [i for i in sides if i < side and side % i == 0]:
            nested = places.view(h // side, side // inner, inner, w // side, side // inner, inner)
            yield (
                f"window by window, of {side}×{side} places, each in windows of {inner}×{inner}",
                nested.permute(0, 3, 1, 4, 2, 5),
            )
    yield from _mask_units(places)


def _turned(places: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "column by column (transposed)", places.T
    yield "upside down", places.flip(0)
    yield "mirrored left to right", places.flip(1)
    yield "turned by 180°", places.flip(0, 1)
    yield "turned by 90°", places.rot90(1)
    yield "turned by 270°", places.rot90(3)
    yield "transposed along the other diagonal", places.rot90(2).T


def _mask_units(places: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield orders of repeated halving, with the four corners of each 2×2 as the slowest index, as in Hiera."""
    units = places[None]
    while units.shape[1] % 2 == 0 and units.shape[2] % 2 == 0 and max(units.shape[1:]) > 2:
        n, h, w = units.shape
        units = units.view(n, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3).reshape(4 * n, h // 2, w // 2)
        if n > 1:  # one halving gives every 2nd place of rows and columns
            yield (
                f"mask units of {round(units.shape[0] ** 0.5)}×{round(units.shape[0] ** 0.5)} places, as Hiera's",
                units,
            )
