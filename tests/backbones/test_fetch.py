"""`bddn fetch`: only what a family needs, once, and nothing half-made; other commands ask no network."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from typer.testing import CliRunner, Result

from backbones.hub import Hub, Repository, serve
from bddn.backbones.kind import kind_of
from bddn.backbones.registry import open_backbone
from bddn.backbones.weights.fetch import fetch, is_available
from bddn.backbones.weights.local import file_of
from bddn.cli import app
from bddn.errors import BackboneError
from bddn.files.checksum import file_sha256
from bddn.spec import CacheSpec, WeightsSpec
from bddn.store.reader import Cache

REPO = "someone/tiny-clip"
FOREIGN = [
    "flax_model.msgpack",
    "tf_model.h5",
    "onnx/model.onnx",
    "model.fp16.safetensors",
    "README.md",
    ".gitattributes",
]
PIPELINE = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
]
NOT_OF_PIPELINE = [
    "v1-5-pruned.safetensors",
    "safety_checker/model.safetensors",
    "feature_extractor/preprocessor_config.json",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.bin",
    "text_encoder/pytorch_model.bin",
    "text_encoder/flax_model.msgpack",
    "vae/diffusion_pytorch_model.fp16.bin",
]


def _shards(stem: str, end: str, n: int, index: bool = True) -> list[str]:
    parts = [f"{stem}-{i:05d}-of-{n:05d}.{end}" for i in range(1, n + 1)]
    return [*([f"{stem}.{end}.index.json"] if index else []), *parts]


CASES: dict[str, tuple[str, list[str], list[str]]] = {  # name: (family, needed, others that lie beside it)
    "one file": ("dinov2", ["config.json", "model.safetensors"], ["pytorch_model.bin", *FOREIGN]),
    "with a processor": ("sam", ["config.json", "preprocessor_config.json", "model.safetensors"], FOREIGN),
    "shards": ("vit", ["config.json", *_shards("model", "safetensors", 3)], _shards("pytorch_model", "bin", 2)),
    "a pickle alone": ("vit", ["config.json", "pytorch_model.bin"], ["model.fp16.safetensors"]),
    "shards of a pickle": ("vit", ["config.json", *_shards("pytorch_model", "bin", 2)], FOREIGN),
    "shards that lack one": (
        "vit",
        ["config.json", "pytorch_model.bin"],
        _shards("model", "safetensors", 3)[:-1],
    ),
    "shards without index": ("vit", ["config.json", "pytorch_model.bin"], _shards("model", "safetensors", 2, False)),
    "CLIP of transformers and open_clip": (
        "clip",
        ["config.json", "model.safetensors"],
        ["open_clip_config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin"],
    ),
    "CLIP of open_clip": (
        "clip",
        ["open_clip_config.json", "open_clip_model.safetensors"],
        ["open_clip_pytorch_model.bin", "vocab.json"],
    ),
    "CLIP of open_clip with another config": (
        "clip",
        ["open_clip_config.json", "preprocessor_config.json", "open_clip_pytorch_model.bin"],
        ["config.json"],
    ),
    "pipeline": ("stable_diffusion", PIPELINE, NOT_OF_PIPELINE),
    "pipeline of pickles": (
        "stable_diffusion",
        [name.replace("/model.safetensors", "/pytorch_model.bin").replace(".safetensors", ".bin") for name in PIPELINE],
        ["unet/diffusion_pytorch_model.fp16.safetensors"],
    ),
    "pipeline with shards": (
        "stable_diffusion",
        [
            *(name for name in PIPELINE if not name.startswith("unet/diff")),
            *_shards("unet/diffusion_pytorch_model", "safetensors", 2),
        ],
        [],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_family_needs_its_files_and_no_others(case: str) -> None:
    family, wanted, others = CASES[case]
    spec = _of_family(family)
    files, lacks = kind_of(spec).files(spec, [*others, *wanted])
    assert (sorted(files), lacks) == (sorted(wanted), "")


@pytest.mark.parametrize("case", CASES)
def test_without_any_one_of_its_files_a_repository_does_not_do(case: str, home: Path, hub: Hub) -> None:
    family, wanted, _ = CASES[case]
    may_lack = {"model_index.json", "preprocessor_config.json", "open_clip_config.json", "tokenizer/merges.txt"}
    for gone in set(wanted) - may_lack:
        left = [name for name in wanted if name not in (gone, "tokenizer/merges.txt")]
        hub.repositories["a/b"] = Repository(dict.fromkeys(left, b""))
        with pytest.raises(BackboneError) as caught:
            fetch(_of_family(family))
        assert str(caught.value).startswith("a/b: expected ")
        assert left[0] in str(caught.value), "it does not list what there is"


@pytest.mark.parametrize("family", ["vit", "dinov2", "sam"])
def test_weights_of_open_clip_are_for_clip_alone(family: str, home: Path, hub: Hub) -> None:
    hub.repositories["a/b"] = Repository(dict.fromkeys(["open_clip_config.json", "open_clip_model.safetensors"], b""))
    with pytest.raises(BackboneError, match=r"expected config\.json and model\.safetensors"):
        fetch(_of_family(family))


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve() as one:
        yield one


@pytest.fixture
def home(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Private caches, and the stand-in as the hub, in this process."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 500)  # of a lost connection, whole ones count
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)  # before it asks again
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    _ask(hub, monkeypatch)
    return tmp_path


def _ask(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the stand-in be the hub in this process."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
    template = f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture
def clip(spec: CacheSpec, brain: Path, hub: Hub) -> CacheSpec:
    """The spec of the planted network, whose weights are on the hub, among files that it does not need."""
    files = {path.name: path.read_bytes() for path in (brain / "backbone").iterdir()}
    hub.repositories[REPO] = Repository(files | dict.fromkeys([*FOREIGN, "pytorch_model.bin"], b"not needed"))
    return _with(spec, hub=REPO)


def _of_family(family: str) -> CacheSpec:
    return CacheSpec.parse({"title": "t", "backbone": {"family": family}, "weights": {"hub": "a/b"}}, "test")


def _with(spec: CacheSpec, **weights: Any) -> CacheSpec:
    value = spec.to_dict() | {"weights": weights}
    return CacheSpec.parse(value, "test")


def _files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def _command(*words: str, at: Path, hub: Hub, **more: str) -> subprocess.CompletedProcess[str]:
    own = {"HF_ENDPOINT": hub.address, "HF_HOME": str(at / "hf"), "TORCH_HOME": str(at / "torch")}
    return subprocess.run(
        [sys.executable, "-m", "bddn", *words],
        cwd=at,
        env={name: value for name, value in os.environ.items() if not name.startswith("HF_")} | own | more,
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_was_fetched_is_extracted_from_without_a_network(
    clip: CacheSpec, sealed: Path, brain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By commands in processes of their own, and before and after them in this one, which starts sooner."""

    def here(*words: str) -> Result:
        return CliRunner().invoke(app, words)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    (tmp_path / "tiny.yaml").write_text(clip.model_dump_json())
    extract = ["extract", "tiny.yaml", "--data", f"planted:{brain}", "--out", "new.zarr"]
    with serve() as hub:
        _ask(hub, monkeypatch)
        files = {path.name: path.read_bytes() for path in (brain / "backbone").iterdir()}
        hub.repositories[REPO] = Repository(files | dict.fromkeys(FOREIGN, b"not needed"))

        told = here("fetch", "--offline", "tiny.yaml")
        assert told.exit_code == 2
        assert f"missing, hub {REPO}, revision main → {tmp_path}" in told.stdout
        assert "1 of 1 missing" in told.stderr
        refused = here(*extract)
        assert (refused.exit_code, refused.stderr.count("error: ")) == (2, 1)
        assert "Run 'bddn fetch tiny.yaml'" in refused.stderr
        assert not hub.asked, "other commands asked the hub"

        done = _command("fetch", "tiny.yaml", at=tmp_path, hub=hub)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"tiny.yaml: fetched, hub {REPO}, revision main, commit {'3' * 40} → {tmp_path}" in done.stdout
        assert hub.reads() == ["config.json", "model.safetensors", "preprocessor_config.json"]

        n = len(hub.asked)
        again, offline = here("fetch", "tiny.yaml"), here("fetch", "--offline", "tiny.yaml")
        assert (again.exit_code, offline.exit_code) == (0, 0)
        assert again.stdout.startswith("tiny.yaml: on this machine, hub ")
        assert len(hub.asked) == n, "what is there was asked for again"
    done = _command(*extract, at=tmp_path, hub=hub)
    assert done.returncode == 0, done.stderr
    assert Cache(tmp_path / "new.zarr").digest == Cache(sealed).digest


