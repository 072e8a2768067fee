"""Splits of a fit by their names: by image with a seed of its own, by cluster of images, by category."""

import json
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bddn.cli import app
from bddn.errors import RunError
from bddn.figures.methods import methods
from bddn.planted.subject import Planted
from bddn.run import fit_run, read_run, read_split
from bddn.spec import FitSpec
from bddn.stats.clusters import image_clusters
from bddn.store.reader import Cache
from bddn.stream.global_tokens import global_tokens

SMALL: dict[str, Any] = {"channels": 8, "selector_width": 16, "epochs": 1}
CATEGORIES = ("face", "place", "food", "tool")


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.split())


def fit(cache: Path, brain: Path, out: Path, spec: dict[str, Any]) -> tuple[int, str]:
    (file := out.with_name("fit.yaml")).write_text(json.dumps(SMALL | spec))
    return run("fit", cache, "--data", f"planted:{brain}", "--spec", file, "--out", out)


@pytest.fixture
def table(planted: Planted, tmp_path: Path) -> Path:
    """A table in which every fourth image is of one category, with a stimulus that no one saw."""
    rows = [f"{stimulus},{CATEGORIES[i % 4]}" for i, stimulus in enumerate(planted.stimuli.ids)]
    (path := tmp_path / "categories.csv").write_text("\n".join(["stimulus,category", *rows, "nsd-99999,other"]))
    return path


def test_fits_of_many_seeds_have_one_split_with_a_seed_of_its_own(sealed: Path, brain: Path, tmp_path: Path) -> None:
    (tmp_path / "fit.yaml").write_text(json.dumps(SMALL))
    options = [sealed, "--data", f"planted:{brain}", "--spec", tmp_path / "fit.yaml"]
    for command in (
        ("fit-many", *options, "--seeds", "0-1", "--split-seed", 7, "--out", tmp_path / "many"),
        ("fit", *options, "--seed", 7, "--out", tmp_path / "seven"),
        ("fit", *options, "--seed", 1, "--split-seed", 7, "--out", tmp_path / "one"),
        ("fit", *options, "--seed", 1, "--out", tmp_path / "own"),
    ):
        code, said = run(*command)
        assert code == 0, said
    many = [tmp_path / f"many/sealed/brain/seed{seed}" for seed in (0, 1)]
    first, *same = [(folder / "split.json").read_bytes() for folder in (*many, tmp_path / "seven", tmp_path / "one")]
    assert all(split == first for split in same)
    assert json.loads((tmp_path / "own/split.json").read_text())["test"] != json.loads(first)["test"]
    encoders = [(folder / "encoder.safetensors").read_bytes() for folder in (*many, tmp_path / "one")]
    assert encoders[0] != encoders[1] == encoders[2]


def test_whole_clusters_of_the_caches_tokens_are_held_out(
    sealed: Path, brain: Path, planted: Planted, tmp_path: Path
) -> None:
    for layer in (None, "block_0"):
        out = tmp_path / f"by-{layer}"
        code, said = fit(sealed, brain, out, {"split_by": {"clusters": 8, "layer": layer}})
        assert code == 0, said
        split, ids = read_split(read_run(out)), sorted(planted.stimuli.ids)
        assert f"split: by 8 clusters of images; {len(split['train'])} train, {len(split['val'])} validate" in said
        cache = Cache(sealed)
        tokens = global_tokens(cache, cache.select_layers(None if layer is None else (layer,))[-1], ids)
        cluster_of = dict(zip(ids, image_clusters(tokens, 8), strict=True))
        parts = [{cluster_of[stimulus] for stimulus in part} for part in split.values()]
        assert sum(map(len, parts)) == len(set().union(*parts)) == 8
        assert sorted(chain.from_iterable(split.values())) == ids
        assert f"global tokens of {layer or 'block_2'}" in methods(read_run(out)).paragraph


def test_a_split_is_taken_from_another_run(sealed: Path, brain: Path, table: Path) -> None:
    folder = table.parent
    code, said = fit(sealed, brain, folder / "first", {"split_by": {"clusters": 8}})
    assert code == 0, said
    code, said = fit(
        sealed, brain, folder / "second", {"seed": 3, "split_by": {"file": str(folder / "first/split.json")}}
    )
    assert code == 0, said
    assert f"split: as in {folder / 'first/split.json'}; " in said
    splits = [(folder / name / "split.json").read_bytes() for name in ("first", "second")]
    assert splits[0] == splits[1]
    assert "that of a given file" in methods(read_run(folder / "second")).paragraph


