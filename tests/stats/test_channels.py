"""Channel images and clusters, on voxels and pictures whose structure was planted."""

import numpy as np
import numpy.typing as npt
import pytest
from threadpoolctl import threadpool_limits

from bddn.errors import DataError
from bddn.stats.channels import channel_clusters, channel_images
from bddn.stats.clusters import k_means

L, N, H, W, D = 3, 4, 6, 5, 12
Floats = npt.NDArray[np.float32]


def _region(rng: np.random.Generator, n_voxels: int = 40) -> Floats:
    """Channel vectors that vary along the first three axes, most along the first, and all read the first three."""
    channels = 0.01 * rng.normal(size=(n_voxels, D))
    channels[:, :3] += np.array([3, 2, 1]) * rng.normal(size=(n_voxels, 3)) + 2
    return channels.astype(np.float32)


def _weights(rng: np.random.Generator, n_voxels: int = 40) -> Floats:
    weights = rng.uniform(size=(n_voxels, L))
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def test_an_image_shows_where_a_picture_has_the_channels_of_the_region() -> None:
    rng = np.random.default_rng(0)
    aligned = 0.01 * rng.normal(size=(L, N, H, W, D)).astype(np.float32)
    places = [(0, 1, slice(1, 3), slice(2, 4)), (2, 2, slice(4, 6), slice(0, 2)), (1, 3, slice(0, 2), slice(0, 2))]
    for colour, (layer, picture, rows, columns) in enumerate(places):
        aligned[layer, picture, rows, columns, colour] += 1
    aligned[:, 0, 3:5, 3:5, 7] += 1  # of a channel that no voxel reads
    found = channel_images(aligned, _region(rng), _weights(rng))
    assert found.shape == (N, H, W, 3)
    assert found.dtype == np.float32
    assert found.min() == 0
    assert found.max() == 1
    for colour, (_, picture, rows, columns) in enumerate(places):
        inside = np.zeros((N, H, W), bool)
        inside[picture, rows, columns] = True
        assert found[inside, colour].min() > 0.8
        assert found[~inside, colour].max() < 0.3


def test_layers_count_by_the_mean_weight_of_the_region() -> None:
    rng = np.random.default_rng(0)
    channels, aligned = _region(rng), rng.normal(size=(L, N, H, W, D)).astype(np.float32)
    weights = np.zeros((len(channels), L), np.float32)
    weights[:30, 1], weights[30:, 2] = 1, 1
    mixed = 0.75 * aligned[1:2] + 0.25 * aligned[2:]
    one = np.ones((len(channels), 1), np.float32)
    np.testing.assert_allclose(
        channel_images(aligned, channels, weights), channel_images(mixed, channels, one), atol=1e-5
    )


def test_order_of_voxels_and_size_of_features_change_nothing() -> None:
    rng = np.random.default_rng(0)
    channels, weights = _region(rng), _weights(rng)
    aligned, order = rng.normal(size=(L, N, H, W, D)).astype(np.float32), rng.permutation(len(channels))
    expected = channel_images(aligned, channels, weights)
    np.testing.assert_array_equal(channel_images(aligned, channels, weights), expected)
    np.testing.assert_allclose(channel_images(aligned, channels[order], weights[order]), expected, atol=1e-5)
    np.testing.assert_allclose(channel_images(5 * aligned + 1, channels, weights), expected, atol=1e-5)
    opposite = channel_images(aligned, -channels, weights)
    np.testing.assert_allclose(opposite, 1 - expected, atol=1e-5)


def test_pictures_of_one_call_share_their_scale() -> None:
    rng = np.random.default_rng(0)
    aligned = rng.normal(size=(L, 2, H, W, D)).astype(np.float32)
    aligned[:, 1] *= 0.1
    strong, faint = channel_images(aligned, _region(rng), _weights(rng))
    assert np.ptp(strong) == 1
    assert np.ptp(faint, axis=(0, 1)).max() < 0.3


def test_what_does_not_vary_is_grey() -> None:
    rng = np.random.default_rng(0)
    found = channel_images(np.ones((L, N, H, W, D), np.float32), _region(rng), _weights(rng))
    assert (found == 0.5).all()


