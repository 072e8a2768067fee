"""A file that is not what its name says is told by what it is, wherever it is read, and nothing is harmed."""

import gzip
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from bddn.cli import app
from bddn.planted.subject import Planted
from bddn.run import fit_run
from bddn.spec import CacheSpec, FitSpec

FIT = FitSpec(channels=8, selector_width=16, epochs=1, batch_size=8)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
S3 = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>'

RESPONSES = "brain/subj01/training_split/training_fmri/lh_training_fmri.npy"
IMAGE = "brain/subj01/training_split/training_images/train-0003_nsd-00027.png"
CEILING = "brain/subj01/test_split/noise_ceiling/rh_noise_ceiling.npy"
MASKS = "brain/subj01/roi_masks"
MASK, MAPPING = f"{MASKS}/lh.all-vertices_fsaverage_space.npy", f"{MASKS}/mapping_streams.npy"
TRUTH, MODEL, CONFIG = "brain/truth/voxels.parquet", "brain/backbone/model.safetensors", "brain/backbone/config.json"
SHARD, HEADER = "cache.zarr/local/block_1/c.0.0.0.0", "cache.zarr/manifest/header.json"
EXTRACT = "extract spec.yaml --data planted:brain --out new.zarr --device cpu"
FITTING = "fit cache.zarr --data planted:brain --out new --spec fit.yaml --device cpu"
PREDICT = "predict run pictures --spec spec.yaml --device cpu --out new"
MAPS = "maps run"


@pytest.fixture(scope="module")
def whole(sealed: Path, brain: Path, spec: CacheSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planted brain, a sealed cache, a run and pictures, all of which work."""
    root = tmp_path_factory.mktemp("whole")
    shutil.copytree(brain, root / "brain")
    shutil.copytree(sealed, root / "cache.zarr")
    fit_run(root / "cache.zarr", Planted(root / "brain"), root / "run", FIT)
    about = spec.to_dict() | {"weights": {"folder": "brain/backbone"}}
    (root / "spec.yaml").write_text(yaml.safe_dump(about))
    (root / "fit.yaml").write_text("epochs: 1\nchannels: 8\nbatch_size: 8\nselector_width: 16\n")
    (root / "pictures").mkdir()
    for k in (1, 2):
        shutil.copy(Planted(brain).stimuli.paths[k], root / f"pictures/{k}.png")
    return root


@pytest.fixture
def here(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to spoil, as the working directory."""
    shutil.copytree(whole, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    return tmp_path / "w"


def run(command: str) -> tuple[int, str]:
    """Exit code and output of a command."""
    result = CliRunner().invoke(app, command.split())
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.split())


Spoil = Callable[[Path], object]


def into(data: bytes) -> Spoil:
    """Other content in the file's place."""
    return lambda path: path.write_bytes(data)


def annex(path: Path) -> None:
    """A link of git-annex whose content is not there, in the file's place."""
    path.unlink()
    path.symlink_to(".git/annex/objects/Xk/9p/MD5E-s7--1/MD5E-s7--1")


def annex_with_content(path: Path) -> None:
    """A link of git-annex whose content is there."""
    content = path.parent / ".git/annex/objects/MD5E-s7--1"
    content.parent.mkdir(parents=True)
    path.rename(content)
    path.symlink_to(".git/annex/objects/MD5E-s7--1")


def npz(path: Path) -> None:
    """The same numbers in an archive."""
    np.savez(path.with_suffix(".npz"), np.load(path))
    path.with_suffix(".npz").rename(path)


def objects(path: Path) -> None:
    """The same numbers as Python objects."""
    np.save(path, np.load(path).astype(object))


def zipped(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes()))


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(np.load(path)))


