"""Rooms know only the rooms to their left; heavy libraries are loaded by those who use them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "bddn"
ORDER = (
    {"errors", "files", "machine", "progress", "identity", "entry_points", "text"},
    {"spec", "tokens", "cortex"},
    {"data", "backbones", "store"},
    {"planted", "extraction", "stream"},
    {"stats", "testing"},
    {"baselines"},
    {"encoder"},
    {"run", "finetune"},
    {"many", "predict", "api"},
    {"evaluation"},
    {"maps"},
    {"figures"},
    {"film", "exports"},
    {"report"},
    {"cli"},
    {"__main__"},
)
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
KNOWN_BY = {
    "transformers": {"backbones", "planted"},
    "diffusers": {"backbones"},
    "triton": {"encoder"},
    "huggingface_hub": {"backbones"},
    "zarr": {"store", "data"},
    "numcodecs": {"store"},
    "nibabel": {"cortex", "data"},
    "nilearn": {"cortex"},
    "matplotlib": {"maps", "figures", "film", "report"},
    "dask": {"extraction", "many"},
    "distributed": {"extraction", "many"},
    "fsspec": {"store"},
    "h5py": {"data"},
    "himalaya": {"baselines"},
    "jinja2": {"report"},
    "sklearn": {"stats", "run"},
    "peft": {"finetune"},
    "timm": {"backbones"},
    "xarray": {"run"},
    "typer": {"cli"},
    "pytest": {"testing"},
}


MAX_LINES = 400
NAMED_AFTER_ANOTHER = {
    "cli": "a module of commands has the name of the room or the thing that it commands",
    "spec": "a spec has the name of what it specifies",
}


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _name(path: Path) -> str:
    """The name of a module, with that of its folder if it is in a folder of a room."""
    return "/".join(path.relative_to(PACKAGE).with_suffix("").parts[1:]) or path.stem


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_left(path: Path) -> None:
    room = _room(path)
    for name in _imports(path):
        top, _, rest = name.partition(".")
        if top in KNOWN_BY:
            assert room in KNOWN_BY[top], f"{top} is not for {room}"
        other = rest.split(".")[0]
        if top == "bddn" and other in RANK and other != room:
            left = RANK[other] < RANK[room] or RANK[other] == RANK[room] == 0
            assert left, f"{room} imports {other}"


def test_every_room_has_a_place() -> None:
    assert {_room(path) for path in MODULES} == set(RANK)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_module_is_longer_than_a_reader_can_hold(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_two_modules_have_two_names() -> None:
    rooms: dict[str, list[str]] = {}
    for path in MODULES:
        if path.stem != "__init__" and _room(path) not in NAMED_AFTER_ANOTHER:
            rooms.setdefault(_name(path), []).append(_room(path))
    assert {name: found for name, found in rooms.items() if len(found) > 1} == {}


@pytest.mark.parametrize("path", [p for p in MODULES if _room(p) == "cli"], ids=lambda p: p.stem)
def test_a_command_imports_no_numbers_before_it_runs(path: Path) -> None:
    top = ast.Module([node for node in ast.parse(path.read_text()).body if isinstance(node, ast.stmt)], [])
    names = set()
    for node in top.body:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    assert not names & {"numpy", "torch", "pandas"}


def loaded_by(*steps: str) -> list[set[str]]:
    """The modules that a process has loaded after each of some steps."""
    code = "\n".join(f"{step}\nimport sys\nprint(*sys.modules)" for step in steps)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [set(line.split()) for line in done.stdout.splitlines()]


def test_fits_load_no_backbone_library_and_no_writer_and_dask_only_for_workers() -> None:
    one, many, workers = loaded_by("import bddn.run, bddn.encoder.fit", "import bddn.many", "import bddn.many.workers")
    assert "torch" in one
    assert not one & {"transformers", "diffusers", "bddn.store.writer", "matplotlib"}
    assert not many & {"transformers", "diffusers", "matplotlib", "dask", "distributed"}
    assert "distributed" in workers
    assert not workers & {"transformers", "diffusers", "matplotlib"}


def test_the_command_fit_loads_no_backbone_library(sealed: Path, brain: Path, tmp_path: Path) -> None:
    command = ["fit", str(sealed), "--data", f"planted:{brain}", "--out", str(tmp_path / "run"), "--epochs", "1"]
    (loaded,) = loaded_by(
        "from typer.testing import CliRunner\nimport bddn.cli\n"
        f"assert CliRunner().invoke(bddn.cli.app, {command!r}).exit_code == 0"
    )
    assert "bddn.encoder.fit" in loaded
    assert not loaded & {"transformers", "diffusers", "bddn.backbones.vit", "bddn.backbones.diffusion.network"}
    assert not loaded & {"triton", "torch._dynamo"}  # seconds and 150 MB, of no use on a CPU


def test_help_loads_nothing_heavy() -> None:
    (loaded,) = loaded_by(
        "from typer.testing import CliRunner\nimport bddn.cli\nCliRunner().invoke(bddn.cli.app, ['--help'])"
    )
    heavy = {"torch", "numpy", "pandas", "pydantic", "transformers", "zarr", "matplotlib", "nilearn", "sklearn"}
    assert not loaded & heavy


def test_the_list_of_backbones_loads_nothing_heavy() -> None:
    (loaded,) = loaded_by(
        "from typer.testing import CliRunner\nimport bddn.cli\n"
        "assert CliRunner().invoke(bddn.cli.app, ['backbones']).exit_code == 0"
    )
    assert "bddn.backbones.weights.fetch" in loaded
    heavy = {"torch", "numpy", "pandas", "transformers", "diffusers", "zarr", "huggingface_hub.hf_api", "timm"}
    assert not loaded & heavy


def test_figures_load_scikit_learn_only_where_they_cluster() -> None:
    (loaded,) = loaded_by("import bddn.figures.paper")
    assert "bddn.stats.channels" in loaded
    assert not loaded & {"sklearn", "nilearn"}


def test_nothing_of_ours_can_run_what_it_reads() -> None:
    for path in MODULES:
        text = path.read_text()
        for word in ("allow_pickle=True", "weights_only=False", "trust_remote_code=True", "shell=True", "eval("):
            assert word not in text.replace(".eval(", ""), f"{word} in {path}"
        assert "pickle" not in _imports(path) or path.name == "label_map.py", path
