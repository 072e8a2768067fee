"""The library that draws: NiiVue, as the installed nilearn carries it, read when a page is written."""

import re
from importlib.metadata import version

from bddn.cortex.fsaverage import nilearn_folder
from bddn.errors import BddnError

_FILE = ("_assets", "js", "niivue.umd.js")
_UNSAFE = re.compile(r"</script|<!--", re.IGNORECASE)


class LibraryError(BddnError):
    """What a page needs of an installed package is not there."""


def niivue_script() -> str:
    """NiiVue's script, to stand in a page.

    Raises
    ------
    LibraryError
        Where the installed nilearn does not carry it, or where it could not stand in a page.
    """
    file = nilearn_folder().joinpath(*_FILE)
    if not file.is_file():
        raise LibraryError(
            file,
            expected="NiiVue, which nilearn 0.14 carries",
            got=f"nilearn {version('nilearn')} without it",
            fix="Run 'pip install \"nilearn>=0.14,<0.15\"'.",
        )
    script = file.read_text(encoding="utf-8")
    found = _UNSAFE.search(script)
    if found:
        raise LibraryError(
            file,
            expected="a script that can stand in a page",
            got=f"one with {found.group()!r} in it",
            fix=f"Install another release of nilearn than {version('nilearn')}.",
        )
    return script


def niivue_version(script: str) -> str:
    """The version that the script gives itself; '' where it does not say."""
    found = re.search(r'version:"(\d+\.\d+\.\d+)"\}', script)
    return found.group(1) if found else ""
