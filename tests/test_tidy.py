"""A run as an xarray Dataset, and cache and data as matrices for other libraries."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline

import bddn
from bddn.errors import DataError, MismatchError, RunError
from bddn.planted.subject import Planted
from bddn.run import Run, read_split
from bddn.store.reader import Cache


def test_a_run_as_xarray_has_its_numbers_by_voxel_and_layer(quick_run: Run) -> None:
    found = quick_run.to_xarray()
    assert tuple(found["layer"].values) == quick_run.layers
    assert found["layer_weight"].dims == ("voxel", "layer")
    weights = found["layer_weight"].to_pandas()
    np.testing.assert_array_equal(
        weights.to_numpy(), quick_run.voxels[[f"weight_{layer}" for layer in quick_run.layers]]
    )
    for name in quick_run.voxels.columns.drop([f"weight_{layer}" for layer in quick_run.layers]):
        values = pd.Series(found[name].values).astype(quick_run.voxels[name].dtype)
        pd.testing.assert_series_equal(values, quick_run.voxels[name], check_names=False)
    assert {"hemi", "vertex", "roi"} <= set(found.coords)
    assert found.attrs["cache_digest"] == quick_run.about["cache"]["digest"]
    in_eba = found["depth"].where(found["roi"] == "EBA").mean().item()
    assert in_eba == pytest.approx(quick_run.voxels.loc[quick_run.voxels["roi"] == "EBA", "depth"].mean())


def test_a_missing_xarray_is_told(quick_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(RunError, match=r"expected the package xarray.*pip install 'bddn\[xarray\]'"):
        quick_run.to_xarray()


def test_matrices_have_a_band_per_layer_in_the_order_of_the_ids(quick_run: Run, sealed: Path, brain: Path) -> None:
    cache, dataset = Cache(sealed), Planted(brain)
    ids = read_split(quick_run)["test"][::-1]
    found = bddn.to_himalaya(sealed, f"planted:{brain}", ids=ids)
    assert found.ids == tuple(ids)
    rows = np.array([dataset.stimuli.ids.index(stimulus) for stimulus in ids])
    np.testing.assert_array_equal(found.Y, dataset.responses(rows))
    assert list(found.slices) == [layer.name for layer in cache.layers]
    assert found.X.dtype == np.float32
    for k, layer in enumerate(cache.layers):
        band = found.X[:, found.slices[layer.name]]
        assert (found.groups[found.slices[layer.name]] == k).all()
        for row, stimulus in enumerate(ids):
            at = cache.ids.index(stimulus)
            local, one = (cache.read(kind, layer.name, at, at + 1)[0].float() for kind in ("local", "global"))
            expected = np.concatenate([one.numpy(), local.mean((0, 1)).numpy()])
            np.testing.assert_allclose(band[row], expected, rtol=1e-5, atol=1e-6)
    assert found.X.shape[1] == len(found.groups) == sum(2 * layer.channels for layer in cache.layers)


def test_some_layers_and_all_images(sealed: Path, brain: Path) -> None:
    cache = Cache(sealed)
    last = cache.layers[-1].name
    found = bddn.to_himalaya(cache, Planted(brain), layers=[last])
    assert list(found.slices) == [last]
    assert found.ids == cache.ids
    with pytest.raises(MismatchError, match="not stored"):
        bddn.to_himalaya(cache, Planted(brain), layers=["none"])
    with pytest.raises(DataError, match="lacks 1 of them, the first 'cat'"):
        bddn.to_himalaya(cache, Planted(brain), ids=[cache.ids[0], "cat"])


def test_himalaya_finds_a_penalty_per_layer_for_each_voxel(sealed: Path, brain: Path) -> None:
    from himalaya.kernel_ridge import ColumnKernelizer, Kernelizer, MultipleKernelRidgeCV

    ids = Cache(sealed).ids
    train, test = (bddn.to_himalaya(sealed, Planted(brain), ids=ids[part]) for part in (slice(36), slice(36, None)))
    kernels = ColumnKernelizer([(layer, Kernelizer(), columns) for layer, columns in train.slices.items()])
    ridge = MultipleKernelRidgeCV(
        kernels="precomputed", solver_params={"n_iter": 2, "progress_bar": False}, cv=2, random_state=0
    )
    score = make_pipeline(kernels, ridge).fit(train.X, train.Y).score(test.X, test.Y)
    assert ridge.deltas_.shape == (len(train.slices), train.Y.shape[1])
    assert score.shape == (test.Y.shape[1],)
    assert np.isfinite(score).all()
