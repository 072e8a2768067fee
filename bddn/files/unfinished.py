"""The hidden folder of a training that is not finished, from which the same command resumes."""

import glob
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bddn.errors import FitError
from bddn.files import atomic
from bddn.files.output import hidden_folder
from bddn.identity import Identity
from bddn.progress import say


@contextmanager
def state_file(out: Path, identity: Identity, kind: str) -> Iterator[Path]:
    """Yield the checkpoint file of a training.

    Its folder is named after the identity, so that no other training resumes from it. The folder is removed at the end
    if it is empty.

    Parameters
    ----------
    out : Path
        Folder of the result.
    identity : Identity
    kind : str
        What is trained, in one word: 'fit'.
    """
    label = f"{identity.digest()[:16]}.{kind}"
    folder = hidden_folder(out, label)
    pattern = f"{glob.escape(folder.name.removesuffix(label))}{'[0-9a-f]' * 16}.{kind}"
    others = [path.name for path in folder.parent.glob(pattern) if path != folder]
    if others:  # otherwise a user could believe that this one resumes from the other checkpoint
        say(
            f"note: '{others[0]}' in '{folder.parent}' is the checkpoint of a {kind} with other inputs, settings or "
            "versions. It is not used. Delete it if you do not need it."
        )
    atomic.make_folder(folder)  # before any work, so that a folder that cannot be written is found early
    state = folder / "state.safetensors"
    try:
        yield state
    except FitError:  # resuming would lead to the same error
        state.unlink(missing_ok=True)
        raise
    finally:
        with suppress(OSError):  # not empty
            folder.rmdir()