@pytest.mark.parametrize("revision", [None, "main", "3" * 40])
def test_a_revision_is_found_again(clip: CacheSpec, home: Path, revision: str | None) -> None:
    pinned = _with(clip, hub=REPO, revision=revision)
    assert not is_available(pinned)
    fetch(pinned)
    assert is_available(pinned)
    assert open_backbone(pinned).layers
    assert not _files(home) & {*FOREIGN, "pytorch_model.bin"}
    assert not is_available(_with(clip, hub=REPO, revision="4" * 40))


def test_a_fetch_that_was_cut_off_is_no_weights_and_goes_on(clip: CacheSpec, home: Path, hub: Hub) -> None:
    hub.repositories[REPO].gated = {"model.safetensors"}
    with pytest.raises(BackboneError):
        fetch(clip)
    assert not is_available(clip)
    hub.repositories[REPO].gated = set()
    hub.asked.clear()
    fetch(clip)
    assert is_available(clip)
    assert hub.reads() == ["model.safetensors"], "what was there was read again"


def test_a_file_of_a_repository_is_continued_too(clip: CacheSpec, home: Path, hub: Hub) -> None:
    """First by the process whose connection is lost, then by a later one."""
    hub.cut["model.safetensors"] = 3000
    hub.lost = [503]
    with pytest.raises(BackboneError, match=r"HTTP 503\. Wait a minute, then run 'bddn fetch' again"):
        fetch(clip)
    assert not is_available(clip)
    hub.cut["model.safetensors"] = 2000
    fetch(clip)
    assert [one.rpartition("bytes=")[2] for one in hub.parts] == ["3000-", "3000-", "5000-"]
    assert open_backbone(clip).layers


