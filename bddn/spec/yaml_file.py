"""Read the YAML files of specs strictly: by YAML 1.2, with unique keys, and with the line number of every value.

PyYAML reads YAML 1.1, in which 1e-6 is a string, 1:30 is 90, 010 is 8 and `no` is false. Here numbers follow YAML 1.2
(and JSON), and only `true` and `false` are Boolean values.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml
from yaml.composer import Composer

from bddn.errors import SpecError
from bddn.files.filekind import EMPTY, HEAD_BYTES, kind_of_bytes

MAX_BYTES = 1 << 20
MAX_VALUES = 100_000  # after aliases are expanded, each of which may stand for many values
MAX_DEPTH = 50
TAG = "tag:yaml.org,2002:"
_BOMS = ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))

Path = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """A loader that parses text into nodes by the core schema of YAML 1.2. `_Reader` converts nodes to values."""


_Loader.yaml_implicit_resolvers = {}  # remove those of YAML 1.1

for _kind, _pattern in (
    ("null", r"~|null|Null|NULL|"),
    ("bool", r"true|True|TRUE|false|False|FALSE"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
    ("merge", r"<<"),
):
    _Loader.add_implicit_resolver(TAG + _kind, re.compile(rf"^(?:{_pattern})$"), [None])

if yaml.__with_libyaml__:  # most installations have it

    class _FastLoader(Composer, yaml.CSafeLoader):
        """The same with libyaml's parser, which is ten times as fast.

        Nodes are composed in Python: libyaml's own composer ends the process if the text is nested too deeply.
        """

        def __init__(self, text: str) -> None:
            yaml.CSafeLoader.__init__(self, text)
            Composer.__init__(self)

    _FastLoader.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def _int(text: str) -> int:
    return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)


def _float(text: str) -> float:
    return float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", text.lower()))


_SCALARS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "str": ("a text", str),
    "merge": ("a text", str),
    "null": ("nothing", lambda text: None),
    "bool": ("true or false", lambda text: {"true": True, "false": False}[text.lower()]),
    "int": ("a whole number", _int),
    "float": ("a number", _float),
}


@dataclass
class Document:
    """The value of a YAML file, in JSON types, and the line number of each part of it."""

    value: object = None
    lines: dict[Path, int] = field(default_factory=dict)


def read_yaml(data: bytes, place: str) -> Document:
    """Read the bytes of a YAML file; `place` names the file in error messages.

    Raises
    ------
    SpecError
        If the file is not text, is empty or not YAML, repeats a key in a mapping, or has a value of a type that JSON
        does not have.
    """
    text = _text(data, place)
    try:
        node = _compose(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        _refuse(place, mark.line + 1 if mark else None, "YAML", _words(error), "Correct this line or the line before.")
    except RecursionError:
        _refuse(place, None, f"at most {MAX_DEPTH} levels of nesting", "more", "Simplify the file.")
    if node is None:
        _refuse(place, None, "settings, one 'key: value' per line", "an empty file", "Write or restore the settings.")
    reader = _Reader(place)
    return Document(reader.value(node, ()), reader.lines)


def _compose(text: str) -> yaml.Node | None:
    if yaml.__with_libyaml__:
        with contextlib.suppress(yaml.MarkedYAMLError):  # the other loader's messages are better
            return yaml.compose(text, Loader=_FastLoader)
    return yaml.compose(text, Loader=_Loader)


class _Reader:
    """A converter of nodes to values."""

    def __init__(self, place: str) -> None:
        self._place, self._n_values = place, 0
        self.lines: dict[Path, int] = {}

    def value(self, node: yaml.Node, path: Path) -> Any:
        """Return the value of a node. Every alias is expanded, as if its text were repeated."""
        self._n_values += 1
        if self._n_values > MAX_VALUES or len(path) > MAX_DEPTH:
            limit = f"at most {MAX_VALUES} values, {MAX_DEPTH} levels deep"
            _refuse(self._place, _line(node), limit, "more, because of repeated aliases", "Avoid the aliases.")
        self.lines[path] = _line(node)
        if isinstance(node, yaml.MappingNode):
            self._check_tag(node, "map")
            return {key: self.value(value, (*path, key)) for key, value in self._items(node)}
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, "seq")
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        return self._scalar(node)

    def _items(self, node: yaml.MappingNode, depth: int = 0) -> Iterator[tuple[str, yaml.Node]]:
        """Yield the keys and values of a mapping. Those merged by `<<` come first, so that own keys override them."""
        seen: dict[str, int] = {}
        own: list[tuple[str, yaml.Node]] = []
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                _refuse(self._place, _line(key), "a word as key", "a list or a mapping", "Correct the key.")
            if key.value in seen:
                got = f"'{key.value}' in line {seen[key.value]} and in line {_line(key)}"
                _refuse(self._place, None, "every key only once", got, "Delete one of them.")
            seen[key.value] = _line(key)
            if key.tag != f"{TAG}merge":
                own.append((key.value, value))
                continue
            merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for one in reversed(merged):  # the first of several has priority
                if not isinstance(one, yaml.MappingNode) or depth > MAX_DEPTH:
                    _refuse(self._place, _line(key), "mappings after '<<'", "another value", "Avoid the '<<'.")
                yield from self._items(one, depth + 1)
        yield from own

    def _scalar(self, node: yaml.Node) -> Any:
        kind = node.tag.removeprefix(TAG)
        if kind not in _SCALARS:
            self._check_tag(node, "str")
        what, make = _SCALARS[kind]
        try:
            return make(node.value)
        except (ValueError, KeyError):
            text = node.value
            shown = text if len(text) <= 20 else f"{text[:20]}… of {len(text)} characters"
            _refuse(self._place, _line(node), what, shown, "Correct the value.")

    def _check_tag(self, node: yaml.Node, kind: str) -> None:
        if node.tag != TAG + kind:
            tag = node.tag.replace(TAG, "!!")
            _refuse(self._place, _line(node), "plain values", f"the tag {tag}", "Remove the tag.")


def _text(data: bytes, place: str) -> str:
    kind = kind_of_bytes(data[:HEAD_BYTES])
    if kind is not None and kind != EMPTY:
        _refuse(place, None, "a YAML file", kind.name, kind.fix or "Give a YAML file.")
    if len(data) > MAX_BYTES:
        _refuse(place, None, "a file of settings", f"a file of {len(data) / 2**20:.1f} MiB", "Correct the path.")
    encoding = next((name for bom, name in _BOMS if data.startswith(bom)), "utf-8-sig")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = 1 + data[: error.start].count(b"\n") if encoding == "utf-8-sig" else None
        got = f"the byte 0x{data[error.start]:02x}, as in another encoding"
        _refuse(place, line, f"a text in {encoding.removesuffix('-sig').upper()}", got, "Save the file as UTF-8.")
    for line, content in enumerate(text.splitlines(), 1):
        if wrong := yaml.reader.Reader.NON_PRINTABLE.search(content):
            got = f"the character U+{ord(wrong[0]):04X}, as in a binary or UTF-16 file"
            _refuse(place, line, "a text", got, "Save the file as UTF-8.")
    return text


def _words(error: yaml.MarkedYAMLError) -> str:
    """Return a description of the syntax error."""
    words = " ".join(f"{error.problem}".split())
    if "'\\t'" in words:
        return "a tab; YAML is indented with spaces"
    if "found another document" in words:
        return "a second document after '---'"
    return words.replace("'<stream end>'", "the end of the file").replace(
        "unexpected end of stream", "no closing quote"
    )


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _refuse(place: str, line: int | None, expected: str, got: str, fix: str) -> NoReturn:
    where = place if line is None else f"{place}, line {line}"
    raise SpecError(where, expected=expected, got=got, fix=fix) from None