def test_held_out_clusters_are_farther_away_than_held_out_images() -> None:
    rng = np.random.default_rng(0)
    tokens = (rng.normal(size=(30, 16))[rng.integers(0, 30, 600)] + 0.1 * rng.normal(size=(600, 16))).astype(np.float32)
    cluster = image_clusters(tokens, 30)
    np.testing.assert_array_equal(image_clusters(tokens, 30), cluster)

    def nearest(held_out: np.ndarray) -> float:
        apart = np.linalg.norm(tokens[held_out][:, None] - tokens[~held_out], axis=2)
        return float(apart.min(1).mean())

    assert nearest(np.isin(cluster, [0, 1, 2])) > 3 * nearest(np.arange(600) < 60)


def test_whole_categories_are_held_out(sealed: Path, brain: Path, planted: Planted, table: Path) -> None:
    category_of = {stimulus: CATEGORIES[i % 4] for i, stimulus in enumerate(planted.stimuli.ids)}
    for test, words in (None, "whole categories of images"), (["tool", "food"], "those of the categories tool, food"):
        out = table.parent / f"by-{test}"
        code, said = fit(sealed, brain, out, {"split_by": {"categories": str(table), "test": test}})
        assert code == 0, said
        found = read_split(read_run(out))
        parts = {part: {category_of[stimulus] for stimulus in members} for part, members in found.items()}
        if test is None:
            assert sum(len(part) for part in parts.values()) == len(CATEGORIES)
        else:
            assert parts == {"train": {"face", "place"}, "val": {"face", "place"}, "test": {*test}}
        assert sorted(chain.from_iterable(found.values())) == sorted(category_of)
        assert words in methods(read_run(out)).paragraph


BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "an unknown category": ({"categories": "categories.csv", "test": ["tol"]}, ["'tol'", "face, food, place, tool"]),
    "all categories": ({"categories": "categories.csv", "test": CATEGORIES}, ["at least two images", "0, 0 and 48 of"]),
    "no table": ({"categories": "none.csv"}, ["none.csv", "no such file"]),
    "no file": ({"file": "none.json"}, ["none.json", "no such file"]),
    "another file": ({"file": "categories.csv"}, ["categories.csv", "JSON with the lists train, val, test"]),
    "a part of the images": ({"file": "part.json"}, ["part.json", "each of the 48 stimuli", "in none; 47 stimuli"]),
    "too many clusters": ({"clusters": 49}, ["at least as many images as clusters, 49", "got 48"]),
    "no such layer": ({"clusters": 9, "layer": "block_9"}, ["'block_9', which is not stored"]),
}


@pytest.mark.parametrize("name", BAD)
def test_a_split_that_cannot_be_is_refused_before_any_work(
    name: str, sealed: Path, brain: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(table.parent)
    monkeypatch.setattr("bddn.run.inputs.Subject.read", lambda *_: pytest.fail("responses were read"))
    by, words = BAD[name]
    Path("part.json").write_text(json.dumps({"train": ["nsd-00013"], "val": ["other"], "test": []}))
    for command in ("fit", "fit-many"):
        (table.parent / "fit.yaml").write_text(json.dumps(SMALL | {"split_by": by}))
        code, said = run(command, sealed, "--data", f"planted:{brain}", "--spec", "fit.yaml", "--out", "new")
        assert code == 2, said
        assert said.count("error: ") == 1
        for word in ("expected", "got", *words):
            assert word in said, said
        assert not Path("new").exists()


def test_a_fit_with_a_named_split_resumes_streams_and_belongs_to_its_split(
    sealed: Path, planted: Planted, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = FitSpec.parse(SMALL | {"split_by": {"categories": str(table)}}, "test")
    fit_run(sealed, planted, tmp_path / "whole", spec)
    encoder = (tmp_path / "whole/encoder.safetensors").read_bytes()

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bddn.run.fitting.voxel_table", stop)
        with pytest.raises(KeyboardInterrupt):
            fit_run(sealed, planted, tmp_path / "run", spec, checkpoint_every_s=0, memory_gib=0.1)
    assert list(tmp_path.glob(".run-*/state.safetensors"))
    with monkeypatch.context() as patch:
        patch.setattr("bddn.encoder.fit._Training._step", stop)  # all steps were taken before
        fit_run(sealed, planted, tmp_path / "run", spec, memory_gib=0.1)
    assert (tmp_path / "run/encoder.safetensors").read_bytes() == encoder
    assert (tmp_path / "run/split.json").read_bytes() == (tmp_path / "whole/split.json").read_bytes()
    assert fit_run(sealed, planted, tmp_path / "run", spec)[1] is False
    table.write_text(table.read_text().replace("nsd-99999,other", "nsd-99999,another"))
    assert fit_run(sealed, planted, tmp_path / "run", spec)[1] is False, "of a stimulus that no one saw"
    table.write_text(table.read_text().replace(",face", ",place", 1))
    with pytest.raises(RunError, match="a run that differs in: split_sha256 "):
        fit_run(sealed, planted, tmp_path / "run", spec)
