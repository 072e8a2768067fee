"""The contract suites in the hands of others: a package that keeps them passes, one that does not is told where."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

PACKAGE = '''
"""A lab's own dataset, network and store."""

import time

import numpy as np
import pandas as pd
import torch
from PIL import Image

import bddn
from bddn.cortex.places import positions
from bddn.data import About, Stimuli


class Lab:
    """Four pictures, three voxels."""

    about = About("lab", "lab:PATH", "Responses are those of the lab.", (), "Data terms: ask the lab.")

    def __init__(self, path):
        self.name = f"lab:{path}"
        paths = tuple(path / f"{i}.png" for i in range(4))
        for at in paths:
            Image.new("RGB", (20, 20)).save(at)
        self.stimuli = Stimuli(tuple(f"picture-{i}" for i in range(4)), paths)

    def voxels(self):
        who = {"hemi": ["lh", "lh", "rh"], "vertex": [5, 9, 5]}
        return pd.DataFrame({**who, "roi": ["V1v", "", ""], "ceiling": [0.5, np.nan, 1.0]})

    def coords_mm(self):
        return positions(self.voxels())

    def responses(self, rows=None):
        every = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
        return every if rows is None else every[rows]

    def truth(self):
        return None


class Sorted(Lab):
    """Gives rows in the order of the file, whichever are asked for."""

    def responses(self, rows=None):
        return super().responses(rows if rows is None else np.sort(rows))


class Exchanged(Lab):
    """Gives the positions of the voxels in another order."""

    def coords_mm(self):
        return super().coords_mm()[::-1].copy()


class Named(Lab):
    """Has an atlas whose name is that of a result."""

    def voxels(self):
        return super().voxels().assign(depth="V1")


class OneHandle:
    """Reads the images of a file in turn, at a place that all threads share."""

    def __init__(self, n):
        self.n, self.at = n, 0

    def read(self, file, row):
        self.at = (self.at + 1) % self.n
        return (file.parent / f"{self.at}.png").read_bytes()


class Turns(Lab):
    def __init__(self, path):
        super().__init__(path)
        for i, at in enumerate(self.stimuli.paths):
            Image.new("RGB", (20, 20), (i, i, i)).save(at)
        self.stimuli = Stimuli(self.stimuli.ids, self.stimuli.paths, (0, 1, 2, 3), OneHandle(4))


def network():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 4, 8, 8), torch.nn.Conv2d(4, 6, 1)]
    return bddn.from_module(torch.nn.Sequential(*layers), ["*"], image_size=64, grid=(4, 4), global_token="mean")


