"""What a user can get wrong: each gives one clear message and exit code 2, and harms nothing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from bddn.cli import app
from bddn.planted.plant import plant
from bddn.spec import PlantSpec

SPEC = "title: t\nbackbone: {family: clip}\nweights: {folder: brain/backbone}\nimage_size: 112\n"
EXTRACT = "extract spec.yaml --data planted:brain --out new.zarr"
FIT = "fit cache.zarr --data planted:brain --out new --spec fit.yaml"
FMRI = "brain/subj01/training_split/training_fmri/lh_training_fmri.npy"
IMAGE = "brain/subj01/training_split/training_images/train-0003_nsd-00027.png"
MASKS = "brain/subj01/roi_masks"


def _run(command: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, command.split())
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planted brain, a sealed cache and a finished run, all of which work."""
    root = tmp_path_factory.mktemp("whole")
    plant(PlantSpec(n_images=30, radius_rad=0.12, n_layers=2, width=24), root / "brain")
    (root / "spec.yaml").write_text(SPEC)
    (root / "fit.yaml").write_text("epochs: 1\nchannels: 8\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert _run("extract spec.yaml --data planted:brain --out cache.zarr")[0] == 0
        assert _run("fit cache.zarr --data planted:brain --out run --spec fit.yaml")[0] == 0
    return root


@pytest.fixture
def here(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to spoil, as the working directory, without a network."""
    shutil.copytree(whole, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "w"


def _array(path: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[], None]:
    return lambda: np.save(path, change(np.load(path)))


def _with_nan(values: np.ndarray) -> np.ndarray:
    values[4, 2] = np.nan
    return values


def _append(path: str, text: str) -> Callable[[], None]:
    return _bytes(path, lambda data: data + text.encode())


def _bytes(path: str, change: Callable[[bytes], bytes]) -> Callable[[], None]:
    def spoil() -> None:
        Path(path).write_bytes(change(Path(path).read_bytes()))

    return spoil


def _flip(data: bytes) -> bytes:
    return data[:500] + bytes([data[500] ^ 1]) + data[501:]


def _weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[], None]:
    def spoil() -> None:
        path = Path("brain/backbone/model.safetensors")
        state = load_file(path)
        change(state)
        save_file(state, path, metadata={"format": "pt"})

    return spoil


def _drop_block(state: dict[str, torch.Tensor]) -> None:
    for name in [n for n in state if "layers.1.mlp.fc1" in n]:
        del state[name]


def _enlarge(state: dict[str, torch.Tensor]) -> None:
    for name in [n for n in state if "layers.1.mlp.fc2.weight" in n]:
        state[name] *= 1e6


def _shift_ids() -> None:
    for path in sorted(Path(IMAGE).parent.iterdir()):
        ordinal = int(path.name[6:10])
        path.rename(path.with_name(f"train-{ordinal:04d}_nsd-{60000 + ordinal:05d}.png"))


def _unseal() -> None:
    Path("cache.zarr/manifest/seal.json").unlink()


def _occupy(path: str) -> Callable[[], None]:
    def spoil() -> None:
        Path(path).mkdir()
        (Path(path) / "mine.txt").write_text("mine")

    return spoil


def _hostile_mapping() -> None:
    mapping = np.empty((), dtype=object)
    mapping[()] = print
    np.save(f"{MASKS}/mapping_floc-faces.npy", mapping)


def _nothing() -> None:
    pass


def _stop(_: PlantSpec, __: int) -> None:
    raise OSError(28, "No space left on device")


CASES: dict[str, tuple[Callable[[], object], str, list[str]]] = {
    # name: (how to spoil it, command, words of the message)
    "dataset without a kind": (_nothing, FIT.replace("planted:brain", "brain"), ["dataset 'brain'", "KIND:PATH"]),
    "unknown kind of dataset": (_nothing, FIT.replace("planted:brain", "mylab:brain"), ["'mylab:brain'", "algonauts"]),
    "missing dataset folder": (_nothing, FIT.replace("planted:brain", "algonauts:x"), ["x: expected", "no such"]),
    "folder of another layout": (_nothing, FIT.replace("planted:brain", "algonauts:cache.zarr"), ["training_images"]),
    "planted brain without its truth": (lambda: shutil.rmtree("brain/truth"), FIT, ["truth/voxels.parquet"]),
    "missing responses": (lambda: Path(FMRI).unlink(), FIT, ["lh_training_fmri.npy", "no such file"]),
    "too few rows of responses": (_array(FMRI, lambda a: a[:-1]), FIT, ["shape (30,", "shape (29,"]),
    "responses with NaN": (_array(FMRI, _with_nan), FIT, ["1 of", "'nsd-00041'", "column 2"]),
    "responses of a wrong type": (_array(FMRI, lambda a: a.astype(int)), FIT, ["float32", "int64"]),
    "responses that are no numpy file": (
        _bytes(FMRI, lambda b: b"<html>"),
        FIT,
        ["lh_training_fmri.npy", "NumPy", "HTML page"],
    ),
    "ROI mask of a wrong length": (
        _array(f"{MASKS}/rh.streams_fsaverage_space.npy", lambda a: a[:-5]),
        FIT,
        ["rh.streams_fsaverage_space", "(163842,)", "(163837,)"],
    ),
    "masks that disagree": (
        _array(f"{MASKS}/lh.streams_challenge_space.npy", lambda a: a * 0 + 3),
        FIT,
        ["lh.streams", "same labels"],
    ),
    "hostile label map": (_hostile_mapping, FIT, ["mapping_floc-faces.npy", "pickled dict"]),
    "ids that do not match the cache": (_shift_ids, FIT, ["cache 'cache.zarr'", "'nsd-60001'"]),
    "gap in the images": (lambda: Path(IMAGE).unlink(), EXTRACT, ["without a gap", "train-0003"]),
    "truncated image": (_bytes(IMAGE, lambda b: b[: len(b) // 2]), EXTRACT, [IMAGE, "readable image", "'nsd-00027'"]),
    "image that is a web page": (_bytes(IMAGE, lambda b: b"<html>"), EXTRACT, [IMAGE, "readable image"]),
    "unknown spec": (_nothing, EXTRACT.replace("spec.yaml", "clip_b16"), ["spec 'clip_b16'", "clip_vit_b16"]),
    "missing spec file": (_nothing, EXTRACT.replace("spec.yaml", "other.yaml"), ["'other.yaml'", "no such file"]),
    "unknown key in a spec": (_append("spec.yaml", "gird: [4, 4]"), EXTRACT, ["'gird'", "Did you mean 'grid'?"]),
    "wrong type in a spec": (_append("spec.yaml", "grid: eight"), EXTRACT, ["spec.yaml", "'grid'", "'eight'"]),
    "spec that is no YAML": (_append("spec.yaml", "a: ["), EXTRACT, ["spec.yaml", "YAML"]),
    "layer that the backbone lacks": (
        _bytes("spec.yaml", lambda data: data.replace(b"family: clip", b"family: clip, layers: [block_7]")),
        EXTRACT,
        ["block_1", "'block_7'"],
    ),
    "image size that patches do not fill": (
        _bytes("spec.yaml", lambda b: b.replace(b"112", b"100")),
        EXTRACT,
        ["multiple of the patch size 14", "100"],
    ),
    "missing weights": (_nothing, EXTRACT + " --weights nowhere", ["nowhere", "config.json", "no such folder"]),
    "weights without a network": (
        _nothing,
        EXTRACT.replace("spec.yaml", "clip_vit_b16"),
        ["laion/CLIP-ViT-B-16-DataComp.L-s1B-b8K", "--weights"],
    ),
    "weights that lack a block": (_weights(_drop_block), EXTRACT, ["brain/backbone", "missing", "mlp.fc1"]),
    "features beyond float16": (_weights(_enlarge), EXTRACT, ["features local/block_1", "float16", "precision"]),
    "cache folder with other things": (_occupy("new.zarr"), EXTRACT, ["new.zarr", "other files"]),
    "cache of another spec": (
        _append("spec.yaml", "grid: [4, 4]"),
        EXTRACT.replace("new.zarr", "cache.zarr"),
        ["cache.zarr", "spec.grid [8, 8] → [4, 4]"],
    ),
    "missing cache": (_nothing, FIT.replace("cache.zarr", "none.zarr"), ["none.zarr", "no such folder"]),
    "unsealed cache": (_unseal, FIT, ["cache.zarr", "a sealed cache", "bddn extract"]),
    "cache with a flipped bit": (_bytes("cache.zarr/local/block_1/c.0.0.0.0", _flip), FIT, ["local/block_1/c.0.0.0.0"]),
    "cache with an emptied shard": (
        _bytes("cache.zarr/global/block_0/c.0.0", lambda b: b""),
        FIT,
        ["global/block_0/c.0.0", "0 bytes"],
    ),
    "cache of a future format": (
        _bytes("cache.zarr/manifest/header.json", lambda b: b.replace(b'"format": 2', b'"format": 9')),
        FIT,
        ["store format 2", "format 9"],
    ),
    "layer that is not stored": (
        _append("fit.yaml", "layers: [block_0, block_12]"),
        FIT,
        ["cache 'cache.zarr'", "'block_12'", "block_0 … block_1"],
    ),
    "too few images for the split": (_append("fit.yaml", "split: [90, 1, 1]"), FIT, ["split", "at least two images"]),
    "responses too large for float32": (
        _array(FMRI, lambda a: a * 1e38),
        FIT,
        ["responses", "values below 1e+30", "No run was written"],
    ),
    "recipe that there is not": (
        _nothing,
        FIT.replace("--spec fit.yaml", "--spec quick"),
        ["fit spec 'quick'", "paper, fast"],
    ),
    "run folder that is not empty": (_occupy("new"), FIT, ["new", "not empty"]),
    "run folder of another fit": (
        _nothing,
        FIT.replace("--out new", "--out run") + " --seed 4",
        ["run", "fit.seed 0 → 4"],
    ),
    "maps of what is no run": (_nothing, "maps cache.zarr", ["cache.zarr", "run folder"]),
    "maps of a run without its table": (lambda: Path("run/voxels.parquet").unlink(), "maps run", ["voxels.parquet"]),
    "planting over other things": (_nothing, "plant cache.zarr", ["cache.zarr", "empty folder"]),
    "impossible number of images": (_nothing, "plant p --images 3", ["'n_images'", "3"]),
    "output below a file": (
        _nothing,
        FIT.replace("--out new", "--out spec.yaml/run"),
        ["--out spec.yaml/run", "Not a directory"],
    ),
}


def _snapshot(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_gives_one_clear_message(here: Path, case: str) -> None:
    spoil, command, words = CASES[case]
    spoil()
    before = _snapshot(here)
    code, output = _run(command)
    assert code == 2, output
    message = " ".join(output.split("error: ", 1)[1].split())
    assert output.count("error: ") == 1
    assert "Traceback" not in output
    for word in ["expected", "got", *words]:
        assert word in message, message
    after = _snapshot(here)
    assert {name: after.get(name) for name in before} == before, "something already written was lost or changed"
    new = {name for name in after.keys() - before.keys() if not name.startswith("new.zarr/")}
    assert not new, "something half-made was left behind"


def test_what_is_there_already_is_kept(here: Path) -> None:
    before = _snapshot(here)
    code, output = _run("extract spec.yaml --data planted:brain --out cache.zarr")
    assert (code, "sealed before, reused" in output) == (0, True)
    code, output = _run("fit cache.zarr --data planted:brain --out run --spec fit.yaml")
    assert (code, "kept" in output) == (0, True)
    assert _snapshot(here) == before


def test_an_interrupted_extraction_is_no_cache(here: Path) -> None:
    """A cache that stopped at a bad image cannot be fitted on, and goes on once the image is mended."""
    good = Path(IMAGE).read_bytes()
    Path(IMAGE).write_bytes(good[: len(good) // 2])
    assert _run(EXTRACT)[0] == 2
    code, output = _run(FIT.replace("cache.zarr", "new.zarr"))
    assert (code, "no such folder" in output or "unfinished" in output) == (2, True)
    Path(IMAGE).write_bytes(good)
    assert _run(EXTRACT)[0] == 0
    old, new = (json.loads(Path(f"{c}.zarr/manifest/seal.json").read_text())["digest"] for c in ("cache", "new"))
    assert old == new


def test_planting_that_was_interrupted_can_be_started_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = "plant half --images 30 --radius 0.12 --layers 2"
    with monkeypatch.context() as patch:
        patch.setattr("bddn.planted.plant.true_maps", _stop)
        assert _run(command)[0] == 2
    assert not [p for p in here.iterdir() if "half" in p.name]
    assert _run(command)[0] == 0
