"""Every input of every stage is changed, one at a time: either it is other work by name, or the result is the same.

For each change the command is run once more on what is there. It may refuse, naming what differs; it may not touch what
is there. Where it keeps what is there, the same command in a new place must give the very same bytes. A new field of a
spec, or a new argument, fails here until it is in one of the tables.
"""

import inspect
import json
import shutil
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from bddn.backbones.registry import open_backbone
from bddn.cli import app
from bddn.data.dataset import Stimuli
from bddn.errors import MismatchError, RunError
from bddn.extraction import extract
from bddn.extraction.job import in_this_process
from bddn.many import fit_many
from bddn.many.campaign import one_by_one
from bddn.planted.subject import Planted
from bddn.run import Subject, fit_run
from bddn.spec import CacheSpec, FamilySpec, FitSpec, WeightsSpec
from bddn.store.canonical import encode_json
from bddn.store.reader import Cache
from bddn.stream.loader import Streamed
from store.stores import seal_again

Change = Callable[[dict[str, Any]], dict[str, Any]]
"""From the arguments of a call to those of a call that differs in one input."""


def files(root: Path, *apart: str) -> dict[str, bytes]:
    """All files of a folder but some; of metrics.json what is not a time or a name for people."""
    found = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name not in apart
    }
    if "metrics.json" in found:
        metrics = json.loads(found["metrics.json"])
        for name in ("title", "threads", "seconds", "epoch_seconds", "seconds_waited_for_tokens"):
            metrics.pop(name)
        found["metrics.json"] = json.dumps(metrics).encode()
    return found


def assert_same_work_or_refused(
    call: Callable[[dict[str, Any], Path], object], kept: Path, changed: dict[str, Any], fresh: Path
) -> str:
    """Call once more on what is there. Returns the error's words, or '' where what is there was kept."""
    before = files(kept)
    try:
        call(changed, kept)
        words = ""
    except (MismatchError, RunError) as error:
        words = str(error)
    assert files(kept) == before, words or "it kept what was there, and yet changed it"
    if words:
        return words
    call(changed, fresh)
    assert files(fresh) == before, "it kept a result that this input does not give"
    return words


# --- extract


class Other(Planted):
    """A planted brain with other stimuli."""

    def __init__(self, brain: Planted, ids: Iterable[str], paths: Iterable[Path]) -> None:
        super().__init__(brain.folder.parent)
        self._other = Stimuli(tuple(ids), tuple(paths))

    @property
    def stimuli(self) -> Stimuli:
        return self._other


def _spec(**fields: Any) -> Change:
    return lambda given: {**given, "spec": CacheSpec.parse(given["spec"].to_dict() | fields, "test")}


def _backbone(**fields: Any) -> Change:
    def change(given: dict[str, Any]) -> dict[str, Any]:
        about = given["spec"].backbone.model_copy(update=fields)
        return {**given, "spec": given["spec"].model_copy(update={"backbone": about})}

    return change


def _weights(change_one: bool) -> Change:
    """The same weights in another folder, perhaps with one number changed by its last bit."""

    def change(given: dict[str, Any]) -> dict[str, Any]:
        folder = given["tmp"] / "weights"
        shutil.copytree(given["spec"].weights.folder, folder)
        if change_one:
            state = load_file(folder / "model.safetensors")
            name = next(name for name in sorted(state) if "layers.0" in name and state[name].ndim == 2)
            state[name][0, 0] *= 1 + 2**-23
            save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return {**given, "spec": given["spec"].model_copy(update={"weights": WeightsSpec(folder=str(folder))})}

    return change


def _stimuli(of: Callable[[Planted, Path], tuple[Iterable[str], Iterable[Path]]]) -> Change:
    return lambda given: {**given, "dataset": Other(given["dataset"], *of(given["dataset"], given["tmp"]))}


def _one_other_picture(data: Planted, tmp: Path) -> tuple[Iterable[str], Iterable[Path]]:
    paths = list(data.stimuli.paths)
    image = data.stimuli.image(7)
    image.putpixel((3, 3), (1, 2, 3))
    image.save(tmp / "other.png")
    paths[7] = tmp / "other.png"
    return data.stimuli.ids, paths


