"""The code of a network of one's own is part of what its cache is: no rows of two versions get into one."""

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from PIL.Image import Image
from torch import Tensor, nn

from bddn import from_module
from bddn.backbones import code
from bddn.backbones.registry import open_backbone
from bddn.errors import BackboneError, MismatchError
from bddn.extraction import extract
from bddn.identity import Identity
from bddn.planted.subject import Planted
from bddn.spec import CacheSpec
from bddn.store.manifest import read_header
from bddn.store.remote import open_files

SIZE = 32
NETS = '''
"""Networks of a user."""
import torch
from torch import nn
from helping import scaled

SLOPE = 1.0

class Base(nn.Module):
    def shifted(self, x):
        return x + 0.0

class Net(Base):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.cut = nn.Conv2d(3, 6, 4, stride=4)
        self.act = nn.Identity()

    def forward(self, pixels):
        x = self.cut(pixels)
        x = torch.tanh(x)
        return self.act(scaled(self.shifted(x) * SLOPE))  # as it was published

def patched(module):
    module.act.forward = lambda x: x * 1.0
    return module

def other_tanh(self, pixels):
    return self.act(self.cut(pixels))

def build():
    return Net()
'''
HELPING = """
def scaled(x):
    return x * 2.0
"""
SPEC = {
    "title": "own",
    "backbone": {"module": "nets:build", "layers": ["act"]},
    "image_size": SIZE,
    "grid": [4, 4],
    "global_token": "mean",
    "shard_images": 16,
}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, with the files of a network."""
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    _write(tmp_path)
    yield tmp_path
    sys.path[:] = before
    _forget()


def _write(folder: Path, nets: tuple[str, str] = ("", ""), helping: tuple[str, str] = ("", "")) -> None:
    """Both files, with one text in place of another; as a new process would see them."""
    for name, text, (old, new) in (("nets", NETS, nets), ("helping", HELPING, helping)):
        assert old in text
        (folder / f"{name}.py").write_text(text.replace(old, new) if old else text)
    _forget()


def _forget() -> None:
    for name in ("nets", "helping"):
        sys.modules.pop(name, None)
    sys.dont_write_bytecode = True  # two versions within a second have the same time


EDITS: dict[str, tuple[dict[str, tuple[str, str]], str]] = {
    "an operation of forward": ({"nets": ("torch.tanh(x)", "torch.sin(x)")}, "code.source.nets.Net"),
    "a small number in forward": ({"nets": ("self.shifted(x)", "self.shifted(x) * 1.00001")}, "code.source.nets.Net"),
    "a method of a base class": ({"nets": ("x + 0.0", "x + 1e-6")}, "code.source.nets.Base"),
    "a function in another file": ({"helping": ("x * 2.0", "x * 2.2")}, "code.probe.act"),
    "a constant": ({"nets": ("SLOPE = 1.0", "SLOPE = 1.1")}, "code.probe.act"),
    "a forward that is patched on an instance": ({"nets": ("Net()", "patched(Net())")}, "forward of an instance"),
    "a method that is patched on the class": (
        {"nets": ("    return Net()", "    Net.forward = other_tanh\n    return Net()")},
        "code.",
    ),
    "a hook that changes outputs": (
        {"nets": ("    return Net()", "    n = Net(); n.cut.register_forward_hook(lambda m, i, o: -o); return n")},
        "code.probe.act",
    ),
}


@pytest.mark.parametrize("case", EDITS)
def test_an_edit_of_the_code_is_another_extraction(case: str, own: Path, planted: Planted) -> None:
    spec = CacheSpec.parse(SPEC, "test")
    extract(spec, planted, own / "a.zarr")
    edit, words = EDITS[case]
    _write(own, **edit)
    with pytest.raises(MismatchError) as caught:
        extract(spec, planted, own / "a.zarr")
    assert words in str(caught.value)


SAME: dict[str, dict[str, tuple[str, str]]] = {
    "a comment": {"nets": ("# as it was published", "# as it was published in 2026")},
    "an empty line": {"nets": ("        x = torch.tanh(x)\n", "\n        x = torch.tanh(x)\n\n")},
    "another function of the file": {"nets": ("def other_tanh", "def another_tanh")},
    "nothing": {},
}


@pytest.mark.parametrize("case", SAME)
def test_what_changes_no_code_is_the_same_extraction(case: str, own: Path, planted: Planted) -> None:
    spec = CacheSpec.parse(SPEC, "test")
    done = extract(spec, planted, own / "a.zarr")
    _write(own, **SAME[case])
    again = extract(spec, planted, own / "a.zarr")
    assert again.reused
    assert again.digest == done.digest


def test_the_number_of_threads_is_not_seen(own: Path) -> None:
    before = torch.get_num_threads()
    found = []
    try:
        for n in (1, 2, 4):
            torch.set_num_threads(n)
            found.append(open_backbone(CacheSpec.parse(SPEC, "test")).identity)
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_numbers_that_differ_in_last_bits_are_the_same_network(own: Path, planted: Planted) -> None:
    spec = CacheSpec.parse(SPEC, "test")
    extract(spec, planted, own / "a.zarr")
    header = Identity(read_header(open_files(own / "a.zarr")))
    here = open_backbone(spec).identity
    for added, same in ((2e-3, True), (0.1, False)):
        probe = {layer: [x + added for x in numbers] for layer, numbers in here["code"]["probe"].items()}
        other = here | {"code": here["code"] | {"probe": probe}}
        words = header.only("backbone").differences(
            Identity({"backbone": {k: other[k] for k in other if k != "made_with"}})
        )
        assert (not words) == same
    assert "other numbers for the same image" in words[0]


def test_classes_without_source_say_so_and_their_code_is_still_seen() -> None:
    def make(factor: float) -> nn.Module:
        names: dict[str, Any] = {"nn": nn, "factor": factor, "__name__": "typed.in"}
        exec(  # noqa: S102
            "class Net(nn.Module):\n"
            "    def __init__(self):\n        super().__init__()\n        self.cut = nn.Conv2d(3, 6, 4, 4)\n"
            "    def forward(self, x):\n        return self.cut(x * factor)\n",
            names,
        )
        torch.manual_seed(0)
        return names["Net"]()  # type: ignore[no-any-return]

    one, other = (
        from_module(make(f), ["cut"], image_size=SIZE, global_token="mean").identity["code"] for f in (1.0, 1.5)
    )
    assert one["source"] == other["source"] == {"typed.in.Net": code.NOT_AVAILABLE}
    assert one["probe"] != other["probe"]


def test_the_source_of_the_preprocessing_is_part() -> None:
    def dark(image: Image, level: float = 0.0) -> Tensor:
        return torch.full((3, SIZE, SIZE), level)

    def darker(image: Image, level: float = 0.0) -> Tensor:
        return torch.full((3, SIZE, SIZE), level * 1)

    class Zeros:
        def __call__(self, image: Image) -> Tensor:
            return torch.zeros(3, SIZE, SIZE)

    net = nn.Sequential(nn.Conv2d(3, 6, 4, 4))
    found = [
        from_module(net, ["0"], one, image_size=SIZE, global_token="mean").identity["code"]["source"]["preprocess"]
        for one in (dark, darker, partial(dark, level=0.0), Zeros())
    ]
    assert found[0] == found[2]
    assert len(set(found)) == 3
    assert code.NOT_AVAILABLE not in found


class Drawing(nn.Module):
    """Draws random numbers in eval mode, in one of several ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.cut, self.how, self.calls = nn.Conv2d(3, 6, 4, 4), how, 0

    def forward(self, pixels: Tensor) -> Any:
        x, n = self.cut(pixels), len(pixels)
        self.calls += 1
        how: dict[str, Callable[[], Any]] = {
            "nothing": lambda: x,
            "dropout": lambda: nn.functional.dropout(x, 0.2, training=True),
            "noise": lambda: x + 0.1 * torch.randn_like(x),
            "masking": lambda: x * (torch.rand(n, 1, *x.shape[2:]) > 0.5),  # of whole places, as MAE's own class does
            "seldom": lambda: x * (torch.rand(n, 1, 1, 1) > 0.05),  # as a block that is left out once in 20 times
            "seldom, by numpy": lambda: x * int(np.random.rand() > 0.05),  # noqa: NPY002
            "counting": lambda: x * self.calls,
            "batch": lambda: x - x.mean((0, 2, 3), keepdim=True),
            "statistics of the batch": lambda: nn.functional.batch_norm(x, None, None, training=True),
        }
        return how[self.how]()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("dropout", "draws random numbers"),
        ("noise", "draws random numbers"),
        ("masking", "draws random numbers"),
        ("seldom", "draws random numbers"),
        ("seldom, by numpy", "draws random numbers"),
        ("counting", "draws random numbers"),
        ("batch", "mixes the images of a batch"),
        ("statistics of the batch", "mixes the images of a batch"),
    ],
)
def test_a_network_whose_tokens_are_not_the_same_each_time_is_refused(how: str, words: str) -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    with pytest.raises(BackboneError, match=f"the same tokens for the same image in every run.*{words}"):
        from_module(nn.Sequential(Drawing(how)), ["0"], image_size=SIZE, global_token="mean")


