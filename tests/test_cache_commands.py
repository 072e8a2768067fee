"""`bddn cache`, `bddn plan` and stopping an extraction, as a user runs them."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from bddn.cli import app, stops_cleanly
from bddn.spec import CacheSpec
from quick_commands import QuickCommand


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture
def spec_file(spec: CacheSpec, tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(spec.model_dump_json())  # JSON is YAML
    return path


@pytest.fixture
def store(sealed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sealed, tmp_path / "store.zarr"))


def test_info_tells_what_is_in_every_layer(sealed: Path) -> None:
    code, output = run("cache", "info", sealed)
    assert code == 0
    lines = {line.split()[0]: line for line in output.splitlines()}
    assert "48 in 3 shards" in lines["images"]
    assert "48 × 4 × 3 × 24" in lines["local/block_1"]
    assert "torch" in lines["made"]
    assert "constant" not in output


def test_verify_says_that_a_good_cache_is_good(sealed: Path) -> None:
    code, output = run("cache", "verify", sealed)
    assert code == 0
    assert "good: all" in output
    assert "GB/s" in output


def test_verify_lists_every_bad_file_and_exits_with_1(store: Path) -> None:
    flipped, gone, cut = (store / "local/block_0" / f"c.{k}.0.0.0" for k in range(3))
    data = bytearray(flipped.read_bytes())
    data[100] ^= 4
    flipped.write_bytes(data)
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:-7])
    code, output = run("cache", "verify", store)
    assert code == 1
    assert "bad: 3 of" in output
    assert "local/block_0/c.0.0.0.0 has other bytes" in output
    assert "local/block_0/c.1.0.0.0 is missing" in output
    assert "local/block_0/c.2.0.0.0 has" in output


def test_verify_of_an_unfinished_cache_is_an_error(store: Path) -> None:
    (store / "manifest/seal.json").unlink()
    code, output = run("cache", "verify", store)
    assert code == 2
    assert "unfinished" in output


def test_diff_of_a_cache_and_its_copy_is_nothing(sealed: Path, store: Path) -> None:
    assert run("cache", "diff", sealed, store) == (0, "the same\n")


def test_diff_names_the_fields_the_images_and_the_state(
    sealed: Path, spec: CacheSpec, brain: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(brain, own)
    image = sorted((own / "subj01/training_split/training_images").iterdir())[7]
    image.write_bytes(sorted(image.parent.iterdir())[8].read_bytes())
    changed = tmp_path / "changed.yaml"
    changed.write_text(spec.model_copy(update={"precision": "int8", "batch_size": 7}).model_dump_json())
    other = tmp_path / "other.zarr"
    assert run("extract", changed, "--data", f"planted:{own}", "--out", other)[0] == 0
    (other / "manifest/seal.json").unlink()
    code, output = run("cache", "diff", sealed, other)
    assert code == 1
    assert "spec.precision float16 → int8" in output
    assert "batch_size" not in output
    assert "row 7 is the first image with another bytes" in output
    assert "state sealed → unfinished" in output


def test_diff_of_two_sealings_names_the_files_that_differ(sealed: Path, store: Path) -> None:
    seal = json.loads((store / "manifest/seal.json").read_text())
    assert run("cache", "diff", sealed, store)[0] == 0
    seal["files"]["local/block_0/c.1.0.0.0"]["sha256"] = "0" * 64
    (store / "manifest/seal.json").write_text(json.dumps(seal))
    code, output = run("cache", "diff", sealed, store)
    assert code == 2  # a seal that was edited is no seal
    assert "manifest" in output


def test_a_receipt_is_a_table_and_a_file(sealed: Path, brain: Path, tmp_path: Path) -> None:
    options = ["--precision", "bfloat16", "--images", 48, "--voxels", 30, "--epochs", 1, "--out", tmp_path / "r.json"]
    code, output = run("cache", "receipt", sealed, "--data", f"planted:{brain}", *options)
    assert code == 0
    assert "R² change" in output
    assert [one["precision"] for one in json.loads((tmp_path / "r.json").read_text())] == [
        "float16",
        "float16, another seed",
        "bfloat16",
    ]


def test_plan_is_told_and_nothing_is_written(spec_file: Path, brain: Path) -> None:
    before = sorted(spec_file.parent.iterdir())
    code, output = run("plan", spec_file, "--data", f"planted:{brain}")
    assert code == 0
    assert "it fits" in output
    assert sorted(spec_file.parent.iterdir()) == before


@pytest.mark.parametrize("part", ["0/2", "3/2", "2", "a/b", "1/0"])
def test_a_part_that_is_none_is_refused(spec_file: Path, brain: Path, part: str) -> None:
    code, output = run("extract", spec_file, "--data", f"planted:{brain}", "--out", "new.zarr", "--shard", part)
    assert code == 2
    assert "--shard: expected i/N" in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_ends_with_its_code_and_the_way_to_go_on(
    number: signal.Signals, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["bddn", "extract", "my spec.yaml", "--out", "new.zarr"])
    before = signal.getsignal(number)
    with pytest.raises(typer.Exit) as ended, stops_cleanly():  # noqa: PT012
        os.kill(os.getpid(), number)
        time.sleep(5)
    assert ended.value.exit_code == 128 + number
    words = f"stopped by {number.name}; completed work is kept. Resume with: bddn extract 'my spec.yaml' --out new.zarr"
    assert words in capsys.readouterr().err
    assert signal.getsignal(number) == before


def test_an_extraction_told_to_end_gives_its_shard_back_and_the_same_command_goes_on(
    spec: CacheSpec, brain: Path, sealed: Path, tmp_path: Path
) -> None:
    slow, out = tmp_path / "spec.yaml", tmp_path / "new.zarr"
    slow.write_text(spec.model_copy(update={"batch_size": 1}).model_dump_json())
    arguments = ["extract", str(slow), "--data", f"planted:{brain}", "--out", str(out)]
    process = QuickCommand(["bddn", *arguments])
    deadline = time.monotonic() + 60
    while not list(out.glob("manifest/lease-*")) and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(0.05)  # it has begun to compute
    process.terminate()
    ended = process.ended()
    assert ended.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in ended.stderr
    assert not list(out.glob("manifest/lease-*"))
    assert run(*arguments)[0] == 0
    assert (out / "manifest/seal.json").read_bytes() == (sealed / "manifest/seal.json").read_bytes()
