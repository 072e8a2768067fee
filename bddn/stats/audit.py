"""Audit of layers before a fit: whether two carry the same information, and whether their tokens differ in size.

Shape letters: n images, P places, C channels of a layer, L layers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bddn.machine.shared_setting import single_threaded_products

Floats = npt.NDArray[np.floating]
Matrix = npt.NDArray[np.float64]

ALIKE = 0.999  # at 0.992 to 0.997 between neighbours, fits of a planted brain still found depth with r 0.98
MANY_FOLD = 10.0  # ratio of norms that is reported
LEAST_IMAGES = 8  # for a similarity
LARGE_NOISE = 0.2  # share of the variance of the responses that one component's noise has, above which it is told


@dataclass(frozen=True)
class Audit:
    """Similarity and norm of the layers of a cache, measured on `n_images` images.

    Attributes
    ----------
    layers : tuple of str, L
        From early to late.
    n_images : int
    similarity : array of float64, (L, L)
        Linear CKA; the smaller one of local and global tokens. NaN if it is unknown, because a layer is constant or
        there are too few images.
    norm : array of float64, (L,)
        Root mean square length of the local tokens, after subtraction of their mean over images.
    """

    layers: tuple[str, ...]
    n_images: int
    similarity: Matrix
    norm: Matrix

    def alike(self) -> list[tuple[str, ...]]:
        """Return the groups of two or more layers whose similarities are all at least `ALIKE`."""
        groups: list[list[int]] = []
        for k in range(len(self.layers)):
            group = next((g for g in groups if all(self.similarity[k, other] >= ALIKE for other in g)), None)
            if group is None:
                groups.append([k])
            else:
                group.append(k)
        return [tuple(self.layers[k] for k in group) for group in groups if len(group) > 1]

    def warnings(self, scaled: bool = False) -> list[str]:
        """Return a sentence for each finding that limits what a layer map can show.

        Parameters
        ----------
        scaled : bool
            Whether the fit scales layers to one size, so that different norms do not matter.
        """
        return warnings(self.to_dict(), scaled)

    def to_dict(self) -> dict[str, Any]:
        """Return the audit for JSON: groups of layers that are alike, the similarity of each layer with the one before
        (None if unknown), and the norms."""
        return {
            "n_images": self.n_images,
            "alike": [list(group) for group in self.alike()],
            "similarity": {name: _rounded(self.similarity[k, k - 1]) for k, name in enumerate(self.layers) if k},
            "norms": {name: float(f"{norm:.4g}") for name, norm in zip(self.layers, self.norm, strict=True)},
        }

    def to_text(self) -> list[dict[str, str]]:
        """Return one table row per layer: its similarity with the layer before and with the first, and its norm."""

        def text(k: int, other: int) -> str:
            return f"{self.similarity[k, other]:.3f}" if np.isfinite(self.similarity[k, other]) else "-"

        return [
            {
                "layer": name,
                "with the one before": text(k, k - 1) if k else "",
                "with the first": text(k, 0) if k else "",
                "norm": f"{self.norm[k]:.4g}",
            }
            for k, name in enumerate(self.layers)
        ]


def warnings(found: Mapping[str, Any], scaled: bool = False) -> list[str]:
    """Return the sentences of `Audit.warnings`, of an audit that was kept as `Audit.to_dict`."""
    words = [
        f"layers {', '.join(group)} carry the same information (linear CKA ≥ {ALIKE:g}). Which of them a voxel "
        "selects, and its confidence, depend on the seed. Keep one of them ('layers' in the fit settings), or "
        "compare several seeds."
        for group in found["alike"]
    ]
    norms: Mapping[str, float] = found["norms"]
    if constant := [name for name, norm in norms.items() if norm == 0]:
        words.append(f"the tokens of {', '.join(constant)} are the same for all images, so they predict nothing.")
    large, small = max(norms, key=lambda name: norms[name]), min(norms, key=lambda name: norms[name] or np.inf)
    if not scaled and norms[large] >= MANY_FOLD * norms[small] > 0:
        words.append(
            f"the tokens of {large} are {norms[large] / norms[small]:.0f} times as large as those of {small}. Voxels "
            "are more likely to select layers with large tokens."
        )
    return words


def audit(layers: Sequence[str], local: Sequence[Floats], global_: Sequence[Floats]) -> Audit:
    """Compare layers by the tokens of a sample of images.

    The similarity is linear CKA (Kornblith et al., ICML 2019) with the unbiased estimator of HSIC (Song et al., JMLR
    2012), summed over places. So it compares how images differ at a place, not how places differ. It is 1 for layers
    that are equal up to rotation, scale and a constant.

    Parameters
    ----------
    layers : sequence of str, L
    local : sequence of array, L × (n, P, C)
        Local tokens of n images at the same P places of the grid.
    global_ : sequence of array, L × (n, C)

    Returns
    -------
    Audit
    """
    with single_threaded_products():
        near, far = linear_cka(local), linear_cka([tokens[:, None] for tokens in global_])
    norm = [np.sqrt(np.square(tokens - tokens.mean(0, dtype=np.float64)).sum(2).mean()) for tokens in local]
    return Audit(tuple(layers), len(local[0]), np.fmin(near, far), np.array(norm))


def linear_cka(layers: Sequence[Floats]) -> Matrix:
    """Return the linear CKA (L, L) between layers of tokens, L × (n, P, C); NaN where it is unknown."""
    n, n_places = layers[0].shape[:2]
    if n < LEAST_IMAGES:
        return np.full((len(layers), len(layers)), np.nan)
    hsic = np.zeros((len(layers), len(layers)))
    for place in range(n_places):
        grams = np.stack([doubly_centred(tokens[:, place]).ravel() for tokens in layers])
        hsic += grams @ grams.T
    own = np.sqrt(np.diag(hsic))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(hsic / (own[:, None] * own))


def doubly_centred(tokens: Floats) -> Matrix:
    """Return the Gram matrix (n, n) of tokens (n, C), U-centred (Székely & Rizzo 2014): the sums of its rows are 0
    without the diagonal, which is 0. Products are float32 if the tokens are."""
    n = len(tokens)
    centred = (tokens - tokens.mean(0, dtype=np.float64)).astype(np.result_type(tokens, np.float32))
    gram = (centred @ centred.T).astype(np.float64)
    np.fill_diagonal(gram, 0)
    rows = gram.sum(0) / (n - 2)
    out = gram - rows[:, None] - rows + gram.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(out, 0)
    return np.asarray(out)


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def shared_noise(components: Sequence[Mapping[str, float]] | None) -> str | None:
    """Return sentences on large noise that voxels share, from the large components of the responses (see
    `encoder.shared_components`); None if there is none, or the components are unknown."""
    noise = max((one["share"] * (1 - one["explained"]) for one in components or []), default=0)
    if noise <= LARGE_NOISE:
        return None
    return (
        f"{noise:.0%} of the variance of the responses to the training images is one component that tokens do not "
        "explain: noise that voxels share, as of arousal or motion, or a signal that this network lacks. The selectors "
        "were learned with little of it."
    )
