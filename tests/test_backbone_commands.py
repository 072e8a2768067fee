"""`bddn backbones`, its cards, `bddn fetch` as it speaks, and the option --weights."""

from pathlib import Path
from typing import Any, Literal

import pytest
from typer.testing import CliRunner

from bddn.backbones.kind import kind_of
from bddn.backbones.registry import load_spec, load_specs, spec_names
from bddn.cli import app
from bddn.cli.card import image_bytes, layout_of
from bddn.cli.weights import weights_of, with_weights
from bddn.errors import SpecError
from bddn.spec import CacheSpec, WeightsSpec
from bddn.store.reader import Cache

ARCHITECTURE = "{num_hidden_layers: 2, hidden_size: 24, num_attention_heads: 2, image_size: 32, patch_size: 8}"


def run(*arguments: object, columns: int = 100) -> tuple[int, str]:
    result = CliRunner(env={"COLUMNS": str(columns)}).invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, without weights of the hub and without a network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr("socket.socket.connect", _no_network)
    return tmp_path


def _no_network(*_: object) -> None:
    raise AssertionError("the network was asked")


def _rows(output: str) -> dict[str, dict[str, str]]:
    """The table's cells by name and column; columns start where their names do."""
    head, *lines = output.split("\n\n", maxsplit=1)[0].splitlines()
    names = head.split()
    starts = [head.index(f" {name}") + 1 if i else 0 for i, name in enumerate(names)]
    cut = [[line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)] for line in lines]
    return {row[0]: dict(zip(names, row, strict=True)) for row in cut}


def test_the_table_tells_of_every_spec_within_100_columns(here: Path) -> None:
    code, output = run("backbones")
    assert code == 0
    assert max(map(len, output.splitlines())) <= 100
    rows = _rows(output)
    assert list(rows) == spec_names()
    assert rows["clip_vit_l14"] == {
        "name": "clip_vit_l14",
        "family": "clip",
        "blocks": "24×1024",
        "image": "224/14",
        "grid": "16×16",
        "layers": "24",
        "MB": "3.19",  # 24 × 1024 × (64 + 1) × 2 bytes
        "here": "no",
        "licence": "MIT",
        "groups": "t1,t2",
    }
    assert rows["sam_b"]["grid"] == "64×64"
    assert (rows["sd_steps"]["layers"], rows["sd_steps"]["grid"], rows["sd_steps"]["blocks"]) == ("50", "32×32", "-")
    assert (rows["sd_t25"]["layers"], rows["sd_t25"]["grid"]) == ("20", "8…64")
    assert "t1 table1" in output


@pytest.mark.parametrize("precision", ["float16", "float32", "bfloat16", "bitround:4", "int8"])
def test_the_size_of_an_image_is_that_of_the_store(precision: str) -> None:
    for spec in load_specs().values():
        one = spec.model_copy(update={"precision": precision})
        about = kind_of(one).describe(one)
        assert image_bytes(one, about) == layout_of(one, about, 1).image_bytes()


@pytest.mark.parametrize(("columns", "lost"), [(80, {"family", "grid"}), (72, {"family", "grid", "groups"})])
def test_a_narrow_terminal_loses_columns_not_lines(here: Path, columns: int, lost: set[str]) -> None:
    output = run("backbones", columns=columns)[1]
    rows = _rows(output)
    assert max(map(len, output.split("\n\n")[0].splitlines())) <= columns
    assert rows["sam_b"].keys() == _rows(run("backbones")[1])["sam_b"].keys() - lost
    assert rows["sam_b"]["here"] == "no"
    assert list(rows) == spec_names()


def test_the_table_says_whose_weights_are_here(here: Path) -> None:
    weights = load_spec("mocov3_s").weights
    assert weights is not None
    assert weights.url is not None
    path = here / "torch/checkpoints" / weights.url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    path.touch()
    rows = _rows(run("backbones")[1])
    assert (rows["mocov3_s"]["here"], rows["mocov3_b"]["here"]) == ("yes", "no")


