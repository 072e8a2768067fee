"""Parts of pages that are read from the code: commands, settings, kinds of datasets, weights."""

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer
from pydantic_core import PydanticUndefined

import bddn.spec
from bddn.backbones.registry import load_specs
from bddn.cli import app
from bddn.data.image_sets.kinds import IMAGE_SETS
from bddn.data.plugins import dataset_kinds, load_kind
from bddn.spec import RECIPES

TYPES = {str: "TEXT", int: "INTEGER", float: "NUMBER", Path: "PATH"}


def commands(_: str) -> str:
    """All commands, each with its arguments, options and example."""
    return "\n\n".join(_command(path, command) for path, command in _walk(typer.main.get_command(app), ("bddn",)))


def settings(names: str) -> str:
    """The fields of spec classes, each with its default and meaning."""
    return "\n\n".join(_fields(getattr(bddn.spec, name)) for name in names.split())


def recipes(_: str) -> str:
    """What each recipe sets."""
    fields = sorted({name for recipe in RECIPES.values() for name in recipe})
    defaults = bddn.spec.FitSpec()
    rows = [
        (f"`{name}`", *(_value(recipe.get(name, getattr(defaults, name))) for recipe in RECIPES.values()))
        for name in fields
    ]
    return _table(("field", *(f"`{name}`" for name in RECIPES)), rows)


def datasets(_: str) -> str:
    """All kinds of datasets and image sets, with options, citation and terms."""
    parts = []
    for name in dataset_kinds():
        about = load_kind(name).about
        rows = [("name", f"`{about.usage}`"), ("options", about.options), ("responses", about.responses)]
        rows += [("cite", words) for words in about.references] + [("terms", about.terms)]
        parts.append(f"### `{name}`\n\n" + _table(("what", "in words"), [row for row in rows if row[1]]))
    sets = [(f"`{kind.usage}`", kind.about) for kind in IMAGE_SETS.values()]
    return "\n\n".join(parts) + "\n\n## Image sets\n\n" + _table(("name", "what is read"), sets)


def weights(_: str) -> str:
    """All networks that bddn includes, with the source and licence of their weights."""
    rows = []
    for name, spec in load_specs().items():
        place = "-" if spec.weights is None else f"`{spec.weights.place}`"
        rows.append((f"`{name}`", spec.title, place, spec.licence or "not stated"))
    return _table(("spec", "network", "weights", "licence"), rows)


def _walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, one in command.commands.items():
        if not hasattr(one, "commands") or one.invoke_without_command:
            yield (*path, name), one
        if hasattr(one, "commands"):
            yield from _walk(one, (*path, name))


def _command(path: tuple[str, ...], command: Any) -> str:
    name = " ".join(path)
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    usage = " ".join([name, *(_argument(one) for one in arguments), *(["[OPTIONS]"] if options else [])])
    parts = [f"## `{name}`", " ".join((command.help or "").split()), f"```text\n{usage}\n```"]
    if arguments:
        parts.append(_table(("argument", "meaning"), [(f"`{_argument(one)}`", one.help or "") for one in arguments]))
    if options:
        annotations = get_type_hints(inspect.unwrap(command.callback))
        rows = [(_option(one, annotations[one.name]), one.help or "", _value(one.default)) for one in options]
        parts.append(_table(("option", "meaning", "default"), rows))
    if command.epilog:
        parts.append(command.epilog.replace("Example: ", "Example: `") + "`")
    return "\n\n".join(parts)


def _argument(one: Any) -> str:
    name = one.metavar or one.name.upper()
    return f"{name if one.required else f'[{name}]'}{'…' if one.nargs == -1 else ''}"


def _option(one: Any, annotation: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*one.opts, *one.secondary_opts])
    return names if one.is_flag else f"{names} {_values(annotation)}"


def _values(annotation: Any) -> str:
    """What an option takes, from the annotation of its parameter: its values, or a word for its type."""
    if get_origin(annotation) is Literal:
        return " or ".join(str(value) for value in get_args(annotation))
    parts = [part for part in get_args(annotation) if part is not type(None)]
    return _values(parts[0]) if parts else TYPES[annotation]


def _fields(kind: Any) -> str:
    rows = []
    for name, field in kind.model_fields.items():
        default = "must be given" if field.is_required() else _value(field.get_default(call_default_factory=True))
        meaning = " ".join((field.description or "").split())
        choices = [value for part in (field.annotation, *get_args(field.annotation)) for value in _choices(part)]
        rows.append((f"`{name}`", f"{meaning} ({' or '.join(choices)})" if choices else meaning, default))
    heading = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    return f"## {kind.__name__}\n\n{heading}\n\n" + _table(("field", "meaning", "default"), rows)


def _choices(annotation: Any) -> list[str]:
    return [f"`{value}`" for value in get_args(annotation)] if get_origin(annotation) is Literal else []


def _value(value: Any) -> str:
    if value is None or value is PydanticUndefined or value in ((), {}):
        return "-"
    if hasattr(value, "model_dump"):
        value = value.model_dump(exclude_none=True)
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )
