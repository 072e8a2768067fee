"""Frozen networks: pictures in, tokens of their layers out."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bddn.backbones.module import from_module

__all__ = ["from_module"]


def __getattr__(name: str) -> Any:
    """Imports torch only where it is used."""
    if name == "from_module":
        from bddn.backbones.module import from_module

        return from_module
    raise AttributeError(name)
