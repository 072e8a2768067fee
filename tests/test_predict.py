"""Responses to new pictures: the network that is taken, its tokens, what is predicted of them, and what is written."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import typer
import yaml
from PIL import Image
from typer.testing import CliRunner

from bddn.backbones.registry import open_backbone
from bddn.cli.predict import find_network
from bddn.cli.predict import predict as command
from bddn.cortex.gifti import read_gifti
from bddn.encoder import checkpoint
from bddn.encoder.brain_score import PREDICT_IMAGES
from bddn.errors import BddnError, DataError, MismatchError, RunError
from bddn.extraction import extract
from bddn.planted.subject import Planted
from bddn.predict import (
    Network,
    Pictures,
    aligned_local,
    cache_of,
    check_network,
    open_network,
    predict,
    predict_pictures,
    read_pictures,
    specs_of,
    tokens_of,
)
from bddn.run import Run, fit_run, read_channels, read_run
from bddn.spec import CacheSpec, FamilySpec, FitSpec, ModuleSpec, PlantSpec, WeightsSpec
from bddn.stats.scores import R2
from bddn.store.reader import Cache
from bddn.stream.features import Features

SMALL = {"channels": 8, "selector_width": 16, "epochs": 2, "batch_size": 4}
FIT = FitSpec.parse({**FitSpec.recipe("fast").to_dict(), **SMALL}, "test")


@pytest.fixture(scope="module")
def run(sealed: Path, brain: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Read only."""
    return fit_run(sealed, Planted(brain), tmp_path_factory.mktemp("runs") / "run", FIT)[0]


@pytest.fixture(scope="module")
def network(run: Run, spec: CacheSpec) -> Network:
    return open_network(run, {"planted": spec}, "cpu")


@pytest.fixture(scope="module")
def pictures(brain: Path) -> Pictures:
    """Those of the planted brain, in its order."""
    return read_pictures(Planted(brain).stimuli.paths)


def _stored(store: Cache, layers: tuple[str, ...]) -> Features:
    n = len(store.ids)
    local = [store.read("local", layer, 0, n).flatten(1, 2) for layer in layers]
    return Features(local, [store.read("global", layer, 0, n) for layer in layers])


def _equal(a: Features, b: Features) -> bool:
    pairs = zip((*a.local, *a.global_), (*b.local, *b.global_), strict=True)
    return all(x is not None and y is not None and x.dtype == y.dtype and torch.equal(x, y) for x, y in pairs)


def test_tokens_are_those_of_the_cache(run: Run, network: Network, pictures: Pictures, sealed: Path) -> None:
    assert network.version_differences == []
    assert _equal(tokens_of(run, network, pictures), _stored(Cache(sealed), run.layers))


@pytest.mark.parametrize("precision", ["bfloat16", "float32", "bitround:6", "int8"])
def test_tokens_are_rounded_as_stored(
    precision: str, run: Run, spec: CacheSpec, brain: Path, pictures: Pictures, tmp_path: Path
) -> None:
    rounded = spec.model_copy(update={"precision": precision})
    extract(rounded, Planted(brain), tmp_path / "cache.zarr")
    store = Cache(tmp_path / "cache.zarr")
    header = {key: store.header[key] for key in ("spec", "backbone", "made_with")}
    found = replace(run, about=run.about | {"cache": {"digest": store.digest, **header}})
    opened = open_network(found, {"rounded": rounded}, "cpu")
    assert _equal(tokens_of(found, opened, pictures), _stored(store, run.layers))


def test_layers_are_those_of_the_run_in_its_order(
    sealed: Path, spec: CacheSpec, brain: Path, pictures: Pictures, tmp_path: Path
) -> None:
    layers = ("block_1", "block_0")
    fitting = FIT.model_copy(update={"epochs": 1, "layers": layers})
    found, _ = fit_run(sealed, Planted(brain), tmp_path / "run", fitting)
    opened = open_network(found, {"planted": spec}, "cpu")
    assert opened.backbone.layers == ("block_0", "block_1")
    assert _equal(tokens_of(found, opened, pictures), _stored(Cache(sealed), layers))


def test_a_picture_alone_has_nearly_the_tokens_that_it_has_among_others(
    run: Run, network: Network, pictures: Pictures
) -> None:
    alone, among = tokens_of(run, network, pictures.part(9, 10)), tokens_of(run, network, pictures.part(0, 12))
    for a, b in zip(alone.local, among.local, strict=True):
        torch.testing.assert_close(a[0], b[9], rtol=2e-3, atol=2e-3)


