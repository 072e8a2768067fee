"""What makes two pieces of work the same, in named parts.

Every decision "has this been done before?" is made here: keeping or resuming an extraction, re-using a network on a
worker, keeping or resuming a fit, keeping predictions. An identity is a tree of named parts with JSON values. A part
belongs in it if and only if changing it can change the result.

Two kinds of part are special, wherever they stand in the tree:

- `made_with`: the device and the versions of libraries. They can change the last bits of a result and nothing more, so
  finished work whose other parts agree may be kept, and the difference is told.
- `probe`: numbers that were measured, such as the tokens of a fixed image. Their last digits depend on the machine, so
  two lists of them are the same where they are close.
"""

import hashlib
import json
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MADE_WITH = "made_with"
PROBE = "probe"
CLOSE = 1e-2  # the largest difference of two probe numbers, which are of order 1, that counts as none

_NOTHING = object()


def digest(value: Any) -> str:
    """SHA-256 of `value` as canonical JSON: sorted keys, no white space, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Identity:
    """The named parts that decide a result.

    Attributes
    ----------
    parts : mapping
        Names to JSON values: texts, numbers, lists and mappings of the same kind.
    """

    parts: Mapping[str, Any]

    def digest(self) -> str:
        """SHA-256 over all parts: equal for equal work."""
        return digest(dict(self.parts))

    def only(self, *names: str) -> "Identity":
        """The identity of these top-level parts alone; parts that are not there are left out."""
        return Identity({name: self.parts[name] for name in names if name in self.parts})

    def differences(self, wanted: "Identity") -> list[str]:
        """In words, the parts in which stored work (this one) differs from the work that is wanted.

        Returns
        -------
        list of str
            Such as 'spec.grid [8, 8] → [4, 4]', or 'data.stimuli_sha256 is not recorded there' for a part that an
            earlier version of bddn did not write down. Empty where both are the same work.
        """
        return _differences(self.parts, wanted.parts, "")


def only_made_with(words: list[str]) -> bool:
    """Whether differences, in words, are all of the part `made_with`: they change last bits only."""
    return all(word.startswith(f"{MADE_WITH}.") or f".{MADE_WITH}." in word.partition(" ")[0] for word in words)


def _differences(stored: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str) -> list[str]:
    words = []
    for key in sorted(stored.keys() | wanted.keys()):
        a, b, name = stored.get(key, _NOTHING), wanted.get(key, _NOTHING), f"{prefix}{key}"
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            words += _probe_differences(a, b, name) if key == PROBE else _differences(a, b, f"{name}.")
        elif a is _NOTHING:
            words.append(f"{name} is not recorded there, since an earlier version of bddn wrote it")
        elif b is _NOTHING:
            words.append(f"{name} {_shown(a)} → nothing")
        elif a != b:
            words.append(f"{name} {_shown(a)} → {_shown(b)}")
    return words


def _probe_differences(a: Mapping[str, Any], b: Mapping[str, Any], name: str) -> list[str]:
    apart = [key for key in sorted(a.keys() | b.keys()) if not _are_close(a.get(key), b.get(key))]
    more = f" and {len(apart) - 1} more" if len(apart) > 1 else ""
    return [f"{name}.{apart[0]}{more}: other numbers for the same picture"] if apart else []


def _are_close(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_are_close(x, y) for x, y in zip(a, b, strict=True))
    numbers = isinstance(a, int | float) and isinstance(b, int | float)
    return abs(a - b) <= CLOSE if numbers else bool(a == b)


def _shown(value: Any) -> str:
    """A value in a message; a mapping or a long list is not spelled out."""
    text = "nothing" if value is None else str(value)
    if len(text) == 64 and all(letter in string.hexdigits for letter in text):
        return text[:16]  # of a SHA-256, enough to tell two apart
    return text if len(text) <= 120 else f"{text[:117]}…"
