"""What a submodule returns: which tensor is taken, when the user is asked, and that it is kept as it was returned."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from bddn import from_module
from bddn.errors import BackboneError, SpecError
from bddn.spec import ModuleSpec

SIZE = 32


class Cut(nn.Module):
    """64 tokens of 8 channels, row by row."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 4, stride=4)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.conv(pixels).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class Returns(nn.Module):
    """A network with one layer, `block`, which returns what a function makes of the tokens."""

    class Block(nn.Module):
        def __init__(self, make: Callable[[Tensor], Any]) -> None:
            super().__init__()
            self.make = make

        def forward(self, tokens: Tensor) -> Any:
            return self.make(tokens)

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.cut, self.block = Cut(), self.Block(make)

    def forward(self, pixels: Tensor) -> Any:
        return self.block(self.cut(pixels))


class Pair(NamedTuple):
    tokens: Tensor
    weights: Tensor


@dataclass
class Named:
    sample: Tensor
    loss: Tensor


def attention(x: Tensor) -> Tensor:
    return torch.softmax(x @ x.transpose(1, 2), -1)


def text(x: Tensor, n: int = 16) -> Tensor:
    """Tokens that are not those of the image, as many as a 4×4 grid has, and other channels."""
    return torch.zeros(len(x), n, 12)


def opened(make: Callable[[Tensor], Any], **fields: Any) -> Any:
    return from_module(Returns(make), ["block"], image_size=SIZE, grid=(8, 8), global_token="mean", **fields)


ONE: dict[str, Callable[[Tensor], Any]] = {
    "a tensor": lambda x: x,
    "a tuple of one": lambda x: (x,),
    "a list of one": lambda x: [x],
    "a tensor and None": lambda x: (x, None),
    "attention weights behind it": lambda x: (x, attention(x)),
    "attention weights before it": lambda x: (attention(x), x),
    "attention weights of heads": lambda x: (x, attention(x)[:, None].expand(-1, 4, -1, -1)),
    "attention weights in bfloat16": lambda x: (x, attention(x).bfloat16()),
    "a pooled vector": lambda x: (x, x.mean(1)),
    "a loss": lambda x: Named(x, x.mean()),
    "the same tensor twice": lambda x: BaseModelOutput(last_hidden_state=x, hidden_states=(x,)),
    "a dict": lambda x: {"x": x, "mask": torch.ones(len(x), 64, dtype=torch.bool)},
    "an ordered dict": lambda x: OrderedDict(tokens=x, ids=torch.zeros(len(x), 64, 2, dtype=torch.int64)),
    "a named tuple": lambda x: Pair(x, attention(x)),
    "position codes, without images": lambda x: (x, (torch.ones(64, 4), torch.ones(64, 4))),
    "a map whose aspect is not the image's": lambda x: (x, torch.ones(len(x), 3, 5, 8)),
}


@pytest.mark.parametrize("case", ONE)
def test_an_output_with_one_tensor_of_tokens_needs_no_answer(case: str) -> None:
    pixels = torch.randn(2, 3, SIZE, SIZE)
    net = Returns(ONE[case])
    found = from_module(net, ["block"], image_size=SIZE, grid=(8, 8), global_token="mean")(pixels)["block"].local_
    with torch.inference_mode():
        torch.testing.assert_close(found.flatten(2).transpose(1, 2), net.cut(pixels))


MANY: dict[str, tuple[Callable[[Tensor], Any], str, Any]] = {
    "text before the image, as in FLUX and SD3": (lambda x: (text(x), x), "0 or 1", 1),
    "text that is no grid": (lambda x: (text(x, 77), x), "0 or 1", 1),
    "text that is a grid, an image that is none": (lambda x: (text(x), torch.cat([x[:, :9], x], 1)), "0 or 1", 0),
    "keys and values": (lambda x: (x, (x + 1, x + 2)), "0 or 1/0 or 1/1", 0),
    "hidden states of all layers": (
        lambda x: BaseModelOutput(last_hidden_state=x, hidden_states=(x + 1, x)),
        "last_hidden_state or hidden_states/0",
        "hidden_states/0",
    ),
    "a dict of scales": (lambda x: {"fine": x, "coarse": x[:, :16]}, "fine or coarse", "fine"),
    "a dataclass": (lambda x: Named(x, x + 1), "sample or loss", "loss"),
    "a map beside a sequence": (lambda x: (x, x[..., :6].transpose(1, 2).unflatten(2, (8, 8))), "0 or 1", 1),
    "what looks like attention and is not": (lambda x: (x, x @ x.transpose(1, 2)), "0 or 1", 0),
}


