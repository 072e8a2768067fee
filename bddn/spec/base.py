"""A spec: frozen fields that are checked when it is made, and errors that say all that is wrong."""

import difflib
from typing import Annotated, Any, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bddn.errors import SpecError
from bddn.identity import Identity

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Spec(BaseModel):
    """A frozen set of checked fields; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def parse(cls, value: object, place: str) -> Self:
        """Check `value` (a mapping, as read from YAML or JSON); `place` names its source in an error.

        Raises
        ------
        SpecError
            Naming every wrong field at once.
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
            raise _spec_error(cls, error, place) from None

    @classmethod
    def from_yaml(cls, text: bytes, place: str) -> Self:
        """Check the content of a YAML file; `place` names the file in an error."""
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SpecError(
                place, expected="YAML", got=" ".join(str(error).split()), fix="Correct the file's syntax."
            ) from error
        return cls.parse({} if value is None else value, place)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """SHA-256 over all fields."""
        return Identity(self.to_dict()).digest()


def _spec_error(cls: type[Spec], error: ValidationError, place: str) -> SpecError:
    expected, got, fixes = [], [], []
    kinds = {kind.__name__ for kind in Spec.__subclasses__()}  # by which pydantic tells the members of a union
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"] if part not in kinds) or "the whole"
        if item["type"] == "extra_forbidden":
            known = _keys_at(cls, item["loc"][:-1])
            near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
            expected.append(f"one of the keys {', '.join(known)}")
            got.append(f"unknown key '{where}'")
            fixes.append(f"Did you mean '{near[0]}'?" if near else f"Remove '{where}'.")
        elif item["type"] == "missing":
            expected.append(f"the key '{where}'")
            got.append("none")
            fixes.append(f"Add '{where}'.")
        else:
            message = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            expected.append(f"'{where}' to be {message}")
            got.append(repr(item["input"]))
            fixes.append(f"Correct '{where}'.")
    return SpecError(place, expected=" and ".join(expected), got=" and ".join(got), fix=" ".join(fixes))


def _keys_at(cls: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    kinds = {kind.__name__: kind for kind in Spec.__subclasses__()}
    for part in path:
        annotation = cls.model_fields[str(part)].annotation if str(part) not in kinds else kinds[str(part)]
        for kind in (annotation, *get_args(annotation)):  # the second where it may be None
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                cls = kind
    return list(cls.model_fields)


def each_once(names: tuple[str | int, ...] | None) -> tuple[str | int, ...] | None:
    """The names, if none is there twice."""
    twice = [name for name in names or () if (names or ()).count(name) > 1]
    if twice:
        raise ValueError(f"layers named once each, not '{twice[0]}' twice")
    return names
