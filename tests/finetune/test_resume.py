"""A fine-tuning that is killed resumes to the same bytes, for any number of threads."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bddn.data.image_sets.labelled import LabelledImages
from bddn.finetune import Finetuned, course, finetune
from bddn.finetune.finetuning import open_trainable
from bddn.finetune.head import Head
from bddn.finetune.image_batches import Inputs
from bddn.finetune.training import Training
from bddn.machine import parallel
from bddn.spec import CacheSpec
from finetune.conftest import SETTINGS
from finetune.test_finetuning import files

NOT_REPRODUCED = "timing.json"


@pytest.fixture(scope="module")
def whole(clip: CacheSpec, colors: LabelledImages, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finetuned]:
    """Trained without interruption, by method; read only."""
    root = tmp_path_factory.mktemp("whole")
    settings = {method: SETTINGS.model_copy(update={"method": method}) for method in ("full", "lora")}
    return {method: finetune(clip, colors, root / method, one) for method, one in settings.items()}


@pytest.fixture(autouse=True)
def _after_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the state after every step where `checkpoint_every_s` is 0."""
    monkeypatch.setattr(course, "STATE_SHARE", 0)


class _StopError(Exception):
    pass


@pytest.mark.parametrize(
    ("method", "place", "n_before"),
    [
        ("full", "Course._evaluate", 1),
        ("full", "Training.save", 1),
        ("full", "Training.save", 4),
        ("full", "Course._checkpoint", 0),
        ("full", "Course.publish", 0),
        ("lora", "Training.save", 4),
    ],
)
def test_stopped_anywhere_it_resumes_to_the_same_bytes(
    method: str,
    place: str,
    n_before: int,
    whole: dict[str, Finetuned],
    clip: CacheSpec,
    colors: LabelledImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings, out, calls = SETTINGS.model_copy(update={"method": method}), tmp_path / "net", 0
    kind, name = place.split(".")
    holder: Any = {"Course": course.Course, "Training": Training}[kind]
    original = getattr(holder, name)

    def stops(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > n_before:
            raise _StopError
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(holder, name, stops)
        with pytest.raises(_StopError):
            finetune(clip, colors, out, settings, checkpoint_every_s=0)
    assert not out.exists()
    found = finetune(clip, colors, out, settings, checkpoint_every_s=0)
    assert files(found.folder, NOT_REPRODUCED) == files(whole[method].folder, NOT_REPRODUCED)
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_after_a_kill_the_same_command_gives_the_same_bytes(
    whole: dict[str, Finetuned], clip: CacheSpec, colors: LabelledImages, tmp_path: Path
) -> None:
    assert clip.weights is not None
    script = f"""
import os, signal, sys
from pathlib import Path
from bddn.data.image_sets.kinds import open_images
from bddn.finetune import course, finetune
from bddn.finetune.training import Training
from bddn.spec import CacheSpec, FinetuneSpec
course.STATE_SHARE = 0
save = Training.save
def dies(self, *args):
    save(self, *args)
    if self.step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
Training.save = dies
spec, settings = CacheSpec.parse({clip.to_dict()!r}, "test"), FinetuneSpec.parse({SETTINGS.to_dict()!r}, "test")
finetune(spec, open_images({colors.name!r}), Path({str(tmp_path / "net")!r}), settings, checkpoint_every_s=0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    (hidden,) = (path for path in tmp_path.iterdir() if path.name.startswith(".net-"))
    assert (hidden / "state.safetensors").is_file()
    found = finetune(clip, colors, tmp_path / "net", SETTINGS)
    assert files(found.folder, NOT_REPRODUCED) == files(whole["full"].folder, NOT_REPRODUCED)


def test_a_damaged_state_is_not_used(
    whole: dict[str, Finetuned],
    clip: CacheSpec,
    colors: LabelledImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stops(self: Any, *args: Any) -> None:
        raise _StopError

    with monkeypatch.context() as patch:
        patch.setattr(course.Course, "publish", stops)
        with pytest.raises(_StopError):
            finetune(clip, colors, tmp_path / "net", SETTINGS)
    (state,) = tmp_path.glob(".net-*/state.safetensors")
    with state.open("r+b") as file:
        file.seek(-9, os.SEEK_END)
        file.write(b"x")
    found = finetune(clip, colors, tmp_path / "net", SETTINGS)
    assert "starting again from the first step, because state.safetensors is damaged" in capsys.readouterr().err
    assert files(found.folder, NOT_REPRODUCED) == files(whole["full"].folder, NOT_REPRODUCED)


@pytest.mark.parametrize("n", ["1", "3"])
def test_threads_change_no_byte(
    n: str,
    whole: dict[str, Finetuned],
    clip: CacheSpec,
    colors: LabelledImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(parallel.THREADS, n)
    pool = ThreadPoolExecutor(int(n), initializer=parallel._begin_thread)
    monkeypatch.setattr(parallel, "_pool", lambda: pool)
    found = finetune(clip, colors, tmp_path / "net", SETTINGS)
    pool.shutdown()
    assert files(found.folder, NOT_REPRODUCED) == files(whole["full"].folder, NOT_REPRODUCED)


@pytest.mark.parametrize("autocast", ["bfloat16", "float16"])
def test_gradients_in_lower_precision_are_those_of_float32_up_to_rounding(
    autocast: str, clip: CacheSpec, colors: LabelledImages
) -> None:
    rows, sha256 = np.arange(8, dtype=np.intp), [colors.stimuli.sha256(i) for i in range(len(colors))]
    found = []
    for precision in (None, autocast):
        inputs = Inputs(open_trainable(clip, "cpu"), colors, sha256, "cpu", precision)
        head = Head(inputs.tokens(rows, lambda n: None), 3, seed=0)
        training = Training(inputs, head, rows, SETTINGS)
        pixels, labels = next(inputs.batches([rows[:4]]))
        training._gradients(pixels, labels)
        found.append(torch.cat([p.grad.flatten() for p in training._trained.values() if p.grad is not None]))
    exact, rounded = found
    assert float((exact - rounded).norm() / exact.norm()) < 0.1
    assert not torch.equal(exact, rounded)