def test_a_damaged_file_is_found_and_fetched_again(clip: CacheSpec, home: Path, hub: Hub) -> None:
    """Files come from the same commit, also if main is another one by now."""
    for name in ("model.safetensors", "config.json"):
        assert fetch(clip).state in ("fetched", "on this machine")
        path = next((home / "hub").glob(f"*/snapshots/*/{name}"))
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        assert fetch(clip, offline=True).state == "damaged"
        hub.asked.clear()
        hub.repositories[REPO].revisions = ("3" * 40,)
        assert fetch(clip).state == "fetched"
        assert hub.reads() == [name]
        hub.asked.clear()
        assert fetch(clip).state == "on this machine"
        assert not hub.asked


def test_a_file_with_another_content_than_the_hub_says_is_refused(clip: CacheSpec, home: Path, hub: Hub) -> None:
    files = hub.repositories[REPO].files
    for name in ("config.json", "model.safetensors"):
        hub.changed = {name: bytes(len(files[name]))}
        with pytest.raises(BackboneError, match=rf"{name}: expected a file of .* as the hub says; got [0-9a-f]+\."):
            fetch(clip)
        assert not is_available(clip)
    hub.changed = {}
    fetch(clip)
    assert open_backbone(clip).layers


def test_a_disk_without_space_for_the_files_is_refused_before_the_download(
    clip: CacheSpec, home: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(BackboneError, match=r"expected \d\.\d\d MB of free space in .*hub; got 0\.00 MB\. .* HF_HOME"):
        fetch(clip)
    assert not hub.reads()


def test_native_preprocessing_needs_its_file(clip: CacheSpec, home: Path, hub: Hub) -> None:
    del hub.repositories[REPO].files["preprocessor_config.json"]
    fetch(clip)
    native = clip.model_copy(update={"preprocess": "native"})
    assert not is_available(native)
    with pytest.raises(BackboneError, match=r"preprocessor_config\.json, for preprocess: native"):
        fetch(native)
    files, sha = hub.repositories[REPO].files | {"preprocessor_config.json": b"{}"}, "4" * 40
    hub.repositories[REPO] = Repository(files, sha=sha, revisions=("main", sha))
    fetch(native)
    assert is_available(native)


def test_a_snapshot_of_some_files_that_another_tool_left_is_used(clip: CacheSpec, home: Path, hub: Hub) -> None:
    """Tools may leave the list of all files beside a part of them, by which the hub's client says 'incomplete'."""
    fetch(clip)
    snapshot = next((home / "hub").glob("models--*/snapshots/*"))
    every = {name: {"size": 1, "blob_id": "0" * 40} for name in hub.repositories[REPO].files}
    listing = snapshot.parent.parent / "trees" / f"{snapshot.name}.json"
    listing.parent.mkdir(exist_ok=True)
    listing.write_text(json.dumps({"format_version": 1, "files": every}))
    with pytest.raises(huggingface_hub.errors.LocalEntryNotFoundError):
        huggingface_hub.snapshot_download(REPO, local_files_only=True)
    assert is_available(clip)
    assert open_backbone(clip).layers


def _moved(hub: Hub) -> None:
    del hub.repositories[REPO]


def _gated(hub: Hub) -> None:
    hub.repositories[REPO].gated = set(hub.repositories[REPO].files)


def _other(hub: Hub) -> None:
    hub.repositories[REPO].files = {"README.md": b"", "vae/config.json": b""}


def _offline(hub: Hub) -> None:
    pass


def _full(hub: Hub) -> None:
    pass


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_moved, ["no repository of this name, or a private one", "weights.hub", "hf auth login"]),
        (_gated, ["gated", "HTTP 401 without a token (none in HF_TOKEN or ", f"/{REPO}, make a token", "auth login"]),
        (_other, ["expected config.json and model.safetensors", "got only README.md, vae/config.json"]),
        (_offline, ["HF_HUB_OFFLINE is set"]),
        (_full, ["No space left on device", "free space", "HF_HOME"]),
    ],
)
def test_what_the_hub_refuses_is_one_clear_error(
    clip: CacheSpec, home: Path, hub: Hub, spoil: Any, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(hub)
    if spoil is _offline:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if spoil is _full:
        monkeypatch.setattr("bddn.backbones.weights.download.fsync_path", _no_space)
    with pytest.raises(BackboneError) as caught:
        fetch(clip)
    for word in [REPO, "expected", "got", *words]:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not is_available(clip)


def _no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_unknown_revision_is_named(clip: CacheSpec, home: Path) -> None:
    with pytest.raises(BackboneError, match=r"tiny-clip at revision v9: expected a revision .* weights\.revision"):
        fetch(_with(clip, hub=REPO, revision="v9"))


def test_an_id_that_is_none_is_named(clip: CacheSpec, home: Path) -> None:
    with pytest.raises(BackboneError, match=r"a/b/c: expected a hub id, owner/name"):
        fetch(_with(clip, hub="a/b/c"))


def test_a_hub_that_does_not_answer_is_one_clear_error(clip: CacheSpec, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(clip.model_dump_json())
    with serve() as gone:
        pass
    done = _command("fetch", "tiny.yaml", at=tmp_path, hub=gone)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1
    assert f"{REPO}: expected the hub at {gone.address} to answer" in done.stderr
    assert "Check the network" in done.stderr


CONTENT = b"weights" * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()


def _from_url(hub: Hub, name: str, content: bytes = CONTENT) -> CacheSpec:
    hub.files[f"/models/{name}"] = content
    backbone = {"family": "vit", "architecture": {"num_hidden_layers": 1}}
    weights = {"url": f"{hub.address}/models/{name}", "format": "timm"}
    return CacheSpec.parse({"title": "t", "backbone": backbone, "weights": weights}, "test")


@pytest.mark.parametrize("name", [f"vit-{SHA[:8]}.pth", "vit.pth", "vit-b-300ep.pth.tar", "vit-deadbeef.pth.tar"])
def test_a_file_is_downloaded_once_to_its_place(hub: Hub, home: Path, name: str) -> None:
    spec = _from_url(hub, name)
    assert not is_available(spec)
    fetch(spec)
    fetch(spec)
    assert (home / "torch/checkpoints" / name).read_bytes() == CONTENT
    assert hub.asked == [f"GET /models/{name}"]
    assert is_available(spec)


def _with_wrong_hash(hub: Hub) -> CacheSpec:
    return _from_url(hub, "vit-deadbeef.pth")


def _unreachable(hub: Hub) -> CacheSpec:
    hub.down = True
    return _from_url(hub, "vit.pth")


def _with_another_hash_than_the_specs(hub: Hub) -> CacheSpec:
    return _with(_from_url(hub, "vit.pth"), url=f"{hub.address}/models/vit.pth", format="timm", sha256="0" * 64)


def _not_there(hub: Hub) -> CacheSpec:
    spec = _from_url(hub, "vit.pth")
    hub.files.clear()
    return spec


def _of_this_machine(hub: Hub) -> CacheSpec:
    spec = _from_url(hub, "vit.pth")
    return _with(spec, url="file:///etc/hostname", format="timm")


def _to_nowhere(hub: Hub) -> CacheSpec:
    with serve() as gone:
        pass
    return _with(_from_url(hub, "vit.pth"), url=f"{gone.address}/vit.pth", format="timm")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_with_wrong_hash, ["vit-deadbeef.pth", "begins with deadbeef", SHA]),
        (_with_another_hash_than_the_specs, ["vit.pth", "begins with 0000", "weights.sha256", SHA]),
        (_unreachable, ["expected a file at this address", "HTTP 503"]),
        (_not_there, ["HTTP 40"]),
        (_of_this_machine, ["https://"]),
        (_to_nowhere, ["the server to answer", "Connection refused", "Check the network"]),
    ],
)
def test_a_download_that_fails_is_one_clear_error_and_leaves_nothing(
    hub: Hub, home: Path, make: Any, words: list[str]
) -> None:
    spec = make(hub)
    with pytest.raises(BackboneError) as caught:
        fetch(spec)
    for word in words:
        assert word in str(caught.value)
    assert not is_available(spec)
    assert not _files(home / "torch")


