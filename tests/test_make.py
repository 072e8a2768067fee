"""The Makefile: every spec and every group has its targets, and groups are those that the specs name."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bddn.backbones.registry import load_spec, spec_folder

ROOT = Path(__file__).parent.parent
NAMES = sorted(path.stem for path in spec_folder().glob("*.yaml"))
STEPS = ("fetch", "extract", "fit", "maps", "all")


def _make(*arguments: str, folder: Path = ROOT) -> str:
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _said(output: str) -> list[str]:
    """The commands of bddn in what make would run, without the path of the program."""
    return [line.strip().partition("/bin/")[2] for line in output.splitlines() if "/bin/bddn " in line]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A checkout with specs of its own."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "constraints.txt").touch()
    (tmp_path / "cache_specs").mkdir()
    lines = {
        "a": "groups: [table1]",
        "b": "title: groups: [table1]",
        "c": "groups: [table10,table1]  # table2",
        "d": "# groups: [table1]\ngroups: [table10, figure6]",
    }
    for name, text in lines.items():
        (tmp_path / "cache_specs" / f"{name}.yaml").write_text(f"{text}\n")
    return tmp_path


@pytest.mark.parametrize(("group", "members"), [("table1", ["a", "c"]), ("table10", ["c", "d"]), ("figure6", ["d"])])
def test_a_group_is_of_the_specs_that_name_it(own: Path, group: str, members: list[str]) -> None:
    said = _said(_make("-n", f"extract-{group}", "DATA=planted:x", folder=own))
    assert said == [f'bddn extract {name} --data "planted:x" --out build/{name}/{name}.zarr' for name in members]


def test_all_of_a_group_is_extracted_fitted_and_mapped(own: Path) -> None:
    said = _said(_make("-n", "all-table1", "DATA=planted:x", "ARGS=--workers 2", "FIT_ARGS=--seed 1", folder=own))
    assert said == [
        'bddn extract a --data "planted:x" --out build/a/a.zarr --workers 2',
        'bddn fit build/a/a.zarr --data "planted:x" --out build/a/run --seed 1',
        "bddn maps build/a/run",
        "bddn report build/a/run",
        'bddn extract c --data "planted:x" --out build/c/c.zarr --workers 2',
        'bddn fit build/c/c.zarr --data "planted:x" --out build/c/run --seed 1',
        "bddn maps build/c/run",
        "bddn report build/c/run",
    ]


def test_weights_of_a_group_are_fetched_without_data(own: Path) -> None:
    output = _make("-n", "fetch-table10", folder=own)
    assert _said(output) == ["bddn fetch c", "bddn fetch d"]
    assert "DATA" not in output


def test_every_spec_has_its_targets() -> None:
    said = _said(_make("-n", *(f"{step}-{name}" for name in NAMES for step in STEPS), "DATA=x"))
    for name in NAMES:
        assert f"bddn fetch {name}" in said
        assert f'bddn extract {name} --data "x" --out build/{name}/{name}.zarr' in said
        assert f'bddn fit build/{name}/{name}.zarr --data "x" --out build/{name}/run' in said
        assert f"bddn maps build/{name}/run" in said


def test_groups_are_those_of_the_specs() -> None:
    members: dict[str, list[str]] = {}
    for name in NAMES:
        for group in load_spec(name).groups:
            members.setdefault(group, []).append(name)
    assert members, "no spec is of a group"
    assert not members.keys() & set(NAMES), "a group is called like a spec"
    for group, names in members.items():
        said = _said(_make("-n", f"extract-{group}", "DATA=x"))
        assert [line.split()[2] for line in said] == names


def test_help_is_short_and_names_every_spec_and_group() -> None:
    output = _make("help")
    assert len(output.splitlines()) < 40
    assert max(map(len, output.expandtabs().splitlines())) <= 100
    words = set(re.findall(r"\w+", output))
    assert set(NAMES) <= words
    assert {group for name in NAMES for group in load_spec(name).groups} <= words


FAKE_PYTHON = r"""#!/bin/sh
case "$*" in
    "-m venv"*) rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python && echo "$*" >> made ;;
    *"sys.exit(sys.version_info"*) exit $OLD ;;
    *) exit 0 ;;
esac
"""


@pytest.mark.parametrize("there", ["nothing", "no Python", "a link to a Python that is gone", "an older Python", "one"])
def test_an_environment_that_does_not_work_is_made_anew(own: Path, there: str) -> None:
    """As an install leaves it that failed or was stopped, or that began with a Python that is too old."""
    python, inner = own / "python", own / ".venv/bin/python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    if there != "nothing":
        inner.parent.mkdir(parents=True)
        (own / ".venv/mine").touch()
    if there.startswith("a link"):
        inner.symlink_to("/none/python")
    elif "one" in there or "older" in there:
        shutil.copy(python, inner)
    env = {**os.environ, "OLD": str(int("older" in there))}
    done = subprocess.run(
        ["make", "install", f"PYTHON={python}"], cwd=own, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (own / ".venv/.installed").is_file()
    made = (own / "made").read_text() if (own / "made").is_file() else ""
    assert made == ("" if there == "one" else "-m venv --clear .venv\n")


def test_an_extraction_without_data_is_an_error_that_says_what_to_give(own: Path) -> None:
    (own / ".venv").mkdir()
    (own / ".venv/.installed").touch()
    done = subprocess.run(["make", "extract-a"], cwd=own, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "expected DATA=algonauts:PATH/subj01" in done.stderr
