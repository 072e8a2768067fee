"""The page on networks of a library, run as it is written."""

import shlex
from pathlib import Path

import quick_commands
from bddn.store.reader import Cache
from fenced_code import blocks

PAGE = Path(__file__).parent.parent / "docs" / "library_networks.md"


def test_a_network_of_transformers_is_added_by_yaml_alone(brain: Path, tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "demo").symlink_to(brain)
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
    assert (tmp_path / "run-msn" / "metrics.json").is_file()
