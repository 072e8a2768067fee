"""`bddn audit` finds the same image in two parts of a split, whatever its name, file or edge, and nothing else."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from bddn.cli import app
from bddn.data.splits import split_by_id
from bddn.extraction import extract
from bddn.planted.subject import Planted
from bddn.run import Run, fit_run
from bddn.spec import CacheSpec
from photographs import COPIES
from quick_fit import QUICK

LEAKS = {  # in a part: a test image under another name, as what kind it is found
    0: ("train", "the same", "same pixels"),
    1: ("train", "a JPEG of quality 40", "near-duplicate"),
    2: ("val", "a crop by 2 %", "near-duplicate"),
    3: ("train", "a crop by 2 % at a corner", "near-duplicate"),
}


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.stdout.split())


class Leaky:
    """A planted brain whose images 0 to 3 of test are in training or validation, too; and one twice in training."""

    def __init__(self, brain: Path, spec: CacheSpec, root: Path) -> None:
        self.folder, self.cache, self.run = root / "brain", root / "leaky.zarr", root / "run"
        shutil.copytree(brain, self.folder)
        data = Planted(self.folder)
        path = dict(zip(data.stimuli.ids, data.stimuli.paths, strict=True))
        split = split_by_id(data.stimuli.ids, QUICK.split, QUICK.seed)
        self.pairs: dict[frozenset[str], str] = {}
        for k, (part, copy, kind) in LEAKS.items():
            original, other = split.test[k], getattr(split, part)[k]
            COPIES[copy](Image.open(path[original]).convert("RGB")).save(path[other], compress_level=k + 5)
            self.pairs[frozenset((original, other))] = kind
        self.twice = split.train[10:12]
        Image.open(path[self.twice[0]]).save(path[self.twice[1]], compress_level=7)
        extract(spec, Planted(self.folder), self.cache)
        fit_run(self.cache, Planted(self.folder), self.run, QUICK)
        self.data = f"planted:{self.folder}"


@pytest.fixture(scope="module")
def leaky(brain: Path, spec: CacheSpec, tmp_path_factory: pytest.TempPathFactory) -> Leaky:
    return Leaky(brain, spec, tmp_path_factory.mktemp("leaky"))


def found_in(folder: Path) -> dict[frozenset[str], str]:
    table = pd.read_parquet(folder / "pairs.parquet")
    return {frozenset((row["first"], row["second"])): row["kind"] for row in table.to_dict("records")}


def test_every_leak_is_found_and_nothing_else(leaky: Leaky, tmp_path: Path) -> None:
    for options in (["--data", leaky.data], ["--data", leaky.data, "--cache", leaky.cache]):
        code, said = run("audit", leaky.run, *options, "--out", tmp_path / "audit")
        assert code == 1
        assert found_in(tmp_path / "audit") == leaky.pairs
        assert "4 pairs of images in different parts: 1 same pixels and 3 near-duplicates; " in said
        assert "4 of 5 test images are concerned" in said
        assert ("Not compared: tokens" in said) == ("--cache" not in options)
        with Image.open(tmp_path / "audit/pairs.png") as sheet:
            assert sheet.width == 1500
            assert len(np.unique(np.asarray(sheet).reshape(-1, sheet.mode.count("A") + 3), axis=0)) > 500
    for pair in leaky.pairs:
        for stimulus in pair:
            assert stimulus in said


def test_a_clean_split_passes_whatever_is_at_hand(quick_run: Run, sealed: Path, brain: Path, tmp_path: Path) -> None:
    options = {"--data": f"planted:{brain}", "--cache": sealed}
    for given in ([], ["--data"], ["--cache"], ["--data", "--cache"]):
        arguments = [word for name in given for word in (name, options[name])]
        code, said = run("audit", quick_run.folder, *arguments, "--out", tmp_path / "audit")
        assert code == 0, said
        assert "no image is in two parts: 48 images (38 train, 5 val, 5 test) were compared by id" in said
        assert ("pixels (without --data)" in said) == ("--data" not in given)
        assert ("tokens (without --cache)" in said) == ("--cache" not in given)
        numbers = json.loads((tmp_path / "audit/audit.json").read_text())
        assert (numbers["passed"], numbers["n_test_images_in_pairs"]) == (True, 0)
        assert not len(pd.read_parquet(tmp_path / "audit/pairs.parquet"))
        assert not (tmp_path / "audit/pairs.png").exists()


def test_all_images_of_a_cache_are_compared(
    leaky: Leaky, sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = run("audit", leaky.cache, "--data", leaky.data)
    assert code == 1
    assert found_in(tmp_path / "leaky-audit") == leaky.pairs | {frozenset(leaky.twice): "same pixels"}
    assert "a split by image may put them into different parts" in said
    code, said = run("audit", leaky.cache, "--out", "tokens")
    assert code == 1
    exact = {pair for pair, kind in leaky.pairs.items() if kind == "same pixels"} | {frozenset(leaky.twice)}
    assert exact <= found_in(tmp_path / "tokens").keys() <= {*leaky.pairs, frozenset(leaky.twice)}
    assert run("audit", sealed, "--out", "clean")[0] == 0


def test_the_same_audit_has_the_same_bytes(leaky: Leaky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for n in (1, 3):
        monkeypatch.setenv("BDDN_THREADS", str(n))
        run("audit", leaky.run, "--data", leaky.data, "--cache", leaky.cache, "--out", tmp_path / str(n))
        found.append({path.name: path.read_bytes() for path in (tmp_path / str(n)).iterdir()})
    assert found[0] == found[1]


def test_other_images_caches_and_data_are_refused(leaky: Leaky, quick_run: Run, sealed: Path, brain: Path) -> None:
    for arguments, words in (
        ((quick_run.folder, "--cache", leaky.cache), "another cache"),
        ((quick_run.folder, "--data", leaky.data), "at least one other image file"),
        ((quick_run.folder, "--data", leaky.data, "--cache", sealed), "other image file"),
        ((sealed, "--data", leaky.data), "another image"),
        ((sealed, "--cache", sealed), "which is none"),
        (("none",), "none"),
    ):
        result = CliRunner().invoke(app, ["audit", *map(str, arguments)])
        assert result.exit_code == 2, result.output
        assert words in " ".join(result.output.split())


def test_a_run_with_leaks_is_scored_only_if_they_are_allowed(leaky: Leaky, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(leaky.run, tmp_path / "run"))
    command = ["score", str(folder), "--cache", str(leaky.cache), "--data", leaky.data]
    for options in (command, ["score", str(folder)]):
        result = CliRunner().invoke(app, options)
        said = " ".join(result.output.split())
        assert result.exit_code == 2, said
        assert ("got 4 pairs of images in different parts" in said) == (options == command)
        if options == command:
            for pair, kind in leaky.pairs.items():
                assert kind in said
                assert all(f"'{stimulus}'" in said for stimulus in pair)
            assert "--allow-leaks" in said
        assert not (folder / "score").exists()
    assert found_in(folder / "audit") == leaky.pairs
    code, said = run(*command, "--allow-leaks")
    assert code == 0
    assert said.count("4 pairs") > 2
    assert "leaks allowed: 4 pairs of images in different parts" in said
    told = json.loads((folder / "score/summary.json").read_text())["leaks"]
    assert (told["allowed"], told["passed"], sum(told["n_pairs"].values())) == (True, False, 4)
    code, _ = run("score", folder)
    assert code == 2, "allowed once is not allowed for ever"


def test_a_clean_run_is_audited_once_and_the_score_says_what_was_compared(
    quick_run: Run, sealed: Path, brain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(quick_run.folder, tmp_path / "run"))
    command = ["score", folder, "--cache", sealed, "--data", f"planted:{brain}"]
    code, said = run(*command)
    assert code == 0
    assert "leaks: no image is in two parts" in said
    first = (folder / "audit/audit.json").read_bytes()
    monkeypatch.setattr("bddn.evaluation.leaks.auditing.fingerprints", lambda *_: pytest.fail("images were read again"))
    for options in (command, ["score", folder]):
        assert run(*options)[0] == 0
        told = json.loads((folder / "score/summary.json").read_text())["leaks"]
        assert (told["allowed"], told["passed"], told["not_compared"]) == (False, True, [])
    assert (folder / "audit/audit.json").read_bytes() == first
    shutil.rmtree(folder / "audit")
    assert "Not compared: pixels (without --data) and tokens (without --cache)" in run("score", folder)[1]
    split = json.loads((folder / "split.json").read_text())
    split["train"][0] = split["test"][0]
    (folder / "split.json").write_text(json.dumps(split))
    result = CliRunner().invoke(app, ["score", str(folder)])
    assert result.exit_code == 2
    assert "(same id)" in result.output
