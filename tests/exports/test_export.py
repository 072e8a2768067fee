"""Exported folders: they predict the same bytes elsewhere, state all terms, and a stranger's cannot do harm."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors import safe_open
from typer.testing import CliRunner

import bddn
from bddn.cli import app
from bddn.cli.predict import find_network
from bddn.encoder import saved
from bddn.errors import BddnError, RunError, SpecError
from bddn.evaluation.ensemble import average_fits
from bddn.evaluation.kept_responses import read_held_out
from bddn.exports.card import FILES
from bddn.exports.exporting import title_of
from bddn.exports.sidecars import VOXEL_COLUMNS, roi_table
from bddn.exports.writing import write_list
from bddn.files.checksum import file_sha256
from bddn.identity import Identity
from bddn.planted.subject import Planted
from bddn.predict.exported import exported_spec
from bddn.run import Run, fit_run, read_run
from bddn.spec import CacheSpec, FitSpec, WeightsSpec
from bddn.stats.scores import ROIS, labels_of
from bddn.store.reader import Cache

SMALL = {"channels": 8, "selector_width": 16, "code_frequencies": 4, "epochs": 1, "batch_size": 8}
FIT = FitSpec.parse({**FitSpec.recipe("fast").to_dict(), **SMALL, "split_seed": 3}, "test")


@pytest.fixture(scope="module")
def fits(sealed: Path, brain: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two fits of one split; read only."""
    folder = tmp_path_factory.mktemp("fits")
    specs = [FIT.model_copy(update={"seed": seed}) for seed in (3, 4)]
    return [fit_run(sealed, Planted(brain), folder / f"seed{spec.seed}", spec)[0] for spec in specs]


