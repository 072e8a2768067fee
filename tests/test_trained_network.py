"""A truly trained network, EfficientNet-Lite0 on ImageNet, from photographs to maps; its images are not square.

A brain is planted on its layers, and the network must predict it.
"""

from pathlib import Path
from typing import Any

import pytest
import skimage
import torch
from PIL import Image
from typer.testing import CliRunner

from bddn.backbones.registry import open_backbone
from bddn.cli import app
from bddn.extraction import extract
from bddn.planted.plant import plant
from bddn.planted.subject import Planted
from bddn.run import Run, fit_run
from bddn.spec import CacheSpec, FitSpec, PlantSpec
from bddn.store.reader import Cache
from pipelines.small_networks import small_spec

PICTURES = Path(skimage.__file__).parent / "data"
SHOWN = {  # the picture, and the classes of ImageNet that name what it shows
    "chelsea.png": {281, 282, 285},  # cats: tabby, tiger, Egyptian
    "coffee.png": {504, 967, 968},  # coffee mug, espresso, cup
    "motorcycle_left.png": {665, 670},  # moped, motor scooter
    "rocket.jpg": {657, 744, 812},  # missile, projectile, space shuttle
}
IMAGE, GRID = (64, 96), (4, 6)
LAYERS = ("_blocks.2", "_blocks.7", "_blocks.15")
BRAIN: dict[str, Any] = {
    "n_images": 80,
    "radius_rad": 0.15,
    "scenes": "photographs",
    "mean_ceiling": 0.69,
    "field_size": [0.8, 1.0],
    "n_features": 2,
    "seed": 5,
}
FIT = FitSpec.parse(
    FitSpec.recipe("fast").to_dict()
    | {"channels": 16, "selector_width": 32, "epochs": 8, "sample": None, "split": (6, 1, 3)},
    "test",
)


def wide(name: str = "efficientnet") -> CacheSpec:
    spec = small_spec(name)
    assert spec.backbone is not None
    backbone = spec.backbone.model_copy(update={"layers": LAYERS})
    given = {"backbone": backbone, "image_size": IMAGE, "grid": GRID, "chunk_images": 8, "shard_images": 64}
    return spec.model_copy(update=given)


def classes(network: Any, change: Any = lambda pixels: pixels) -> list[int]:
    """The class that the network gives to each picture."""
    pictures = [network.preprocess(Image.open(PICTURES / name).convert("RGB")) for name in SHOWN]
    with torch.inference_mode():
        found: list[int] = network.module(torch.stack([change(one) for one in pictures])).argmax(1).tolist()
    return found


def test_pictures_enter_the_network_as_in_its_training() -> None:
    network = open_backbone(CacheSpec.parse(small_spec("efficientnet").to_dict() | {"image_size": 224}, "test"))
    assert [one in right for one, right in zip(classes(network), SHOWN.values(), strict=True)] == [True] * 4
    faults: dict[str, Any] = {
        "blue first": lambda pixels: pixels.flip(0),
        "upside down": lambda pixels: pixels.flip(1),
        "not normalised": lambda pixels: 255 * pixels,
    }
    for fault, change in faults.items():
        wrong = [one not in right for one, right in zip(classes(network, change), SHOWN.values(), strict=True)]
        assert any(wrong), fault


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The fit of the network on the brain that sees through it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "photographs").mkdir()
    for name in (*SHOWN, "astronaut.png"):
        (folder / "photographs" / name).write_bytes((PICTURES / name).read_bytes())
    spec = PlantSpec.parse(BRAIN | {"photographs": str(folder / "photographs")}, "test")
    plant(spec, folder / "brain", wide())
    extract(wide(), Planted(folder / "brain"), folder / "efficientnet.zarr")
    return fit_run(folder / "efficientnet.zarr", Planted(folder / "brain"), folder / "run", FIT)[0]


def test_the_network_predicts_the_brain_that_sees_through_it(run: Run) -> None:
    r2 = run.voxels["r2_test"].to_numpy()  # of other images than those of the fit
    assert r2.mean() > 0.07
    assert (r2 > 0).mean() > 0.7


def test_places_of_a_wide_image_are_rows_and_columns_of_the_cache(run: Run) -> None:
    folder = run.folder
    cache = Cache(folder.parent / "efficientnet.zarr")
    assert cache.grid == GRID
    assert cache.read("local", "_blocks.15", 0, 2).shape == (2, *GRID, 320)
    done = CliRunner().invoke(app, ["maps", str(folder), "--columns", "y,r2_test", "--views", "flat", "--dpi", "60"])
    assert done.exit_code == 0, done.output
    for name in ("y", "r2_test"):
        with Image.open(folder / "maps" / f"{name}.png") as drawn:
            assert min(drawn.size) > 100
    told = " ".join((folder / "maps" / "methods.md").read_text().split())
    assert "64 × 96" in told or "64×96" in told, told
