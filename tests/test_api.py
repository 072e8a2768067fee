"""What `import bddn` gives: the two stages with arguments as users say them, typed, and at no cost until it is used."""

import inspect
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.main import get_command
from typer.testing import CliRunner

import bddn
from bddn.cli import app
from bddn.errors import RunError, SpecError, StoreError
from bddn.planted.subject import Planted
from bddn.spec import CacheSpec, FitSpec
from test_architecture import loaded_by

ROOT = Path(__file__).parent.parent
SMALL: dict[str, Any] = {"channels": 8, "code_frequencies": 4, "selector_width": 8, "epochs": 1}

SCRIPT = '''
"""A script of somebody else, who checks types strictly."""

from pathlib import Path

import numpy as np

import bddn


class Mine:
    def __init__(self, dataset: bddn.Dataset) -> None:
        self.n_voxels = len(dataset.voxels())


def both(spec: str, data: str, out: Path) -> float:
    cache = bddn.extract(spec, data, out / "cache.zarr", device="cpu")
    run = bddn.fit(cache, data, out / "run", "fast", seed=1)
    assert bddn.open_cache(out / "cache.zarr").digest == cache.digest
    return float(bddn.open_run(out / "run").voxels["r2_test"].mean()) + len(run.layers)


rng = np.random.default_rng(0)
features = {"a": (rng.normal(size=(20, 2, 2, 3)), rng.normal(size=(20, 3)))}
encoder = bddn.FactorTopy("fast", epochs=1).fit(features, rng.normal(size=(20, 4)), np.eye(4, 3), validation=0.2)
scores = encoder.score(features, encoder.predict(features))
'''
WRONG = """
both(1, "planted:x", Path())
bddn.fit("cache.zarr", "planted:x", "run", device="tpu")
encoder.depths_
"""


def test_a_change_of_the_working_directory_opens_no_other_files(
    spec: CacheSpec, brain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a notebook that goes from folder to folder: what was opened remains the same."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    cache = bddn.extract(spec, f"planted:{brain}", "cache.zarr", device="cpu")
    monkeypatch.chdir(tmp_path / "two")
    run = bddn.fit(cache, f"planted:{brain}", "run", FitSpec(**SMALL), device="cpu")
    opened, encoder = bddn.open_run("run"), bddn.load_encoder("run", spec=spec)
    monkeypatch.chdir(tmp_path / "one")
    assert cache.files.place == "cache.zarr"  # messages and runs name it as it was given
    parts = bddn.run.read_split(run)
    assert bddn.run.read_split(opened) == parts
    assert encoder.test_ids == parts["test"]
    assert f"{tmp_path}" not in (tmp_path / "two/run/run.json").read_text().replace(f"{brain}", "")


def test_importing_it_loads_no_numbers() -> None:
    (loaded,) = loaded_by("import bddn")
    assert "bddn" in loaded
    assert not loaded & {"numpy", "torch", "pandas", "pydantic", "zarr", "sklearn", "bddn.api", "bddn.spec"}


def test_every_public_name_is_there_and_is_explained() -> None:
    functions = {"export", "extract", "fit", "from_module", "load_encoder", "open_cache", "open_run", "to_himalaya"}
    assert set(bddn.__all__) == {"Dataset", "FactorTopy", *functions}
    assert set(bddn.__all__) <= set(dir(bddn))
    for name in bddn.__all__:
        assert getattr(bddn, name).__doc__
    with pytest.raises(AttributeError, match="module 'bddn' has no attribute 'extarct'"):
        bddn.extarct  # noqa: B018


def test_no_room_takes_the_place_of_a_public_name() -> None:
    for path in sorted((ROOT / "bddn").iterdir()):
        if (path / "__init__.py").is_file() and path.name not in {"cli", "testing"}:
            import_module(f"bddn.{path.name}")
    assert callable(bddn.extract)
    assert not {path.stem for path in (ROOT / "bddn").glob("*.py")} & set(bddn.__all__)


def test_extract_takes_a_name_and_opens_the_sealed_cache(
    brain: Path, spec: CacheSpec, sealed: Path, tmp_path: Path
) -> None:
    (tmp_path / "spec.yaml").write_text(spec.model_dump_json())
    cache = bddn.extract(tmp_path / "spec.yaml", f"planted:{brain}", str(tmp_path / "new.zarr"), device="cpu")
    assert cache.digest == bddn.open_cache(str(sealed)).digest
    again = bddn.extract(spec, Planted(brain), tmp_path / "new.zarr", device="cpu")
    assert again.digest == cache.digest
    with pytest.raises(SpecError, match=r"clip_vit_b16.*Did you mean|Did you mean.*clip_vit_b16"):
        bddn.extract("clip_vit_b61", f"planted:{brain}", tmp_path / "other.zarr")


def test_extract_takes_a_network_of_ones_own(planted: Planted, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 4, 8, 8), torch.nn.Conv2d(4, 6, 1)]
    network = bddn.from_module(
        torch.nn.Sequential(*layers), layers=["*"], image_size=64, grid=(4, 4), global_token="mean"
    )
    cache = bddn.extract(network, planted, tmp_path / "own.zarr")
    assert [layer.channels for layer in cache.layers] == [4, 6]
    assert cache.ids == planted.stimuli.ids