@pytest.fixture(scope="module")
def ensemble(fits: list[Run], sealed: Path, brain: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("ensemble") / "mean"
    return average_fits([run.folder for run in fits], Cache(sealed), Planted(brain), out, FIT)[0]


@pytest.fixture(scope="module")
def licensed(spec: CacheSpec) -> CacheSpec:
    return spec.model_copy(update={"licence": "CC0-1.0"})


@pytest.fixture(scope="module")
def exported(fits: list[Run], licensed: CacheSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    out = tmp_path_factory.mktemp("exports") / "encoder"
    assert bddn.export(fits[0], out, spec=licensed, device="cpu").way == "included"
    return out


@pytest.fixture
def images(brain: Path) -> list[Path]:
    return list(Planted(brain).stimuli.paths[:5])


@pytest.fixture
def copy(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy elsewhere, on a machine that knows no spec."""
    monkeypatch.setattr("bddn.predict.network.load_specs", dict)
    return Path(shutil.copytree(exported, tmp_path / "elsewhere"))


def _said(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, " ".join(done.output.split())


def _without_terms(run: Run, folder: Path, **about: object) -> Run:
    """The same run of data that state no terms, in another folder."""
    shutil.copytree(run.folder, folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    silent = {"terms": "Data terms: not stated.", "terms_stated": False, "shares_responses": False}
    metrics["dataset"] |= {**silent, **about}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return read_run(folder)


def test_it_predicts_the_bytes_of_the_run_elsewhere(
    fits: list[Run], licensed: CacheSpec, copy: Path, images: list[Path], tmp_path: Path
) -> None:
    expected = bddn.load_encoder(fits[0].folder, spec=licensed).predict(images)
    assert np.ptp(expected, axis=0).max() > 0
    for path in [path for path in copy.rglob("*") if path.is_file()]:  # as macOS writes on a disk for all systems
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    code, said = _said("predict", copy, *images, "--out", tmp_path / "there")
    assert code == 0, said
    assert np.load(tmp_path / "there" / "responses.npy").tobytes() == expected.tobytes()
    encoder = bddn.load_encoder(copy)
    assert encoder.predict(images).tobytes() == expected.tobytes()
    assert encoder.run.voxels.equals(fits[0].voxels)
    assert encoder.test_ids == json.loads((fits[0].folder / "split.json").read_text())["test"]


def test_an_ensemble_is_one_folder_that_predicts_its_mean(
    ensemble: Run, licensed: CacheSpec, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = bddn.load_encoder(ensemble.folder, spec=licensed).predict(images)
    bddn.export(ensemble.folder, tmp_path / "out", spec=licensed, responses=True)
    shutil.move(tmp_path / "out", tmp_path / "moved")
    monkeypatch.setattr("bddn.predict.network.load_specs", dict)
    assert bddn.load_encoder(str(tmp_path / "moved")).predict(images).tobytes() == expected.tobytes()
    kept = read_held_out(read_run(tmp_path / "moved"))
    assert np.array_equal(kept.predicted, read_held_out(ensemble).predicted)
    assert {*json.loads((tmp_path / "moved" / "voxels.json").read_text())} == {*ensemble.voxels}
    about = json.loads((tmp_path / "moved" / "run.json").read_text())
    about["ensemble"]["fits"][0] = "../../moved/fits/0"
    (tmp_path / "moved" / "run.json").write_text(json.dumps(about))
    _list_again(tmp_path / "moved")
    with pytest.raises(RunError, match="fits inside this folder"):
        bddn.load_encoder(tmp_path / "moved")


def test_it_holds_no_path_of_its_owner_and_no_responses(exported: Path, brain: Path) -> None:
    files = [path for path in exported.rglob("*") if path.is_file()]
    assert not [path for path in files if str(brain.parent).encode() in path.read_bytes()]
    assert not list(exported.rglob("*.npy"))
    assert not (exported / "score").exists()
    assert "contains no responses" in (exported / "README.md").read_text()


@pytest.mark.parametrize(
    ("title", "short"),
    [
        ("planted:build/demo through demo.zarr", "planted:demo through demo.zarr"),
        ("nsd:/data/nsd,subject=1 through clip.zarr, 20 fits", "nsd:nsd,subject=1 through clip.zarr, 20 fits"),
        ("lab:~/a,b/x,mask=/secret/place/roi.nii through c.zarr", "lab:a,x,mask=roi.nii through c.zarr"),
    ],
)
def test_a_title_keeps_only_the_last_part_of_a_path(title: str, short: str, fits: list[Run]) -> None:
    assert title_of(replace(fits[0], metrics={"title": title})) == short


def test_the_card_states_all_terms_and_describes_every_file_and_column(exported: Path, fits: list[Run]) -> None:
    card, facts = (exported / "README.md").read_text(), json.loads((exported / "card.json").read_text())
    assert "- **Data**: None; the data are synthetic." in card
    assert "- **Network**: Its weights are in `network/`; their licence: CC0-1.0." in card
    for path in exported.iterdir():
        name = f"{path.name}/" if path.is_dir() else path.name
        assert f"| `{name}` |" in card or name in {"README.md", ".bidsignore", "rois.json", "voxels.json"}, name
    assert {line.split("`")[1] for line in card.splitlines() if line.startswith("| `")} <= {*FILES}
    assert facts["terms"]["Data"] in card
    assert facts["scores"]["r2_test"] == pytest.approx(fits[0].metrics["r2_test"])
    described = json.loads((exported / "dataset_description.json").read_text())
    assert {described["DatasetType"], described["GeneratedBy"][0]["Name"]} == {"derivative", "bddn"}
    assert "CC0-1.0" in described["License"]
    columns = json.loads((exported / "voxels.json").read_text())
    assert list(columns) == list(fits[0].voxels)
    labels = [name for name, told in columns.items() if told["Description"].startswith("atlas")]
    assert labels == [name for name in labels_of(fits[0].voxels) if name not in VOXEL_COLUMNS]
    table = pd.read_csv(exported / "rois.tsv", sep="\t")
    assert list(table) == list(json.loads((exported / "rois.json").read_text()))
    pd.testing.assert_frame_equal(table, roi_table(fits[0].voxels), check_dtype=False, rtol=1e-5)
    roi, voxels = table.loc[table["hemi"] == "lh", "roi"].iloc[1], fits[0].voxels
    own = voxels[labels_of(voxels).isin(ROIS.get(roi, (roi,))).any(axis=1) & (voxels["hemi"] == "lh")]
    row = table[(table["roi"] == roi) & (table["hemi"] == "lh")].iloc[0]
    assert row["n_voxels"] == len(own) > 0
    assert row["ceiling"] == pytest.approx(own["ceiling"].mean(), rel=1e-5)


def test_data_that_state_no_terms_need_a_statement(fits: list[Run], licensed: CacheSpec, tmp_path: Path) -> None:
    silent = _without_terms(fits[0], tmp_path / "run")
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(licensed.to_dict()))
    words = ("export", silent.folder, "--spec", tmp_path / "spec.yaml", "--out", tmp_path / "out")
    code, said = _said(*words)
    assert code == 2
    assert "--terms: expected a statement of the terms of the data" in said
    code, said = _said(*words, "--terms", "CC BY 4.0, Lab of A", "--responses")
    assert code == 2
    assert "--responses: expected data whose terms let anyone pass responses on" in said
    assert not (tmp_path / "out").exists()
    code, said = _said(*words, "--terms", "CC BY 4.0, Lab of A")
    assert code == 0, said
    assert "terms: Statement: CC BY 4.0, Lab of A" in said
    for name in ("README.md", "card.json", "dataset_description.json"):
        assert "CC BY 4.0, Lab of A" in (tmp_path / "out" / name).read_text()
    assert "exported before, kept" in _said(*words, "--terms", "CC BY 4.0, Lab of A")[1]
    code, said = _said(*words, "--terms", "CC BY 4.0, Lab of B")
    assert code == 2
    assert "an export that differs in: terms.Statement" in said


def test_runs_of_earlier_versions_need_a_statement_unless_their_kind_states_terms(
    fits: list[Run], licensed: CacheSpec, tmp_path: Path
) -> None:
    run = _without_terms(fits[0], tmp_path / "run")
    old = {name: value for name, value in run.metrics["dataset"].items() if name not in ("terms_stated", "show_images")}
    for kind, states in {"planted": True, "table": False, "unknown-plug-in": False}.items():
        earlier = replace(run, metrics={**run.metrics, "dataset": {**old, "name": kind}})
        if not states:
            with pytest.raises(SpecError, match="a statement of the terms"):
                bddn.export(earlier, tmp_path / "none", spec=licensed)
        else:
            bddn.export(earlier, tmp_path / kind, spec=licensed)


def test_weights_without_a_licence_are_not_copied(
    fits: list[Run], spec: CacheSpec, brain: Path, images: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=r"expected the licence of its weights.*--no-weights"):
        bddn.export(fits[0], tmp_path / "out", spec=spec)
    bddn.export(fits[0], tmp_path / "out", spec=spec, weights=False)
    assert not (tmp_path / "out" / "network").exists()
    code, said = _said("predict", tmp_path / "out", images[0])
    assert code == 2
    assert "network: expected a folder of weights" in said
    assert "--weights" in said
    network = find_network(read_run(tmp_path / "out"), None, str(brain / "backbone"), "cpu")
    assert network.name == str(tmp_path / "out" / "spec.yaml")


def test_only_a_new_folder_is_written(fits: list[Run], licensed: CacheSpec, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").touch()
    with pytest.raises(RunError, match="a folder with other files"):
        bddn.export(fits[0], tmp_path / "out", spec=licensed)
    with pytest.raises(BddnError, match="a network that differs in"):
        bddn.export(fits[0], tmp_path / "new", spec=licensed.model_copy(update={"grid": (8, 8)}))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def _list_again(folder: Path) -> None:
    """Write a list that agrees with the files, as somebody does who made them."""
    made_of = json.loads((folder / "export.json").read_text())["made_of"]
    (folder / "export.json").unlink()
    write_list(folder, Identity(made_of))


def _edit_list(edit: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        listed = json.loads((folder / "export.json").read_text())
        edit(listed["files"])
        (folder / "export.json").write_text(json.dumps(listed))

    return damage


def _flip(folder: Path) -> None:
    path = folder / "encoder.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _link(folder: Path) -> None:
    (folder / "voxels.parquet").rename(folder.parent / "voxels.parquet")
    (folder / "voxels.parquet").symlink_to(folder.parent / "voxels.parquet")


def _spec(**changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        fields = yaml.safe_load((folder / "spec.yaml").read_text())
        fields = {name: value for name, value in (fields | changes).items() if value is not None}
        (folder / "spec.yaml").write_text(yaml.safe_dump(fields))
        _list_again(folder)

    return damage


def _config(key: str, value: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        config = json.loads((folder / "network" / "config.json").read_text())
        (folder / "network" / "config.json").write_text(json.dumps({**config, "inner": {key: value}}))
        _list_again(folder)

    return damage


def _pickle(folder: Path) -> None:
    (folder / "network" / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    _list_again(folder)


def _encoder(**changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "encoder.safetensors"
        arrays, about = saved.read(path, "", "")
        saved.write(arrays, {**about, "spec": {**about["spec"], **changes}}, path)
        _list_again(folder)

    return damage


def _grid(folder: Path) -> None:
    path = folder / "encoder.safetensors"
    arrays, about = saved.read(path, "", "")
    for _, layer in about["layers"]:
        layer["grid"] = [10**5, 10**5]
    saved.write(arrays, about, path)
    _list_again(folder)


HARM: dict[str, tuple[Callable[[Path], object], str]] = {
    "a damaged file": (_flip, "other bytes"),
    "a shorter file": (lambda folder: (folder / "split.json").write_text("{}"), "2 bytes, not"),
    "a missing file": (lambda folder: (folder / "split.json").unlink(), "no such file"),
    "a path out": (_edit_list(lambda files: files.update({"../x": {"bytes": 1, "sha256": ""}})), "a path out of"),
    "an absolute path": (_edit_list(lambda files: files.update({"/x": {"bytes": 1, "sha256": ""}})), "a path out of"),
    "a link": (_link, "a link"),
    "a file that is not listed": (_edit_list(lambda files: files.pop("encoder.safetensors")), "got another file"),
    "a list of another form": (lambda folder: (folder / "export.json").write_text("[]"), "the list of the files"),
    "a network of code": (_spec(backbone={"module": "os:getcwd"}, weights=None), "code of its author"),
    "weights elsewhere": (_spec(weights={"folder": "/etc"}), "weights in the folder 'network'"),
    "a checkpoint elsewhere": (_spec(weights={"file": "/etc/passwd", "format": "timm"}), "weights in the folder"),
    "huge images": (_spec(image_size=10**6), "of a usual size"),
    "remote code": (_config("auto_map", {"AutoModel": "x--y.z"}), "may load other code"),
    "other kernels": (_config("_attn_implementation", "a/b"), "may load other code"),
    "a pickle": (_pickle, "pytorch_model.bin"),
    "huge channels": (_encoder(channels=10**9), "an encoder written by"),
    "huge selectors": (_encoder(selector_width=10**9), "an encoder written by"),
    "unknown settings": (_encoder(command="ls"), "an encoder written by"),
    "a huge grid": (_grid, "the grid [4, 3] of the run"),
}


@pytest.mark.parametrize("name", HARM)
def test_a_folder_that_export_would_not_write_is_refused(name: str, copy: Path, images: list[Path]) -> None:
    damage, words = HARM[name]
    damage(copy)
    with pytest.raises(BddnError) as caught:
        bddn.load_encoder(copy).predict(images[:1])
    assert words in str(caught.value)
    if name in ("a damaged file", "remote code"):
        code, said = _said("predict", copy, images[0])
        assert code == 2
        assert words in said


def test_a_checkpoint_in_the_folder_is_found_where_the_folder_is(copy: Path) -> None:
    _spec(weights={"file": "network/state.safetensors", "format": "timm"})(copy)
    found = exported_spec(read_run(copy))
    assert found is not None
    assert found.weights is not None
    assert found.weights.file == str(copy / "network" / "state.safetensors")


def test_public_weights_are_named_with_what_pins_them(
    fits: list[Run], spec: CacheSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bddn.exports import exporting

    network = bddn.load_encoder(fits[0].folder, spec=spec).network
    monkeypatch.setattr(exporting, "snapshot_of", lambda weights: tmp_path / "0123abc")
    checkpoint = tmp_path / "checkpoint.pth"
    checkpoint.write_bytes(b"1")
    monkeypatch.setattr(exporting, "file_of", lambda weights: checkpoint)
    for weights, pin in (
        (WeightsSpec(hub="a/b"), {"revision": "0123abc"}),
        (WeightsSpec(hub="a/b", revision="main2"), {"revision": "main2"}),
        (WeightsSpec(url="https://x/y.pth", format="timm"), {"sha256": file_sha256(checkpoint)}),
    ):
        named = spec.model_copy(update={"weights": weights, "licence": "MIT"})
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        done = exporting.export_with(fits[0], replace(network, spec=named), out)
        assert done.way == "public"
        kept = yaml.safe_load((out / "spec.yaml").read_text())["weights"]
        assert {name: kept[name] for name in pin} == pin
        assert "bddn fetch" in (out / "README.md").read_text()
        assert f"at {weights.place}; their licence: MIT." in done.terms["Network"]


def test_the_copied_weights_are_safetensors_alone(exported: Path) -> None:
    assert {path.name for path in (exported / "network").iterdir()} == {"config.json", "model.safetensors"}
    with safe_open(exported / "network" / "model.safetensors", framework="numpy") as file:
        assert len(list(file.keys())) > 10
