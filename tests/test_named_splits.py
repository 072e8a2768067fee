"""Splits of a fit by their names: by image, with a seed of its own."""

import json
from pathlib import Path

from typer.testing import CliRunner

from bddn.cli import app

SMALL = "channels: 8\nselector_width: 16\nepochs: 1\n"


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_fits_of_many_seeds_have_one_split_with_a_seed_of_its_own(sealed: Path, brain: Path, tmp_path: Path) -> None:
    (tmp_path / "fit.yaml").write_text(SMALL)
    options = [sealed, "--data", f"planted:{brain}", "--spec", tmp_path / "fit.yaml"]
    run("fit-many", *options, "--seeds", "0-1", "--split-seed", 7, "--out", tmp_path / "many")
    run("fit", *options, "--seed", 7, "--out", tmp_path / "seven")
    run("fit", *options, "--seed", 1, "--split-seed", 7, "--out", tmp_path / "one")
    run("fit", *options, "--seed", 1, "--out", tmp_path / "own")
    many = [tmp_path / f"many/sealed/brain/seed{seed}" for seed in (0, 1)]
    first, *same = [(folder / "split.json").read_bytes() for folder in (*many, tmp_path / "seven", tmp_path / "one")]
    assert all(split == first for split in same)
    assert json.loads((tmp_path / "own/split.json").read_text())["test"] != json.loads(first)["test"]
    encoders = [(folder / "encoder.safetensors").read_bytes() for folder in (*many, tmp_path / "one")]
    assert encoders[0] != encoders[1] == encoders[2]
