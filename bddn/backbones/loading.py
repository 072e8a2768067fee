"""What all loaders of weights share: the words for what does not fit, and quiet libraries."""

from collections.abc import Mapping, Sequence

from bddn.errors import BackboneError, SpecError
from bddn.spec import CacheSpec

SHOWN = 8  # names of each kind of mistake in a message


def refuse_misfits(place: object, expected: str, misfits: Mapping[str, Sequence[str]], fix: str) -> None:
    """Raise a BackboneError that lists names by what is wrong with them ('missing', …), if there are any."""
    if any(misfits.values()):
        raise BackboneError(
            place,
            expected=expected,
            got="; ".join(f"{len(names)} {how}: {some(names)}" for how, names in misfits.items() if names),
            fix=fix,
        )


def refuse_architecture(place: object, differ: Sequence[str]) -> None:
    """Raise a BackboneError where the weights are of another architecture than the spec's."""
    if differ:
        raise BackboneError(
            place,
            expected="weights of the spec's architecture",
            got=f"another one: {', '.join(differ)}",
            fix="Use weights of this architecture, or correct backbone.architecture.",
        )


def refuse_cls(spec: CacheSpec) -> None:
    """Raise a SpecError where a spec wants the CLS token of a network that has none."""
    if spec.global_token == "cls":
        raise SpecError(
            f"spec '{spec.title}'",
            expected="global_token: mean, since this network has no CLS token",
            got="cls",
            fix="Set global_token: mean in the spec.",
        )


def some(names: Sequence[str]) -> str:
    """The first names."""
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def first_line(error: BaseException) -> str:
    """What went wrong, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).strip().splitlines()[:2])}"


def keep_transformers_quiet() -> None:
    """No bars, since ours is enough, and no warnings: what it warns of is an error here, or wanted."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