def test_regions_without_three_components_are_refused() -> None:
    rng = np.random.default_rng(0)
    aligned = np.zeros((L, N, H, W, D), np.float32)
    with pytest.raises(DataError, match="more than 3 voxels"):
        channel_images(aligned, _region(rng, 3), _weights(rng, 3))
    with pytest.raises(DataError, match="voxels of an ROI"):
        channel_images(aligned[1:], _region(rng), _weights(rng))
    with pytest.raises(DataError, match="voxels of an ROI"):
        channel_images(aligned, _region(rng), _weights(rng, 39))


def _planted(rng: np.random.Generator, sizes: tuple[int, ...]) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Voxels of very different lengths around directions along an arc, mixed, and the direction of each."""
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    angle = np.linspace(0.3, 1.5, len(sizes))[labels]
    directions = 0.01 * rng.normal(size=(len(labels), D))
    directions[:, 0] += np.sin(angle)
    directions[:, 1] += np.cos(angle)
    return (directions * np.exp(rng.normal(size=(len(labels), 1)))).astype(np.float32), labels


@pytest.mark.parametrize("n_centres", [300, 40])
def test_planted_clusters_are_found_whatever_their_length_and_numbered_along_their_arc(n_centres: int) -> None:
    channels, labels = _planted(np.random.default_rng(0), (90, 30, 60, 20, 50))
    found = channel_clusters(channels, 5, n_centres)
    assert found.dtype == np.int64
    along = labels if found[labels == 0][0] == 0 else 4 - labels
    np.testing.assert_array_equal(found, along)


def test_the_same_seed_gives_the_same_clusters_and_sign_decides_the_numbers() -> None:
    channels = np.random.default_rng(0).normal(size=(500, D)).astype(np.float32) + 0.2
    found = channel_clusters(channels, 7, 50, seed=3)
    assert np.unique(found).tolist() == list(range(7))
    np.testing.assert_array_equal(channel_clusters(channels, 7, 50, seed=3), found)
    assert (channel_clusters(channels, 7, 50, seed=4) != found).any()
    unit = channels / np.linalg.norm(channels, axis=1, keepdims=True)
    places = [unit[found == k].mean(0) @ np.linalg.svd(unit - unit.mean(0))[2][0] for k in range(7)]
    assert places in (sorted(places), sorted(places, reverse=True))


def test_the_number_of_threads_changes_no_bit_of_a_centre() -> None:
    vectors = np.random.default_rng(0).normal(size=(3000, D))
    found = []
    for n in (1, 2, 3):
        with threadpool_limits(n):
            found.append(k_means(vectors, 50, seed=0)[0].tobytes())
    assert len(set(found)) == 1


def test_the_order_of_voxels_changes_no_cluster_where_all_are_linked() -> None:
    rng = np.random.default_rng(0)
    channels = rng.normal(size=(80, D)).astype(np.float32)
    order = rng.permutation(80)
    np.testing.assert_array_equal(channel_clusters(channels[order], 6), channel_clusters(channels, 6)[order])


def test_voxels_of_weak_weights_are_clustered_by_what_they_read() -> None:
    channels, labels = _planted(np.random.default_rng(1), (100, 100, 100))
    channels[::2] *= 1e-3
    found = channel_clusters(channels, 3)
    assert all(len(np.unique(found[labels == k])) == 1 for k in range(3))


def test_a_voxel_without_weights_is_in_a_cluster_too() -> None:
    channels, _ = _planted(np.random.default_rng(1), (20, 20))
    channels[7] = 0
    assert len(channel_clusters(channels, 3)) == 40


def test_equal_voxels_are_in_one_cluster() -> None:
    rng = np.random.default_rng(0)
    few = rng.normal(size=(3, D)).astype(np.float32)
    channels = few[np.arange(600) % 3]
    found = channel_clusters(channels, 20, 50)  # most centres have no voxel
    assert len(np.unique(found)) == 3
    assert all(len(np.unique(found[k::3])) == 1 for k in range(3))
    assert (channel_clusters(np.repeat(few[:1], 60, axis=0), 5, 50) == 0).all()
    assert (channel_clusters(channels, 1, 50) == 0).all()


@pytest.mark.parametrize(("n_clusters", "n_centres"), [(0, 300), (31, 300), (20, 10)])
def test_impossible_numbers_of_clusters_are_refused(n_clusters: int, n_centres: int) -> None:
    channels = np.random.default_rng(0).normal(size=(30, D)).astype(np.float32)
    with pytest.raises(DataError, match="channel clusters"):
        channel_clusters(channels, n_clusters, n_centres)