def test_predictions_are_those_of_the_encoder_on_the_cache(
    run: Run, network: Network, pictures: Pictures, sealed: Path
) -> None:
    model = checkpoint.load(run.folder / "encoder.safetensors")
    expected = model.predict(_stored(Cache(sealed), run.layers).float()).numpy()
    found = predict(run, tokens_of(run, network, pictures))
    assert found.dtype == np.float32
    assert found.shape == (len(pictures), len(run.voxels))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert len(pictures) > max(PREDICT_IMAGES, network.spec.shard_images)
    np.testing.assert_allclose(predict_pictures(run, network, pictures), found, rtol=1e-4, atol=1e-5)


def test_predictions_of_the_test_images_have_the_score_of_the_run(
    run: Run, network: Network, brain: Path, pictures: Pictures
) -> None:
    data = Planted(brain)
    test = json.loads((run.folder / "split.json").read_text())["test"]
    rows = np.array([data.stimuli.ids.index(i) for i in test])
    sums = R2()
    sums.add(data.responses(rows), predict_pictures(run, network, pictures)[rows])
    np.testing.assert_allclose(sums.score(), run.voxels["r2_test"], rtol=1e-4, atol=1e-5)


def test_tokens_of_another_network_are_refused(run: Run) -> None:
    with pytest.raises(MismatchError, match="tokens of images"):
        predict(run, Features([torch.zeros(2, 12, 5)] * 3, [torch.zeros(2, 5)] * 3))


def test_aligned_features_are_tokens_through_the_channel_align(run: Run, network: Network, pictures: Pictures) -> None:
    tokens = tokens_of(run, network, pictures)
    found = aligned_local(run, tokens)
    model = checkpoint.load(run.folder / "encoder.safetensors")
    h, w = network.spec.grid
    assert found.shape == (3, len(pictures), h, w, SMALL["channels"])
    for k, matrix in enumerate(model.align_local):
        expected = tokens.local[k].float() @ matrix.detach() + model.offset_local[k]
        np.testing.assert_allclose(found[k].reshape(len(pictures), h * w, -1), expected, rtol=1e-4, atol=1e-4)
    assert np.array_equal(read_channels(run), model.channels.detach().numpy())


def _twin(planted_spec: PlantSpec, seed: int) -> CacheSpec:
    """An untrained network of three blocks."""
    size = {"image_size": planted_spec.image_size, "patch_size": 14, "num_hidden_layers": 3, "hidden_size": 24}
    return CacheSpec(
        title="twin",
        backbone=FamilySpec(family="clip", architecture=size | {"num_attention_heads": 2, "intermediate_size": 32}),
        weights=WeightsSpec(random=seed),
        image_size=planted_spec.image_size,
        grid=(4, 3),
        chunk_images=4,
        shard_images=16,
    )