def _same_pictures_elsewhere(data: Planted, tmp: Path) -> tuple[Iterable[str], Iterable[Path]]:
    copied = [Path(shutil.copy(path, tmp / f"{i}.png")) for i, path in enumerate(data.stimuli.paths)]
    return data.stimuli.ids, copied


def _rotated(values: Iterable[Any]) -> tuple[Any, ...]:
    first, *rest = values
    return (*rest, first)


OF_A_SPEC: dict[str, Any] = {  # of CacheSpec, by field: another value of it
    "title": "another title",
    "licence": "MIT",
    "groups": ("figure9",),
    "batch_size": 3,
    "image_size": 56,
    "preprocess": "native",
    "autocast": "bfloat16",
    "grid": (3, 4),
    "global_token": "mean",
    "precision": "bitround:6",
    "chunk_images": 8,
    "shard_images": 32,
}
EXTRACT: dict[str, Change] = {
    **{f"spec.{name}": _spec(**{name: value}) for name, value in OF_A_SPEC.items()},
    "spec.backbone: fewer layers": _backbone(layers=("block_0", "block_2")),
    "spec.backbone: all layers by name": _backbone(layers=("block_2", "block_1", "block_0")),
    "spec.backbone: the architecture spelled out": _backbone(architecture={"num_hidden_layers": 3}),
    "spec.weights: one bit": _weights(True),
    "spec.weights: another folder": _weights(False),
    "dataset: one picture": _stimuli(_one_other_picture),
    "dataset: pictures elsewhere": _stimuli(_same_pictures_elsewhere),
    "dataset: ids of their neighbours": _stimuli(lambda data, _: (_rotated(data.stimuli.ids), data.stimuli.paths)),
    "dataset: pictures of their neighbours": _stimuli(lambda data, _: (data.stimuli.ids, _rotated(data.stimuli.paths))),
    "dataset: another order": _stimuli(lambda data, _: (_rotated(data.stimuli.ids), _rotated(data.stimuli.paths))),
    "dataset: one less": _stimuli(lambda data, _: (data.stimuli.ids[1:], data.stimuli.paths[1:])),
    "device": lambda given: {**given, "device": "cpu"},
    "part": lambda given: {**given, "part": (1, 1)},
    "work": lambda given: {**given, "work": in_this_process},
    "backbone: open already": lambda given: {**given, "backbone": open_backbone(given["spec"])},
    "tell": lambda given: {**given, "tell": print},
}
KEPT_BY_EXTRACT = {
    "spec.title",
    "spec.licence",
    "spec.groups",
    "spec.batch_size",
    "spec.backbone: all layers by name",
    "spec.backbone: the architecture spelled out",
    "spec.weights: another folder",
    "dataset: pictures elsewhere",
    "device",
    "part",
    "work",
    "backbone: open already",
    "tell",
}


def test_every_input_of_an_extraction_is_in_the_table() -> None:
    named = {
        "registers": "this network has none; tests/test_registers.py compares caches with and without",
        "compile": "tests/backbones/test_contract.py compiles; it takes minutes on a CPU",
        "parent": "it is recorded beside versions; tests/finetune compares tokens with and without",
    }
    assert {*OF_A_SPEC, "backbone", "weights", *named} == CacheSpec.model_fields.keys()
    tried = {name.partition(".")[0].partition(":")[0] for name in EXTRACT}
    assert tried | {"out"} == inspect.signature(extract).parameters.keys()


@pytest.mark.parametrize("name", EXTRACT)
def test_an_extraction_with_one_other_input_is_other_work_or_gives_the_same_bytes(
    name: str, sealed: Path, spec: CacheSpec, planted: Planted, tmp_path: Path
) -> None:
    given = {"spec": spec, "dataset": planted, "tmp": tmp_path}
    changed = EXTRACT[name](given)
    del changed["tmp"]

    def call(arguments: dict[str, Any], out: Path) -> None:
        extract(**arguments, out=out)

    words = assert_same_work_or_refused(call, sealed, changed, tmp_path / "fresh.zarr")
    assert (words == "") == (name in KEPT_BY_EXTRACT), words


