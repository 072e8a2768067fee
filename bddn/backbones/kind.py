"""What a kind of backbone is: one object that opens its networks and tells of them. bddn's own are plug-ins too.

`bddn.spec.backbone` says how a kind is registered, and how its spec is found. Modules of kinds import no library of
networks before a network is opened: every command that reads a spec loads them.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from bddn.errors import SpecError
from bddn.spec import BackboneSpec, CacheSpec
from bddn.spec.backbone import find_kind

if TYPE_CHECKING:
    from bddn.backbones.backbone import Backbone


class Outline(NamedTuple):
    """Channels of a layer, and rows and columns of its local tokens before they are resized to the stored grid."""

    channels: int
    places: tuple[int, int]


@dataclass(frozen=True)
class Description:
    """What `bddn backbones` says of a network, in words.

    Attributes
    ----------
    family : str
        In a column of the table.
    network : str
        Its class.
    outline : mapping of str to Outline
        Layers that are stored, early to late; empty where only the weights tell them.
    layers : tuple of str
        Lines on the layers, where there is more to say than `outline`.
    architecture : tuple of str
        Lines on its sizes.
    pixels : str
        How pixels are scaled; '' where `preprocess` in the spec tells.
    stored, local : str
        What of the network is stored, and what its local tokens are.
    cls, registers : bool
        Whether its layers have a CLS token, and register tokens.
    blocks, patch : str
        Number × channels of its blocks, and the side of its patches in pixels, where there are such.
    weights : str
        Where they come from, if the spec does not say it.
    """

    family: str
    network: str
    outline: Mapping[str, Outline] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    architecture: tuple[str, ...] = ("not told",)
    pixels: str = ""
    stored: str = "output of each layer;"
    local: str = "tokens of places"
    cls: bool = False
    registers: bool = False
    blocks: str = "-"
    patch: str = ""
    weights: str = "the network brings them"


class Kind(ABC):
    """A kind of backbone; `open` and `spec` are needed, the rest has defaults.

    Attributes
    ----------
    spec : type of BackboneSpec
        The fields of its section in a spec.
    narrows : bool
        Whether a network that is opened for fewer layers is still the same network, as its identity says.
    """

    spec: ClassVar[type[BackboneSpec]]
    narrows: ClassVar[bool] = False

    @abstractmethod
    def open(self, spec: CacheSpec, device: str) -> "Backbone":
        """Load the network of a spec onto a device, 'cpu' or 'cuda'.

        Raises
        ------
        BackboneError
            Where its weights are not there or do not fit.
        SpecError
            Where the spec asks for something that it cannot do.
        """

    def outline(self, spec: CacheSpec) -> dict[str, Outline]:
        """The layers that a spec chooses, early to late, from the spec alone; empty where it does not tell.

        Raises
        ------
        SpecError
            Where a field of the spec is wrong, or a layer that is asked for does not exist.
        """
        return {}

    def files(self, spec: CacheSpec, names: Collection[str]) -> tuple[list[str], str]:
        """Of all files of a repository of the hub, those that the network needs.

        Parameters
        ----------
        names : collection of str
            Paths with slashes, from the root.

        Returns
        -------
        list of str, str
            The files, and in words which ones are lacking ('' where none are).
        """
        return [], "a kind of backbone that tells which files of a repository it needs (give weights.folder)"

    def describe(self, spec: CacheSpec, network: "Backbone | None" = None) -> Description:
        """Tell of the network of a spec.

        Parameters
        ----------
        network : Backbone, optional
            The network, open, where it brings its weights: without it nothing can be said of some.
        """
        name = type(self).__name__
        made = name if network is None else str(network.identity["class"])
        return Description(name.lower(), made, self.outline(spec))

    def may_be(self, spec: CacheSpec, layers: Sequence[str], identity: Mapping[str, Any]) -> bool:
        """Whether a spec may be that of a network with this `Backbone.identity`, of which `layers` were fitted, as far
        as can be told without opening it."""
        return True


def kind_of(spec: CacheSpec) -> Kind:
    """The kind of the backbone of a spec.

    Raises
    ------
    SpecError
        Where the spec names no backbone of an installed kind.
    """
    found: Kind | None = None if spec.backbone is None else find_kind(spec.backbone)
    if found is None:
        raise SpecError(
            f"spec '{spec.title}'",
            expected="the key 'backbone'",
            got="none" if spec.backbone is None else f"a {type(spec.backbone).__name__}, whose kind is not installed",
            fix="Add a family or a module, or hand over a backbone in Python.",
        )
    return found