def _card(output: str) -> dict[str, str]:
    found: dict[str, str] = {}
    label = ""
    for line in output.splitlines():
        label = line[:14].strip() or label
        found[label] = f"{found.get(label, '')} {line[14:].strip()}".strip()
    return found


@pytest.mark.parametrize("name", spec_names())
def test_every_spec_has_a_card_that_fits(here: Path, name: str) -> None:
    code, output = run("backbones", "show", name)
    assert code == 0
    assert max(map(len, output.splitlines())) <= 100
    card = _card(output)
    spec = load_spec(name)
    assert card["title"] == spec.title
    assert name == "demo" or card["places"].endswith("→ 8×8 in the cache")


CARDS = {
    "clip_vit_b16": {
        "class": "CLIPVisionModel of transformers, family clip",
        "weights": "hub laion/CLIP-ViT-B-16-DataComp.L-s1B-b8K, revision main, not on this machine",
        "image": "resized to 224×224 pixels (bilinear, aspect ratio not kept), ImageNet mean and deviation",
        "places": "14×14 → 8×8 in the cache",
        "cached": "output of each transformer block (residual stream, before the final norm); "
        "local: patch tokens, resized bilinearly from 14×14 to 8×8; global: the CLS token",
        "image takes": "1.198 MB",
        "9,841 take": "11.8 GB",
    },
    "dinov2_registers_b": {
        "cached": "output of each transformer block (residual stream, before the final norm); "
        "local: patch tokens, resized bilinearly from 32×32 to 8×8; global: the CLS token; "
        "register tokens are left out",
    },
    "sam_b": {
        "cached": "output of each transformer block (residual stream, before the final norm); "
        "local: patch tokens, resized bilinearly from 64×64 to 8×8; global: the mean of the full 64×64 map, "
        "because no layer has a CLS token",
    },
    "mocov3_s": {
        "weights": "https://dl.fbaipublicfiles.com/moco-v3/vit-s-300ep/vit-s-300ep.pth.tar, format moco, "
        "not on this machine",
    },
    "sd_steps": {
        "class": "UNet2DConditionModel of diffusers, family stable_diffusion",
        "image": "resized to 512×512 pixels (bilinear, aspect ratio not kept), scaled to [-1, 1]",
        "cached": "outputs of U-Net blocks in a DDIM inversion of 50 steps, empty prompt, no guidance; "
        "BLOCK@tK is the block at step K, counted from the clean image (t1) to noise (t50); "
        "local: maps, resized bilinearly from 32×32 to 8×8; global: the mean of the full 32×32 map, "
        "because no layer has a CLS token",
    },
}


@pytest.mark.parametrize("name", CARDS)
def test_a_card_says_exactly_what_is_cached(here: Path, name: str) -> None:
    card = _card(run("backbones", "show", name)[1])
    assert {label: card[label] for label in CARDS[name]} == CARDS[name]


def test_a_card_names_the_layers_that_are_chosen(here: Path) -> None:
    text = f"title: t\nbackbone: {{family: vit, architecture: {ARCHITECTURE}, layers: [-1]}}\nweights: random\n"
    (here / "own.yaml").write_text(f"{text}image_size: 48\nautocast: bfloat16\n")
    card = _card(run("backbones", "show", "own.yaml")[1])
    assert card["layers"] == "1, early to late 24 channels: block_1"
    assert card["places"].startswith("6×6 →")
    assert card["weights"] == "random weights of seed 0"
    assert card["precision"] == "float16, forward pass in bfloat16"


def test_a_card_shows_the_sha256_of_a_foreign_file(here: Path) -> None:
    text = f"title: t\nbackbone: {{family: vit, architecture: {ARCHITECTURE}}}\n"
    (here / "own.yaml").write_text(
        f"{text}weights: {{file: w.pth, format: timm, sha256: {'ab' * 32}}}\nimage_size: 32\n"
    )
    weights = f"file w.pth, format timm, SHA-256 {'ab' * 32}, not on this machine"
    assert _card(run("backbones", "show", "own.yaml")[1])["weights"] == weights


