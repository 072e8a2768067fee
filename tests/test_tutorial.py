"""The tutorial on one's own model, run as it is written."""

import re
import shlex
from pathlib import Path

import quick_commands
from bddn.store.reader import Cache

TUTORIAL = Path(__file__).parent.parent / "bddn" / "backbones" / "README.md"
BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_tutorial_on_ones_own_model_runs_as_written(brain: Path, tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "demo").symlink_to(brain)

    def run(*command: str) -> str:
        done = quick_commands.run(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    blocks = [match.groups() for match in BLOCK.finditer(TUTORIAL.read_text())]
    said = []
    for language, name, text in blocks:
        if name:
            (tmp_path / name).write_text(text)
        if language == "bash":
            said.append("".join(run(*shlex.split(line)) for line in text.splitlines()))
        elif name == "beit.py":
            assert len(text.strip().splitlines()) <= 15
            said.append(run(name))
    assert "a map of 14×14 places, 64 channels" in said[0]
    assert "layers.3 → 65 tokens = 1 CLS + 8×8, 48 channels" in said[1]
    assert [layer.channels for layer in Cache(tmp_path / "cnn.zarr").layers] == [16, 32, 64]
    assert len(Cache(tmp_path / "beit.zarr").layers) == 4
    assert list((tmp_path / "run-cnn" / "maps").glob("*.png"))
