"""Which files of a folder are images, by their names."""

from pathlib import Path

SUFFIXES = (".png", ".jpg", ".jpeg")


def is_hidden(name: str) -> bool:
    """Whether a name is one that its owner never sees: `.DS_Store`, or `._a.png`, in which macOS keeps its notes of
    `a.png` on a disk of another system."""
    return name.startswith(".")


def visible_images(folder: Path) -> list[Path]:
    """Everything in a folder that is named as a PNG or JPEG file and not hidden, sorted; its folders are not entered.

    A link that leads nowhere is among them, so that it is an error where it is read, and not an image left out.
    """
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not is_hidden(path.name))


def is_printable(name: str) -> bool:
    """Whether tables, XML and figures can hold a name: in any script, but without control characters and without
    bytes that are no UTF-8."""
    return not any(_is_bad(letter) for letter in name)


def _is_bad(letter: str) -> bool:
    code = ord(letter)
    control = code < 0x20 or 0x7F <= code < 0xA0 or code in (0x2028, 0x2029)
    return control or 0xD800 <= code < 0xE000 or code & 0xFFFE == 0xFFFE
