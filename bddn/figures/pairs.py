"""A contact sheet of pairs of images that are the same, or nearly so."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from bddn.figures.panels import INK, WIDTH_IN, axes_at, write_at
from bddn.figures.single import save
from bddn.maps.style import own_style
from bddn.text import cut

PAIRS_PER_ROW, MAX_PAIRS = 3, 12
IMAGE_IN, GAP_IN, TOP_IN, TEXT_IN = 1.45, 0.05, 0.75, 0.62
MAX_NAME_CHARS = 22
SIDE_PX = 256  # of an image that is drawn


@own_style()
def draw_pairs(
    pairs: Sequence[dict[Any, Any]], image: Callable[[str], npt.NDArray[np.uint8]], stem: Path, sentence: str
) -> list[Path]:
    """Draw the first twelve pairs, each image under its part and its id.

    Parameters
    ----------
    pairs : sequence of dict
        Rows of the table of `bddn audit`.
    image : callable
        From a stimulus id to its RGB image (256, 256, 3) uint8.
    stem : Path
        File without suffix.
    sentence : str

    Returns
    -------
    list of Path
        The PNG file.
    """
    shown = pairs[:MAX_PAIRS]
    n_rows = -(-len(shown) // PAIRS_PER_ROW)
    tall = TOP_IN + n_rows * (IMAGE_IN + TEXT_IN)
    figure = Figure(figsize=(WIDTH_IN, tall), facecolor="white")
    write_at(figure, 0.3, -0.15, "Images that occur twice", ha="left", size=13, weight="bold")
    more = f" The first {len(shown)} are shown." if len(pairs) > len(shown) else ""
    write_at(figure, 0.3, -0.45, f"{sentence}{more}", ha="left", size=7.5)
    wide = (WIDTH_IN - 0.6) / PAIRS_PER_ROW
    for k, pair in enumerate(shown):
        row, column = divmod(k, PAIRS_PER_ROW)
        left, top = 0.3 + column * wide, TOP_IN + row * (IMAGE_IN + TEXT_IN)
        write_at(figure, left, -top, _words(pair), ha="left", size=7.5, weight="bold")
        for side, x in (("first", left), ("second", left + IMAGE_IN + GAP_IN)):
            ax = axes_at(figure, x, tall - top - 0.17 - IMAGE_IN, IMAGE_IN, IMAGE_IN)
            ax.imshow(image(pair[side]), aspect="auto", interpolation="antialiased")
            ax.set_axis_off()
            under = f"{pair[f'{side}_part']} {cut(pair[side], MAX_NAME_CHARS)}".strip()
            write_at(figure, x, -(top + 0.2 + IMAGE_IN), under, ha="left", size=6.5, color=INK)
    return save(figure, stem, ("png",), 150)


def _words(pair: dict[Any, Any]) -> str:
    correlation = pair["correlation"]
    return pair["kind"] if math.isnan(correlation) else f"{pair['kind']}, correlation {correlation:.3f}"
