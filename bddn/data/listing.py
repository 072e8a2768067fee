"""List the images of a folder by file name."""

from pathlib import Path

from bddn.files.paths import is_left_by_system

SUFFIXES = (".png", ".jpg", ".jpeg")


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, or one that a system left there, such as Thumbs.db."""
    return name.startswith(".") or is_left_by_system(name)


def visible_images(folder: Path) -> list[Path]:
    """Return the sorted paths in a folder with a PNG or JPEG suffix, except hidden ones. Ignore subfolders.

    Broken links are included, so that reading them raises an error and no image is silently missing.
    """
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not is_hidden(path.name))


def is_printable(name: str) -> bool:
    """Return whether tables, XML and figures can hold a name: it may use any script, but no control characters and no
    bytes that are invalid UTF-8."""
    return not any(_is_bad(letter) for letter in name)


def _is_bad(letter: str) -> bool:
    code = ord(letter)
    control = code < 0x20 or 0x7F <= code < 0xA0 or code in (0x2028, 0x2029)
    return control or 0xD800 <= code < 0xE000 or code & 0xFFFE == 0xFFFE
