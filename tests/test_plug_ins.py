"""A kind of backbone and a kind of dataset that a package outside of bddn brings work in every command."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BACKBONE = '''
import torch
from torch import nn

from bddn.backbones.kind import Description, Kind, Outline
from bddn.backbones.layers import select
from bddn.backbones.preprocess import squash
from bddn.spec import BackboneSpec
from bddn.tokens import LayerTokens, Tokens

SIDE = 8


class StripesSpec(BackboneSpec):
    stripes: int
    """Channels of each layer."""


class Stripes:
    def __init__(self, spec):
        about = spec.section(StripesSpec)
        torch.manual_seed(spec.weights.random)
        self.spec = spec
        self.layers = select(about.layers, ("near", "far"), "stripes")
        self.convs = {name: nn.Conv2d(3, about.stripes, SIDE, stride=SIDE) for name in ("near", "far")}
        self.identity = {"class": "Stripes", "weights_sha256": str(spec.weights.random), "stripes": about.stripes}
        self.identity["made_with"] = {"torch": torch.__version__}

    def preprocess(self, image):
        return squash(image, self.spec.image_hw)

    def __call__(self, pixels):
        with torch.inference_mode():
            maps = {name: LayerTokens(self.convs[name](pixels)) for name in self.layers}
        return Tokens({name: one.pooled(self.spec.grid, self.spec.global_token) for name, one in maps.items()})


class StripesKind(Kind):
    spec = StripesSpec

    def open(self, spec, device):
        return Stripes(spec)

    def outline(self, spec):
        about, (height, width) = spec.section(StripesSpec), spec.image_hw
        layers = select(about.layers, ("near", "far"), "stripes")
        return dict.fromkeys(layers, Outline(about.stripes, (height // SIDE, width // SIDE)))

    def may_match(self, spec, layers, identity):
        return identity["class"] == "Stripes" and identity["stripes"] == spec.section(StripesSpec).stripes


KIND = StripesKind()
'''
SPEC = """
title: A network of an outside package
backbone: {stripes: 5}
weights: random
image_size: [40, 48]
global_token: mean
grid: [4, 3]
chunk_images: 8
shard_images: 16
"""
DATASET = """
from bddn.data.dataset import About, Stimuli
from bddn.planted.subject import Planted


class Lab:
    about = About(
        name="lab",
        usage="lab:PATH,images=N",
        options="images=N: only the first N images.",
        responses="Responses are what the lab measured.",
        references=("Lab, A. (2031). A measurement. Journal of Measurements 1, 1-2.",),
        terms="Data terms: ask the lab.",
    )

    def __init__(self, path, images="48"):
        self._whole, self._n = Planted(path), int(images)
        self.name = f"lab:{path},images={images}"

    @property
    def stimuli(self):
        whole = self._whole.stimuli
        return Stimuli(whole.ids[: self._n], whole.paths[: self._n])

    def voxels(self):
        return self._whole.voxels()

    def coords_mm(self):
        return self._whole.coords_mm()

    def responses(self, rows=None):
        return self._whole.responses()[: self._n][slice(None) if rows is None else rows]

    def truth(self):
        return None
"""
ENTRY_POINTS = """
[bddn.backbones]
stripes = outside.backbone:KIND

[bddn.datasets]
lab = outside.dataset:Lab

[bddn.specs]
outside = outside
"""
RUN = """
import json, sys
from typer.testing import CliRunner
import bddn.cli
said = []
for command in json.load(sys.stdin):
    result = CliRunner().invoke(bddn.cli.app, command)
    said.append([result.exit_code, result.output])
json.dump(said, sys.stdout)
"""
LOAD_SPEC = """
from bddn.backbones.registry import load_spec
from bddn.errors import SpecError
try:
    load_spec("wrong.yaml")
except SpecError as error:
    print(error)
"""


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with an installed package that knows bddn, and that bddn does not know."""
    package, installed = tmp_path / "site/outside", tmp_path / "site/outside-1.0.dist-info"
    package.mkdir(parents=True)
    installed.mkdir()
    (package / "__init__.py").touch()
    (package / "backbone.py").write_text(BACKBONE)
    (package / "dataset.py").write_text(DATASET)
    (package / "stripes.yaml").write_text(SPEC)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(ENTRY_POINTS)
    return tmp_path


