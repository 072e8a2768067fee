"""Stores that an earlier version wrote are read to the last bit, or refused in words; never read otherwise.

`golden/` has one store of format 2 for each precision, as `PYTHONPATH=tests python tests/store/test_golden.py FOLDER`
writes them. They stay as they are for as long as the format is read; a new format gets stores of its own.
"""

import shutil
import sys
from pathlib import Path

import pytest

from bddn.store.check import verify
from bddn.store.reader import Cache
from store.stores import (
    IDS,
    IMAGES,
    PRECISIONS,
    as_read,
    filled_with,
    finish,
    layout_of,
    read_all,
    same,
    tokens,
    writer,
)

GOLDEN = Path(__file__).parent / "golden"
DIGESTS = {  # as they were when the stores were written
    "float16": "652641f01cc4211d1b5de351060d5786e86309e1cdb7bcb4294d2ed0f08ba886",
    "bfloat16": "d87913ea9cf736f6365d3b45712ba8916bfc007e7614cb263ad98f116d4ed6a9",
    "float32": "01437c94c297a1ad49dcf1c51cf0d5a45efce370e6cf29d91b0b295d1af5ee6f",
    "bitround:6": "d22f9da833b6d6c90f62887595d78ce7bcc282a6f8fdefdc1ca870af8c8681bf",
    "int8": "64f48e63b2b12a61253a105bf7dedd292ff399c63f2f8cf9b94f3cc6f281efc2",
}


def archive(name: str) -> Path:
    return GOLDEN / f"format-2-{name.replace(':', '-')}.zip"


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_store_of_this_format_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    shutil.unpack_archive(archive(name), tmp_path / "golden.zarr")
    layout = layout_of(name)
    cache = Cache(tmp_path / "golden.zarr")
    assert cache.digest == DIGESTS[name]
    assert (list(cache.ids), list(cache.images)) == (IDS, IMAGES)
    found, expected = read_all(cache), as_read(filled_with(tokens(), layout), layout)
    assert found.keys() == expected.keys()
    assert all(same(found[path], expected[path]) for path in expected)
    assert verify(tmp_path / "golden.zarr").bad == []


if __name__ == "__main__":
    for kind in PRECISIONS:
        folder = Path(sys.argv[1]) / kind
        made = layout_of(kind)
        finish(writer(folder, made), filled_with(tokens(), made))
        shutil.make_archive(str(archive(kind).with_suffix("")), "zip", folder)
        print(kind, Cache(folder).digest)  # noqa: T201
