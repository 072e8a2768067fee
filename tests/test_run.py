"""Run folders: the same bytes from memory and from disk, from any process, and after being killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import pandas as pd
import pytest
import torch

import quick_commands
from bddn.errors import MismatchError, SpecError
from bddn.figures.methods import methods
from bddn.maps.kinds import run_maps
from bddn.planted.subject import Planted
from bddn.run import fit_run
from bddn.spec import FitSpec
from bddn.store.reader import Cache

SPEC = FitSpec.parse(
    {**FitSpec.recipe("fast").to_dict(), "channels": 8, "selector_width": 16, "epochs": 3, "batch_size": 4}, "test"
)
SAME = ("encoder.safetensors", "learning.safetensors", "voxels.parquet", "split.json", "run.json", "truth.json")


def _bytes(run: Path) -> list[bytes]:
    history = json.loads((run / "metrics.json").read_text())["epochs"]
    return [*((run / name).read_bytes() for name in SAME), json.dumps(history).encode()]


@pytest.fixture(scope="module")
def spec_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "fit.yaml"
    path.write_text(json.dumps(SPEC.to_dict()))
    return path


@pytest.fixture(scope="module")
def reference(sealed: Path, brain: Path, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    out = tmp_path_factory.mktemp("reference") / "run"
    run, fresh = fit_run(sealed, Planted(brain), out, SPEC, device="cpu")
    assert fresh
    assert run.metrics["seconds_waited_for_tokens"] > 0
    assert len(run.metrics["epoch_seconds"]) == 3
    assert [path.name for path in out.parent.iterdir()] == ["run"]
    return _bytes(out)


@pytest.mark.parametrize("readers", [0, 1, 2, 4])
def test_streamed_and_resident_fits_give_the_same_bytes(
    sealed: Path,
    brain: Path,
    reference: list[bytes],
    readers: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bddn.run.inputs.HASHED_ROWS", 7)
    fit_run(sealed, Planted(brain), tmp_path / "run", SPEC, memory_gib=0.1, readers=readers)
    assert "features 0.00 GiB streamed, responses 0.00 GiB streamed" in capsys.readouterr().err
    assert _bytes(tmp_path / "run") == reference


@pytest.mark.gpu
def test_a_run_on_a_device_repeats_and_is_close_to_one_on_the_cpu(
    sealed: Path, brain: Path, reference: list[bytes], tmp_path: Path
) -> None:
    runs = [fit_run(sealed, Planted(brain), tmp_path / name, SPEC, device="cuda")[0] for name in ("first", "second")]
    first, second = (_bytes(run.folder) for run in runs)
    assert first == second
    there, here = runs[0].voxels, pd.read_parquet(BytesIO(reference[SAME.index("voxels.parquet")]))
    for name in ("r2_test", "depth", "x", "y", "scale"):
        assert (there[name] - here[name]).abs().median() < 0.01, name


def test_tokens_that_are_in_memory_are_used(sealed: Path, brain: Path, reference: list[bytes], tmp_path: Path) -> None:
    from bddn.stream.loader import Streamed

    store, data = Cache(sealed), Planted(brain)
    resident = Streamed(store, store.layers, data.stimuli.ids).load()
    fit_run(store, data, tmp_path / "run", SPEC, resident=resident)
    assert _bytes(tmp_path / "run") == reference


def _command(sealed: Path, brain: Path, spec: Path, out: Path) -> list[str]:
    return ["fit", str(sealed), "--data", f"planted:{brain}", "--spec", str(spec), "--out", str(out)]


def test_fresh_processes_give_the_same_bytes(
    sealed: Path, brain: Path, spec_file: Path, reference: list[bytes], long: bool, tmp_path: Path
) -> None:
    for k in range(1, 11 if long else 2):
        environment = os.environ | {"OMP_NUM_THREADS": str(1 + k % 3), "PYTHONHASHSEED": str(k)}
        out = tmp_path / str(k)
        command = [sys.executable, "-m", "bddn", *_command(sealed, brain, spec_file, out)]
        subprocess.run(command, check=True, capture_output=True, env=environment)
        assert _bytes(out) == reference


KEEP_ALWAYS = """
import sys
import bddn.run
from bddn.cli import app
fit_run = bddn.run.fit_run
bddn.run.fit_run = lambda *a, **k: fit_run(*a, **k, checkpoint_every_s=0)
app(sys.argv[1:])
"""


def test_a_killed_process_is_taken_up_by_the_same_command(
    sealed: Path, brain: Path, spec_file: Path, reference: list[bytes], long: bool, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = _command(sealed, brain, spec_file, out)
    n_kills = 0
    for _ in range(20 if long else 2):
        process = quick_commands.QuickCommand(["-c", KEEP_ALWAYS, *command])
        before = {p: p.stat().st_mtime_ns for p in tmp_path.glob(".run-*/state.safetensors")}
        while process.poll() is None and before == {
            p: p.stat().st_mtime_ns for p in tmp_path.glob(".run-*/state.safetensors")
        }:
            time.sleep(0.001)
        process.kill()
        n_kills += process.ended().returncode == -signal.SIGKILL
        if out.exists():
            break
    assert n_kills >= 1
    assert quick_commands.run("bddn", *command).returncode == 0
    assert _bytes(out) == reference
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_state_of_another_fit_is_not_taken_up(sealed: Path, brain: Path, tmp_path: Path) -> None:
    from bddn.encoder import fit as fitting

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "_polish", die)
        with pytest.raises(Killed):
            fit_run(sealed, Planted(brain), tmp_path / "run", SPEC)
    (kept,) = tmp_path.glob(".run-*/state.safetensors")
    other = SPEC.model_copy(update={"seed": 1})
    fit_run(sealed, Planted(brain), tmp_path / "run", other)
    assert kept.exists()
    shutil.rmtree(tmp_path / "run")
    run, _ = fit_run(sealed, Planted(brain), tmp_path / "run", SPEC)
    assert run.metrics["seed"] == 0
    assert not kept.exists()


def test_a_dataset_with_other_stimuli_is_refused_before_any_work(sealed: Path, brain: Path, tmp_path: Path) -> None:
    data = Planted(brain)
    data.stimuli.__dict__["ids"] = (*data.stimuli.ids[:-1], "nsd-99999")
    with pytest.raises(MismatchError, match="nsd-99999"):
        fit_run(sealed, data, tmp_path / "run", SPEC)
    assert list(tmp_path.iterdir()) == []


def test_the_model_in_the_folder_predicts_as_scored(sealed: Path, brain: Path, tmp_path: Path) -> None:
    from bddn.data.splits import Split
    from bddn.encoder import checkpoint
    from bddn.encoder.brain_score import score
    from bddn.encoder.parts import Parts
    from bddn.stream.loader import Streamed

    run, _ = fit_run(sealed, Planted(brain), tmp_path / "run", SPEC)
    store, data = Cache(sealed), Planted(brain)
    source = Streamed(store, store.layers, data.stimuli.ids)
    split = Split(**{k: tuple(v) for k, v in json.loads((tmp_path / "run/split.json").read_text()).items()})
    parts = Parts.of(split, data.stimuli.ids)
    responses = torch.from_numpy(data.responses())
    model = checkpoint.load(tmp_path / "run/encoder.safetensors")
    found = score(model, source, responses.__getitem__, parts.test)
    assert found == pytest.approx(run.voxels["r2_test"].to_numpy(), rel=1e-5, abs=1e-6)


def test_a_fit_that_selects_sizes_says_them_and_repeats(sealed: Path, brain: Path, tmp_path: Path) -> None:
    spec = FitSpec.parse({**SPEC.to_dict(), "blurs": [0, 1, 2]}, "test")
    run, _ = fit_run(sealed, Planted(brain), tmp_path / "one", spec)
    fit_run(sealed, Planted(brain), tmp_path / "two", spec, memory_gib=0.1)
    assert _bytes(tmp_path / "one") == _bytes(tmp_path / "two")
    assert run.voxels["size"].between(0, 2).all()
    assert run.truth is not None
    assert set(run.truth["size"]) == {"lh", "rh"}
    assert [one.name for one in run_maps(run.voxels, run.layers)][4] == "size"
    assert "extension of the published model" in methods(run).markdown()
    assert (
        FitSpec(blurs=(0.0,)).digest() == FitSpec().digest()
    )  # runs from before this setting are those of the published model
    with pytest.raises(SpecError, match="blurs that rise"):
        FitSpec.parse({"blurs": [1, 0]}, "test")
    with pytest.raises(SpecError, match="unfactorized"):
        FitSpec.parse({"blurs": [0, 1], "selection": "unfactorized"}, "test")
