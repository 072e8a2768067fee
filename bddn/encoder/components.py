"""The principal components of responses.

Shape letters: n training rows, B images of a batch, N voxels, k components.
"""

import torch
from torch import Tensor

from bddn.encoder.sample import evenly_spread
from bddn.encoder.targets import Targets

IMAGES = 64  # whose responses are taken at a time
VOXELS = 4000  # at most, whose responses give the components
ITERATIONS = 3  # of a random subspace towards the components
TINY = 1e-30


def principal_components(targets: Targets, rows: Tensor, coords_mm: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the first k principal components, or all, of centred responses.

    Parameters
    ----------
    targets : callable
        Rows (B,) to centred responses (B, N) float32.
    rows : Tensor of int64, (n,)
    coords_mm : Tensor, (N, 3)
        Positions of the voxels, of which `VOXELS` at most are used.
    k : int
    seed : int
        Of the start of the iteration that finds them.

    Returns
    -------
    components : Tensor, (n, k) float32
        Vectors of length 1, the largest first; their largest value is positive.
    shares : Tensor, (k,) float32
        Of the variance.
    """
    voxels = evenly_spread(coords_mm, VOXELS)
    # at once, because the memory of small parts stays with the process (malloc's heap)
    responses = coords_mm.new_empty(len(rows), len(voxels))
    for at, part in zip(rows.split(IMAGES), responses.split(IMAGES), strict=True):
        part.copy_(targets(at)[:, voxels])
    generator = torch.Generator().manual_seed(seed)  # of the CPU, so that devices agree
    found = torch.randn(len(voxels), min(k, *responses.shape), generator=generator).to(responses)
    for _ in range(ITERATIONS):
        found = responses.T @ torch.linalg.qr(responses @ found)[0]
    basis = torch.linalg.qr(responses @ found)[0]
    turn, sizes, _ = torch.linalg.svd(basis.T @ responses, full_matrices=False)
    components = basis @ turn
    signs = components.gather(0, components.abs().argmax(0, keepdim=True)).sign()
    return components * signs, sizes.square() / responses.square().sum().clamp_min(TINY)


def components_bytes(n_rows: int, n_voxels: int) -> int:
    """Return the memory that `principal_components` needs for responses, in bytes."""
    return 4 * n_rows * min(n_voxels, VOXELS)
