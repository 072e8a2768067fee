"""Blocks of voxels: sums over the images of few voxels at a time stay in the processor's cache."""

from collections.abc import Iterator

BLOCK_VOXELS = 1024


def voxel_blocks(n_voxels: int) -> Iterator[slice]:
    """Yield slices that together are all of `n_voxels` voxels."""
    for start in range(0, n_voxels, BLOCK_VOXELS):
        yield slice(start, min(start + BLOCK_VOXELS, n_voxels))
