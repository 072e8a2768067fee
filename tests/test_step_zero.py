"""What would spoil a fit is found before its first step, cheapest first; what cannot be known is null, not a crash."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from bddn.cli import app
from bddn.data import Stimuli
from bddn.data.splits import split_by_id
from bddn.errors import BackboneError, DataError, LowMemoryError, SpecError
from bddn.extraction import extract
from bddn.planted.subject import Planted
from bddn.run import Run, Subject, fit_run
from bddn.spec import CacheSpec, FitSpec
from bddn.store.reader import Cache

FIT = FitSpec(epochs=1, channels=4, selector_width=8, code_frequencies=4, batch_size=16)
Floats = npt.NDArray[np.float32]


class Changed:
    """A dataset with other responses, or with some of its voxels or images."""

    def __init__(
        self,
        base: Planted,
        responses: Callable[[Floats], Floats] = lambda values: values,
        voxels: "npt.NDArray[np.intp] | slice" = slice(None),
        images: int | None = None,
    ) -> None:
        self.name = base.name
        self.stimuli = Stimuli(base.stimuli.ids[:images], base.stimuli.paths[:images])
        rows = np.arange(len(base.voxels()))[voxels]
        self._voxels = base.voxels().iloc[rows].reset_index(drop=True)
        self._coords_mm = base.coords_mm()[rows]
        self._responses = responses(base.responses()[:images, rows].copy())

    def voxels(self) -> pd.DataFrame:
        return self._voxels.copy()

    def coords_mm(self) -> Floats:
        return self._coords_mm

    def responses(self, rows: npt.NDArray[np.intp] | None = None) -> Floats:
        return self._responses if rows is None else self._responses[rows]

    def truth(self) -> pd.DataFrame | None:
        return None


def fitted(sealed: Path, data: Changed, out: Path, spec: FitSpec = FIT) -> Run:
    run, _ = fit_run(sealed, data, out, spec)
    text = (out / "metrics.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    json.loads(text)
    return run


def rows_of_part(data: Planted, part: str) -> list[int]:
    members = split_by_id(data.stimuli.ids, FIT.split, FIT.seed).to_dict()[part]
    return [data.stimuli.ids.index(i) for i in members]


def _no_step(*_: object) -> None:
    raise AssertionError("a step was taken")


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_responses_that_do_not_vary_in_a_part_are_refused(
    sealed: Path, planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def constant(values: Floats) -> Floats:
        values[rows_of_part(planted, part)] = values[0]
        return values

    monkeypatch.setattr("bddn.run.inputs.Subject.read", _no_step)
    with pytest.raises(DataError, match=f"images of the part '{part}', in every voxel"):
        fit_run(sealed, Changed(planted, constant), tmp_path / "run", FIT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [0.0, 3.5, -1e30])
def test_constant_responses_are_refused_by_the_command(
    sealed: Path, brain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    monkeypatch.setattr(Planted, "responses", lambda self, rows=None: np.full((len(rows), 124), value, np.float32))
    arguments = ["fit", str(sealed), "--data", f"planted:{brain}", "--epochs", "1", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.output.count("error: ")) == (2, 1)
    assert "in each of the parts train, val and test" in result.output
    assert list(tmp_path.iterdir()) == []


def test_voxels_that_do_not_vary_have_no_score_beside_others(sealed: Path, planted: Planted, tmp_path: Path) -> None:
    def constant(values: Floats) -> Floats:
        values[:, 3] = 1.0  # always
        values[np.ix_(rows_of_part(planted, "test"), [4])] = 2.0
        values[np.ix_(rows_of_part(planted, "val"), [5])] = 2.0
        return values

    run = fitted(sealed, Changed(planted, constant), tmp_path / "run")
    assert np.flatnonzero(run.voxels["r2_test"].isna()).tolist() == [3, 4]
    assert np.flatnonzero(run.voxels["r2_val"].isna()).tolist() == [3, 5]
    assert run.metrics["n_voxels_without_score"] == 2
    assert math.isfinite(run.metrics["r2_test"])


@pytest.mark.parametrize(("images", "kept"), [(1, "1"), (2, "2"), (12, "1 of 12 images")])
def test_parts_with_one_image_are_refused(
    sealed: Path, planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int, kept: str
) -> None:
    monkeypatch.setattr("bddn.run.inputs.Subject.read", _no_step)
    with pytest.raises(DataError, match="at least two images in each of the parts") as error:
        fit_run(sealed, Changed(planted, images=images), tmp_path / "run", FIT)
    assert kept in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_without_voxels_is_refused(sealed: Path, planted: Planted, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one voxel"):
        fit_run(sealed, Changed(planted, voxels=np.array([], np.intp)), tmp_path / "run", FIT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("voxels", "n"), [([7], 1), ([7, 7, 7], 3), ([0, 1], 2)], ids=["one voxel", "one voxel thrice", "two voxels"]
)
@pytest.mark.parametrize("selection", ["topological", "free"])
def test_few_voxels_and_equal_ones_are_fitted(
    sealed: Path, planted: Planted, tmp_path: Path, voxels: list[int], n: int, selection: str
) -> None:
    spec = FIT.model_copy(update={"selection": selection, "polish": True})
    run = fitted(sealed, Changed(planted, voxels=np.array(voxels)), tmp_path / "run", spec)
    assert len(run.voxels) == n
    assert np.isfinite(run.voxels[["r2_test", "x", "y", "scale", "depth"]]).all(axis=None)


def test_a_cache_of_one_layer_is_fitted(brain: Path, spec: CacheSpec, planted: Planted, tmp_path: Path) -> None:
    one = CacheSpec.parse(spec.to_dict() | {"backbone": {"family": "clip", "layers": ["block_1"]}}, "test")
    extract(one, planted, tmp_path / "one.zarr")
    run = fitted(tmp_path / "one.zarr", Changed(planted), tmp_path / "run")
    assert run.layers == ("block_1",)
    assert (run.voxels["confidence"] == 1).all()


@pytest.mark.parametrize("scale", [1e-30, 1e18])
def test_responses_of_any_size_give_numbers_or_null(
    sealed: Path, planted: Planted, tmp_path: Path, scale: float
) -> None:
    fitted(sealed, Changed(planted, lambda values: values * np.float32(scale)), tmp_path / "run")


def test_scores_that_are_not_finite_are_null_and_unknown(
    sealed: Path, brain: Path, planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever makes them so: what was fitted is written, and every reader says that they are unknown."""
    from bddn.report import write_report

    monkeypatch.setattr("bddn.stats.scores.R2.score", lambda self: np.full(self._sums.shape[1], -np.inf))
    arguments = ["fit", str(sealed), "--data", f"planted:{brain}", "--epochs", "1", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, "mean test R² unknown" in result.output) == (0, True), result.output
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["r2_test"] is None
    assert metrics["epochs"][0]["r2_val"] is None
    assert "unknown" in write_report([tmp_path / "run"]).path.read_text(encoding="utf-8")


