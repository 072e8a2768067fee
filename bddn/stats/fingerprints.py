"""Fingerprints of images that find copies: small grey thumbnails, perceptual hashes, and the best alignment of two.

A copy that was encoded again, scaled or cropped by some percent has nearly the same thumbnail, and its hash differs in
few bits. So do some different images. `aligned_correlation` decides: it shifts and stretches one thumbnail until it
fits the other best, and correlates their details. Coarse structure, such as a bright sky, is alike in many photographs;
details are not.

Shape letters: n images, K pairs, S side of a thumbnail.
"""

import numpy as np
import numpy.typing as npt

Thumbnails = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

SIDE = 64
HASH_SIDE, HASH_BITS = 32, 64
COARSE_SIDE = 16
REACH = 0.12  # largest shift and stretch, in halves of the image: a crop by some 10 %
SIDES = (32, 64)  # of the thumbnails that are aligned, first small ones
SMOOTH = 1.0  # pixels; finer structure depends on the encoding
COARSE = 1 / 16  # of the side; smoother structure is no detail
N_STEPS = (8, 3)  # for each side
HOPELESS = 0.4  # correlation of small thumbnails; below it, they are not aligned further
FAINT = 0.35  # grey levels; fainter details are noise
BLOCK = 256  # pairs that are aligned together


def perceptual_hash(thumbnails: Thumbnails) -> npt.NDArray[np.uint64]:
    """Return the DCT hash (n,) of grey thumbnails (n, S, S): whether each of the 8 × 8 lowest frequencies, without the
    constant ones, is above their median.

    Source: C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, chapter 3.2.1.
    """
    from scipy.fft import dct

    waves = dct(np.eye(HASH_SIDE), axis=0, norm="ortho")[1:9]
    found = np.empty(len(thumbnails), np.uint64)
    for at in range(0, len(thumbnails), BLOCK):
        flat = (waves @ shrunk(thumbnails[at : at + BLOCK], HASH_SIDE) @ waves.T).reshape(-1, HASH_BITS)
        bits = np.packbits(flat > np.median(flat, axis=1, keepdims=True), axis=1)
        found[at : at + BLOCK] = np.ascontiguousarray(bits).view(np.uint64)[:, 0]
    return found


def coarse_vectors(thumbnails: Thumbnails) -> Floats:
    """Return thumbnails as vectors (n, 256) with mean 0 and length 1, whose products are correlations."""
    small = shrunk(thumbnails, COARSE_SIDE).reshape(len(thumbnails), -1)
    small = small - small.mean(1, keepdims=True)
    length = np.linalg.norm(small, axis=1, keepdims=True)
    return np.asarray(small / np.where(length > 0, length, 1), np.float32)


def shrunk(thumbnails: Thumbnails, side: int) -> Floats:
    """Return thumbnails as means of squares, (n, side, side) float32."""
    n, step = len(thumbnails), thumbnails.shape[1] // side
    return np.asarray(thumbnails.reshape(n, side, step, side, step).mean((2, 4), dtype=np.float32))


def aligned_correlation(first: Thumbnails, second: Thumbnails) -> npt.NDArray[np.float64]:
    """Return the correlation (K,) of the details of two images (K, S, S) after the best small shift and stretch of the
    second; 0 if one has no details.

    Least squares for shift, stretch, contrast and brightness, linearized around the last estimate (Lucas & Kanade,
    IJCAI 1981), first for small thumbnails, then for those that fit.
    """
    found = [_aligned(first[at : at + BLOCK], second[at : at + BLOCK]) for at in range(0, len(first), BLOCK)]
    return np.concatenate([*found, np.empty(0)])