def test_a_card_of_a_spec_without_architecture_says_who_tells_the_layers(here: Path) -> None:
    (here / "own.yaml").write_text("title: t\nbackbone: {family: clip}\nweights: {hub: a/b}\n")
    code, output = run("backbones", "show", "own.yaml")
    assert code == 0
    assert _card(output)["layers"].startswith("known only from the weights")


OWN_NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.tokens = torch.nn.Conv2d(3, 6, 8, stride=8), torch.nn.Linear(6, 10)

    def forward(self, pixels):
        flat = self.stem(pixels).flatten(2).transpose(1, 2)
        return self.tokens(torch.cat([flat[:, :2], flat], 1))
"""


def test_a_card_of_an_own_module_tells_the_form_of_each_layer(here: Path) -> None:
    (here / "own_net_of_test.py").write_text(OWN_NET)
    text = "title: t\nbackbone: {module: 'own_net_of_test:Net', layers: [stem, tokens], leading_tokens: 2}\n"
    (here / "own.yaml").write_text(f"{text}image_size: 32\nglobal_token: mean\n")
    code, output = run("backbones", "show", "own.yaml")
    assert code == 0, output
    card = _card(output)
    assert card["class"].endswith("Net, own module")
    assert "stem → a map of 4×4 places, 6 channels, which come first" in card["layers"]
    assert "tokens → 18 tokens = 1 CLS + 1 registers + 4×4, 10 channels" in card["layers"]
    assert card["weights"] == "the module own_net_of_test:Net brings them"
    assert card["image takes"] == f"{(6 + 10) * 65 * 2 / 1e6:.3f} MB"
    assert "CLS token and register tokens are left out" in card["cached"]


def test_an_unknown_name_is_one_clear_error(here: Path) -> None:
    code, output = run("backbones", "show", "clip_vit_b17")
    assert (code, output.count("error: ")) == (2, 1)
    assert "clip_vit_b16" in output


def test_fetch_offline_tells_what_is_there_and_what_is_missing(here: Path) -> None:
    (here / "made.yaml").write_text("title: t\nbackbone: {family: vit}\nweights: random\n")
    (here / "local.yaml").write_text("title: t\nbackbone: {family: vit}\nweights: {folder: w}\n")
    (here / "w").mkdir()
    code, output = run("fetch", "--offline", "made.yaml", "local.yaml")
    assert code == 0
    assert output == (
        "made.yaml: nothing to download, random weights of seed 0\nlocal.yaml: on this machine, folder w\n"
    )
    (here / "w").rmdir()
    code, output = run("fetch", "--offline", "made.yaml", "local.yaml", "sam_b", "mocov3_s")
    assert code == 2
    hub = here / "hub/models--facebook--sam-vit-base"
    assert f"sam_b: missing, hub facebook/sam-vit-base, revision main → {hub}\n" in output
    assert f"format moco → {here / 'torch/checkpoints/vit-s-300ep.pth.tar'}\n" in output
    assert output.count("error: ") == 1
    assert "got 3 of 4 missing. Run 'bddn fetch sam_b mocov3_s'" in output
    assert "Correct the paths of local.yaml" in output


def test_weights_that_cannot_be_had_do_not_keep_others_back(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(spec: CacheSpec, offline: bool) -> None:
        asked.append(spec.title)
        raise SpecError(spec.title, expected="a", got="b", fix="c.")

    monkeypatch.setattr("bddn.backbones.weights.fetch.fetch", refuse)
    code, output = run("fetch", "sam_b", "mae_b")
    assert (code, output.count("error: "), len(asked)) == (2, 2, 2)


KINDS: dict[str, tuple[str, Literal["file", "folder"] | None, str | None, dict[str, Any]]] = {
    "a folder": ("w", "folder", None, {"folder": "w"}),
    "a folder instead of a foreign checkpoint": ("w", "folder", "moco", {"folder": "w"}),
    "a folder that is not there": ("w", None, None, {"folder": "w"}),
    "a file in the spec's format": ("w.pth", "file", "moco", {"file": "w.pth", "format": "moco"}),
    "a file that is not there": ("w.pth", None, "timm", {"file": "w.pth", "format": "timm"}),
    "a file in a format": ("timm:a/w.pth", None, None, {"file": "a/w.pth", "format": "timm"}),
    "a file in another format": ("timm:w.pth", None, "moco", {"file": "w.pth", "format": "timm"}),
    "random": ("random", "folder", "moco", {"random": 0}),
    "random with a seed": ("random:17", None, None, {"random": 17}),
    "a folder called random": ("./random", "folder", None, {"folder": "./random"}),
    "a file with a colon": ("a:b", "file", "timm", {"file": "a:b", "format": "timm"}),
}


@pytest.mark.parametrize("case", KINDS)
def test_the_option_weights_is(case: str) -> None:
    text, there, own_format, weights = KINDS[case]
    assert weights_of(text, there, own_format) == WeightsSpec(**weights)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("w.pth", "--weights open_clip:w.pth or torchvision:w.pth or timm:w.pth or moco:w.pth"),
        ("random:", "random:SEED"),
        ("random:-1", "random:SEED"),
        ("random:²", "random:SEED"),
        ("moco:", "a file after moco:"),
    ],
)
def test_an_option_that_cannot_be_read_says_what_can(text: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        weights_of(text, "file", None)
    assert words in str(caught.value)


def test_what_lies_under_the_path_decides(here: Path) -> None:
    spec = load_spec("mocov3_s")
    (here / "w").mkdir()
    (here / "w.pth").touch()
    assert with_weights(spec, "w").weights == WeightsSpec(folder="w")
    assert with_weights(spec, "w.pth").weights == WeightsSpec(file="w.pth", format="moco")
    with pytest.raises(SpecError, match=r"moco:w\.pth"):
        with_weights(load_spec("mae_b"), "w.pth")


def test_a_module_of_ones_own_takes_no_weights() -> None:
    spec = CacheSpec.parse({"title": "t", "backbone": {"module": "a:b"}}, "test")
    with pytest.raises(SpecError, match="the module a:b brings them"):
        with_weights(spec, "random")


def test_an_untrained_twin_is_extracted(here: Path, brain: Path) -> None:
    text = f"title: t\nbackbone: {{family: vit, architecture: {ARCHITECTURE}}}\nweights: {{hub: a/b}}\n"
    (here / "own.yaml").write_text(f"{text}image_size: 32\ngrid: [2, 2]\n")
    extract = ["extract", "own.yaml", "--data", f"planted:{brain}"]
    code, output = run(*extract, "--out", "none.zarr")
    assert code == 2
    assert "Run 'bddn fetch own.yaml'" in output
    assert run(*extract, "--out", "a.zarr", "--weights", "random")[0] == 0
    assert run(*extract, "--out", "b.zarr", "--weights", "random:1")[0] == 0
    a, b = (Cache(name).header["backbone"]["weights_sha256"] for name in ("a.zarr", "b.zarr"))
    assert a != b


def test_why_a_network_does_not_open_stands_where_its_layers_would(tmp_path: Path) -> None:
    about = "{family: transformers, model: PvtV2Model, blocks: encoder.layers.*.blocks.*, architecture: %s}"
    sizes = "{image_size: 64, hidden_sizes: [32, 64, 96, 128]}"  # 96 channels do not fit five heads
    (tmp_path / "pvt.yaml").write_text(
        f"title: PVT\nbackbone: {about % sizes}\nweights: random\nimage_size: 64\nglobal_token: mean\n"
    )
    code, output = run("backbones", "show", tmp_path / "pvt.yaml")
    shown = " ".join(output.split())
    assert code == 0
    assert "layers not known: backbone.architecture: expected a network of class PvtV2Model; got ValueError" in shown
