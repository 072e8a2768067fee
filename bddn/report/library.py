"""The drawing library NiiVue, read from the installed nilearn when a page is written."""

import re
from importlib.metadata import version

from bddn.cortex.fsaverage import nilearn_folder
from bddn.errors import BddnError

_FILE = ("_assets", "js", "niivue.umd.js")
_UNSAFE = re.compile(r"</script|<!--", re.IGNORECASE)


class LibraryError(BddnError):
    """An installed package lacks something that a page needs."""


def niivue_script() -> str:
    """Return NiiVue's script for inclusion in a page.

    Raises
    ------
    LibraryError
        If the installed nilearn does not contain it, or it cannot be included in a page.
    """
    file = nilearn_folder().joinpath(*_FILE)
    if not file.is_file():
        raise LibraryError(
            file,
            expected="NiiVue, which nilearn 0.14 contains",
            got=f"nilearn {version('nilearn')} without it",
            fix="Run 'pip install \"nilearn>=0.14,<0.15\"'.",
        )
    script = file.read_text(encoding="utf-8")
    found = _UNSAFE.search(script)
    if found:
        raise LibraryError(
            file,
            expected="a script that can be included in a page",
            got=f"a script that contains {found.group()!r}",
            fix=f"Install another version of nilearn than {version('nilearn')}.",
        )
    return script


def niivue_version(script: str) -> str:
    """Return the version in the script, or ''."""
    found = re.search(r'version:"(\d+\.\d+\.\d+)"\}', script)
    return found.group(1) if found else ""