def torch_saved(path: Path) -> None:
    torch.save({"a": torch.ones(3)}, path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere/at/all")


GET, PULL = "git annex get", "git lfs pull"
CASES: dict[str, tuple[str, Spoil, str, list[str]]] = {
    # name: (file, how it is spoilt, command, words of the message)
    "responses in an npz": (RESPONSES, npz, FITTING, [RESPONSES, "a NumPy .npz archive", "numpy.save"]),
    "responses as a Git LFS pointer": (RESPONSES, into(LFS), FITTING, [RESPONSES, "Git LFS pointer", PULL]),
    "responses as a git-annex link": (RESPONSES, annex, FITTING, [RESPONSES, "git-annex link whose content", GET]),
    "responses as the text of a git-annex link": (
        RESPONSES,
        into(b"../../../.git/annex/objects/Xk/9p/MD5E-s7--1.npy/MD5E-s7--1.npy"),
        FITTING,
        [RESPONSES, "a git-annex link that was copied as a text", "cp -L"],
    ),
    "responses as objects": (RESPONSES, objects, FITTING, [RESPONSES, "Python objects (a pickle)"]),
    "responses as a pickle": (RESPONSES, pickled, FITTING, [RESPONSES, "a Python pickle"]),
    "responses in gzip": (RESPONSES, zipped, FITTING, [RESPONSES, "a gzip archive", "Unpack it"]),
    "responses that are a page": (RESPONSES, into(PAGE), FITTING, [RESPONSES, "an HTML page"]),
    "responses that are a message of S3": (RESPONSES, into(S3), FITTING, [RESPONSES, "XML error message"]),
    "responses of zeros": (RESPONSES, into(bytes(4096)), FITTING, [RESPONSES, "begins with zeros"]),
    "empty responses": (RESPONSES, into(b""), FITTING, [RESPONSES, "an empty file"]),
    "responses that are a folder": (RESPONSES, folder, FITTING, [RESPONSES, "got a folder"]),
    "responses that lead nowhere": (RESPONSES, dangling, FITTING, [RESPONSES, "a link to /nowhere/at/all, which"]),
    "a mask as a Git LFS pointer": (MASK, into(LFS), FITTING, [MASK, "Git LFS pointer", PULL]),
    "names of labels as a Git LFS pointer": (MAPPING, into(LFS), FITTING, [MAPPING, "Git LFS pointer", PULL]),
    "names of labels as a git-annex link": (MAPPING, annex, FITTING, [MAPPING, "git-annex link", GET]),
    "a ceiling as a git-annex link": (CEILING, annex, FITTING, [CEILING, "git-annex link", GET]),
    "one of two masks as a git-annex link": (
        f"{MASKS}/rh.streams_challenge_space.npy",
        annex,
        FITTING,
        ["rh.streams_challenge_space.npy", "git-annex link", GET],
    ),
    "the truth as a git-annex link": (TRUTH, annex, FITTING, ["brain", "git-annex link", GET]),
    "the truth as a Git LFS pointer": (TRUTH, into(LFS), FITTING, [TRUTH, "Git LFS pointer", PULL]),
    "an image as a git-annex link": (IMAGE, annex, EXTRACT, [IMAGE, "git-annex link", GET, "'nsd-00027'"]),
    "an image as a Git LFS pointer": (IMAGE, into(LFS), EXTRACT, [IMAGE, "Git LFS pointer", PULL]),
    "an image that is a folder": (IMAGE, folder, EXTRACT, [IMAGE, "got a folder"]),
    "weights as a Git LFS pointer": (MODEL, into(LFS), EXTRACT, ["model.safetensors that is a Git LFS pointer", PULL]),
    "weights as a git-annex link": (MODEL, annex, EXTRACT, ["model.safetensors that is a git-annex link", GET]),
    "weights that are a page": (MODEL, into(PAGE), EXTRACT, ["model.safetensors that is an HTML page"]),
    "weights of torch.save": (MODEL, torch_saved, EXTRACT, ["model.safetensors that is a PyTorch file"]),
    "config.json as a Git LFS pointer": (CONFIG, into(LFS), EXTRACT, ["config.json that is a Git LFS", PULL]),
    "config.json as a git-annex link": (CONFIG, annex, EXTRACT, ["config.json that is a git-annex link", GET]),
    "a spec that is a page": ("spec.yaml", into(PAGE), EXTRACT, ["spec.yaml", "an HTML page"]),
    "a spec as a Git LFS pointer": ("spec.yaml", into(LFS), EXTRACT, ["spec.yaml", "Git LFS pointer", PULL]),
    "a cache's header as a git-annex link": (HEADER, annex, FITTING, ["cache.zarr", "git-annex link whose", GET]),
    "a cache's header unlocked too little": (HEADER, annex_with_content, FITTING, ["in place of the file", "unlock"]),
    "a cache's header as a Git LFS pointer": (HEADER, into(LFS), FITTING, [HEADER, "Git LFS pointer", PULL]),
    "a shard as a git-annex link": (SHARD, annex, FITTING, ["local/block_1/c.0.0.0.0 is a git-annex link", GET]),
    "a shard as a Git LFS pointer": (SHARD, into(LFS), FITTING, ["c.0.0.0.0 is a Git LFS pointer", PULL]),
    "a table as a Git LFS pointer": ("run/voxels.parquet", into(LFS), MAPS, ["voxels.parquet that is a Git LFS", PULL]),
    "a table as a git-annex link": ("run/voxels.parquet", annex, MAPS, ["voxels.parquet that is a git-annex", GET]),
    "run.json as a git-annex link": ("run/run.json", annex, MAPS, ["run.json that is a git-annex link", GET]),
    "run.json that is a list": ("run/run.json", into(b"[1]"), MAPS, ["run: expected a run folder"]),
    "truth.json as a git-annex link": ("run/truth.json", annex, MAPS, ["truth.json that is a git-annex link", GET]),
    "an encoder as a Git LFS pointer": ("run/encoder.safetensors", into(LFS), PREDICT, ["Git LFS pointer", PULL]),
    "learning as a git-annex link": ("run/learning.safetensors", annex, "film run", ["git-annex link", GET]),
    "a picture as a git-annex link": ("pictures/2.png", annex, PREDICT, ["pictures/2.png", "git-annex link", GET]),
}


def _snapshot(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", CASES)
def test_the_true_cause_is_told(name: str, here: Path) -> None:
    path, spoil, command, words = CASES[name]
    spoil(here / path)
    before = _snapshot(here)
    code, output = run(command)
    assert code == 2, output
    assert output.count("error: ") == 1
    for word in words:
        assert word in output, output
    for word in ("Traceback", "allow_pickle", "weights_only", "unsafe"):
        assert word not in output
    assert {k: v for k, v in _snapshot(here).items() if not k.startswith("new.zarr")} == before


@pytest.mark.parametrize(
    "form",
    [
        lambda a: a.astype(">f4"),
        np.asfortranarray,
        lambda a: a.astype(np.float64),
        lambda a: a.astype(">f8", order="F"),
        lambda a: a.astype(np.longdouble),
    ],
    ids=["big-endian", "Fortran order", "float64", "big-endian float64 in Fortran order", "longdouble"],
)
def test_responses_of_another_form_are_read_right(form: Callable[[np.ndarray], np.ndarray], here: Path) -> None:
    expected = Planted(Path("brain")).responses()
    np.save(here / RESPONSES, form(np.load(here / RESPONSES)))
    found = Planted(Path("brain")).responses()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    code, output = run(FITTING)
    assert code == 0, output
    old, new = (json.loads((here / p / "metrics.json").read_text())["r2_test"] for p in ("run", "new"))
    assert old == new


def test_responses_that_float32_cannot_hold_are_refused(here: Path) -> None:
    responses = np.load(here / RESPONSES).astype(np.float64)
    responses[4, 2] = 1e300
    np.save(here / RESPONSES, responses)
    code, output = run(FITTING)
    assert code == 2
    assert "1 of" in output
    assert "column 2" in output


def test_verification_tells_the_true_cause_of_every_file(here: Path) -> None:
    annex(here / SHARD)
    (here / SHARD.replace("block_1", "block_2")).write_bytes(LFS)
    code, output = run("cache verify cache.zarr")
    assert code == 1
    assert "bad: 2 of" in output
    assert f"local/block_1/c.0.0.0.0 is a git-annex link whose content is not on this machine. Run '{GET}'" in output
    assert f"local/block_2/c.0.0.0.0 is a Git LFS pointer, not the content. Run '{PULL}'" in output


def test_an_archive_given_as_a_subject_is_told(here: Path) -> None:
    shutil.make_archive("subj01", "zip", "brain/subj01")
    code, output = run(FITTING.replace("planted:brain", "algonauts:subj01.zip"))
    assert code == 2
    assert "got a ZIP archive. Unpack it" in output