@pytest.mark.parametrize("case", MANY)
def test_an_output_with_several_is_a_question_that_lists_them(case: str) -> None:
    make, choices, answer = MANY[case]
    with pytest.raises(SpecError, match=f"layer 'block'.*Set output in the spec: {choices}") as caught:
        opened(make)
    assert "of shape (2, 64, 8) float32" in str(caught.value) or "(2, 73, 8)" in str(caught.value)
    backbone = opened(make, output=answer)
    assert f"output {answer}: " in backbone.identity["layers"]["block"]


def test_the_answer_decides_what_is_stored() -> None:
    first, second = (opened(lambda x: (x, -x), output=i) for i in (0, 1))
    pixels = torch.randn(2, 3, SIZE, SIZE)
    assert torch.equal(first(pixels)["block"].local_, -second(pixels)["block"].local_)
    assert first.identity != second.identity


def test_an_answer_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(SpecError, match=r"the tensor '2', as 'output' in the spec says.*one of: 0, 1"):
        opened(lambda x: (x, -x), output=2)
    with pytest.raises(SpecError, match="'output' to be"):
        ModuleSpec.parse({"module": "a.b:c", "output": 1.0}, "test")  # YAML for 1.0, which is no path


NONE: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "nothing": (lambda x: None, "a tensor in the output"),
    "a tuple without tokens": (lambda x: (x.mean(1), x.mean()), "a tensor with tokens or a map"),
    "whole numbers": (lambda x: x.long(), "floating-point type; got int64"),
    "yes and no": (lambda x: x > 0, "floating-point type; got bool"),
    "attention weights": (
        lambda x: attention(x)[:, None].expand(-1, 4, -1, -1),
        "tokens; got attention weights of shape",
    ),
    "complex numbers": (lambda x: x.to(torch.complex64), "floating-point type; got complex64"),
    "images and tokens in one axis": (lambda x: x.flatten(0, 1), r"return them as \(B, 64, C\)"),
    "one image less": (lambda x: x[1:], "one axis of images"),
    "an image axis that vanishes for one image": (lambda x: x.squeeze(0), "one axis of images"),
}


@pytest.mark.parametrize("case", NONE)
def test_an_output_without_tokens_is_refused_in_words(case: str) -> None:
    make, words = NONE[case]
    with pytest.raises(SpecError, match=f"layer 'block'.*{words}"):
        opened(make)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_tokens_that_are_not_finite_are_refused_before_any_work(value: float) -> None:
    def spoil(x: Tensor) -> Tensor:
        return torch.where(torch.arange(64)[:, None] == 5, value, x)

    with pytest.raises(BackboneError, match=r"layer 'block'.*finite tokens"):
        opened(spoil)


class Changing(nn.Module):
    """Adds to the output of its first layer in place, as residual streams do."""

    def __init__(self, dtype: torch.dtype = torch.float32, registers: int = 0) -> None:
        super().__init__()
        self.cut, self.first, self.second = Cut(), nn.Identity(), nn.Identity()
        self.dtype, self.registers = dtype, registers

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.cut(pixels).to(self.dtype)
        x = self.first(torch.cat([x[:, : 1 + self.registers] + 1, x], 1))
        x += 100
        x = self.second(x)
        x *= -1
        return x  # type: ignore[no-any-return]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("registers", [0, 3])
@pytest.mark.parametrize("grid", [(8, 8), (4, 4)])
def test_what_is_stored_is_the_output_as_the_module_returned_it(
    dtype: torch.dtype, registers: int, grid: tuple[int, int]
) -> None:
    net = Changing(dtype, registers)
    backbone = from_module(net, ["first", "second"], image_size=SIZE, grid=grid)
    pixels = torch.randn(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        expected = (net.cut(pixels).to(dtype)[:, 0] + 1).float()
    found = backbone(pixels)
    for layer, added in (("first", 0), ("second", 100)):
        global_, local = found[layer].global_, found[layer].local_
        assert global_ is not None
        torch.testing.assert_close(global_, (expected.to(dtype) + added).float())
        assert local.max() < 50 + added
        for values in (global_, local):  # nothing of the whole output is kept alive
            assert values.untyped_storage().nbytes() == values.numel() * 4


def test_a_map_that_is_changed_in_place_is_stored_as_it_was() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.act = nn.Conv2d(3, 6, 4, stride=4), nn.ReLU(inplace=True)

        def forward(self, pixels: Tensor) -> Tensor:
            return self.act(self.stem(pixels))  # type: ignore[no-any-return]

    net, pixels = Net(), torch.randn(2, 3, SIZE, SIZE)
    found = from_module(net, ["stem", "act"], image_size=SIZE, grid=(8, 8), global_token="mean")(pixels)
    with torch.inference_mode():
        torch.testing.assert_close(found["stem"].local_, net.stem(pixels))
    assert found["stem"].local_.min() < 0 <= found["act"].local_.min()
