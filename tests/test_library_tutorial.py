"""The page on networks of a library, run as it is written."""

import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path

import quick_commands
from bddn.store.reader import Cache
from fenced_code import blocks

PAGE = Path(__file__).parent.parent / "docs" / "library_networks.md"


def test_networks_of_transformers_and_of_timm_are_added_by_yaml_alone(brain: Path, tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "demo").symlink_to(brain)
    if find_spec("torchvision") is None:  # which timm imports
        shutil.copytree(PAGE.parent.parent / "tests" / "stand_ins" / "torchvision", tmp_path / "torchvision")
    said = []
    for block in blocks(PAGE):
        if block.file:
            (tmp_path / block.file).write_text(block.text)
        for line in block.text.splitlines() if block.language == "bash" else ():
            done = quick_commands.run(*shlex.split(line), cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            said.append(done.stdout)
    assert "ViTMSNModel of transformers" in said[0]
    assert "order         row by row: block_0 … block_3 (4)" in said[0]
    cache = Cache(tmp_path / "msn.zarr")
    assert [(layer.name, layer.channels) for layer in cache.layers] == [(f"block_{i}", 48) for i in range(4)]
    cache = Cache(tmp_path / "pe.zarr")
    assert [(layer.name, layer.channels) for layer in cache.layers] == [(f"blocks.{i}", 192) for i in range(12)]
    assert cache.grid == (6, 8)
    assert (tmp_path / "run-msn" / "metrics.json").is_file()
