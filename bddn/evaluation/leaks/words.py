"""What an audit of a split found, in words."""

from collections.abc import Mapping
from typing import Any

from bddn.evaluation.leaks.leaks import KINDS
from bddn.text import count, joined

_NAMES = dict(
    zip(KINDS, ("same ids", "same files", "same pixels", "near-duplicates", "very close tokens"), strict=True)
)


def sentence(numbers: Mapping[str, Any]) -> str:
    """Return what an audit found, in words."""
    n, is_split = numbers["n_images"], isinstance(numbers["n_images"], dict)
    found = [f"{count} {_NAMES[kind]}" for kind, count in numbers["n_pairs"].items() if count]
    n_pairs = sum(numbers["n_pairs"].values())
    what = f"{sum(n.values())} images ({', '.join(f'{n[part]} {part}' for part in n)})" if is_split else f"{n} images"
    if not found:
        words = f"{'no image is in two parts' if is_split else 'no image occurs twice'}: {what} were compared by "
        words += joined(numbers["compared"])
    elif is_split:
        words = f"{count(n_pairs, 'pair')} of images in different parts: {joined(found)}; "
        words += f"{numbers['n_test_images_in_pairs']} of {n['test']} test images are concerned"
    else:
        words = f"{count(n_pairs, 'pair')} of images among {what}: {joined(found)}; a split by image may put them "
        words += "into different parts"
    missing = f" Not compared: {joined(numbers['not_compared'])}." if numbers["not_compared"] else ""
    return f"{words}.{missing}"
