"""`weights.lock`: what one lab fetched is what another one fetches and extracts from, or it is refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from backbones.hub import Hub, Repository, serve
from backbones.test_fetch import CONTENT, SHA
from bddn.backbones.registry import load_spec, load_specs
from bddn.cli import app
from bddn.errors import SpecError

OLD, NEW = "3" * 40, "4" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one repository, and the working directory of the first lab."""
    with serve() as one:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", one.address)
        template = f"{one.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
        one.repositories["a/b"] = Repository({"config.json": b"{}", "model.safetensors": CONTENT})
        one.files["/vit.pth"] = CONTENT
        _lab(tmp_path / "first", monkeypatch)
        for name, family, weights in (
            ("hub", "sam", {"hub": "a/b"}),
            ("url", "vit", {"url": f"{one.address}/vit.pth", "format": "timm"}),
        ):
            backbone = {"family": family, "architecture": {"num_hidden_layers": 1}}
            spec = {"title": "t", "backbone": backbone, "weights": weights, "global_token": "mean"}
            (tmp_path / f"{name}.yaml").write_text(json.dumps(spec))
        yield one


def _lab(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go to the working directory of a lab, whose machine has no weights."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(folder / "torch"))


def _bddn(*words: str) -> Result:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def _fetched(*words: str) -> str:
    result = _bddn("fetch", "../hub.yaml", "../url.yaml", *words)
    assert result.exit_code == 0, result.output
    return result.output


def _lock(change: Any = None) -> dict[str, Any]:
    path = Path("weights.lock")
    found: dict[str, Any] = json.loads(path.read_text())
    if change is not None:
        change(found)
        path.write_text(json.dumps(found))
    return found


def test_the_file_has_the_commit_and_all_hashes(hub: Hub) -> None:
    _fetched()
    assert not Path("weights.lock").exists()
    _fetched("--lock")
    model = {"name": "model.safetensors", "sha256": SHA, "size": 7000}
    config = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # of '{}'
    files = [{"name": "config.json", "sha256": config, "size": 2}, model]
    url = {"url": f"{hub.address}/vit.pth", "files": [model | {"name": "vit.pth"}]}
    written = {"format": 1, "weights": [{"hub": "a/b", "commit": OLD, "files": files}, url]}
    assert _lock() == written
    hub.asked.clear()
    assert _fetched("--lock", "--offline").count("on this machine") == 2
    assert _lock() == written
    assert not hub.asked


def test_another_lab_gets_the_commit_of_the_file_not_the_newest(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fetched("--lock")
    text = Path("weights.lock").read_bytes()
    hub.repositories["a/b"].revisions = (OLD,)
    hub.newer["a/b"] = Repository({"config.json": b"{}", "model.safetensors": b"new"}, sha=NEW, revisions=("main", NEW))
    _lab(tmp_path / "other", monkeypatch)
    assert f"commit {NEW} →" in _fetched()
    _lab(tmp_path / "second", monkeypatch)
    Path("weights.lock").write_bytes(text)
    output = _fetched()
    assert f"hub.yaml: fetched, hub a/b, revision {OLD} as in weights.lock → {tmp_path}" in output
    for spec in (load_spec("../hub.yaml"), load_spec("../url.yaml")):
        assert spec.weights is not None
        assert (spec.weights.revision, spec.weights.sha256) in [(OLD, None), (None, SHA)]
    card = " ".join(_bddn("backbones", "show", "../hub.yaml").stdout.split())
    assert f"revision {OLD} as in weights.lock, on this machine" in card
    assert next(Path("hub").glob("*/snapshots/*")).name == OLD


def _other_hash(lock: dict[str, Any]) -> None:
    for entry in lock["weights"]:
        entry["files"][-1]["sha256"] = "0" * 64


def _other_size(lock: dict[str, Any]) -> None:
    lock["weights"][0]["files"][0]["size"] = 3


def _other_commit(lock: dict[str, Any]) -> None:
    lock["weights"][0]["commit"] = NEW


@pytest.mark.parametrize("here", [False, True], ids=["fetched", "on this machine"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_other_hash, [f"model.safetensors of SHA-256 {'0' * 64} (7,000 bytes); got SHA-256 {SHA} (7,000 bytes)"]),
        (_other_size, ["expected config.json of SHA-256 44136fa", "(3 bytes); got SHA-256 44136fa", "(2 bytes)"]),
        (_other_commit, [f"a/b at revision {NEW}: expected a revision", "the commit in weights.lock"]),
    ],
)
def test_other_files_than_those_of_the_lock_are_refused_with_the_difference(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, words: list[str], here: bool
) -> None:
    _fetched("--lock")
    _lock(change)
    text = Path("weights.lock").read_bytes()
    if not here:
        _lab(tmp_path / "second", monkeypatch)
        Path("weights.lock").write_bytes(text)
    hub.asked.clear()
    result = _bddn("fetch", "../hub.yaml", "../url.yaml")
    assert result.exit_code == 2
    for word in words:
        assert word in result.stderr
    if change is _other_hash:
        assert result.stderr.count("error: ") == 2
        assert not hub.reads(), "it was downloaded before it was refused"
    assert Path("weights.lock").read_bytes() == text


def test_a_spec_of_another_revision_is_refused(hub: Hub) -> None:
    _fetched("--lock")
    spec = json.loads(Path("../hub.yaml").read_text())
    for revision in ("main", OLD, NEW):
        Path("own.yaml").write_text(json.dumps(spec | {"weights": {"hub": "a/b", "revision": revision}}))
        if revision != NEW:
            weights = load_spec("own.yaml").weights
            assert weights is not None
            assert weights.revision == OLD
            continue
        with pytest.raises(SpecError, match=f"expected revision main, which was commit {OLD}; got revision {revision}"):
            load_spec("own.yaml")
    assert load_specs(), "other specs do not open"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["an empty file"]),
        ('{"format": 2}', ["'format'", "2 in line 1"]),
        ('{"weights": [{"files": [{"name": "a", "sha": "0"}]}]}', ["unknown key 'weights.0.files.0.sha'", "sha256"]),
        ('{"weights": [{"hub": "a/b", "commit": "main", "files": []}]}', ["'weights.0.commit'", "'main'"]),
    ],
)
def test_a_damaged_file_is_one_clear_error(hub: Hub, text: str, words: list[str]) -> None:
    Path("weights.lock").write_text(text)
    result = _bddn("fetch", "../hub.yaml")
    assert (result.exit_code, result.stderr.count("error: weights.lock")) == (2, 1)
    for word in words:
        assert word in result.stderr
