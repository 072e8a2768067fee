"""A second opinion on depth, place and scale, without gradients: which layer and window predict a voxel best.

Ridge regressions predict every voxel of a sample from each layer's windows and global token, one at a time. Their R² is
averaged over neighbouring voxels, and the best ones, weighted, are the answer.

Shape letters: n images, V sampled voxels, N voxels, L layers, S sets (windows, then the global token), F folds.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bddn.baselines.ridge import RidgeScores, ridge_scores
from bddn.baselines.windows import N_CHANNELS, Windows, window_features
from bddn.machine.parallel import each, single_threaded_kernels
from bddn.stream.loader import Source
from bddn.stream.order import Rows, distinct, evenly

Floats = npt.NDArray[np.float64]

N_VOXELS = 2000
N_FOLDS = 4
SMOOTHING_MM = 6.0
"""Standard deviation of the average over neighbours."""
LAYER_SOFTNESS, WINDOW_SOFTNESS = 0.02, 0.04
"""A layer, or window, whose R² is lower than the best one by this share of it has 1/e of its weight."""
MIN_R2 = 0.02
"""A voxel that brute force predicts less well is not judged."""
FEATURE_BYTES = 600 << 20
"""Memory for the features of all images, 2 bytes per number; of more images, a part is used."""


@dataclass(frozen=True)
class Answer:
    """What brute force selects for each voxel.

    Attributes
    ----------
    layer : array, (V, L)
        Weights of the layers; rows sum to 1.
    window : array, (V, S - 1)
        Weights of the windows; rows sum to 1.
    depth, x, y, scale : array, (V,)
        In the units of a run: depth from 0, the first layer, to 1; place from -1 to 1, y downwards; scale from 0,
        local, to 1, global.
    """

    layer: Floats
    window: Floats
    depth: Floats
    x: Floats
    y: Floats
    scale: Floats

    @classmethod
    def of(cls, r2: Floats, centres: Floats) -> "Answer":
        """Read it off the R² (L, S, V) of all layers and sets; `centres` are those of the windows (S - 1, 2)."""
        local, global_ = r2[:, :-1], r2[:, -1]
        best_local, best_global = local.max((0, 1)), global_.max(0)
        best = np.maximum(best_local, best_global)
        unit = np.maximum(best, MIN_R2)
        soft = LAYER_SOFTNESS * unit
        layer = np.exp((local - best) / soft).mean(1) + np.exp((global_ - best) / soft)
        layer = (layer / layer.sum(0)).T
        window = np.exp((local - best_local) / (WINDOW_SOFTNESS * unit)).sum(0)
        window = (window / window.sum(0)).T
        near, far = (np.square(np.maximum(one, MIN_R2 / 10)) for one in (best_local, best_global))
        x, y = np.einsum("vs,sk->kv", window, centres)
        depth = np.einsum("vl,l->v", layer, np.linspace(0, 1, layer.shape[1]))
        return cls(layer, window, depth, x, y, far / (near + far))


@dataclass(frozen=True)
class SecondOpinion:
    """What brute force says about a sample of voxels.

    Attributes
    ----------
    voxels : array of int, (V,)
        Their rows among all voxels.
    answer : Answer
    halves : tuple of two Answer
        From two halves of the held-out images: how far brute force agrees with itself.
    r2, r2_test : array, (V,)
        R² of the layer and set that is best for a voxel and its neighbours: cross-validated, and on the test images.
    test : array, (L, S, V)
        R² of all on the test images, which have no part in the answer.
    windows : Windows
    n_images : int
        Number of images in all folds.
    """

    voxels: Rows
    answer: Answer
    halves: tuple[Answer, Answer]
    r2: Floats
    r2_test: Floats
    test: Floats
    windows: Windows
    n_images: int


def second_opinion(
    source: Source,
    responses: npt.NDArray[np.float32],
    coords_mm: npt.NDArray[np.float32],
    voxels: Rows,
    train: Rows,
    test: Rows,
    grid: tuple[int, int],
    n_layers: int,
    image_of: Rows | None = None,
) -> SecondOpinion:
    """Ask brute force about some voxels.

    Parameters
    ----------
    source : Source
        Tokens of all images.
    responses : array of float32, (n, V)
        Of the sampled voxels to all images, by row of the source.
    coords_mm : array of float32, (V, 3)
        Their positions.
    voxels : array of int, (V,)
        Their rows among all voxels, which are only returned.
    train, test : array of int
        Rows of the images that may decide, and of those that only judge.
    grid : (H, W)
    n_layers : int
    image_of : array of int, (n,), optional
        The image of every row, if images have several rows, which are then in one fold.
    """
    windows = Windows.of(grid)
    n_most = max(N_FOLDS * N_CHANNELS, FEATURE_BYTES // (2 * N_CHANNELS * n_layers * (len(windows.centres) + 1)))
    train, test = np.sort(train), np.sort(test)
    if len(train) + len(test) > n_most:
        share = n_most / (len(train) + len(test))
        train, test = (evenly(rows, max(2, int(share * len(rows)))) for rows in (train, test))
    fold = (np.arange(len(train)) if image_of is None else distinct(image_of[train])[1]) % N_FOLDS
    parts = [*(train[fold == f] for f in range(N_FOLDS)), test]
    ends = np.cumsum([len(part) for part in parts])
    cuts = [slice(end - len(part), end) for part, end in zip(parts, ends, strict=True)]
    rows = np.concatenate(parts)
    in_folds = responses[rows[: ends[-2]]]
    mean, deviation = (moment(in_folds, axis=0, dtype=np.float64) for moment in (np.mean, np.std))
    y = torch.from_numpy(((responses[rows] - mean) / np.where(deviation > 0, deviation, 1)).astype(np.float32))
    with single_threaded_kernels():
        features = window_features(source, rows, train, windows, n_layers)
        source.release()

        def of_layer(layer: int) -> RidgeScores:
            *folds, last = ((features[layer][cut].float(), y[cut]) for cut in cuts)
            return ridge_scores(folds, last)

        scores = each(of_layer, range(n_layers))
        by_fold = torch.stack([one.folds for one in scores], dim=1)
        smooth = (by_fold @ _neighbours(torch.from_numpy(coords_mm))).double().numpy()
    folds, test_r2 = by_fold.numpy(), torch.stack([one.test for one in scores]).double().numpy()
    whole, centres = smooth.mean(0), windows.centres.double().numpy()
    best = whole.reshape(-1, len(voxels)).argmax(0), np.arange(len(voxels))
    return SecondOpinion(
        voxels,
        Answer.of(whole, centres),
        (Answer.of(smooth[::2].mean(0), centres), Answer.of(smooth[1::2].mean(0), centres)),
        folds.mean(0, dtype=np.float64).reshape(-1, len(voxels))[best],
        test_r2.reshape(-1, len(voxels))[best],
        test_r2,
        windows,
        len(train),
    )


def spread_out(coords_mm: npt.NDArray[np.float32], n: int) -> Rows:
    """Return the rows (at most n,) of voxels that are spread evenly: each next one is the farthest from all before.
    Of several voxels at one place, only one is chosen if there are more than n voxels.

    Parameters
    ----------
    coords_mm : array of float32, (N, 3)
    n : int
    """
    if len(coords_mm) <= n:
        return np.arange(len(coords_mm))
    chosen = np.empty(n, np.intp)
    distance = np.full(len(coords_mm), np.inf, np.float32)
    at = 0
    for i in range(n):
        chosen[i] = at
        distance = np.minimum(distance, np.square(coords_mm - coords_mm[at]).sum(1))
        at = int(distance.argmax())
        if distance[at] == 0:
            return np.sort(chosen[: i + 1])
    return np.sort(chosen)


def _neighbours(coords_mm: Tensor) -> Tensor:
    """Return the weights (V, V) of the average over neighbours, float32; columns sum to 1."""
    at = coords_mm.double()
    weights = torch.exp(
        -torch.cdist(at, at, compute_mode="donot_use_mm_for_euclid_dist").square() / (2 * SMOOTHING_MM**2)
    )
    return (weights / weights.sum(0)).float()