def test_a_file_with_a_sha256_is_that_file_or_refused(hub: Hub, home: Path) -> None:
    spec = _from_url(hub, "vit.pth")
    pinned = _with(spec, url=str(spec.weights and spec.weights.url), format="timm", sha256=SHA)
    fetch(pinned)
    assert pinned.weights is not None
    path = file_of(pinned.weights)
    path.write_bytes(CONTENT[:-1] + b"x")
    for weights in (pinned.weights, WeightsSpec(file=str(path), format="timm", sha256=SHA)):
        with pytest.raises(BackboneError, match=f"expected the file whose SHA-256 is {SHA}.*weights.sha256"):
            open_backbone(pinned.model_copy(update={"weights": weights}))
    assert is_available(pinned)


def test_a_full_disk_is_one_clear_error(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = _from_url(hub, "vit.pth")
    monkeypatch.setattr("bddn.backbones.weights.download.fsync_path", _no_space)
    with pytest.raises(BackboneError, match=r"No space left on device.*TORCH_HOME"):
        fetch(spec)
    assert not is_available(spec)


def test_a_lost_connection_is_continued(hub: Hub, home: Path) -> None:
    spec = _from_url(hub, "vit.pth")
    hub.cut["vit.pth"] = 3000
    fetch(spec)
    assert hub.parts == ["/models/vit.pth bytes=3000-"]
    assert (home / "torch/checkpoints/vit.pth").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("after", "ranges", "parts"),
    [
        (3000, True, ["bytes=3000-"]),
        (3000, False, []),
        (7000, True, ["bytes=7000-"]),
        (7001, True, ["bytes=7001-"]),
    ],
    ids=["part", "server without parts", "whole", "too long"],
)
def test_a_partial_download_of_an_earlier_process_is_continued(
    hub: Hub, home: Path, after: int, ranges: bool, parts: list[str]
) -> None:
    """Whatever its length is, it is continued or begun again."""
    spec = _from_url(hub, f"vit-{SHA[:8]}.pth")
    folder = home / "torch/checkpoints"
    folder.mkdir(parents=True)
    (folder / f"vit-{SHA[:8]}.pth.part").write_bytes((CONTENT + b"x")[:after])
    assert not is_available(spec)
    hub.ranges = ranges
    fetch(spec)
    assert [one.partition(" ")[2] for one in hub.parts] == parts
    assert _files(folder) == {f"vit-{SHA[:8]}.pth"}
    assert file_sha256(folder / f"vit-{SHA[:8]}.pth") == SHA


