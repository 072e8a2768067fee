"""Functions that all loaders of weights share: errors about weights that do not fit, and quiet libraries."""

from collections.abc import Collection, Mapping, Sequence

from bddn.errors import BackboneError, SpecError
from bddn.spec import CacheSpec
from bddn.text import shorten

SHOWN = 8  # names per kind of mistake in a message
UNREADABLE = "Correct weights in the spec, or give --weights. 'bddn fetch' replaces damaged files of the hub."
"""Next step for weights that a library cannot read."""


def refuse_misfits(place: object, expected: str, misfits: Mapping[str, Sequence[str]], fix: str) -> None:
    """Raise a BackboneError that lists names by kind of mistake ('missing', …), if there are any."""
    if any(misfits.values()):
        raise BackboneError(
            place,
            expected=expected,
            got="; ".join(f"{len(names)} {how}: {shorten(names, SHOWN)}" for how, names in misfits.items() if names),
            fix=fix,
        )


def refuse_architecture(place: object, differ: Sequence[str]) -> None:
    """Raise a BackboneError if fields of the weights' architecture differ from the spec."""
    if differ:
        raise BackboneError(
            place,
            expected="weights of the spec's architecture",
            got=f"another architecture: {', '.join(differ)}",
            fix="Use weights of this architecture, or correct backbone.architecture.",
        )


def refuse_cls(spec: CacheSpec) -> None:
    """Raise a SpecError if a spec sets `global_token: cls` for a network without CLS token."""
    if spec.global_token == "cls":
        raise SpecError(
            f"spec '{spec.title}'",
            expected="global_token: mean, because this network has no CLS token",
            got="cls",
            fix="Set global_token: mean in the spec.",
        )


def common_prefix(missing: Sequence[str], unknown: Collection[str]) -> str:
    """Return what precedes all missing names in the names of a file; '' if the file does not contain them."""
    found = {key.removesuffix(f".{missing[0]}") for key in unknown if key.endswith(f".{missing[0]}")} if missing else ()
    return next((one for one in found if all(f"{one}.{name}" in unknown for name in missing)), "")


def first_line(error: BaseException) -> str:
    """Return the class and the first lines of an error, as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).strip().splitlines()[:2])}"


def keep_transformers_quiet() -> None:
    """Turn off progress bars, because bddn shows its own, and warnings, because bddn raises errors for them."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