def test_an_unfinished_extraction_is_not_resumed_with_another_input(
    sealed: Path, spec: CacheSpec, planted: Planted, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.zarr"

    @contextmanager
    def first_shard_only(job: Any) -> Any:
        with in_this_process(job) as compute:
            yield lambda shards, advance: {**compute(shards[:1], advance), **{k: {"host": "x"} for k in shards[1:]}}

    class EnoughError(Exception):
        pass

    def enough(_: float) -> None:
        raise EnoughError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bddn.extraction.extraction.time.sleep", enough)
        with pytest.raises(EnoughError):
            extract(spec, planted, cut, work=first_shard_only)
    before = files(cut)
    assert "manifest/seal.json" not in before
    for name in ("spec.grid", "spec.weights: one bit", "dataset: one picture", "dataset: ids of their neighbours"):
        folder = tmp_path / name.replace(":", "").replace(" ", "-")
        folder.mkdir()
        changed = EXTRACT[name]({"spec": spec, "dataset": planted, "tmp": folder})
        with pytest.raises(MismatchError):
            extract(changed["spec"], changed["dataset"], cut)
        assert files(cut) == before
    assert extract(spec, planted, cut).digest == Cache(sealed).digest


# --- fit

FIT = FitSpec.parse(
    {
        **FitSpec.recipe("fast").to_dict(),
        "channels": 8,
        "code_frequencies": 2,
        "selector_width": 8,
        "initial_align": "random",  # what raw features need
        "shared_noise": "kept",  # so do these
        "shared_signal": "kept",
        "blurred_tokens": "kept",
        "epochs": 1,
        "batch_size": 8,
        "sample": None,
        "sampled": "evenly",
    },
    "test",
)


class Subject2(Planted):
    """A planted brain of which one thing is changed."""

    def __init__(self, brain: Planted, what: str = "") -> None:
        super().__init__(brain.folder.parent)
        self._what, self._plain = what, brain

    @property
    def stimuli(self) -> Stimuli:
        ids, paths = self._plain.stimuli.ids, self._plain.stimuli.paths
        if self._what == "ids of their neighbours":
            return Stimuli(_rotated(ids), _rotated(paths))
        if self._what == "another order":
            return Stimuli(ids[::-1], paths[::-1])
        if self._what == "fewer":
            return Stimuli(ids[1:], paths[1:])
        if self._what == "no images here":
            return Stimuli(ids, tuple(path.with_name(f"gone-{path.name}") for path in paths))
        return self._plain.stimuli

    def responses(self, rows: npt.NDArray[np.intp] | None = None) -> npt.NDArray[np.float32]:
        wanted = np.arange(len(self.stimuli)) if rows is None else rows
        if self._what == "another order":
            return self._plain.responses(len(self.stimuli) - 1 - wanted)
        if self._what == "fewer":
            return self._plain.responses(wanted + 1)
        found = self._plain.responses(wanted)
        if self._what == "one response":
            found[wanted == 5, 3] += 1e-3
        return found

    def voxels(self) -> pd.DataFrame:
        found = self._plain.voxels()
        if self._what == "one ROI label":
            found.loc[4, "roi"] = "FFA-1"
        if self._what == "ceilings":
            found["ceiling"] = found["ceiling"] + 1e-6
        return found

    def coords_mm(self) -> npt.NDArray[np.float32]:
        found = self._plain.coords_mm().copy()
        found[0, 0] += 0.01 if self._what == "one position" else 0.0
        return found

    def truth(self) -> pd.DataFrame | None:
        found = self._plain.truth()
        assert found is not None
        if self._what == "no truth":
            return None
        if self._what == "one truth":
            found["depth"] = found["depth"] * 0.99
        return found


def _data(what: str) -> Change:
    return lambda given: {**given, "dataset": Subject2(given["dataset"], what)}


def _fit(**fields: Any) -> Change:
    return lambda given: {**given, "spec": FitSpec.parse(given["spec"].to_dict() | fields, "test")}


def _resident(given: dict[str, Any]) -> dict[str, Any]:
    store = Cache(given["cache"])
    return {**given, "resident": Streamed(store, store.layers, given["dataset"].stimuli.ids).load()}


def _copied_cache(given: dict[str, Any]) -> dict[str, Any]:
    return {**given, "cache": Path(shutil.copytree(given["cache"], given["tmp"] / "renamed.zarr"))}


def _other_cache(given: dict[str, Any]) -> dict[str, Any]:
    about = CacheSpec(
        title="the planted network, rounded",
        backbone=FamilySpec(family="clip"),
        weights=WeightsSpec(folder=str(given["dataset"].folder.parent / "backbone")),
        image_size=112,
        grid=(4, 3),
        precision="bitround:6",
        batch_size=6,
        chunk_images=4,
        shard_images=16,
    )
    extract(about, given["dataset"], given["tmp"] / "rounded.zarr")
    return {**given, "cache": given["tmp"] / "rounded.zarr"}


OF_A_FIT: dict[str, Any] = {  # of FitSpec, by field: another value of it
    "seed": 1,
    "split": (7, 2, 1),
    "split_seed": 1,
    "split_by": {"clusters": 4},
    "covariates": ("old",),
    "layers": ("block_0", "block_1"),
    "channels": 4,
    "code_frequencies": 3,
    "code_period": 900.0,
    "code_steps": 90.0,
    "selection": "free",
    "selector_width": 16,
    "readout": "mean",
    "features": "raw",
    "initial_align": "responses",
    "shared_noise": "limited",
    "shared_signal": "late",
    "bootstrap": 0,
    "half": 1,
    "epochs": 2,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "schedule": "constant",
    "weight_decay": 0.02,
    "gradient_clip": 0.4,
    "loss_beta": 0.2,
    "regularizer": 0.02,
    "regularizer_steps": 100,
    "regularizer_fall": "linear",
    "layer_regularizer": 0.0,
    "scale_regularizer": "square",
    "blurred_tokens": "scaled",
    "blurs": (0.0, 1.0),
    "sample": 40,
    "sampled": "responsive",
    "resolution": 0.5,
    "merged_at": "centre",
    "fixed": "place",
    "max_steps": 20,
    "min_steps": 10,
    "polish": False,
    "arithmetic": "tf32",
}
SUBJECTS = (
    "ids of their neighbours",
    "another order",
    "fewer",
    "one response",
    "one ROI label",
    "ceilings",
    "one position",
    "one truth",
    "no truth",
)
FITS: dict[str, Change] = {
    **{f"spec.{name}": _fit(**{name: value}) for name, value in OF_A_FIT.items()},
    **{f"dataset: {what}": _data(what) for what in SUBJECTS},
    "dataset: no images here": _data("no images here"),
    "dataset: a name": lambda given: {**given, "dataset": _renamed(given["dataset"])},
    "cache: other tokens": _other_cache,
    "cache: a copy": _copied_cache,
    "cache: open already": lambda given: {**given, "cache": Cache(given["cache"])},
    "device": lambda given: {**given, "device": "cpu"},
    "memory_gib": lambda given: {**given, "memory_gib": 0.1},
    "readers": lambda given: {**given, "readers": 0, "memory_gib": 0.1},
    "checkpoint_every_s": lambda given: {**given, "checkpoint_every_s": 0.0},
    "resident": _resident,
    "subject": lambda given: {**given, "subject": Subject.read(given["dataset"])},
}
KEPT_BY_FIT = {
    "dataset: no images here",
    "dataset: a name",
    "cache: a copy",
    "cache: open already",
    "device",
    "memory_gib",
    "readers",
    "checkpoint_every_s",
    "resident",
    "subject",
}


def _renamed(data: Planted) -> Planted:
    found = Planted(data.folder.parent)
    found.name = "planted:elsewhere"
    return found


@pytest.fixture(scope="module")
def fitted(sealed: Path, brain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run; read only."""
    out = tmp_path_factory.mktemp("fitted") / "run"
    fit_run(sealed, Planted(brain), out, FIT, device="cpu")
    return out


def test_every_input_of_a_fit_is_in_the_table() -> None:
    assert OF_A_FIT.keys() == FitSpec.model_fields.keys()
    tried = {name.partition(".")[0].partition(":")[0] for name in FITS}
    assert tried | {"out"} == inspect.signature(fit_run).parameters.keys()


@pytest.mark.parametrize("name", FITS)
def test_a_fit_with_one_other_input_is_other_work_or_gives_the_same_bytes(
    name: str, fitted: Path, sealed: Path, planted: Planted, tmp_path: Path
) -> None:
    changed = FITS[name]({"cache": sealed, "dataset": planted, "spec": FIT, "device": "cpu", "tmp": tmp_path})
    del changed["tmp"]

    def call(arguments: dict[str, Any], out: Path) -> None:
        fit_run(**arguments, out=out)

    words = assert_same_work_or_refused(call, fitted, changed, tmp_path / "fresh")
    assert (words == "") == (name in KEPT_BY_FIT), words


def test_other_pictures_under_the_ids_of_the_cache_are_refused(
    sealed: Path, brain: Path, planted: Planted, tmp_path: Path
) -> None:
    own = Planted(Path(shutil.copytree(brain, tmp_path / "brain")))
    Image.new("RGB", (112, 112), (9, 9, 9)).save(own.stimuli.paths[11])
    with pytest.raises(MismatchError, match=r"another image; 1 of 48 images differ"):
        fit_run(sealed, own, tmp_path / "run", FIT)
    assert not (tmp_path / "run").exists()


def test_a_fit_that_does_not_resume_from_a_checkpoint_beside_it_says_so(
    sealed: Path, planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bddn.run.fitting.voxel_table", stop)
        with pytest.raises(KeyboardInterrupt):
            fit_run(sealed, Subject2(planted, "one response"), tmp_path / "run", FIT, checkpoint_every_s=0)
    (checkpoint,) = tmp_path.glob(".run-*.fit")
    fit_run(sealed, planted, tmp_path / "run", FIT)
    assert f"'{checkpoint.name}'" in capsys.readouterr().err
    assert (checkpoint / "state.safetensors").exists()


def test_a_run_of_an_earlier_version_is_told_by_what_it_did_not_write_down(
    fitted: Path, sealed: Path, planted: Planted, tmp_path: Path
) -> None:
    old = Path(shutil.copytree(fitted, tmp_path / "run"))
    about = json.loads((old / "run.json").read_text())
    for part in ("stimuli_sha256", "images_sha256", "positions_sha256", "truth_sha256"):
        del about["data"][part]
    (old / "run.json").write_text(json.dumps(about))
    before = files(old)
    with pytest.raises(RunError, match=r"data\.stimuli_sha256 is not recorded there: it was not given, or an earlier"):
        fit_run(sealed, planted, old, FIT)
    assert files(old) == before


# --- fit-many


@pytest.fixture
def many(sealed: Path, brain: Path, fitted: Path, tmp_path: Path) -> dict[str, Any]:
    """Arguments of a campaign whose only run is there already."""
    own = Path(shutil.copytree(brain, tmp_path / "brain"))
    (tmp_path / "many/sealed/brain").mkdir(parents=True)
    shutil.copytree(fitted, tmp_path / "many/sealed/brain/seed0")
    return {"caches": [sealed], "datasets": [f"planted:{own}"], "out": tmp_path / "many", "spec": FIT, "device": "cpu"}


def _runs(out: Path) -> dict[str, bytes]:
    return {name: data for name, data in files(out).items() if name.startswith("sealed/")}


def _spoil(given: dict[str, Any], what: str) -> None:
    """Change one thing of a campaign's subject on the disk."""
    data = Planted(Path(given["datasets"][0].partition(":")[2]))
    if what == "responses":
        path = data.folder / "training_split/training_fmri/lh_training_fmri.npy"
        responses = np.load(path)
        responses[5, 3] += 1e-3
        np.save(path, responses)
    elif what == "ceilings":
        path = data.folder / "test_split/noise_ceiling/rh_noise_ceiling.npy"
        np.save(path, np.load(path) * 0.999)
    elif what == "truth":
        path = data.folder.parent / "truth/voxels.parquet"
        pd.read_parquet(path).assign(x=0.0).to_parquet(path)
    elif what == "a picture":
        Image.new("RGB", (112, 112), (9, 9, 9)).save(data.stimuli.paths[11])
    else:
        first, second = data.stimuli.paths[:2]  # ids change places, and the responses stay where they are
        names = [path.name.partition("_") for path in (first, second)]
        first.rename(first.with_name("kept"))
        second.rename(second.with_name(f"{names[1][0]}_{names[0][2]}"))
        first.with_name("kept").rename(first.with_name(f"{names[0][0]}_{names[1][2]}"))


def test_every_input_of_a_campaign_is_in_the_tests() -> None:
    tried = {"caches", "datasets", "out", "spec", "seeds", "bootstraps", "paired", "halves", "device"}
    tried |= {"memory_gib", "work"}
    assert tried == inspect.signature(fit_many).parameters.keys()


@pytest.mark.parametrize("seeds", [(0,), (1,)], ids=["the same run", "another seed"])
@pytest.mark.parametrize("what", ["responses", "ceilings", "truth", "a picture", "ids"])
def test_a_campaign_on_changed_data_mixes_no_rows(many: dict[str, Any], what: str, seeds: tuple[int, ...]) -> None:
    before = _runs(many["out"])
    _spoil(many, what)
    try:
        failed = fit_many(**many, seeds=seeds).failed
        assert len(failed) == 1
        (error,) = failed.values()
    except (MismatchError, RunError) as refused:
        error = refused
    assert isinstance(error, MismatchError | RunError)
    assert _runs(many["out"]) == before


@pytest.mark.parametrize("name", [name for name in OF_A_FIT if name not in {"seed", "bootstrap", "half"}])
def test_a_campaign_with_other_settings_is_refused_before_any_fit(many: dict[str, Any], name: str) -> None:
    before = files(many["out"])
    with pytest.raises(RunError, match=rf"fit\.{name} "):
        fit_many(**FITS[f"spec.{name}"](many), seeds=(1,))
    assert files(many["out"]) == before


def test_a_campaign_on_another_cache_of_the_same_name_is_refused(many: dict[str, Any], tmp_path: Path) -> None:
    data = Planted(Path(many["datasets"][0].partition(":")[2]))
    (tmp_path / "other").mkdir()
    other = _other_cache({"dataset": data, "tmp": tmp_path / "other"})["cache"]
    renamed = other.rename(other.with_name("sealed.zarr"))
    before = files(many["out"])
    with pytest.raises(RunError, match=r"cache\.digest"):
        fit_many(**{**many, "caches": [renamed]}, seeds=(1,))
    assert files(many["out"]) == before


def test_what_changes_no_result_keeps_the_runs_of_a_campaign(many: dict[str, Any]) -> None:
    before = _runs(many["out"])
    for same in ({}, {"memory_gib": 1.0}, {"work": one_by_one}, {"seeds": (0,), "bootstraps": (None,), "paired": True}):
        done = fit_many(**many, **same)
        assert (done.n_runs, done.n_kept, done.failed) == (1, 1, {})
        assert _runs(many["out"]) == before


# --- caches of earlier versions


def test_a_cache_of_an_earlier_version_opens_and_is_told_from_this_one_by_what_it_did_not_write_down(
    sealed: Path, spec: CacheSpec, planted: Planted, fitted: Path, tmp_path: Path
) -> None:
    old = Path(shutil.copytree(sealed, tmp_path / "old.zarr"))
    for name, where in (("manifest/header.json", ()), ("zarr.json", ("attributes", "bddn"))):
        about = json.loads((old / name).read_text())
        header = about
        for key in where:
            header = header[key]
        del header["decoding"]
        (old / name).write_bytes(encode_json(about))
    seal_again(old)
    before = files(old)
    assert Cache(old).ids == Cache(sealed).ids
    with pytest.raises(MismatchError, match="decoding is not recorded there: it was not given, or an earlier version"):
        extract(spec, planted, old)
    assert fit_run(old, planted, tmp_path / "run", FIT)[1]
    with pytest.raises(RunError, match=r"cache\.digest"):
        fit_run(old, planted, fitted, FIT)
    assert files(old) == before


# --- predict


@pytest.fixture(scope="module")
def predicted(
    fitted: Path, brain: Path, spec: CacheSpec, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """A folder with a run, three pictures and predictions for them, and the command that made them; to be copied."""
    root = tmp_path_factory.mktemp("predicted")
    shutil.copytree(fitted, root / "run")
    (root / "pictures").mkdir()
    for name, path in zip("abc", Planted(brain).stimuli.paths[:3], strict=True):
        shutil.copy(path, root / "pictures" / f"{name}.png")
    (root / "spec.yaml").write_text(json.dumps({k: v for k, v in spec.to_dict().items() if v is not None}))
    command = ["predict", "run", "pictures", "--spec", "spec.yaml", "--out", "predicted", "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    return root, command


def _other_encoder(root: Path) -> None:
    path = root / "run/encoder.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    state = load_file(path)
    state["bias"][0] += 1e-3
    save_file(state, path, metadata=metadata)


def _edited(name: str, change: Callable[[Any], object]) -> Callable[[Path], object]:
    def edit(root: Path) -> None:
        about = json.loads((root / name).read_text())
        change(about)
        (root / name).write_text(json.dumps(about))

    return edit


PREDICTIONS: dict[str, Callable[[Path], object]] = {
    "the encoder": _other_encoder,
    "the cache": lambda root: (
        _edited("run/run.json", lambda about: about["cache"].update(digest="0" * 64))(root),
        _edited("run/metrics.json", lambda metrics: metrics.update(cache_digest="0" * 64))(root),
    ),
    "the voxels": lambda root: (
        pd.read_parquet(root / "run/voxels.parquet").assign(roi="FFA-1").to_parquet(root / "run/voxels.parquet")
    ),
    "a picture": lambda root: Image.new("RGB", (112, 112), (9, 9, 9)).save(root / "pictures/b.png"),
    "a picture's name": lambda root: (root / "pictures/b.png").rename(root / "pictures/d.png"),
    "one more picture": lambda root: shutil.copy(root / "pictures/b.png", root / "pictures/d.png"),
    "one picture less": lambda root: (root / "pictures/c.png").unlink(),
    "predictions of an earlier version": _edited("predicted/predicted.json", lambda about: about.pop("voxels_sha256")),
}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_predictions_with_one_other_input_are_refused(
    name: str, predicted: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(predicted[0], tmp_path / "here"))
    PREDICTIONS[name](root)
    before = files(root / "predicted")
    monkeypatch.chdir(root)
    result = CliRunner().invoke(app, predicted[1])
    assert result.exit_code == 2, result.output
    assert "predictions that differ in: " in " ".join(result.output.split())
    assert files(root / "predicted") == before


@pytest.mark.parametrize(
    "options",
    [[], ["--weights", "random:1"], ["pictures"], ["--device", "auto"]],
    ids=["same", "weights", "twice", "auto"],
)
def test_predictions_are_kept_where_the_result_is_the_same(
    options: list[str], predicted: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(predicted[0], tmp_path / "here"))
    before = files(root / "predicted")
    monkeypatch.chdir(root)
    result = CliRunner().invoke(app, [*predicted[1], *options])
    assert (result.exit_code, "predicted before, kept" in result.output) == (0, True), result.output
    assert files(root / "predicted") == before


def test_predictions_of_other_versions_are_kept_and_the_difference_is_told(
    predicted: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(predicted[0], tmp_path / "here"))
    _edited("predicted/predicted.json", lambda about: about["made_with"].update(torch="2.0"))(root)
    monkeypatch.chdir(root)
    result = CliRunner().invoke(app, predicted[1])
    assert result.exit_code == 0, result.output
    assert "note: predicted with other versions, made_with.torch 2.0 → " in result.output
