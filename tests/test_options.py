"""Options that say two things, or nothing that can be, are refused in words before any work; none is ignored."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bddn.cli import app

EXTRACT = ("extract", "demo", "--data", "planted:none", "--out", "new.zarr")
FIT = ("fit", "none.zarr", "--data", "planted:none", "--out", "new")
MANY = ("fit-many", "none.zarr", "--data", "planted:none", "--out", "new")
PLANT = ("plant", "new")
HUGE = "9" * 5000

CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # name: (command, words of the message)
    "workers beside a scheduler": (
        (*EXTRACT, "--workers", "2", "--scheduler", "tcp://a:1"),
        ("--workers 2 and --scheduler tcp://a:1: expected one of these options", "Remove all but"),
    ),
    "workers beside a scheduler of fits": (
        (*MANY, "--workers", "2", "--scheduler", "tcp://a:1"),
        ("--workers 2 and --scheduler tcp://a:1", "got 2. "),
    ),
    "a part beside workers": ((*EXTRACT, "--workers", "2", "--shard", "1/2"), ("--workers 2 and --shard 1/2",)),
    "a part beside a scheduler": ((*EXTRACT, "--scheduler", "x", "--shard", "1/2"), ("--scheduler x and --shard",)),
    "all three": (
        (*EXTRACT, "--workers", "1", "--scheduler", "x", "--shard", "1/1"),
        ("--workers 1 and --scheduler x and --shard 1/1", "got 3."),
    ),
    "an empty scheduler": ((*EXTRACT, "--scheduler", ""), ("--scheduler", "an empty text")),
    "an empty scheduler of fits": ((*MANY, "--scheduler", " "), ("--scheduler", "an empty text")),
    "a part of none": ((*EXTRACT, "--shard", "1/0"), ("--shard", "'1/0'")),
    "a part of very many": ((*EXTRACT, "--shard", f"1/{HUGE}"), ("--shard", "i/N")),
    "very many workers": ((*EXTRACT, "--workers", "1000000"), ("--workers", "512")),
    "fewer than no workers": ((*MANY, "--workers", "-1"), ("--workers",)),
    "no epochs": ((*FIT, "--epochs", "0"), ("'epochs'", "greater than 0", "got 0")),
    "no epochs of many": ((*MANY, "--epochs", "0"), ("'epochs'", "greater than 0")),
    "a seed below zero": ((*FIT, "--seed", "-1"), ("'seed'", "got -1")),
    "a seed of the split below zero": ((*FIT, "--split-seed", "-1"), ("'split_seed'", "got -1")),
    "a seed of the splits below zero": ((*MANY, "--split-seed", "-1"), ("'split_seed'", "got -1")),
    "a seed too large": ((*FIT, "--seed", str(2**64)), ("'seed'", str(2**64))),
    "a seed of too many digits": ((*FIT, "--seed", HUGE), ("--seed",)),
    "seeds of too many digits": ((*MANY, "--seeds", HUGE), ("--seeds", "numbers, or ranges")),
    "seeds beyond what a seed may be": ((*MANY, "--seeds", "9" * 19), ("--seeds",)),
    "too many seeds": ((*MANY, "--seeds", ",".join(f"{k}00000-{k}99999" for k in range(1, 9))), ("--seeds",)),
    "no memory": ((*FIT, "--memory", "0"), ("--memory", "0.5")),
    "memory below zero": ((*MANY, "--memory", "-1"), ("--memory", "0.5")),
    "memory that is no number": ((*FIT, "--memory", "nan"), ("--memory",)),
    "memory without end": ((*FIT, "--memory", "inf"), ("--memory",)),
    "memory of many without end": ((*MANY, "--memory", "1e400"), ("--memory",)),
    "no images": ((*PLANT, "--images", "0"), ("'n_images'", "got 0")),
    "too many images": ((*PLANT, "--images", "1000000000"), ("'n_images'", "9999")),
    "a radius that is no number": ((*PLANT, "--radius", "nan"), ("'radius_rad'", "nan")),
    "a device that there is not": ((*FIT, "--device", "tpu"), ("--device", "tpu")),
    "a film that is no rate": (("film", "none", "--fps", "nan"), ("--fps",)),
}


@pytest.mark.parametrize("case", CASES)
def test_options_that_cannot_be_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("TERMINAL_WIDTH", "400")
    command, words = CASES[case]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert "Traceback" not in said
    for word in words:
        assert word in said, said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [EXTRACT, FIT, MANY])
def test_the_device_is_chosen_by_itself_everywhere(command: tuple[str, ...]) -> None:
    said = " ".join(CliRunner().invoke(app, [command[0], "--help"], env={"COLUMNS": "200"}).output.split())
    assert "[default: auto]" in said
