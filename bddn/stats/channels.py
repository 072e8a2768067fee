"""Channels of voxels: images in the principal channels of an ROI, and clusters of voxels by their channel vectors.

Shape letters: V voxels, D shared channels, L layers, n images, H rows, W columns.
"""

import numpy as np
import numpy.typing as npt

from bddn.errors import DataError
from bddn.stats.clusters import k_means
from bddn.stats.neighbours import unit_vectors

Floats = npt.NDArray[np.floating]

COLOURS = 3
COLOUR_RANGE = (1, 99)  # percentiles that become 0 and 1, so that single extreme values do not darken the image


def channel_images(
    aligned_local: Floats, channels: npt.NDArray[np.float32], layer_weights: Floats
) -> npt.NDArray[np.float32]:
    """Return images whose red, green and blue are the first three principal channels of the voxels of an ROI.

    The principal components of the ROI's centred channel vectors, sorted by variance, are applied to the local
    features, which are averaged over layers with the ROI's mean layer weights.

    The sign of a component is chosen so that its product with the ROI's mean channel vector is not negative; brighter
    places drive the ROI as a whole. Each colour is scaled from its 1st percentile (0) to its 99th (1) over all images
    and places of this call. Images of one call can be compared with each other, but colours of two ROIs cannot.

    Parameters
    ----------
    aligned_local : array, (L, n, H, W, D)
        Local features in the shared channels, from `bddn.predict.aligned_local`.
    channels : array, (V, D)
        Channel vectors of the voxels of the ROI.
    layer_weights : array, (V, L)
        Layer weights of the same voxels.

    Returns
    -------
    array of float32, (n, H, W, 3)
        From 0 to 1. A constant component is 0.5.

    Raises
    ------
    DataError
        If there are fewer than four voxels, which have no three components, or the shapes do not match.
    """
    if len(channels) <= COLOURS or channels.shape[1] < COLOURS:
        raise DataError(
            "channel vectors",
            expected=f"more than {COLOURS} voxels with at least {COLOURS} channels, for {COLOURS} principal components",
            got=f"{len(channels)} voxels with {channels.shape[1]} channels",
            fix="Choose a larger ROI.",
        )
    expected = (len(channels), len(aligned_local)), (len(channels), aligned_local.shape[-1])
    if (layer_weights.shape, channels.shape) != expected:
        raise DataError(
            "voxels of an ROI",
            expected=f"layer weights {expected[0]} and channel vectors {expected[1]}",
            got=f"{layer_weights.shape} and {channels.shape}",
            fix="Give features, layer weights and channel vectors of the same run.",
        )
    projected = aligned_local @ _components(channels, COLOURS).astype(np.float32)
    images = np.tensordot(layer_weights.mean(0, dtype=np.float64), projected, axes=1)
    low, high = np.percentile(images.reshape(-1, COLOURS), COLOUR_RANGE, axis=0)
    varies = high > low
    scaled = (images - low) / np.where(varies, high - low, 1)
    return np.where(varies, np.clip(scaled, 0, 1), 0.5).astype(np.float32)


def channel_clusters(
    channels: npt.NDArray[np.float32], n_clusters: int = 20, n_centres: int = 300, seed: int = 0
) -> npt.NDArray[np.int64]:
    """Cluster voxels by their channel vectors: k-means with many centres, then Ward linkage of the centres.

    Vectors are scaled to length 1 first, because their length says how strongly a voxel responds, not what it reads:
    otherwise weak voxels of any kind form one cluster. If there are at most `n_centres` voxels, they are linked
    directly. The same vectors and seed give the same clusters.

    Parameters
    ----------
    channels : array, (V, D)
    n_clusters : int
        Number of clusters; there may be fewer if vectors, or distances between them, are equal.
    n_centres : int
        Number of k-means centres.
    seed : int
        Seed of the initial centres of k-means.

    Returns
    -------
    array of int64, (V,)
        Cluster of each voxel, from 0. Clusters are sorted along the first principal component of all channel vectors,
        with the sign rule of `channel_images`, so that clusters with neighbouring numbers are similar.

    Raises
    ------
    DataError
        If there are fewer voxels than clusters, or more clusters than centres.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    if not 1 <= n_clusters <= min(len(channels), n_centres):
        raise DataError(
            "channel clusters",
            expected=f"from 1 to {min(len(channels), n_centres)}, with {len(channels)} voxels and {n_centres} centres",
            got=f"{n_clusters}",
            fix="Give another number of clusters.",
        )
    vectors = unit_vectors(channels.astype(np.float64))
    centres, centre_of = k_means(vectors, n_centres, seed) if len(vectors) > n_centres else _each(vectors)
    if len(centres) == 1:
        return np.zeros(len(vectors), np.int64)
    cluster_of = fcluster(linkage(centres, "ward"), n_clusters, criterion="maxclust")[centre_of]
    found, labels = np.unique(cluster_of, return_inverse=True)
    along = vectors @ _components(vectors, 1)[:, 0]
    places = np.array([along[labels == k].mean() for k in range(len(found))])
    rank = np.argsort(np.argsort(places, kind="stable"), kind="stable")
    return np.asarray(rank[labels], np.int64)


def _each(vectors: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    return vectors, np.arange(len(vectors))


def _components(channels: Floats, n: int) -> Floats:
    """Return the first n principal components (D, n) of channel vectors (V, D), with length 1."""
    mean = channels.mean(0, dtype=np.float64)
    centred = channels - mean
    # from the covariance (D, D), because there may be many more voxels than channels
    components = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :n]
    return np.asarray(np.where(mean @ components < 0, -components, components))
