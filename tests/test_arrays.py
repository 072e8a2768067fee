"""The encoder on arrays: that of a run, to the bit; a citizen of scikit-learn; and bad arrays are refused at once."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import bddn
from bddn.encoder import checkpoint
from bddn.errors import DataError, SpecError
from bddn.planted.subject import Planted
from bddn.run.array_checks import Layer

SMALL: dict[str, Any] = {"channels": 8, "code_frequencies": 4, "selector_width": 8, "epochs": 2, "seed": 3}
N, VOXELS = 24, 7
Arguments = dict[str, Any]


@pytest.fixture
def arrays() -> Arguments:
    """What `fit` takes: two layers of unlike width, and responses to the later one."""
    rng = np.random.default_rng(0)
    features = {
        name: (rng.normal(size=(N, 4, 3, c)).astype(np.float32), rng.normal(size=(N, c)).astype(np.float32))
        for name, c in (("early", 5), ("late", 6))
    }
    responses = features["late"][1] @ rng.normal(size=(6, VOXELS)) + 0.1 * rng.normal(size=(N, VOXELS))
    return {"features": features, "responses": responses, "coords_mm": rng.normal(size=(VOXELS, 3))}


@pytest.mark.parametrize("recipe", ["paper", "fast"])
def test_it_is_the_encoder_of_a_run_to_the_bit(recipe: str, sealed: Path, planted: Planted, tmp_path: Path) -> None:
    run = bddn.fit(sealed, planted, tmp_path / "run", recipe, **SMALL)
    cache, ids = bddn.open_cache(sealed), planted.stimuli.ids
    split = json.loads((run.folder / "split.json").read_text())
    train, val, test = ([ids.index(i) for i in split[part]] for part in ("train", "val", "test"))
    features: dict[str, Layer] = {
        layer.name: (cache.read("local", layer.name, 0, len(ids)), cache.read("global", layer.name, 0, len(ids)))
        for layer in cache.layers
    }
    assert cache.ids == ids
    found = bddn.FactorTopy(recipe, chunk_images=cache.layout.chunk_images, **SMALL).fit(
        features, planted.responses(), planted.coords_mm(), validation=val, train=train
    )
    expected = checkpoint.load(run.folder / "encoder.safetensors").state_dict()
    state = found.encoder_.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    table = run.voxels
    assert found.layers_ == run.layers
    assert np.array_equal(found.layer_weights_, table[[f"weight_{layer}" for layer in run.layers]])
    assert np.array_equal(found.place_, table[["x", "y"]])
    columns = {"scale": found.scale_, "depth": found.depth_, "confidence": found.confidence_, "r2_val": found.r2_val_}
    for name, values in columns.items():
        assert np.array_equal(values, table[name], equal_nan=True), name
    of_test = {name: (local[test], global_[test]) for name, (local, global_) in features.items()}
    assert np.array_equal(found.score(of_test, planted.responses()[test]), table["r2_test"], equal_nan=True)


def test_what_it_learns_has_the_documented_shapes(arrays: Arguments) -> None:
    found = bddn.FactorTopy("fast", **SMALL).fit(**arrays)
    shapes = {
        "layer_weights_": (VOXELS, 2),
        "place_": (VOXELS, 2),
        "scale_": (VOXELS,),
        "size_": (VOXELS,),
        "channels_": (VOXELS, 8),
        "depth_": (VOXELS,),
        "confidence_": (VOXELS,),
        "r2_val_": (VOXELS,),
    }
    assert {name: getattr(found, name).shape for name in shapes} == shapes
    assert found.layers_ == ("early", "late")
    assert found.size_ is not None
    assert ((found.size_ >= 0) & (found.size_ <= 2)).all()
    assert bddn.FactorTopy("paper", **SMALL).fit(**arrays).size_ is None
    assert len(found.history_) == SMALL["epochs"]
    np.testing.assert_allclose(found.layer_weights_.sum(1), 1, rtol=1e-5)
    predicted = found.predict(arrays["features"])
    assert predicted.shape == (N, VOXELS)
    assert predicted.dtype == np.float32
    y = arrays["responses"].astype(np.float32)
    r2 = 1 - ((y - predicted) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
    np.testing.assert_allclose(found.score(arrays["features"], y), r2, rtol=1e-4, atol=1e-5)
    again = pickle.loads(pickle.dumps(found))  # noqa: S301 - our own
    assert np.array_equal(again.predict(arrays["features"]), predicted)


def test_arrays_tensors_and_views_of_the_same_numbers_give_the_same(arrays: Arguments) -> None:
    first = bddn.FactorTopy(**SMALL).fit(**arrays)
    features = {name: tuple(map(torch.from_numpy, pair)) for name, pair in arrays["features"].items()}
    reversed_ = {name: tuple(v[::-1].copy()[::-1] for v in pair) for name, pair in arrays["features"].items()}
    for values in (*arrays["features"]["early"], arrays["responses"]):
        values.flags.writeable = False  # as np.load with mmap_mode="r" gives them
    for given in (features, reversed_, arrays["features"]):
        again = bddn.FactorTopy(**SMALL).fit(**arrays | {"features": given})
        assert np.array_equal(again.channels_, first.channels_)


def test_a_share_validates_with_rows_that_the_seed_draws(arrays: Arguments) -> None:
    drawn = np.sort(np.random.default_rng([SMALL["seed"], 0]).permutation(N)[: round(N * 0.25)])
    by_share = bddn.FactorTopy(**SMALL).fit(**arrays, validation=0.25)
    by_rows = bddn.FactorTopy(**SMALL).fit(**arrays, validation=drawn)
    assert np.array_equal(by_share.channels_, by_rows.channels_)
    assert by_share.channels_.any()
    other = bddn.FactorTopy(**SMALL).fit(**arrays, validation=np.arange(6))
    assert not np.array_equal(by_share.channels_, other.channels_)


def test_tokens_that_do_not_vary_predict_the_mean(arrays: Arguments) -> None:
    rng = np.random.default_rng(1)
    for pair in arrays["features"].values():
        for tokens in pair:
            tokens[:] = rng.normal(size=tokens.shape[1:])
    found = bddn.FactorTopy("fast", **SMALL).fit(**arrays, validation=[0, 1, 2])
    mean = np.broadcast_to(arrays["responses"][3:].mean(0), (N, VOXELS))
    np.testing.assert_allclose(found.predict(arrays["features"]), mean, atol=1e-4)


def test_layers_are_chosen_by_the_setting(arrays: Arguments) -> None:
    features = arrays["features"] | {"unused": arrays["features"]["early"]}
    found = bddn.FactorTopy(layers=("early", "late"), **SMALL).fit(**arrays | {"features": features})
    assert found.layers_ == ("early", "late")
    assert np.array_equal(found.channels_, bddn.FactorTopy(**SMALL).fit(**arrays).channels_)


def test_scikit_learn_clones_it_and_reads_and_sets_its_parameters(arrays: Arguments) -> None:
    first = bddn.FactorTopy("fast", chunk_images=8, **SMALL).fit(**arrays)
    twin = clone(first)
    assert twin.get_params() == first.get_params() == {"spec": "fast", "device": "auto", "chunk_images": 8, **SMALL}
    assert not hasattr(twin, "encoder_")
    assert np.array_equal(twin.fit(**arrays).channels_, first.channels_)
    assert twin.set_params(seed=4) is twin
    assert twin.get_params()["seed"] == 4
    assert not np.array_equal(twin.fit(**arrays).channels_, first.channels_)
    assert repr(bddn.FactorTopy(seed=2)) == "FactorTopy(spec='fast', device='auto', chunk_images=16, seed=2)"


def test_an_encoder_that_is_not_fitted_says_so(arrays: Arguments) -> None:
    with pytest.raises(NotFittedError, match=r"FactorTopy\.predict: expected a fitted encoder"):
        bddn.FactorTopy().predict(arrays["features"])
    with pytest.raises(NotFittedError, match=r"FactorTopy\.score"):
        bddn.FactorTopy().score(arrays["features"], arrays["responses"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epoch": 3}, "Correct 'epoch'"),
        ({"split": (8, 1, 1)}, "which rows validate"),
        ({"split_seed": 1, "split_by": {"clusters": 3}}, "which rows validate"),
    ],
)
def test_an_unknown_setting_is_refused_when_it_is_given(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        bddn.FactorTopy(**settings)


def test_a_wrong_setting_is_refused_by_the_fit(arrays: Arguments) -> None:
    with pytest.raises(SpecError, match=r"settings of FactorTopy: expected 'epochs' to be greater than 0; got 0"):
        bddn.FactorTopy(epochs=0).fit(**arrays)
    with pytest.raises(SpecError, match="fit spec 'slow': expected a recipe"):
        bddn.FactorTopy("slow").fit(**arrays)


def _late(change: Callable[[Any, Any], Any]) -> Callable[[Arguments], Arguments]:
    """Another pair of arrays for the second layer."""
    return lambda a: a | {"features": a["features"] | {"late": change(*a["features"]["late"])}}


def _with_nan(values: Any) -> Any:
    values = values.copy()
    values.flat[3] = np.nan
    return values


def masked(values: np.ndarray) -> np.ndarray:
    return np.ma.masked_greater(values, 1)


def named(values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(values, columns=[f"v{i}" for i in range(values.shape[1])])


def both(change: Callable[[np.ndarray], Any]) -> Callable[[Arguments], Arguments]:
    """Change the tokens of all layers."""
    return lambda a: a | {"features": {name: (change(x), change(y)) for name, (x, y) in a["features"].items()}}


BAD: dict[str, tuple[Callable[[Arguments], Arguments], list[str]]] = {
    "no layers": (lambda a: a | {"features": {}}, ["features: a mapping of layer names"]),
    "one array": (
        _late(lambda local, _: local),
        ["layer 'late': a pair of float arrays", "got (24, 4, 3, 6) float32."],
    ),
    "channels first": (
        _late(lambda local, global_: (local.transpose(0, 3, 1, 2), global_)),
        ["layer 'late'", "(24, 6, 4, 3) float32 and (24, 6) float32"],
    ),
    "whole numbers": (_late(lambda local, global_: (local.astype(int), global_)), ["(24, 4, 3, 6) int64"]),
    "fewer images": (_late(lambda local, global_: (local[1:], global_[1:])), ["(24, 4, 3)", "(23, 4, 3)"]),
    "another grid": (_late(lambda local, global_: (local[:, 1:], global_)), ["(24, 4, 3)", "(24, 3, 3)"]),
    "a token that is no number": (_late(lambda local, g: (_with_nan(local), g)), ["layer 'late': finite numbers"]),
    "responses of others": (lambda a: a | {"responses": a["responses"][:9]}, ["responses: a matrix (24, N)", "(9, 7)"]),
    "one voxel without its axis": (lambda a: a | {"responses": a["responses"][:, 0]}, ["(24, N)", "(24,)"]),
    "words": (lambda a: a | {"responses": [["a"] * VOXELS] * N}, ["responses: numbers (n, N)"]),
    "a response that is no number": (
        lambda a: a | {"responses": _with_nan(a["responses"])},
        ["responses: finite numbers", "got NaN or infinity"],
    ),
    "responses that never vary": (lambda a: a | {"responses": np.ones((N, VOXELS))}, ["whose responses differ"]),
    "positions of others": (lambda a: a | {"coords_mm": a["coords_mm"][1:]}, ["coords_mm: a matrix (7, 3)", "(6, 3)"]),
    "flat positions": (lambda a: a | {"coords_mm": a["coords_mm"][:, :2]}, ["coords_mm: a matrix (7, 3)", "(7, 2)"]),
    "a share of more than all": (lambda a: a | {"validation": 1.5}, ["a share between 0 and 1", "1.5"]),
    "a share of one row": (lambda a: a | {"validation": 0.01}, ["at least two rows", "24 and 0"]),
    "rows as a mask": (lambda a: a | {"validation": np.ones(N, bool)}, ["validation: row numbers", "(24,) bool"]),
    "rows that are not there": (lambda a: a | {"train": [0, 1, N]}, ["train: row numbers from 0 to 23"]),
    "rows that come twice": (lambda a: a | {"validation": [0, 0, 1]}, ["validation: row numbers from 0 to 23, each"]),
    "rows of unlike length": (lambda a: a | {"validation": [[0, 1], [2]]}, ["validation: row numbers"]),
    "masked responses": (lambda a: a | {"responses": masked(a["responses"])}, ["responses: numbers", "masked"]),
    "masked tokens": (both(masked), ["layer 'early': a pair of float arrays", "masked numbers"]),
    "complex responses": (lambda a: a | {"responses": a["responses"] + 1j}, ["responses: numbers", "complex128"]),
    "responses as texts": (lambda a: a | {"responses": a["responses"].astype(str)}, ["responses: numbers", "<U"]),
    "tokens whose squares overflow": (both(lambda one: one * np.float32(1e20)), ["finite numbers below 1e+18"]),
    "tokens without values": (both(lambda one: torch.from_numpy(one).to("meta")), ["on the device meta"]),
    "tokens of eight bits": (both(lambda one: torch.from_numpy(one).to(torch.float8_e4m3fn)), ["float8_e4m3fn"]),
    "names of voxels in another order": (
        lambda a: a | {"responses": named(a["responses"]), "coords_mm": named(a["coords_mm"].T).T[::-1]},
        ["coords_mm: rows in the order of the columns of responses"],
    ),
    "two things at once": (
        lambda a: a | {"coords_mm": a["coords_mm"][:, :2], "responses": a["responses"][:9]},
        ["responses: a matrix (24, N); coords_mm: a matrix (N, 3)", "(9, 7); (7, 2)"],
    ),
}


@pytest.mark.parametrize("chunk_images", [0, -1, 2.5, "16", None, True])
def test_a_wrong_number_of_rows_that_are_kept_together_is_refused(arrays: Arguments, chunk_images: Any) -> None:
    with pytest.raises(DataError, match="chunk_images: a whole number from 1"):
        bddn.FactorTopy(chunk_images=chunk_images, **SMALL).fit(**arrays)


def test_responses_whose_voxels_are_in_another_order_than_in_the_fit_are_not_scored(arrays: Arguments) -> None:
    table = named(arrays["responses"])
    found = bddn.FactorTopy(**SMALL).fit(**arrays | {"responses": table})
    assert np.isfinite(found.score(arrays["features"], table)).all()
    with pytest.raises(DataError, match="responses: columns in the order of those of the fit"):
        found.score(arrays["features"], table.iloc[:, ::-1])
    with pytest.raises(DataError, match="finite numbers below"):
        found.predict({name: (a * np.float32(1e30), b) for name, (a, b) in arrays["features"].items()})


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_refused_in_one_message_before_any_work(
    case: str, arrays: Arguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bddn.run.arrays.new_encoder", None)  # any work would fail otherwise
    change, words = BAD[case]
    with pytest.raises(DataError, match=r"^arrays of FactorTopy\.fit: expected") as caught:
        bddn.FactorTopy(**SMALL).fit(**change(arrays))
    for word in words:
        assert word in str(caught.value)


def test_features_of_another_network_are_refused_by_predict(arrays: Arguments) -> None:
    found = bddn.FactorTopy(**SMALL).fit(**arrays)
    early, late = arrays["features"].values()
    with pytest.raises(
        DataError, match=r"FactorTopy\.predict: expected layer 'early': H, W and C of the fit, \(4, 3, 5\)"
    ):
        found.predict({"early": late, "late": late})
    with pytest.raises(DataError, match="expected layer 'late' among the features; got only early"):
        found.predict({"early": early})
    with pytest.raises(DataError, match=r"FactorTopy\.score: expected responses: a matrix \(24, 7\)"):
        found.score(arrays["features"], arrays["responses"][:, :3])
