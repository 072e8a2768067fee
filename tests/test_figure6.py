"""Figure 6 on a small Stable Diffusion: blocks at one step, and steps of one block, from pictures to maps."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from backbones.small_diffusion import ARCHITECTURE, write_small_diffusion
from bddn.cli import app
from bddn.extraction import extract
from bddn.planted.subject import Planted
from bddn.spec import CacheSpec
from bddn.store.reader import Cache

N_STEPS = 12
PANELS = {
    "layers": ["down_*.resnet_*@t6", "up_*.resnet_*@t6"],
    "steps": ["up_2.resnet_0@t*"],
}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "sd"
    write_small_diffusion(folder)
    return folder


def spec(network: Path, panel: str, n_steps: int) -> dict[str, object]:
    return {
        "title": f"small Stable Diffusion, {panel}",
        "backbone": {
            "family": "stable_diffusion",
            "architecture": ARCHITECTURE,
            "n_steps": n_steps,
            "layers": PANELS[panel],
        },
        "weights": {"folder": str(network)},
        "image_size": 64,
        "preprocess": "native",
        "global_token": "mean",
        "grid": [4, 4],
        "batch_size": 16,
    }


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(("panel", "names"), [("layers", ["down_0.resnet_0@t6", "up_3.resnet_2@t6"]), ("steps", None)])
def test_a_panel_of_figure_6_goes_from_pictures_to_maps(
    network: Path, brain: Path, tmp_path: Path, panel: str, names: list[str] | None
) -> None:
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec(network, panel, N_STEPS)))
    data = f"planted:{brain}"
    run("extract", tmp_path / "spec.yaml", "--data", data, "--out", tmp_path / "sd.zarr", "--device", "cpu")
    run("fit", tmp_path / "sd.zarr", "--data", data, "--out", tmp_path / "run", "--epochs", "1")
    out = run("maps", tmp_path / "run", "--dpi", "60")
    found = [layer.name for layer in Cache(tmp_path / "sd.zarr").layers]
    if panel == "layers":
        assert [found[0], found[-1]] == names
        assert len(found) == 8 + 12
    else:
        assert found == [f"up_2.resnet_0@t{k}" for k in range(1, N_STEPS + 1)]
    voxels = pd.read_parquet(tmp_path / "run" / "voxels.parquet")
    assert set(voxels["layer_argmax"]) <= set(found)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["layers"] == found
    drawn = {path.name for path in (tmp_path / "run" / "maps").glob("*.png")}
    assert drawn >= {"layer_map.png", "scale_map.png", "score_map.png"}
    assert all(name in out for name in drawn)


def test_a_grid_of_blocks_by_steps_is_an_axis_too(network: Path, planted: Planted, tmp_path: Path) -> None:
    about = spec(network, "layers", 3)
    about["backbone"] = {"family": "stable_diffusion", "n_steps": 3, "layers": ["up_*.resnet_0@t1", "up_*.resnet_0@t3"]}
    extract(CacheSpec.parse(about, "test"), planted, tmp_path / "sd.zarr", device="cpu")
    found = Cache(tmp_path / "sd.zarr")
    assert [layer.name for layer in found.layers] == [f"up_{i}.resnet_0@t{k}" for k in (1, 3) for i in range(4)]
    assert [layer.channels for layer in found.layers] == [32, 24, 16, 8] * 2
    levels = found.header["backbone"]["steps"]
    assert [level["step"] for level in levels] == [1, 3]
    assert levels[0]["alpha_bar"] > levels[1]["alpha_bar"]
