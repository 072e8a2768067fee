"""The base class of specs: frozen fields that are checked when a spec is created, and errors that list all mistakes."""

import difflib
import math
from collections.abc import Mapping
from typing import Annotated, Any, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from bddn.errors import SpecError
from bddn.identity import Identity
from bddn.spec.yaml_file import Path, read_yaml

Positive = Annotated[int, Field(gt=0, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

MAX_SHOWN = 200  # characters of a wrong value in an error message


class Spec(BaseModel):
    """A frozen set of checked fields. An unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_odd_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse values that pydantic accepts but no user intends: true for 1, NaN and infinity."""
        kind = cls.model_fields[str(info.field_name)].annotation
        items = value if isinstance(value, list | tuple) else [value]
        if kind is not bool and any(isinstance(item, bool) for item in items):
            raise ValueError("numbers or texts, not true or false")
        if (not isinstance(value, dict) or get_origin(kind) is dict) and not _is_finite(value):
            raise ValueError("finite numbers")
        return value

    @classmethod
    def parse(cls, value: object, place: str, lines: Mapping[Path, int] | None = None) -> Self:
        """Check `value`, a mapping as read from YAML or JSON, and return it as a spec.

        Parameters
        ----------
        value : mapping
        place : str
            Source of the value, for error messages.
        lines : mapping, optional
            Line number of each part of the value in its file.

        Raises
        ------
        SpecError
            If any field is wrong. The message names every wrong field.
        """
        if not isinstance(value, dict):
            raise SpecError(
                place,
                expected=f"a mapping with the keys {', '.join(cls.model_fields)}",
                got=f"{type(value).__name__}",
                fix="Compare it with the files in cache_specs/.",
            )
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise _spec_error(cls, value, error, place, lines or {}) from None

    @classmethod
    def from_yaml(cls, text: bytes, place: str) -> Self:
        """Check the content of a YAML file, and return it as a spec; `place` names the file in error messages.

        Raises
        ------
        SpecError
            If the text is not YAML, or any field is wrong. The message names every wrong field with its line.
        """
        document = read_yaml(text, place)
        return cls.parse(document.value, place, document.lines)

    @classmethod
    def class_of(cls, field: str, value: object) -> type[BaseModel] | None:
        """Return the spec class of a field that was given `value`, or None if the field is not a spec itself."""
        annotation = cls.model_fields[field].annotation
        kinds = (annotation, *get_args(annotation))  # the arguments are needed for an optional field
        return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """Return the SHA-256 (hexadecimal) over all fields."""
        return Identity(self.to_dict()).digest()


def _is_finite(value: object) -> bool:
    if isinstance(value, dict):
        return all(_is_finite(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(_is_finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


def _spec_error(
    cls: type[Spec], value: object, error: ValidationError, place: str, lines: Mapping[Path, int]
) -> SpecError:
    expected, got, fixes = [], [], []
    for item in error.errors():
        path = item["loc"]
        where = ".".join(map(str, path))
        line = f" in line {lines[path]}" if path and path in lines else ""
        if isinstance(cause := item.get("ctx", {}).get("error"), SpecError):
            return cause  # its place is a plug-in, not this spec
        if item["type"] == "extra_forbidden":
            known = _keys_at(cls, path[:-1], value)
            near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
            expected.append(f"one of the keys {', '.join(known)}")
            got.append(f"unknown key '{where}'{line}")
            fixes.append(f"Did you mean '{near[0]}'?" if near else f"Remove '{where}'.")
        elif item["type"] == "missing":
            expected.append(f"the key '{where}'")
            got.append("none")
            fixes.append(f"Add '{where}'.")
        else:
            message = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            message = message.replace("String should match", "a text that matches")
            if item["type"] == "too_short":
                message = f"a list of at least {item['ctx']['min_length']}"
            expected.append(f"'{where}' to be {message}" if where else f"settings {message}")
            got.append(f"{_shown(item['input'])}{line}")
            fixes.append(f"Correct '{where}'." if where else "Correct the settings.")
    return SpecError(place, expected=" and ".join(expected), got=" and ".join(got), fix=" ".join(fixes))


def _shown(value: object) -> str:
    """Return a value as text, shortened if it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print integers of more than some thousand digits
        text = "a number of very many digits"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _keys_at(cls: type[BaseModel], path: Path, value: Any) -> list[str]:
    for part in path:
        value = value[part]
        if isinstance(part, str) and issubclass(cls, Spec):  # a number is the place in a list of specs
            cls = cls.class_of(part, value) or cls
    return list(cls.model_fields)


def reject_duplicates(names: tuple[str | int, ...] | None) -> tuple[str | int, ...] | None:
    """Return the names unchanged, or raise ValueError if one is repeated."""
    twice = [name for name in names or () if (names or ()).count(name) > 1]
    if twice:
        raise ValueError(f"different layers, not '{twice[0]}' twice")
    return names