def test_a_partial_download_of_another_file_is_not_used(hub: Hub, home: Path) -> None:
    spec, part = _from_url(hub, f"vit-{SHA[:8]}.pth"), home / f"torch/checkpoints/vit-{SHA[:8]}.pth.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"other")
    with pytest.raises(BackboneError, match=r"begins with .* as its name says; got .*Run 'bddn fetch' again"):
        fetch(spec)
    fetch(spec)
    assert is_available(spec)


def test_a_converted_checkpoint_opens_once_it_was_fetched(hub: Hub, home: Path, tmp_path: Path) -> None:
    from backbones.sources import write_timm

    sizes = {"image_size": 32, "patch_size": 16, "hidden_size": 16, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 32}
    write_timm(tmp_path / "made.pth", 0, **sizes)
    spec = _from_url(hub, "small.pth", (tmp_path / "made.pth").read_bytes())
    backbone = {"family": "vit", "architecture": sizes}
    spec = CacheSpec.parse(spec.to_dict() | {"backbone": backbone, "image_size": 32}, "test")
    with pytest.raises(BackboneError, match="bddn fetch"):
        open_backbone(spec)
    fetch(spec)
    assert open_backbone(spec)(torch.zeros(1, 3, 32, 32))["block_1"].local_.shape == (1, 16, 8, 8)


