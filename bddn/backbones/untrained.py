"""The untrained twin of a network: the same architecture with random weights, built from the header of a cache."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bddn.backbones.kind import Kind
from bddn.entry_points import installed, load
from bddn.errors import BackboneError, SpecError
from bddn.spec import CacheSpec
from bddn.spec.backbone import ENTRY_POINTS


def untrained_spec(header: Mapping[str, Any], layers: Sequence[str], seed: int) -> CacheSpec:
    """Return a spec of random weights for the network that filled a cache.

    Parameters
    ----------
    header : mapping
        `store.reader.Cache.header`.
    layers : sequence of str
        Layers to store, early to late.
    seed : int
        Seed of the weights.

    Raises
    ------
    BackboneError
        If no kind of backbone can build this architecture from the header.
    """
    identity = header["backbone"]
    kinds: Iterator[Kind] = (load(point, SpecError) for point in installed(ENTRY_POINTS, SpecError).values())
    section = next((found for kind in kinds if (found := kind.section_of(identity, layers)) is not None), None)
    if section is None:
        raise BackboneError(
            f"network {identity.get('class', 'of this cache')}",
            expected="an architecture that the header of the cache describes",
            got="a network that brings its weights, or of a kind that does not describe itself",
            fix="Extract an untrained network of your own into another cache, and fit it.",
        )
    given = {"title": "untrained twin", "backbone": section.to_dict(), "weights": {"random": seed}}
    return CacheSpec.parse({**header["spec"], **given}, "the header of the cache")
