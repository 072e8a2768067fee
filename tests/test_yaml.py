"""YAML files of settings: what a number is, every key once, and every message with file, line and key."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bddn.cli import app
from bddn.errors import SpecError
from bddn.spec import CacheSpec, FamilySpec, FitSpec
from bddn.spec.yaml_file import read_yaml

CACHE = "title: t\nbackbone: {family: clip}\nweights: {hub: a/b}\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6),  # a text in YAML 1.1
        ("1E5", 1e5),
        ("+1e3", 1e3),
        (".5", 0.5),
        ("1.", 1.0),
        ("-0.5", -0.5),
        ("010", 10),  # 8 in YAML 1.1
        ("0o10", 8),
        ("0x1F", 31),
        ("1_000", "1_000"),  # 1000 in YAML 1.1
        ("1:30", "1:30"),  # 90 in YAML 1.1
        ("2020-01-01", "2020-01-01"),  # a date in YAML 1.1
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("'1e-6'", "1e-6"),
        ("=", "="),
        (".", "."),
        ("e5", "e5"),
        ("!!float 1", 1.0),
        ("!!str 1", "1"),
    ],
)
def test_values_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = read_yaml(f"a: {text}".encode(), "my.yaml").value
    assert found == {"a": value}
    assert type(found["a"]) is type(value)


def test_a_learning_rate_without_a_dot_is_a_number() -> None:
    assert FitSpec.from_yaml(b"learning_rate: 1e-6", "my.yaml").learning_rate == 1e-6
    text = CACHE.replace("clip", "clip, architecture: {layer_norm_eps: 1e-6}")
    backbone = CacheSpec.from_yaml(text.encode(), "my.yaml").backbone
    assert isinstance(backbone, FamilySpec)
    assert backbone.architecture == {"layer_norm_eps": 1e-6}


@pytest.mark.parametrize(
    "data",
    [
        b"epochs: 3\r\nseed: 2\r\n",
        b"\xef\xbb\xbfepochs: 3\nseed: 2",
        "epochs: 3\nseed: 2\n".encode("utf-16"),
        "epochs: 3\nseed: 2\n".encode("utf-32"),
        b"--- # settings\nepochs: 3\nseed: 2\n...\n",
        b"<<: {epochs: 3, seed: 1}\nseed: 2",
        b"<<: [{epochs: 3}, {epochs: 4, seed: 2}]",
        b"epochs: &x 3\nseed: 2\nbatch_size: *x",
    ],
    ids=["CRLF", "BOM", "UTF-16", "UTF-32", "document marks", "merge", "merge of two", "anchor"],
)
def test_files_of_any_editor_are_read(data: bytes) -> None:
    spec = FitSpec.from_yaml(data, "my.yaml")
    assert (spec.epochs, spec.seed) == (3, 2)


def _laughs(n: int = 9) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, n)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epochs: 3\nseed: 1\nepochs: 5", ["every key only once", "'epochs' in line 1 and in line 3"]),
        ("{epochs: 3, epochs: 3}", ["'epochs' in line 1 and in line 1"]),
        ("<<: {epochs: 3}\n<<: {seed: 3}", ["'<<' in line 1 and in line 2"]),
        ("epochs: 3\n'epochs': 5", ["'epochs' in line 1 and in line 2"]),
        ("seed: 1\nepochs: fast", ["'epochs'", "'fast' in line 2"]),
        ("seed: 1\nsplit:\n- 8\n- x\n- 1", ["'split.1'", "'x' in line 4"]),
        ("seed: 1\nepoch: 3", ["unknown key 'epoch' in line 2", "Did you mean 'epochs'?"]),
        ("epochs: yes", ["'epochs'", "'yes' in line 1"]),
        ("epochs: true", ["'epochs'", "not true or false", "True in line 1"]),
        ("split: [8, true, 1]", ["'split'", "not true or false"]),
        ("seed: " + "9" * 5000, ["line 1", "a whole number", "9… of 5000 characters"]),
        ("seed: 99999999999999999999", ["'seed'", "99999999999999999999 in line 1"]),
        ("epochs: 1e400", ["'epochs'", "finite"]),
        ("epochs: 3000000000", ["'epochs'", "2147483648"]),
        ("learning_rate: .nan", ["'learning_rate'", "finite", "nan in line 1"]),
        ("epochs: 1:30", ["'epochs'", "'1:30'"]),
        ("layers: [2020-01-01, 010]", ["'layers.1'", "10"]),
        ("epochs: !!int x", ["line 1", "a whole number", "got x"]),
        ("polish: !!bool 2", ["true or false"]),
        ("", ["an empty file"]),
        ("# only words\n", ["an empty file"]),
        ("3", ["a mapping", "int"]),
        ("- epochs: 3", ["a mapping", "list"]),
        ("epochs: 3\n\tseed: 1", ["line 2", "a tab"]),
        ("epochs: 3\n---\nepochs: 4", ["line 2", "a second document"]),
        ("epochs: [", ["line 1", "YAML", "the end of the file"]),
        ("seed: 1\nepochs: 'x", ["YAML", "no closing quote"]),
        ("epochs: *x", ["line 1", "undefined alias 'x'"]),
        ("? [a]\n: 3", ["line 1", "a word as key"]),
        ("1: 3", ["unknown key '1'"]),
        ("~: 3", ["unknown key '~'"]),
        ("epochs: !!python/object/apply:os.system [ls]", ["line 1", "!!python/object/apply:os.system"]),
        ("epochs: !mine 3", ["line 1", "the tag !mine"]),
        ("epochs: !!binary aGVsbG8=", ["the tag !!binary"]),
        ("epochs: !!set {a, b}", ["the tag !!set"]),
        (_laughs(), ["because of repeated aliases"]),
        ("layers: &x [*x]", ["because of repeated aliases"]),
        ("<<: &x {<<: *x}", ["'<<'"]),
        ("epochs: " + "[" * 3000, ["levels of nesting"]),
        ("<<: 3", ["mappings after '<<'"]),
        ("%YAML 9.9\n---\nepochs: 3", ["YAML", "incompatible"]),
    ],
)
def test_a_wrong_file_says_where_and_what(text: str, words: list[str]) -> None:
    with pytest.raises(SpecError) as error:
        FitSpec.from_yaml(text.encode(), "my.yaml")
    assert len(str(error.value)) < 1500
    for word in ["my.yaml", *words]:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("epochs: 3\n# für".encode("latin-1"), ["line 2", "UTF-8", "0xfc"]),
        ("epochs: 3".encode("utf-16-le"), ["line 1", "U+0000", "UTF-16"]),
        ("epochs: 3".encode("utf-16")[:-1], ["UTF-16"]),
        (b"epochs: 3\n\x00", ["line 2", "U+0000"]),
        (b"a: b\n" * (1 << 18), ["1.2 MiB"]),
    ],
    ids=["latin-1", "UTF-16 without BOM", "cut", "binary", "huge"],
)
def test_what_is_no_text_is_refused(data: bytes, words: list[str]) -> None:
    with pytest.raises(SpecError) as error:
        FitSpec.from_yaml(data, "my.yaml")
    for word in ["my.yaml", *words]:
        assert word in str(error.value)


def test_numbers_that_json_has_not_are_refused_deep_in_an_architecture() -> None:
    text = CACHE.replace("clip", "clip, architecture: {a: {b: [1, .inf]}}")
    with pytest.raises(SpecError, match=r"'backbone.architecture' to be finite numbers"):
        CacheSpec.from_yaml(text.encode(), "my.yaml")
    with pytest.raises(ValueError, match="finite"):
        FamilySpec(family="clip", architecture={"a": float("nan")})


def test_a_key_twice_deep_in_a_spec_is_refused_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text(CACHE.replace("{hub: a/b}", "\n  hub: a/b\n  revision: x\n  hub: c/d"))
    result = CliRunner().invoke(app, ["extract", "my.yaml", "--data", "planted:x", "--out", "o"])
    assert result.exit_code == 2
    assert "error: my.yaml: expected every key only once; got 'hub' in line 4 and in line 6." in result.output
    Path("fit.yaml").write_text("epochs: 1\nseed: 3\nepochs: 2\n")
    result = CliRunner().invoke(app, ["fit", "c.zarr", "--data", "planted:x", "--out", "o", "--spec", "fit.yaml"])
    assert (result.exit_code, "'epochs' in line 1 and in line 3" in result.output) == (2, True)