@pytest.fixture(scope="module")
def twin_run(brain: Path, planted_spec: PlantSpec, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("twin")
    extract(_twin(planted_spec, 3), Planted(brain), folder / "cache.zarr")
    return fit_run(folder / "cache.zarr", Planted(brain), folder / "run", FIT)[0]


def test_only_the_seed_of_the_cache_is_its_network(twin_run: Run, planted_spec: PlantSpec, tmp_path: Path) -> None:
    path = tmp_path / "twin.yaml"
    path.write_text(yaml.safe_dump(_twin(planted_spec, 0).to_dict()))
    assert find_network(twin_run, str(path), "random:3", "cpu").backbone.layers == twin_run.layers
    with pytest.raises(
        MismatchError, match=r"twin.yaml.*backbone.weights_sha256 \w+ → \w+\. Give --spec and --weights"
    ):
        find_network(twin_run, str(path), None, "cpu")


def test_a_spec_that_differs_is_refused_before_its_weights_are_asked_for(run: Run, spec: CacheSpec) -> None:
    gone = WeightsSpec(folder="nowhere")
    with pytest.raises(MismatchError, match=r"spec.grid \[4, 3\] → \[8, 8\]"):
        open_network(run, {"other": spec.model_copy(update={"grid": (8, 8), "weights": gone})}, "cpu")
    with pytest.raises(BddnError, match="nowhere: expected a folder of weights"):
        open_network(run, {"gone": spec.model_copy(update={"weights": gone})}, "cpu")
    hub = WeightsSpec(hub="owner/none")
    with pytest.raises(BddnError, match="Run 'bddn fetch hub'"):
        open_network(run, {"hub": spec.model_copy(update={"weights": hub})}, "cpu")


def test_the_network_is_found_among_named_specs(run: Run, spec: CacheSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(spec.backbone, FamilySpec)
    named = {
        "another grid": spec.model_copy(update={"grid": (8, 8)}),
        "another class": spec.model_copy(update={"backbone": FamilySpec(family="vit")}),
        "another depth": spec.model_copy(
            update={"backbone": spec.backbone.model_copy(update={"architecture": {"num_hidden_layers": 12}})}
        ),
        "other weights": spec.model_copy(update={"weights": WeightsSpec(folder="nowhere")}),
        "right": spec,
    }
    monkeypatch.setattr("bddn.predict.network.load_specs", lambda: named)
    assert list(specs_of(run)) == ["other weights", "right"]
    assert find_network(run, None, None, "cpu").name == "right"
    folder = str(spec.weights.folder) if spec.weights else ""
    assert find_network(run, None, folder, "cpu").name == "other weights"
    del named["right"]
    alike = FamilySpec(family="clip", architecture=cache_of(run)["backbone"]["config"])
    named["twin"] = spec.model_copy(update={"backbone": alike, "weights": WeightsSpec(random=0)})
    with pytest.raises(MismatchError, match="other weights: no such folder; twin: a network that differs in"):
        find_network(run, None, None, "cpu")
    named.clear()
    with pytest.raises(MismatchError, match="no suitable spec in cache_specs/"):
        find_network(run, None, None, "cpu")


def test_a_module_of_the_users_own_is_found_by_its_spec(brain: Path, pictures: Pictures, tmp_path: Path) -> None:
    def own(function: str) -> CacheSpec:
        return CacheSpec(
            title="own",
            backbone=ModuleSpec(module=f"backbones.own_nets:{function}", layers=("blocks.?",)),
            image_size=32,
            preprocess="paper" if function == "build" else "native",
            shard_images=16,
        )

    extract(own("build"), Planted(brain), tmp_path / "cache.zarr")
    fit = FIT.model_copy(update={"epochs": 1, "layers": ("blocks.1", "blocks.0")})
    found, _ = fit_run(tmp_path / "cache.zarr", Planted(brain), tmp_path / "run", fit)
    opened = open_network(found, {"own": own("build")}, "cpu")
    cached = _stored(Cache(tmp_path / "cache.zarr"), found.layers)
    assert _equal(tokens_of(found, opened, pictures), cached)
    with pytest.raises(MismatchError, match=r"spec.preprocess paper → native"):
        open_network(found, {"own": own("with_preprocess")}, "cpu")
    handed = check_network(found, "mine", own("build"), open_backbone(own("build")), "cpu")
    assert _equal(tokens_of(found, handed, pictures.part(0, 4)), cached.at(slice(0, 4)))


def test_a_network_without_a_layer_of_the_run_is_refused(run: Run, network: Network) -> None:
    with pytest.raises(MismatchError, match="no layer 'block_7'"):
        check_network(replace(run, layers=("block_7",)), "short", network.spec, network.backbone, "cpu")


def test_other_versions_are_told_and_not_refused(run: Run, spec: CacheSpec) -> None:
    about = copy.deepcopy(run.about)
    about["cache"]["made_with"]["torch"] = "0.1"
    others = open_network(replace(run, about=about), {"planted": spec}, "cpu").version_differences
    assert len(others) == 1
    assert others[0].startswith("torch 0.1 → ")


@pytest.mark.parametrize("about", [{}, {"cache": 1}, {"cache": {"digest": ""}}])
def test_a_run_that_does_not_say_its_cache_is_refused(run: Run, spec: CacheSpec, about: dict[str, Any]) -> None:
    with pytest.raises(RunError, match="a description of the cache of this run"):
        open_network(replace(run, about=about), {"planted": spec}, "cpu")


def _picture(path: Path, seed: int = 0, exif: Image.Exif | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)).save(path, exif=exif or b"")
    return path


def test_folders_are_read_by_name_and_a_file_once(tmp_path: Path) -> None:
    b, a = _picture(tmp_path / "b.JPG"), _picture(tmp_path / "a.png")
    _picture(tmp_path / ".hidden.png")
    _picture(tmp_path / "inner" / "c.png")
    (tmp_path / "notes.txt").write_text("no picture")
    bmp = _picture(tmp_path / "other" / "d.bmp")
    assert read_pictures([b, tmp_path, bmp]).stimuli.paths == (b, a, bmp)
    with pytest.raises(DataError, match="got none"):
        read_pictures([])
    with pytest.raises(DataError, match=r"photos: expected complete image files.*; got no such file"):
        read_pictures([Path("photos")])


def test_all_bad_files_are_listed_at_once(tmp_path: Path) -> None:
    cut = _picture(tmp_path / "cut.png")
    cut.write_bytes(cut.read_bytes()[:200])
    empty = tmp_path / "empty"
    empty.mkdir()
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    odd = _picture(tmp_path / "odd\n.png")
    bad = [cut, empty, text, tmp_path / "missing.png"]
    with pytest.raises(DataError) as caught:
        read_pictures([_picture(tmp_path / "good.png"), *bad, odd])
    assert all(str(path) in str(caught.value) for path in bad)
    assert "odd\\n.png' (a name that cannot be printed)" in str(caught.value)
    assert "good.png" not in str(caught.value)


def test_a_picture_that_asks_to_be_rotated_is_told(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    path = _picture(tmp_path / "turned.jpg", exif=turned)
    found = read_pictures([_picture(tmp_path / "upright.jpg"), path])
    assert found.notes == (f"an EXIF rotation is not applied to 1 image, the first {path}",)


def _invoke(*arguments: object) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    return done.exit_code, done.output


def test_the_command_writes_arrays_tables_and_maps(run: Run, spec: CacheSpec, brain: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "planted.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(spec.to_dict()))
    images = [_picture(tmp_path / "new" / f"{'very ' * k}new {k}.png", k) for k in (0, 20)]
    arguments = (run.folder, *images, "--spec", path, "--device", "cpu", "--out", out)
    code, said = _invoke(*arguments)
    assert code == 0, said
    assert f"predicted: {out}, 2 images × {len(run.voxels)} voxels" in said
    responses = np.load(out / "responses.npy", allow_pickle=False)
    network = open_network(run, {"planted": spec}, "cpu")
    expected = predict_pictures(run, network, read_pictures(images))
    np.testing.assert_array_equal(responses, expected)
    assert np.ptp(responses, axis=0).max() > 0
    table = pd.read_csv(out / "images.csv")
    assert table["row"].tolist() == [0, 1]
    assert table["file"].tolist() == [str(image) for image in images]
    assert table["sha256"].tolist() == list(read_pictures(images).sha256)
    maps = sorted((out / "maps").iterdir())
    assert len(maps) == 4
    assert maps[0].name == "00000_new 0.lh.func.gii"
    for k, gifti in enumerate(maps):
        hemi, arrays = read_gifti(gifti)
        assert hemi == ("lh", "rh")[k % 2]
        ((name, values),) = arrays.items()
        assert name == f"response to {images[k // 2].name}"
        mine = run.voxels["hemi"] == hemi
        np.testing.assert_array_equal(values[run.voxels.loc[mine, "vertex"]], responses[k // 2, mine])
        assert np.isfinite(values).sum() == mine.sum()

    assert f"figure: {out / 'responses.png'}" in said
    with Image.open(out / "responses.png") as sheet:
        assert np.asarray(sheet.convert("RGB")).std() > 10  # something is drawn
    titles = (out / "responses.txt").read_text()
    assert f"(1) new 0.png. (2) predicted response. (3) {images[1].name[:27]}…. (4) predicted response." in titles

    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    first = next(line for line in said.splitlines() if line.startswith("predicted:"))
    code, again = _invoke(*arguments)
    assert (code, again.splitlines()[-1]) == (0, first.replace("network " + str(path), "predicted before, kept"))
    code, said = _invoke(run.folder, images[0], "--spec", path, "--out", out)
    assert code == 2
    assert "predictions that differ in: pictures_sha256" in " ".join(said.split())
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("*")}


def test_the_command_refuses_bad_input_before_any_work(run: Run, spec: CacheSpec, tmp_path: Path) -> None:
    good = _picture(tmp_path / "good.png")
    something = tmp_path / "something"
    _picture(something / "precious.png")
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(spec.to_dict() | {"grid": [8, 8]}))
    for arguments, expected in (
        ((tmp_path, good), "a run folder of 'bddn fit'"),
        ((run.folder, tmp_path / "none.png"), "none.png"),
        ((run.folder, good, "--out", something), "a folder with other files"),
        ((run.folder, good, "--out", good), "Not a directory"),
        ((run.folder, good, "--spec", other), "spec.grid"),
    ):
        code, said = _invoke(*arguments)
        assert code == 2
        assert expected in " ".join(said.split()), said
        assert "Traceback" not in said
    assert not (run.folder / "predicted").exists()
    assert [p.name for p in something.iterdir()] == ["precious.png"]


def test_predictions_lie_in_the_run_folder_by_default(run: Run, spec: CacheSpec, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    path = tmp_path / "planted.yaml"
    path.write_text(yaml.safe_dump(spec.to_dict()))
    code, said = _invoke(tmp_path / "run", _picture(tmp_path / "new.png"), "--spec", path)
    assert code == 0, said
    assert (tmp_path / "run" / "predicted" / "responses.npy").is_file()
    assert read_run(tmp_path / "run").layers == run.layers
