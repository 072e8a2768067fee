"""Pages of the documentation, run as they are written, on a brain that is smaller than the demo's."""

import contextlib
import io
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bddn.api import extract, fit
from bddn.cli import app
from bddn.data import open_dataset
from bddn.planted.plant import plant
from bddn.spec import PlantSpec
from fenced_code import blocks
from report.folders import prove

DOCS = Path(__file__).parent.parent / "docs"
QUICK: dict[str, Any] = {"channels": 8, "selector_width": 16, "epochs": 1, "batch_size": 8}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working folder, with a small build/demo, all of whose voxels have evidence."""
    folder = tmp_path_factory.mktemp("demo")
    place = Path("build/demo")
    with contextlib.chdir(folder):
        plant(PlantSpec(n_images=30, radius_rad=0.3, n_layers=3, width=24), place)
        extract("demo", f"planted:{place}", place / "demo.zarr", device="cpu")
        fit(place / "demo.zarr", f"planted:{place}", place / "run", "fast", device="cpu", **QUICK)
        prove(place / "run")
        yield folder


@pytest.mark.usefixtures("demo")
def test_the_demo_page_runs_as_written() -> None:
    said = {}
    for block in blocks(DOCS / "demo.md"):
        if block.language == "bash" and not block.why:
            for line in block.text.splitlines():
                program, *words = shlex.split(line)
                if program != "bddn":
                    subprocess.run(line, shell=True, check=True)  # noqa: S602 # a line of ours
                    continue
                quicker = ["--dpi", "30"] if words[0] == "maps" else []
                done = CliRunner().invoke(app, [*words, *quicker])
                assert done.exit_code == 0, done.output
                said[line] = done.output
        elif block.language == "python":
            assert "slope" in _run(block.text, {})
    assert "slope" in said["bddn hierarchy build/demo/run"]
    assert list(Path("build/demo/run/maps").glob("confidence*.png"))
    assert Path("build/demo/run/predicted/responses.npy").is_file()


@pytest.mark.usefixtures("demo")
def test_the_page_on_python_runs_as_written() -> None:
    names: dict[str, Any] = {}
    texts = [block.text for block in blocks(DOCS / "python.md") if block.language == "python" and not block.why]
    said = [_run(text, names) for text in texts]
    assert "EBA" in said[0]
    assert "(20, 2) (20, 2)" in said[1]
    assert "layer_weight" in said[2]


@pytest.mark.usefixtures("demo")
def test_the_page_on_exports_runs_as_written() -> None:
    names: dict[str, Any] = {}
    for block in blocks(DOCS / "export.md"):
        if block.language == "bash" and not block.why:
            for line in block.text.splitlines():
                done = CliRunner().invoke(app, shlex.split(line)[1:])
                assert done.exit_code == 0, done.output
        elif block.language == "python":
            _run(block.text, names)
    assert names["responses"].tobytes() == np.load("build/demo/predicted/responses.npy").tobytes()


def _run(text: str, names: dict[str, Any]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(text, "page", "exec"), names)  # noqa: S102 # as Python does
    return out.getvalue()


@pytest.mark.usefixtures("demo")
def test_the_lab_to_try_with_is_made_as_written() -> None:
    files = {block.file: block.text for block in blocks(DOCS / "own_data.md") if block.file}
    _run(files["make_lab.py"], {})
    Path("npy/data.yaml").write_text(files["npy/data.yaml"])
    begun = CliRunner().invoke(app, ["data", "init", "npy", "--out", "npy/begun.yaml"])
    assert begun.exit_code == 0, begun.output
    done = CliRunner().invoke(app, ["data", "check", "table:npy/data.yaml"])
    assert done.exit_code == 0, done.output
    assert "good: all images and responses can be read" in done.output
    table = open_dataset("table:npy/data.yaml")
    assert np.array_equal(table.responses(), open_dataset("planted:build/demo").responses())