def test_cheap_checks_come_before_anything_is_read(
    sealed: Path, brain: Path, planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bddn.run.inputs.Subject.read", _no_step)
    monkeypatch.setattr(Planted, "responses", _no_step)
    for spec, device, words in (
        (FIT.model_copy(update={"split": (90, 1, 1)}), "cpu", "at least two images"),
        (FIT.model_copy(update={"layers": ("block_0", "block_9")}), "cpu", "'block_9'"),
        (FIT, "cuda", "a CUDA device"),
        (FIT, "cuda:1", "auto, cpu or cuda"),
        (FIT, "mps", "auto, cpu or cuda"),
    ):
        with pytest.raises(ValueError, match=words):
            fit_run(sealed, planted, tmp_path / "run", spec, device=device)
    assert list(tmp_path.iterdir()) == []


ERRORS = {
    "CUDA": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    "torch on a CPU": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …"),
    "numpy": lambda: np.zeros(1 << 50),  # raises by itself
    "Python": MemoryError,
    "cuBLAS": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "mmap": lambda: OSError(12, "Cannot allocate memory"),
}


def _raising(name: str) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        found: object = ERRORS[name]()  # type: ignore[no-untyped-call]
        assert isinstance(found, BaseException)
        raise found

    return fail


@pytest.mark.parametrize("name", ERRORS)
def test_memory_that_runs_out_within_a_fit_is_one_message_and_loses_nothing(
    sealed: Path, brain: Path, planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    arguments = ["fit", str(sealed), "--data", f"planted:{brain}", "--epochs", "1", "--spec", "fast"]
    with monkeypatch.context() as patch:
        patch.setattr("bddn.encoder.fit._polish", _raising(name))
        result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "run")])
    assert result.exit_code == 2, result.exception
    assert result.output.count("\nerror: ") == 1
    assert "error: fit on cpu: expected enough memory; got no memory left" in result.output
    assert "Traceback" not in result.output
    assert len(list(tmp_path.glob(".run-*/state.safetensors"))) == 1
    with monkeypatch.context() as patch:
        patch.setattr("bddn.encoder.fit._Training._step", _no_step)  # all steps were taken before
        assert CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "run")]).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_other_errors_are_not_taken_for_memory(
    sealed: Path, planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("bddn.run.fitting.fit", wrong)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fit_run(sealed, planted, tmp_path / "run", FIT)


@pytest.mark.parametrize("name", ["CUDA", "torch on a CPU", "Python"])
def test_memory_that_runs_out_within_an_extraction_is_one_message(
    spec: CacheSpec, planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("bddn.extraction.source.on_cpu", _raising(name))
    with pytest.raises(BackboneError, match=r"no memory left. Set batch_size: [13]"):
        extract(spec, planted, tmp_path / "c.zarr", device="cpu")


def test_memory_that_runs_out_elsewhere_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ERRORS:
        monkeypatch.setattr("bddn.planted.plant._draw", _raising(name))
        result = CliRunner().invoke(app, ["plant", str(tmp_path / "p"), "--images", "20"])
        assert (result.exit_code, result.output.count("expected")) == (2, 1), result.output
        assert "emory" in result.output
        assert list(tmp_path.iterdir()) == []


def test_the_device_is_chosen_by_itself_unless_it_cannot_do_the_fit(
    sealed: Path, brain: Path, planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine without a GPU a run that was made with --device cpu is kept."""
    default = FitSpec.recipe("fast").model_copy(update={"epochs": 1})
    _, fresh = fit_run(sealed, planted, tmp_path / "run", default, device="cpu")
    assert fresh
    arguments = ["fit", str(sealed), "--data", f"planted:{brain}", "--epochs", "1", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, arguments)
    assert "fitted before" in result.output, result.output
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    from bddn.run.fitting import device_of

    free = FIT.model_copy(update={"selection": "unfactorized"})
    assert (device_of("auto", FIT), device_of("auto", free)) == ("cuda", "cpu")
    with pytest.raises(SpecError, match="Use --device cpu"):
        device_of("cuda", free)


def test_a_subject_read_before_is_checked_too(sealed: Path, planted: Planted, tmp_path: Path) -> None:
    data = Changed(planted, np.zeros_like)
    with pytest.raises(DataError, match="in every voxel"):
        fit_run(Cache(sealed), data, tmp_path / "run", FIT, subject=Subject.read(data))
    assert issubclass(LowMemoryError, MemoryError)


def test_an_extraction_checks_everything_cheap_before_the_images(
    sealed: Path, brain: Path, spec: CacheSpec, planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding takes minutes; a wrong folder, weights, spec or a full disk is known in seconds."""
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr("bddn.extraction.extraction.check_images", _no_step)

    def changed(**fields: object) -> CacheSpec:
        return CacheSpec.parse(spec.to_dict() | fields, "test")

    cases: list[tuple[CacheSpec, Path, str]] = [
        (changed(weights={"folder": str(tmp_path / "nowhere")}), tmp_path / "new.zarr", "no such folder"),
        (changed(image_size=100), tmp_path / "new.zarr", "multiple of the patch size"),
        (changed(backbone={"family": "clip", "layers": ["block_7"]}), tmp_path / "new.zarr", "block_7"),
        (spec, tmp_path / "file/new.zarr", "Not a directory"),
        (spec, brain, "other files"),
        (changed(grid=[3, 4]), sealed, r"spec.grid \[4, 3\] → \[3, 4\]"),
        (changed(precision="float32"), sealed, "spec.precision"),
    ]
    for one, out, words in cases:
        with pytest.raises((ValueError, OSError, RuntimeError), match=words):
            extract(one, planted, out, device="cpu")
    monkeypatch.setattr("bddn.store.files.LocalFiles.free_bytes", lambda self: 1000)
    with pytest.raises(OSError, match="of free space"):
        extract(spec, planted, tmp_path / "new.zarr", device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
