"""Infer from a tensor's shape how it contains tokens: as a sequence or a map, and where its places are."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from bddn.errors import SpecError
from bddn.tokens import LayerTokens, Prefix

Places = tuple[int, int]
MAX_LEADING = 5  # largest number of leading tokens that is tried: a CLS token and four registers


@dataclass(frozen=True)
class Form:
    """How a tensor contains tokens.

    Attributes
    ----------
    kind : {'sequence', 'first', 'last'}
        A sequence, or a map with channels first or last.
    batch_dim : int
        The axis of images.
    prefix : (int, int)
        CLS tokens and registers of a sequence, which come before the local tokens.
    places : (int, int)
        Rows and columns.
    channels : int
    """

    kind: Literal["sequence", "first", "last"]
    batch_dim: int
    prefix: Prefix
    places: tuple[int, int]
    channels: int

    def tokens(self, tensor: Tensor) -> LayerTokens:
        """Return the tokens of a tensor of this form, as a view."""
        images = tensor.movedim(self.batch_dim, 0)
        if self.kind == "sequence":
            return LayerTokens.of_sequence(images, self.prefix, self.places)
        return LayerTokens(images if self.kind == "first" else images.movedim(3, 1))

    def __str__(self) -> str:
        h, w = self.places
        places = f"{h}×{w}"
        if self.kind != "sequence":
            return f"a map of {places} places, {self.channels} channels, which come {self.kind}"
        before = [f"{n} {what}" for n, what in zip(self.prefix, ("CLS", "registers"), strict=True) if n]
        sum_ = " + ".join([*before, places])
        return f"{sum(self.prefix) + h * w} tokens = {sum_}, {self.channels} channels"


def infer(
    name: str,
    shapes: Sequence[Sequence[int]],
    batches: Sequence[int],
    image_hw: tuple[int, int],
    leading_tokens: int | None = None,
    channels: Literal["first", "last"] | None = None,
    prefix: Prefix | None = None,
    *,
    has_cls: bool = True,
    cut: Collection[Places] = (),
) -> Form:
    """Return the form of a tensor, from its shapes for two numbers of images.

    Parameters
    ----------
    name : str
        Name of the layer for error messages.
    shapes : two shapes
    batches : two int
        Numbers of images for these shapes.
    image_hw : (int, int)
        Height and width of the images; the places have about the same aspect ratio.
    leading_tokens, channels : optional
        The user's settings for ambiguous shapes.
    prefix : (int, int), optional
        CLS tokens and registers, if the network's class tells them. Layers whose tokens then form no grid, such as
        those before the CLS token is added, are read by their shapes alone.
    has_cls : bool
        Whether the network may have a CLS token. If not, leading tokens are registers, unless `leading_tokens` says how
        many there are.
    cut : rows and columns
        Of the patches that the network cuts images into, if it does. Without `leading_tokens`, the places of a sequence
        are these, maybe merged or divided: further leading tokens, such as prompts, may form a grid with the patches.

    Raises
    ------
    SpecError
        If the shape has no places, or is ambiguous; the message asks for the setting.
    """
    shape = tuple(shapes[0])
    batch_dim = _image_axis(shapes, batches)
    if batch_dim is None:
        raise _refused(name, shape, *_without_image_axis(shapes, batches))
    rest = shape[:batch_dim] + shape[batch_dim + 1 :]
    image = f"the image of {image_hw[0]} × {image_hw[1]}"
    if len(rest) == 2:
        tried = range(MAX_LEADING + 1) if leading_tokens is None else [leading_tokens]
        n_cls = int(has_cls or leading_tokens is not None)  # in most networks one, then registers
        prefixes = [(min(n, n_cls), max(n - n_cls, 0)) for n in tried]
        if prefix is not None and leading_tokens is None and grids(rest[0], [prefix], image_hw):
            prefixes = [prefix]
        several = grids(rest[0], prefixes, image_hw)
        if cut and several:
            told = prefix is not None or leading_tokens is not None
            several = _of_patches(name, rest[0], several, cut, told=told, answered=leading_tokens is not None)
        found = [Form("sequence", batch_dim, leading, places, rest[1]) for leading, places in several]
        ways = " or ".join(f"{sum(leading)} (then {h}×{w} places)" for leading, (h, w) in several)
        which = "a known number of leading tokens", f"Set leading_tokens in the spec: {ways}."
        none = (
            f"{rest[0]} tokens that form a grid like {image}, "
            f"after {'up to ' if len(prefixes) > 1 else ''}{sum(prefixes[-1])} leading tokens",
            f"Correct their number in the spec ({_leading(rest[0], cut)}; in family: transformers prefix and suffix), "
            "or choose other layers.",
        )
    elif len(rest) == 3:
        both = (
            Form("first", batch_dim, (0, 0), (rest[1], rest[2]), rest[0]),
            Form("last", batch_dim, (0, 0), (rest[0], rest[1]), rest[2]),
        )
        found = [form for form in both if channels in (None, form.kind) and _fits(form.places, image_hw)]
        ways = f"first ({rest[0]} channels) or last ({rest[2]} channels)"
        which = "a known axis of channels", f"Set channels in the spec: {ways}."
        none = (
            f"a map of more than one place, with the aspect ratio of {image}",
            "Choose another layer, or set channels in the spec.",
        )
    else:
        expected = "tokens (B, T, C) or a map (B, C, H, W) or (B, H, W, C)"
        raise _refused(name, shape, expected, "Choose a layer before places are pooled or flattened.")
    if len(found) == 1:
        return found[0]
    raise _refused(name, shape, *(which if found else none))


def could_be_tokens(shapes: Sequence[Sequence[int]], batches: Sequence[int], image_hw: tuple[int, int]) -> bool:
    """Return whether a tensor with these shapes for two numbers of images may be a sequence of tokens or a map."""
    batch_dim = _image_axis(shapes, batches)
    if batch_dim is None:
        return False
    shape = tuple(shapes[0])
    rest = shape[:batch_dim] + shape[batch_dim + 1 :]
    if len(rest) == 2:
        return rest[0] > 1  # with some number of leading tokens the others may form a grid
    return len(rest) == 3 and (_fits(rest[1:], image_hw) or _fits(rest[:2], image_hw))


def _image_axis(shapes: Sequence[Sequence[int]], batches: Sequence[int]) -> int | None:
    """Return the only axis that changes with the number of images, or None."""
    if len(shapes[0]) != len(shapes[1]):
        return None
    changing = [i for i, sizes in enumerate(zip(*shapes, strict=True)) if sizes[0] != sizes[1]]
    alone = len(changing) == 1 and tuple(one[changing[0]] for one in shapes) == tuple(batches)
    return changing[0] if alone else None


def _without_image_axis(shapes: Sequence[Sequence[int]], batches: Sequence[int]) -> tuple[str, str]:
    """Return what was expected, and the next step."""
    expected = "one axis of images"
    if len(shapes[0]) != len(shapes[1]):
        return expected, "Choose another layer."
    for axis, (a, b) in enumerate(zip(*shapes, strict=True)):
        if a == b or a * batches[1] != b * batches[0] or a <= batches[0]:
            continue
        n = a // batches[0]
        if any(size > 1 for i, size in enumerate(shapes[0][:-1]) if i != axis):
            return (
                f"{expected}, separate from that of windows or other parts of it",
                f"One axis contains {n} parts of every image: choose a layer around this one, after they are joined.",
            )
        return (
            f"{expected}, separate from that of tokens",
            f"One axis contains {n} tokens of every image, one image after the other: return them as (B, {n}, C), for "
            "instance from a small module around the network.",
        )
    return expected, "Choose another layer."


def _of_patches(
    name: str, n: int, several: list[tuple[Prefix, Places]], cut: Collection[Places], *, told: bool, answered: bool
) -> list[tuple[Prefix, Places]]:
    """Return the readings of a sequence of n tokens whose places may come from patches, or the user's answer; raise a
    SpecError if there is none."""
    found = [
        (prefix, places)
        for prefix, places in several
        for patches in cut
        if _come_from(places, patches)
        # networks that merge patches have a CLS token at most: more tokens before 2 × 2 are rather groups or queries
        and (told or sum(prefix) < 2 or places >= patches)
    ]
    (prefix, (h, w)), (rows, columns) = several[0], max(cut)
    other_sides = sum(prefix) + rows * columns == n
    if found or (answered and not other_sides):
        return list(dict.fromkeys(found)) or several
    other = f", {_leading(n, cut)}" if n > rows * columns else ""
    raise SpecError(
        f"layer '{name}'",
        expected=f"places of the {rows}×{columns} patches that a convolution cuts the image into, maybe merged",
        got=f"{n} tokens = {sum(prefix)} + {h}×{w}",
        fix=f"Return a map of places as the image has them, not {rows}×{columns}, from a small module around it."
        if other_sides
        else f"Set leading_tokens: {sum(prefix)} if it has {h}×{w} places{other} (in family: transformers "
        "correct prefix and suffix), or choose other layers.",
    )


def _leading(n: int, cut: Collection[Places]) -> str:
    """Return the setting with which the last of n tokens are patches, if there are as many."""
    rows, columns = max(cut, default=(n + 1, 1))
    further = n - rows * columns
    return "leading_tokens" if further < 0 else f"leading_tokens: {further} if the {rows}×{columns} patches come last"


def _come_from(places: Places, patches: Places) -> bool:
    """Return whether places are patches, or patches of which each k × k are merged into one, or each is divided so."""
    (h, w), (rows, columns) = places, patches
    if (h % rows, w % columns) == (0, 0):
        return h // rows == w // columns
    merged = [(rows // k, columns // k) for k in range(1, rows + 1)]
    padded = [(-(-rows // k), -(-columns // k)) for k in range(1, rows + 1)]  # at the edge
    return places in merged or places in padded


def grids(n_tokens: int, prefixes: Sequence[Prefix], image_hw: tuple[int, int]) -> list[tuple[Prefix, tuple[int, int]]]:
    """Return the prefixes after which the other tokens form a grid like the image, with its rows and columns."""
    local = [(prefix, n_tokens - sum(prefix)) for prefix in prefixes]
    return [
        (prefix, (h, n // h))
        for prefix, n in local
        for h in range(1, n + 1)
        if n % h == 0 and n > 1 and h * h * image_hw[1] == n * image_hw[0]
    ]


def _fits(places: tuple[int, int], image_hw: tuple[int, int]) -> bool:
    """Return whether places have the aspect ratio of the image, up to rounding by one place."""
    (h, w), (height, width) = places, image_hw
    if h * w < 2:
        return False
    return h == w if height == width else abs(h * width - w * height) < max(height, width)


def _refused(name: str, shape: tuple[int, ...], expected: str, fix: str) -> SpecError:
    return SpecError(f"layer '{name}'", expected=expected, got=f"an output of shape {shape}", fix=fix)