def _commands(at: Path, *commands: list[str]) -> list[str]:
    """What commands say, one after the other, with the package of the folder `site` installed."""
    path = os.pathsep.join([str(at / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=at,
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "100"},
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout)
    assert [code for code, _ in said] == [0] * len(commands), said
    return [text for _, text in said]


def test_kinds_from_outside_work_by_the_command_line(outside: Path, brain: Path) -> None:
    data, pictures = f"lab:{brain},images=40", [str(path) for path in sorted(brain.rglob("*.png"))[:2]]
    kinds, table, card, extracted, fitted, _, predicted = _commands(
        outside,
        ["datasets"],
        ["backbones"],
        ["backbones", "show", "stripes"],
        ["extract", "stripes", "--data", data, "--out", "c.zarr"],
        ["fit", "c.zarr", "--data", data, "--out", "run", "--epochs", "1"],
        ["maps", "run", "--columns", "r2_test"],
        ["predict", "run", *pictures],
    )
    assert "lab:PATH,images=N\n    images=N: only the first N images." in kinds
    assert "Data terms: ask the lab." in kinds
    assert "algonauts:" in kinds
    assert next(line for line in table.splitlines() if line.startswith("stripes ")).split()[-3:] == ["-", "-", "-"]
    assert "random weights of seed 0" in card
    assert "5×6 → 4×3 in the cache" in card
    assert "5 channels: near, far" in card
    assert "40 images" in extracted
    assert "mean test R²" in fitted
    methods = (outside / "run/maps/methods.md").read_text()
    for words in ("Responses are what the lab measured.", "Lab, A. (2031)", "Data terms: ask the lab.", "Stripes"):
        assert words in methods
    assert "2 images × 124 voxels, network stripes" in predicted


def _said(at: Path, code: str) -> str:
    """What Python code prints, with the package of the folder `site` installed."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(at / "site"), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", code], cwd=at, env=env, capture_output=True, text=True, check=True)
    return done.stdout


def test_a_section_of_a_kind_from_outside_is_checked_by_its_fields(outside: Path) -> None:
    (outside / "wrong.yaml").write_text(SPEC.replace("{stripes: 5}", "{stripes: many, layer: near}"))
    said = _said(outside, LOAD_SPEC)
    assert "'backbone.stripes' to be a valid integer" in said
    assert "unknown key 'backbone.layer' in line 3. " in said
    assert "Did you mean 'layers'?" in said


def test_a_kind_that_cannot_be_imported_is_one_clear_error_and_harms_no_other(outside: Path) -> None:
    (outside / "site/outside/backbone.py").write_text("import of_no_package")
    (outside / "wrong.yaml").write_text(SPEC)
    said = _said(outside, f"{LOAD_SPEC}\nprint(load_spec('sam_b').title)")
    assert "'stripes' of bddn.backbones: expected an object at outside.backbone:KIND; got ModuleNotFoundError" in said
    assert "SAM" in said


def test_an_installation_without_entry_points_is_one_clear_error(outside: Path) -> None:
    (outside / "wrong.yaml").write_text(SPEC)
    hidden = "import importlib.metadata as m\nm.entry_points = lambda group: ()\n"
    said = _said(outside, hidden + LOAD_SPEC)
    assert "bddn.backbones: expected those that bddn registers; got none: bddn is not installed correctly" in said
    assert "Install it again" in said


def test_two_packages_of_one_name_are_refused(outside: Path) -> None:
    shutil.copytree(outside / "site/outside-1.0.dist-info", outside / "site/other-1.0.dist-info")
    (outside / "site/other-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (outside / "site/other-1.0.dist-info/entry_points.txt").write_text("[bddn.backbones]\nstripes = other:KIND\n")
    (outside / "wrong.yaml").write_text(SPEC)
    said = _said(outside, LOAD_SPEC)
    assert "one package that registers it; got two: " in said
    assert "outside.backbone:KIND" in said
    assert "other:KIND" in said