class Wrong:
    """The network, with a mistake in its preprocessing or in what it keeps of a batch."""

    def __init__(self, how):
        self._of, self._how, self._kept = network(), how, None

    def __getattr__(self, name):
        return getattr(self._of, name)

    def preprocess(self, image):
        if self._how == "flips":
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if np.random.rand() < 0.5 else image
        if self._how == "square":
            image = image.resize((64, 64 * image.height // image.width))
            return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
        return self._of.preprocess(image)

    def __call__(self, pixels):
        if self._how == "keeps":
            self._kept = pixels
            time.sleep(0.01)
            pixels = self._kept
        return self._of(pixels)


class Memory(dict):
    """A store of files in a dict."""

    place, at_once = "memory", 1
    read = lambda self, name, start=0, stop=None: self[name][start:stop] if name in self else None
    blocks = lambda self, name: iter([self[name]] if self.get(name) else [])
    stamp = lambda self, name: None
    replace = dict.__setitem__
    create = lambda self, name, data: self.setdefault(name, data) is data
    delete = lambda self, name: self.pop(name, None)
    sweep = free_bytes = lambda self: None

    def read_into(self, name, start, memory):
        n, data = 0, self.get(name, b"")[start:]
        for piece in memory:
            part = data[n : n + len(piece)]
            piece[: len(part)] = part
            n += len(part)
        return n, None

    def delete_all(self, names):
        for name in names:
            self.delete(name)

    def sizes(self, folder=""):
        return {name: len(data) for name, data in self.items() if not folder or name.startswith(f"{folder}/")}


class Remembers(Memory):
    """Reads a file once."""

    def __init__(self):
        self._read = {}

    def read(self, name, start=0, stop=None):
        if name in self and name not in self._read:
            self._read[name] = self[name]
        return self._read[name][start:stop] if name in self else None


class Once(Memory):
    """Creates a name only once, even if its file was deleted."""

    def __init__(self):
        self._made = {}

    def create(self, name, data):
        if self._made.setdefault(name, data) is not data:
            return False
        return super().create(name, data)
'''
TESTS = """
import lab
import pytest
from bddn.testing import BackboneContract, DatasetContract, StoreContract


class TestLab(DatasetContract):
    @pytest.fixture
    def dataset(self, tmp_path):
        return lab.Lab(tmp_path)


class TestSorted(DatasetContract):
    @pytest.fixture
    def dataset(self, tmp_path):
        return lab.Sorted(tmp_path)


class TestExchanged(TestLab):
    @pytest.fixture
    def dataset(self, tmp_path):
        return lab.Exchanged(tmp_path)


class TestNamed(TestLab):
    @pytest.fixture
    def dataset(self, tmp_path):
        return lab.Named(tmp_path)


class TestTurns(TestLab):
    @pytest.fixture
    def dataset(self, tmp_path):
        return lab.Turns(tmp_path)


class OfWrong(BackboneContract):
    @pytest.fixture
    def backbone(self):
        return lab.Wrong(self.how)

    @pytest.fixture
    def spec(self, backbone):
        return backbone.spec


class TestFlips(OfWrong):
    how = "flips"


class TestSquare(OfWrong):
    how = "square"


class TestKeeps(OfWrong):
    how = "keeps"


class TestRemembers(StoreContract):
    @pytest.fixture
    def place_files(self):
        return lab.Remembers()


class TestOnce(StoreContract):
    @pytest.fixture
    def place_files(self):
        return lab.Once()


class TestNetwork(BackboneContract):
    @pytest.fixture
    def backbone(self):
        return lab.network()

    @pytest.fixture
    def spec(self, backbone):
        return backbone.spec


class TestMemory(StoreContract):
    @pytest.fixture
    def place_files(self):
        return lab.Memory()


class TestForgotten(StoreContract):
    pass
"""


def test_a_package_of_others_inherits_the_suites(tmp_path: Path) -> None:
    (tmp_path / "lab.py").write_text(PACKAGE)
    (tmp_path / "test_lab.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "test_lab.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    ends = re.findall(r"^(PASSED|FAILED|ERROR) test_lab\.py::(\w+)::(\w+)", done.stdout, re.MULTILINE)
    of = {name: {(end, test) for end, one, test in ends if one == name} for name in {one for _, one, _ in ends}}
    for name, least in (("TestLab", 7), ("TestNetwork", 8), ("TestMemory", 10)):
        assert {end for end, _ in of[name]} == {"PASSED"}, done.stdout
        assert len(of[name]) >= least
    assert {test for end, test in of["TestSorted"] if end != "PASSED"} == {
        "test_rows_of_responses_are_those_of_the_ids"
    }
    for name, test in (
        ("TestExchanged", "test_voxels_have_places_and_their_columns"),
        ("TestNamed", "test_voxels_have_places_and_their_columns"),
        ("TestTurns", "test_an_image_is_the_same_in_any_order_and_from_several_threads"),
        ("TestFlips", "test_an_image_gives_the_same_pixels_in_memory_of_their_own"),
        ("TestSquare", "test_images_of_any_shape_give_pixels_of_the_specs_size"),
        ("TestKeeps", "test_batches_that_run_at_once_are_not_mixed"),
        ("TestRemembers", "test_a_file_is_replaced_whole_and_nothing_is_left_aside"),
        ("TestOnce", "test_a_file_is_created_once"),
    ):
        assert ("FAILED", test) in of[name], name
    assert {end for end, _ in of["TestForgotten"]} == {"ERROR"}
    assert "expected a fixture 'place_files' in the class that inherits from StoreContract" in done.stdout


def test_only_the_suites_import_pytest() -> None:
    code = "import sys, bddn.api, bddn.cli, bddn.run.arrays; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
