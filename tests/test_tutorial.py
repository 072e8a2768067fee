"""The tutorial on one's own model, run as it is written."""

import shlex
from pathlib import Path

import quick_commands
from bddn.store.reader import Cache

ROOT = Path(__file__).parent.parent
TUTORIAL = ROOT / "docs" / "own_model.md"
from fenced_code import blocks  # noqa: E402


def test_the_tutorial_on_ones_own_model_runs_as_written(brain: Path, tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "demo").symlink_to(brain)

    def run(*command: str) -> str:
        done = quick_commands.run(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = []
    for block in blocks(TUTORIAL):
        if block.file:
            (tmp_path / block.file).write_text(block.text)
        if block.file == "beit.py":
            assert len(block.text.strip().splitlines()) <= 15
        if block.language == "bash" and not block.why:
            lines = [line.removeprefix("python ") for line in block.text.splitlines()]
            said.append("".join(run(*shlex.split(line)) for line in lines))
    assert "a map of 14×14 places, 64 channels" in said[0]
    assert "layers.3 → 65 tokens = 1 CLS + 8×8, 48 channels" in said[1]
    assert [layer.channels for layer in Cache(tmp_path / "cnn.zarr").layers] == [16, 32, 64]
    assert len(Cache(tmp_path / "beit.zarr").layers) == 4
    assert list((tmp_path / "run-cnn" / "maps").glob("*.png"))
