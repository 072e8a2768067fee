"""Errors are also the builtins that fit, travel between processes, and are not swallowed as builtins on their way."""

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bddn import errors
from bddn.cli import app
from bddn.errors import BackboneError, BddnError, CorruptStoreError, SpecError, StoreError
from bddn.extraction import extract
from bddn.planted.subject import Planted
from bddn.run import read_run
from bddn.spec import CacheSpec, FitSpec
from bddn.store.layout import IMAGES, SCALE
from bddn.store.reader import Cache
from bddn.store.remote import open_files

BUILTIN = {
    "SpecError": ValueError,
    "DataError": ValueError,
    "BackboneError": RuntimeError,
    "StoreError": OSError,
    "IncompleteStoreError": OSError,
    "CorruptStoreError": ValueError,
    "MismatchError": ValueError,
    "FitError": ArithmeticError,
    "LowMemoryError": MemoryError,
    "OutputError": OSError,
    "RunError": OSError,
    "ClusterError": RuntimeError,
}
WORDS = {"expected": "one thing", "got": "another", "fix": "Mend it."}


def _kinds(of: type[BddnError] = BddnError) -> Iterator[type[BddnError]]:
    for kind in of.__subclasses__():
        yield kind
        yield from _kinds(kind)


def test_every_error_is_in_the_table() -> None:
    ours = {kind.__name__ for kind in _kinds() if kind.__module__ == errors.__name__}
    assert ours == BUILTIN.keys()


@pytest.mark.parametrize("name", BUILTIN)
def test_an_error_is_the_builtin_that_fits_and_travels_whole(name: str) -> None:
    error = getattr(errors, name)(Path("place"), **WORDS)
    assert isinstance(error, BddnError)
    assert isinstance(error, BUILTIN[name])
    assert str(error) == "place: expected one thing; got another. Mend it."
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - our own bytes
        assert (type(other), str(other), other.__dict__) == (type(error), str(error), error.__dict__)


def test_a_script_catches_them_as_builtins(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="epochs"):
        FitSpec.parse({"epochs": 0}, "settings")
    with pytest.raises(OSError, match="no such folder"):
        Cache(tmp_path / "none.zarr")
    with pytest.raises(OSError, match="no such folder"):
        read_run(tmp_path / "none")


def _message(error: BaseException) -> str:
    """The message of an error, which no other one was wrapped around."""
    assert str(error).count("expected ") == 1, str(error)
    return str(error)


@pytest.fixture(scope="module")
def scaled(brain: Path, spec: CacheSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed cache in int8, which has scales that are read through zarr."""
    out = tmp_path_factory.mktemp("scaled") / "int8.zarr"
    extract(spec.model_copy(update={"precision": "int8"}), Planted(brain), out)
    return out


@pytest.mark.parametrize("array", [IMAGES, f"{SCALE}/local/block_1"])
def test_damage_behind_zarr_is_told_in_one_message(
    scaled: Path, tmp_path: Path, array: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Cache` catches zarr's ValueErrors, and must not catch our own, which come through zarr."""
    name = next(p.relative_to(scaled).as_posix() for p in (scaled / array).rglob("c.*"))
    read = type(open_files(scaled)).read

    def damaged(self: object, at: str, *args: int) -> bytes | None:
        data: bytes | None = read(self, at, *args)  # type: ignore[arg-type]
        return data[:-1] + b"?" if data and at == name else data

    monkeypatch.setattr("bddn.store.files.LocalFiles.read", damaged)
    with pytest.raises(CorruptStoreError, match="has other bytes") as error:
        Cache(scaled).read("local", "block_1", 0, 1)
    assert f"{name} has other bytes" in _message(error.value)


def test_a_cache_that_went_away_is_told_in_one_message(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the folder no longer exists") as error:
        open_files(tmp_path / "gone.zarr").replace("ids/c.0", b"some")
    _message(error.value)


class _Picky(torch.nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        raise BackboneError("the network", **WORDS)


def test_an_error_of_the_network_is_not_taken_for_one_of_torch() -> None:
    from types import SimpleNamespace
    from typing import Any

    from bddn.data import Stimuli
    from bddn.extraction.source import TokenSource
    from bddn.store.precision import precision

    layout: Any = SimpleNamespace(arrays=dict, layers=(), precision=precision("float16"))
    spec: Any = SimpleNamespace(batch_size=1)
    backbone: Any = _Picky()
    source = TokenSource(spec, backbone, Stimuli(("a",), (Path("a.png"),)), ["0"], layout, "cpu", 1)
    with source.prefetch([]) as images:
        images.request = lambda rows: [lambda: torch.zeros(3, 2, 2) for _ in rows]  # type: ignore[method-assign]
        with pytest.raises(BackboneError) as error:
            source.read(0, 1, images, lambda n: None)
    assert _message(error.value).startswith("the network: ")


def test_what_a_run_lacks_is_told_where_predictions_lie(tmp_path: Path) -> None:
    from types import SimpleNamespace
    from typing import Any

    from bddn.errors import RunError
    from bddn.predict import prediction_identity

    run: Any = SimpleNamespace(folder=tmp_path, about={})
    pictures: Any = SimpleNamespace(stimuli=SimpleNamespace(ids=[]), sha256=[])
    with pytest.raises(RunError) as error:
        prediction_identity(run, pictures, "cpu")
    assert "encoder.safetensors" in _message(error.value)
    for name in ("encoder.safetensors", "voxels.parquet"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(RunError) as error:
        prediction_identity(run, pictures, "cpu")
    assert str(tmp_path / "run.json") in _message(error.value)


def test_the_command_line_tells_every_kind_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in BUILTIN:
        error = getattr(errors, name)("place", **WORDS)
        monkeypatch.setattr("bddn.data.open_dataset", lambda _, error=error: (_ for _ in ()).throw(error))
        result = CliRunner().invoke(app, ["fit", "c.zarr", "--data", "planted:x", "--out", "run"])
        assert result.exit_code == 2
        assert result.output.strip() == f"error: {error}"


def test_a_validator_that_meets_one_of_ours_does_not_hide_it() -> None:
    """pydantic takes a ValueError of a validator for a wrong field; what it then says is still all that was said."""
    with pytest.raises(SpecError, match="different layers, not"):
        FitSpec.parse({"layers": ["a", "a"]}, "settings")