def test_local_and_random_weights_ask_no_network(spec: CacheSpec, hub: Hub, home: Path) -> None:
    assert spec.weights is not None
    assert is_available(spec)
    assert is_available(_with(spec, random=3))
    assert not is_available(_with(spec, folder="nowhere"))
    fetch(spec)
    fetch(_with(spec, random=3))
    with pytest.raises(BackboneError, match="nowhere: expected a folder of weights"):
        fetch(_with(spec, folder="nowhere"))
    assert not hub.asked


def test_a_gated_repository_is_explained(
    clip: CacheSpec, home: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a token, with one without access, and with an invalid one, which no message repeats."""
    one = hub.repositories[REPO]
    one.gated, one.tokens, hub.accounts = set(one.files), {"hf_may"}, {"hf_may", "hf_other"}
    page = f"{hub.address}/{REPO}"

    def refusal(spec: CacheSpec = clip) -> str:
        with pytest.raises(BackboneError) as caught:
            fetch(spec)
        assert "hf_" not in str(caught.value)
        return str(caught.value)

    assert f"none in HF_TOKEN or {home / 'token'}). Accept the terms at {page}, make a token at" in refusal()
    mirrored = _with(clip, hub=REPO, mirror="sam_b")
    assert refusal(mirrored).endswith(
        "Or use the spec 'sam_b', which reads the same weights from facebook/sam-vit-base without a request, licence "
        "Apache-2.0: 'bddn fetch sam_b'."
    )
    one.refusal = "Your request to access this model has been rejected by its authors."
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    said = refusal()
    assert "HTTP 403 with the token in HF_TOKEN: 'Your request to access this model has been rejected by its" in said
    assert f"Ask for access at {page} with the account of this token" in said
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    assert "expected a valid token, or none; got HTTP 401 for the token in HF_TOKEN" in refusal()
    assert not is_available(clip)
    monkeypatch.delenv("HF_TOKEN")
    (home / "token").write_text("hf_may")
    fetch(clip)
    assert open_backbone(clip).layers


def test_a_token_is_sent_to_the_hub_alone(clip: CacheSpec, home: Path, hub: Hub) -> None:
    """Neither to the server of its large files, nor to that of a `url`."""
    hub.accounts = {"hf_may"}
    (home / "token").write_text("hf_may")
    with serve() as storage:
        storage.files["/blob"] = hub.repositories[REPO].files["model.safetensors"]
        hub.moved["model.safetensors"] = f"{storage.address.replace('127.0.0.1', 'localhost')}/blob"
        fetch(clip)
        fetch(_from_url(storage, "vit.pth"))
        assert [one for one in storage.asked if one.startswith("GET")] == ["GET /blob", "GET /models/vit.pth"]
        assert not storage.authorized
    assert hub.authorized