def test_commands_and_functions_have_the_same_default_recipe() -> None:
    defaults = {of.__name__: inspect.signature(of).parameters["spec"].default for of in (bddn.fit, bddn.FactorTopy)}
    for command in ("fit", "fit-many", "ensemble", "controls"):
        (option,) = (one for one in get_command(app).commands[command].params if one.name == "spec")  # type: ignore[attr-defined]
        defaults[command] = option.default
    assert set(defaults.values()) == {"fast"}, defaults


def test_fit_gives_the_run_of_the_command(brain: Path, sealed: Path, tmp_path: Path) -> None:
    (tmp_path / "fit.yaml").write_text("\n".join(f"{name}: {value}" for name, value in SMALL.items()))
    command = ["fit", str(sealed), "--data", f"planted:{brain}", "--spec", str(tmp_path / "fit.yaml"), "--seed", "2"]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "command")])
    assert done.exit_code == 0, done.output
    expected = (tmp_path / "command" / "encoder.safetensors").read_bytes()
    cache, settings = bddn.open_cache(sealed), FitSpec(**SMALL | {"seed": 2})
    for name, run in {
        "recipe": bddn.fit(str(sealed), f"planted:{brain}", str(tmp_path / "recipe"), "paper", seed=2, **SMALL),
        "file": bddn.fit(cache, Planted(brain), tmp_path / "file", tmp_path / "fit.yaml", seed=2),
        "spec": bddn.fit(cache, Planted(brain), tmp_path / "spec", settings),
    }.items():
        assert (tmp_path / name / "encoder.safetensors").read_bytes() == expected, name
        assert bddn.open_run(str(tmp_path / name)).voxels.equals(run.voxels)


def test_what_is_wrong_is_refused_in_words(brain: Path, sealed: Path, tmp_path: Path) -> None:
    data, out = f"planted:{brain}", tmp_path / "run"
    with pytest.raises(SpecError, match="fit spec 'slow': expected a recipe"):
        bddn.fit(sealed, data, out, "slow")
    with pytest.raises(SpecError, match=r"settings of bddn\.fit: .*unknown key 'epoch'.*Did you mean 'epochs'"):
        bddn.fit(sealed, data, out, epoch=1)
    with pytest.raises(StoreError, match=r"none\.zarr"):
        bddn.open_cache(tmp_path / "none.zarr")
    with pytest.raises(RunError, match="no such folder"):
        bddn.open_run(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_a_script_of_others_is_checked_strictly(tmp_path: Path) -> None:
    """As after `pip install bddn`: found on the path, not among the sources; this needs the marker py.typed."""
    (tmp_path / "good.py").write_text(SCRIPT)
    (tmp_path / "wrong.py").write_text(SCRIPT + WRONG)
    skipped = "".join(  # other libraries cost minutes, and are not what is tested
        f"[mypy-{name}.*]\nfollow_imports = skip\n" for name in ("torch", "pandas", "zarr", "pydantic", "PIL", "xarray")
    )
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nstrict = true\n{skipped}")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", "cache", "good.py", "wrong.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stdout.splitlines() if "error" in line]
    n = len(SCRIPT.splitlines())
    assert [line.partition(" error")[0] for line in said[:-1]] == [f"wrong.py:{n + k}:" for k in (2, 3, 4)], done.stdout
