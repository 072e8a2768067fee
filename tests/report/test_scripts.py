"""The check of the page's scripts: what it needs and does not find is said in words, and is a failure in CI only."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "js"
ROOT = HERE.parents[2]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A checkout without compiler and linter."""
    copy = tmp_path / "tests" / "report" / "js"
    shutil.copytree(HERE, copy, ignore=shutil.ignore_patterns("node_modules"))
    shutil.copytree(ROOT / "bddn" / "report" / "web", tmp_path / "bddn" / "report" / "web")
    return copy


@pytest.mark.parametrize("is_ci", [False, True])
def test_a_registry_out_of_reach_is_told(own: Path, is_ci: bool) -> None:
    surroundings = {name: value for name, value in os.environ.items() if name != "CI"} | ({"CI": "1"} if is_ci else {})
    surroundings |= {
        "npm_config_registry": "http://127.0.0.1:9/",
        "npm_config_cache": str(own / "cache"),
        "npm_config_fetch_retries": "0",
    }
    done = subprocess.run(
        [sys.executable, own / "check.py"], env=surroundings, capture_output=True, text=True, check=False
    )
    assert done.returncode == int(is_ci)
    kind = "error" if is_ci else "note"
    assert f"{kind}: the page's scripts were not checked: no compiler and linter" in done.stderr
    assert "fail 0" in done.stdout  # unit tests need no registry


def test_a_unit_test_that_fails_is_a_failure(own: Path) -> None:
    web = own.parents[2] / "bddn" / "report" / "web" / "best.js"
    text = web.read_text()
    spoiled = text.replace(" || (Number.isNaN(best.score) && !Number.isNaN(score))", "")
    assert spoiled != text
    web.write_text(spoiled)
    surroundings = os.environ | {"npm_config_registry": "http://127.0.0.1:9/", "npm_config_cache": str(own / "cache")}
    surroundings |= {"npm_config_fetch_retries": "0", "CI": ""}
    done = subprocess.run(
        [sys.executable, own / "check.py"], env=surroundings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "a voxel without a score is not the best where another has one" in done.stdout
