"""What an output is, told from its shape: every reading that is right, and questions where there are several."""

import pytest
import torch

from bddn.backbones.shapes import infer
from bddn.errors import SpecError

SQUARE, WIDE = (112, 112), (96, 128)


def shapes(*shape: int | str) -> list[tuple[int, ...]]:
    """A shape for 2 and for 3 images, which are called B."""
    return [tuple(n if size == "B" else int(size) for size in shape) for n in (2, 3)]


@pytest.mark.parametrize(
    ("shape", "image", "words"),
    [
        (("B", 197, 768), (224, 224), "197 tokens = 1 CLS + 14×14, 768 channels"),
        (("B", 196, 768), (224, 224), "196 tokens = 14×14, 768 channels"),
        (("B", 261, 384), (224, 224), "261 tokens = 1 CLS + 4 registers + 16×16, 384 channels"),
        ((50, "B", 768), (224, 224), "50 tokens = 1 CLS + 7×7, 768 channels"),
        (("B", 49, 24), WIDE, "49 tokens = 1 CLS + 6×8, 24 channels"),
        (("B", 64, 28, 28), SQUARE, "a map of 28×28 places, 64 channels, which come first"),
        (("B", 28, 28, 64), SQUARE, "a map of 28×28 places, 64 channels, which come last"),
        (("B", 12, 16, 64), WIDE, "a map of 12×16 places, 64 channels, which come last"),
        (("B", 64, 11, 15), WIDE, "a map of 11×15 places, 64 channels, which come first"),
    ],
)
def test_a_shape_that_can_be_read_in_one_way_is_read_so(
    shape: tuple[int | str, ...], image: tuple[int, int], words: str
) -> None:
    assert str(infer("layer", shapes(*shape), (2, 3), image)) == words


@pytest.mark.parametrize(
    ("shape", "image", "words"),
    [
        (("B", 768), SQUARE, r"expected tokens \(B, T, C\) or a map"),
        (("B", 64, 1, 1), SQUARE, "more than one place"),
        (("B", 24, 24, 24), SQUARE, r"channels in the spec: first \(24 channels\) or last \(24 channels\)"),
        (("B", 9, 64), SQUARE, r"leading_tokens in the spec: 0 \(then 3×3 places\) or 5 \(then 2×2 places\)"),
        (("B", 1024, 8), WIDE, "a grid like the image of 96 × 128, after up to 5 leading tokens"),
        ((197, 768), (224, 224), "one axis of images"),
        (("B", "B", 768), (224, 224), "one axis of images"),
        (("B", 3, 8, 14, 14), SQUARE, r"expected tokens \(B, T, C\) or a map"),
    ],
)
def test_a_shape_without_one_reading_is_a_question(
    shape: tuple[int | str, ...], image: tuple[int, int], words: str
) -> None:
    with pytest.raises(SpecError, match=words) as error:
        infer("stage.3", shapes(*shape), (2, 3), image)
    assert "layer 'stage.3'" in str(error.value)


def test_the_prefix_that_a_network_tells_is_read_before_shapes() -> None:
    for prefix, words in {
        (0, 5): "9 tokens = 5 registers + 2×2",
        (1, 4): "9 tokens = 1 CLS + 4 registers + 2×2",
    }.items():
        form = infer("a", shapes("B", 9, 64), (2, 3), SQUARE, prefix=prefix)
        assert (form.prefix, str(form).partition(",")[0]) == (prefix, words)
        tokens = form.tokens(torch.arange(9.0)[None, :, None].expand(2, 9, 64))
        assert (tokens.global_ is None) == (prefix[0] == 0)
        assert tokens.register is not None
        assert tokens.register[0, :, 0].tolist() == list(range(prefix[0], 5))
        assert tokens.local_[0, 0].tolist() == [[5, 6], [7, 8]]
    assert infer("a", shapes("B", 16, 64), (2, 3), SQUARE, prefix=(1, 4)).prefix == (0, 0)  # before CLS is added


def test_the_answers_are_taken() -> None:
    assert infer("a", shapes("B", 10, 64), (2, 3), SQUARE, leading_tokens=6).places == (2, 2)
    assert infer("a", shapes("B", 24, 24, 24), (2, 3), SQUARE, channels="last").kind == "last"
    with pytest.raises(SpecError, match="after 3 leading tokens"):
        infer("a", shapes("B", 10, 64), (2, 3), SQUARE, leading_tokens=3)


@pytest.mark.parametrize("shape", [("B", 17, 5), (17, "B", 5), ("B", 5, 4, 4), ("B", 4, 4, 5)])
def test_every_form_gives_the_same_tokens(shape: tuple[int | str, ...]) -> None:
    """A number for image, place and channel, laid out in each way."""
    form = infer("a", shapes(*shape), (2, 3), SQUARE)
    local = torch.arange(2 * 4 * 4 * 5.0).view(2, 4, 4, 5)
    cls = -torch.ones(2, 1, 5)
    output = {
        ("B", 17, 5): torch.cat([cls, local.flatten(1, 2)], 1),
        (17, "B", 5): torch.cat([cls, local.flatten(1, 2)], 1).transpose(0, 1),
        ("B", 5, 4, 4): local.permute(0, 3, 1, 2),
        ("B", 4, 4, 5): local,
    }[shape]
    found = form.tokens(output)
    assert torch.equal(found.local_.permute(0, 2, 3, 1), local)
    assert (found.global_ is None) == (17 not in shape)
    assert found.global_ is None or torch.equal(found.global_, cls[:, 0])


def test_patches_tell_which_reading_is_right() -> None:
    """Further tokens are asked for by number, where they form no grid; an ambiguous shape is no question."""
    assert infer("a", shapes("B", 9, 8), (2, 3), SQUARE, cut={(2, 2)}).places == (2, 2)
    assert infer("a", shapes("B", 49, 8), (2, 3), SQUARE, cut={(14, 14)}).places == (7, 7)
    with pytest.raises(SpecError, match="leading_tokens: 8 if the 6×6 patches come last"):
        infer("a", shapes("B", 44, 8), (2, 3), SQUARE, cut={(6, 6)})


@pytest.mark.parametrize(
    ("two", "three", "words"),
    [
        ((128, 8), (192, 8), r"64 tokens of every image.*return them as \(B, 64, C\)"),
        ((1, 128, 8), (1, 192, 8), r"64 tokens of every image.*return them as \(B, 64, C\)"),
        ((8, 16, 8), (12, 16, 8), "4 parts of every image: choose a layer around this one"),
    ],
)
def test_images_in_one_axis_with_tokens_or_windows_are_told(
    two: tuple[int, ...], three: tuple[int, ...], words: str
) -> None:
    with pytest.raises(SpecError, match=words):
        infer("a", [two, three], (2, 3), SQUARE)
