"""A sample of images and places of a cache, for statistics that need few of them.

Shape letters: n images, P places, C channels of a layer, L layers.
"""

import numpy as np
import numpy.typing as npt

from bddn.stream.loader import Source
from bddn.stream.order import Rows, pools_in_order

PLACES = 4  # of the grid
GOLDEN = 0.618  # its multiples spread over an interval

Tokens = npt.NDArray[np.float32]


def whole_chunks(rows: Rows, chunk_of: Rows, n: int) -> Rows:
    """Return about `n` of some rows: whole chunks, evenly spread over the store, so that little else is read.

    Parameters
    ----------
    rows : array of int, (m,)
    chunk_of : array of int, (n_images,)
        The chunk of the store that contains each row.
    n : int
    """
    chunks = np.unique(chunk_of[rows])
    n_chunks = min(len(chunks), -(-n * len(chunks) // len(rows)))
    chosen = chunks[np.linspace(0, len(chunks) - 1, n_chunks).round().astype(np.intp)]
    return rows[np.isin(chunk_of[rows], chosen)]


def tokens_at_places(source: Source, rows: Rows, grid: tuple[int, int]) -> tuple[list[Tokens], list[Tokens]]:
    """Read the tokens of some images at a few places that are spread over the grid.

    Parameters
    ----------
    source : Source
        Tokens by row.
    rows : array of int, (n,)
    grid : (int, int)
        Rows and columns of the local tokens.

    Returns
    -------
    local, global_ : list of array of float32
        L × (n, P, C) and L × (n, C). The images are in the order of the store.
    """
    at = np.arange(PLACES) + 0.5
    row, column = (at / PLACES * grid[0]).astype(np.intp), (at * GOLDEN % 1 * grid[1]).astype(np.intp)
    cells = np.unique(row * grid[1] + column)
    local: list[list[Tokens]] = []
    global_: list[list[Tokens]] = []
    for tokens, images in source.pools(pools_in_order(rows, source.chunk_of)):
        local.append([values[images][:, cells].float().cpu().numpy() for values in tokens.local])
        global_.append([values[images].float().cpu().numpy() for values in tokens.global_])
    return [np.concatenate(of) for of in zip(*local, strict=True)], [
        np.concatenate(of) for of in zip(*global_, strict=True)
    ]