def test_what_others_draw_by_the_module_random_costs_no_passes() -> None:
    """As the threads of dask do while a network is opened."""
    net = Drawing("nothing")
    net.register_forward_pre_hook(lambda *_: random.seed(net.calls))
    from_module(nn.Sequential(net), ["0"], image_size=SIZE, global_token="mean")
    assert net.calls < code.PASSES / 2


class Remembering(nn.Module):
    """Keeps something of its images on itself, and reads it after another submodule has run."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cut, self.between, self.last = nn.Conv2d(3, 6, 4, 4), nn.Identity(), nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        self.contrast = pixels.std((1, 2, 3), keepdim=True)
        x = self.between(self.cut(pixels))
        time.sleep(0.02)  # so that passes in other threads come in between
        return self.last(x * self.contrast)  # type: ignore[no-any-return]


def test_a_network_that_keeps_something_of_an_image_on_itself_does_not_mix_images(
    planted: Planted, tmp_path: Path
) -> None:
    """Batches run in several threads on a CPU; those of such a network one after the other."""
    given: dict[str, Any] = {"image_size": SIZE, "grid": (8, 8), "batch_size": 2, "global_token": "mean"}
    backbone = from_module(Remembering(), ["last"], **given)
    extract(backbone.spec, planted, tmp_path / "a.zarr", device="cpu", backbone=backbone)
    found: Any = zarr.open_array(tmp_path / "a.zarr" / "local" / "last", mode="r")[:]
    for i in range(len(planted.stimuli)):
        alone = backbone(backbone.preprocess(planted.stimuli.image(i))[None])["last"].local_[0]
        torch.testing.assert_close(torch.tensor(found[i]).float().movedim(2, 0), alone, rtol=1e-2, atol=1e-2)


class Changing(nn.Module):
    """Changes with the images that it gets, in one of several ways."""

    center: Tensor

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cut, self.last, self.how = nn.Conv2d(3, 6, 4, 4), nn.Identity(), how
        self.register_buffer("center", torch.zeros(6))
        self.kept: Any = 0.0

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.cut(pixels)
        if self.how == "running mean":
            self.center += 0.01 * x.mean((0, 2, 3))
        if self.how == "first images" and not self.center.any():
            self.center += x.mean((0, 2, 3))
        x = x - self.center[:, None, None]
        if self.how == "last images":
            x, self.kept = x + 0.01 * self.kept, x.mean()
        return self.last(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("running mean", "a pass in eval mode does not change; got other values of center"),
        ("first images", "a pass in eval mode does not change; got other values of center"),
        ("last images", "keeps something of the images before"),
    ],
)
def test_a_network_that_changes_with_its_images_is_refused(how: str, words: str) -> None:
    """Tokens would depend on the order of images, on batch_size and on where an extraction was resumed."""
    with pytest.raises(BackboneError, match=words):
        from_module(Changing(how), ["last"], image_size=SIZE, global_token="mean")
    assert from_module(Changing("not"), ["last"], image_size=SIZE, global_token="mean").layers == ("last",)


class Parting(nn.Module):
    """Runs its last submodule not once for every batch."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.cut, self.last, self.how = nn.Conv2d(3, 6, 4, 4), nn.Identity(), how

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.cut(pixels)
        if self.how == "parts":
            return torch.cat([self.last(part) for part in x.split(3)])
        if self.how == "until it fits" and len(pixels) > 2:
            x = self.cut(pixels * x.mean())
        return x if self.how == "early exit" and len(pixels) > 2 else self.last(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("how", "layers", "words"),
    [
        ("parts", ["last"], r"once for a batch of \d images; got tokens of 3.*batch_size: 3"),
        ("early exit", ["last"], "layer 'last': .* got one that did not run"),
        ("until it fits", ["cut", "last"], "layer 'cut': .* got one that ran again"),
    ],
)
def test_submodules_that_do_not_run_once_for_every_batch_are_refused(
    how: str, layers: list[str], words: str, planted: Planted, tmp_path: Path
) -> None:
    """The two batches by which it is opened, of two images and one, do not show this."""
    given: dict[str, Any] = {"image_size": SIZE, "grid": (8, 8), "batch_size": 8, "global_token": "mean"}
    backbone = from_module(Parting(how), layers, **given)
    with pytest.raises(BackboneError, match=words):
        extract(backbone.spec, planted, tmp_path / "a.zarr", device="cpu", backbone=backbone)
    assert not (tmp_path / "a.zarr").exists()


