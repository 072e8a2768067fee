"""The identity of a result: the named inputs that determine it.

This module decides whether a result exists already: to keep or resume an extraction, a fit or predictions, or to reuse
a network on a worker. An identity is a tree of named parts with JSON values. It contains a part if and only if a
change of that part can change the result.

Two kinds of part are special, anywhere in the tree:

- `made_with`: the device and the versions of libraries. They change at most the last bits of a result, so a finished
  result is kept if only they differ, and the difference is reported.
- `probe`: measured numbers, such as the tokens of a fixed image. Their last digits depend on the machine, so two lists
  count as equal if they are close.
"""

import hashlib
import json
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MADE_WITH = "made_with"
PROBE = "probe"
PROBE_TOLERANCE = 1e-2  # largest difference of probe numbers (of order 1) that count as equal

_MISSING = object()


def digest(value: Any) -> str:
    """Return the SHA-256 (hexadecimal) of `value` as canonical JSON: sorted keys, no white space, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Identity:
    """The named parts that determine a result.

    Attributes
    ----------
    parts : mapping
        From names to JSON values: strings, numbers, lists and mappings of these.
    """

    parts: Mapping[str, Any]

    def digest(self) -> str:
        """Return the SHA-256 (hexadecimal) over all parts; equal identities have equal digests."""
        return digest(dict(self.parts))

    def only(self, *names: str) -> "Identity":
        """Return the identity with only these top-level parts; absent names are ignored."""
        return Identity({name: self.parts[name] for name in names if name in self.parts})

    def differences(self, wanted: "Identity") -> list[str]:
        """Describe each part in which the stored result (this identity) differs from the wanted one.

        Returns
        -------
        list of str
            For example 'spec.grid [8, 8] → [4, 4]', or 'data.stimuli_sha256 is not recorded there' for a part that an
            earlier version of bddn did not record. Empty if the identities are equal.
        """
        return _differences(self.parts, wanted.parts, "")


def only_made_with(words: list[str]) -> bool:
    """Return whether all differences, as `differences` gives them, are in `made_with` and so change last bits only."""
    return all(word.startswith(f"{MADE_WITH}.") or f".{MADE_WITH}." in word.partition(" ")[0] for word in words)


def _differences(stored: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str) -> list[str]:
    words = []
    for key in sorted(stored.keys() | wanted.keys()):
        a, b, name = stored.get(key, _MISSING), wanted.get(key, _MISSING), f"{prefix}{key}"
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            words += _probe_differences(a, b, name) if key == PROBE else _differences(a, b, f"{name}.")
        elif a is _MISSING:
            words.append(f"{name} is not recorded there: it was not given, or an earlier version of bddn wrote it")
        elif b is _MISSING:
            words.append(f"{name} {_shown(a)} → nothing")
        elif a != b:
            words.append(f"{name} {_shown(a)} → {_shown(b)}")
    return words


def _probe_differences(a: Mapping[str, Any], b: Mapping[str, Any], name: str) -> list[str]:
    apart = [key for key in sorted(a.keys() | b.keys()) if not _are_close(a.get(key), b.get(key))]
    more = f" and {len(apart) - 1} more" if len(apart) > 1 else ""
    return [f"{name}.{apart[0]}{more}: other numbers for the same image"] if apart else []


def _are_close(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_are_close(x, y) for x, y in zip(a, b, strict=True))
    numbers = isinstance(a, int | float) and isinstance(b, int | float)
    return abs(a - b) <= PROBE_TOLERANCE if numbers else bool(a == b)


def _shown(value: Any) -> str:
    """Return a value as text for a message, shortened if it is long."""
    text = "nothing" if value is None else str(value)
    if len(text) == 64 and all(letter in string.hexdigits for letter in text):
        return text[:16]  # enough of a SHA-256 to distinguish two
    return text if len(text) <= 120 else f"{text[:117]}…"