def _aligned(first: Thumbnails, second: Thumbnails) -> npt.NDArray[np.float64]:
    correlation, left = np.zeros(len(first)), np.arange(len(first))
    shift, stretch = np.zeros((2, len(first)), np.float32), np.ones((2, len(first)), np.float32)
    for side, n_steps in zip(SIDES, N_STEPS, strict=True):
        a, b = (_details(shrunk(images[left], side)) for images in (first, second))
        across, down = np.gradient(b, 2 / side, axis=2), np.gradient(b, 2 / side, axis=1)
        for _ in range(n_steps):
            moved = _Moved(shift, stretch, side)
            w, gx, gy = (moved(image) for image in (b, across, down))
            at = _places(side)
            columns = np.stack([w, np.ones_like(w), gx, gx * at, gy, gy * at[:, None]], axis=-1)
            columns = (columns * moved.inside[..., None]).reshape(len(a), -1, 6)
            normal = columns.transpose(0, 2, 1) @ columns
            normal += 1e-4 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(6, dtype=np.float32) + 1e-6
            solved = np.linalg.solve(normal, columns.transpose(0, 2, 1) @ a.reshape(len(a), -1, 1))[..., 0]
            gain = np.where(np.abs(solved[:, 0]) > 0.1, solved[:, 0], np.inf)
            step = np.clip(solved[:, 2:] / gain[:, None], -REACH / 2, REACH / 2).T
            shift = np.clip(shift + step[[0, 2]], -REACH, REACH)
            stretch = np.clip(stretch + step[[1, 3]], 1 - REACH, 1 + REACH)
        moved = _Moved(shift, stretch, side)
        correlation[left] = _correlation(a, moved(b), moved.inside * _inner(side))
        fits = correlation[left] >= HOPELESS
        left, shift, stretch = left[fits], shift[:, fits], stretch[:, fits]
        if not len(left):
            break
    return correlation


def _places(side: int) -> Floats:
    """Return the places (S,) of pixels, from -1 to 1."""
    return np.asarray((2 * np.arange(side) + 1) / side - 1, np.float32)


def _inner(side: int) -> Floats:
    """Return 1 for pixels (S, S) away from the edges, where smoothing makes details of what is only a slope; else 0."""
    edge = round(2 * COARSE * side)
    inner = np.zeros((side, side), np.float32)
    inner[edge:-edge, edge:-edge] = 1
    return inner


class _Moved:
    """Images that are read at shifted and stretched places: shift and stretch (2, K) of x and y, in half images.

    `inside` (K, S, S) is 1 where a place is inside the image.
    """

    def __init__(self, shift: Floats, stretch: Floats, side: int) -> None:
        places = shift[..., None] + stretch[..., None] * _places(side)  # (2, K, S)
        self._x, self._y = (_interpolation(at) for at in places)
        within = (np.abs(places) <= 1).astype(np.float32)
        self.inside = within[1][:, :, None] * within[0][:, None, :]

    def __call__(self, images: Floats) -> Floats:
        return np.asarray(self._y @ images @ self._x.transpose(0, 2, 1))


def _interpolation(places: Floats) -> Floats:
    """Return matrices (K, S, S) that interpolate linearly between pixels; beyond the edge they repeat it."""
    side = places.shape[1]
    at = np.clip((places + 1) * (side / 2) - 0.5, 0, side - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(at[..., None] - np.arange(side, dtype=np.float32))))


def _details(images: Floats) -> Floats:
    from scipy.ndimage import gaussian_filter

    sigmas = SMOOTH, COARSE * images.shape[1]
    fine, coarse = (gaussian_filter(images, (0, sigma, sigma), mode="nearest") for sigma in sigmas)
    return np.asarray(fine - coarse)


def _correlation(a: Floats, b: Floats, inside: Floats) -> npt.NDArray[np.float64]:
    n = inside.sum((1, 2), dtype=np.float64)

    def mean(values: Floats) -> npt.NDArray[np.float64]:
        return np.asarray((values * inside).sum((1, 2), dtype=np.float64) / n)

    a, b = ((one - mean(one)[:, None, None].astype(np.float32)) for one in (a, b))
    variances = mean(a * a), mean(b * b)
    faint = np.minimum(*variances) < FAINT**2
    return np.where(faint, 0.0, mean(a * b) / np.sqrt(np.where(faint, 1, variances[0] * variances[1])))