def test_a_network_that_keeps_nothing_runs_in_several_threads() -> None:
    backbone = from_module(nn.Sequential(nn.Conv2d(3, 6, 4, 4)), ["0"], image_size=SIZE, global_token="mean")
    together = threading.Barrier(2)

    def meet(_module: nn.Module, _inputs: Any) -> None:
        together.wait(10)

    backbone.module.register_forward_pre_hook(meet)
    with ThreadPoolExecutor(2) as pool:
        assert len(list(pool.map(backbone, torch.randn(2, 1, 3, SIZE, SIZE)))) == 2


def test_maes_own_class_which_masks_at_random_is_refused() -> None:
    import transformers as t

    config = t.ViTMAEConfig(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, image_size=32, patch_size=4
    )
    config.mask_ratio = 0.0  # nothing is masked, but places are shuffled for each image
    with pytest.raises(BackboneError, match="draws random numbers"):
        from_module(t.ViTMAEModel(config), ["**.layer*.0"], image_size=SIZE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_say_what_to_do(dtype: torch.dtype) -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 4, 4)).to(dtype)
    with pytest.raises(BackboneError, match=rf"weights are {str(dtype)[6:]}, but pixels are float32: call float\(\)"):
        from_module(net, ["0"], image_size=SIZE, global_token="mean")
    backbone = from_module(net, ["0"], image_size=SIZE, global_token="mean", autocast="bfloat16")
    assert backbone(torch.randn(1, 3, SIZE, SIZE))["0"].local_.dtype == torch.float32


def test_a_module_under_several_names_runs_several_times_and_is_refused() -> None:
    from bddn.errors import SpecError

    block = nn.Conv2d(3, 3, 1)
    net = nn.Sequential(nn.Sequential(block, block), nn.Conv2d(3, 6, 4, 4))
    for name in ("0.0", "0.1", "0.*"):
        with pytest.raises(SpecError, match=r"run once per batch; got '0\.[01]', which runs . times"):
            from_module(net, [name], image_size=SIZE, global_token="mean")
