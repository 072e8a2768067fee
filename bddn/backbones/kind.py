"""The interface of a kind of backbone, which opens and describes its networks. The kinds of bddn are plug-ins too.

`bddn.spec.backbone` says how to register a kind, and how its spec is found. The module of a kind imports no library of
networks before a network is opened, because every command that reads a spec loads all kinds.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from bddn.errors import SpecError
from bddn.spec import BackboneSpec, CacheSpec
from bddn.spec.backbone import find_kind

if TYPE_CHECKING:
    from bddn.backbones.backbone import Backbone


class Outline(NamedTuple):
    """Channels of a layer, rows and columns of its local tokens before they are resized to the stored grid, and the
    number of its registers."""

    channels: int
    places: tuple[int, int]
    n_registers: int = 0


@dataclass(frozen=True)
class Description:
    """The text of `bddn backbones` about a network.

    Attributes
    ----------
    family : str
        Text of the table's column.
    network : str
        Its class.
    outline : mapping of str to Outline
        Stored layers, early to late; empty if only the weights contain them.
    layers : tuple of str
        Additional lines on the layers.
    architecture : tuple of str
        Lines on its sizes.
    pixels : str
        How pixels are scaled; '' if `preprocess` in the spec says it.
    positions : str
        How position codes fit an image of another size than in training; '' if that needs no word.
    stored, local : str
        What is stored, and what its local tokens are.
    cls : bool, optional
        Whether its layers have a CLS token; None if only the network itself tells.
    registers : bool
        Whether its layers have register tokens.
    blocks, patch : str
        Number × channels of its blocks, and the side of its patches in pixels, if it has them.
    weights : str
        Source of the weights, if the spec does not say it.
    """

    family: str
    network: str
    outline: Mapping[str, Outline] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    architecture: tuple[str, ...] = ("unknown",)
    pixels: str = ""
    positions: str = ""
    stored: str = "output of each layer;"
    local: str = "tokens of places"
    cls: bool | None = False
    registers: bool = False
    blocks: str = "-"
    patch: str = ""
    weights: str = "the network brings them"


class Kind(ABC):
    """A kind of backbone. `open` and `spec` are required; the other methods have defaults.

    Attributes
    ----------
    spec : type of BackboneSpec
        Class with the fields of its section in a spec.
    narrows : bool
        Whether a network that is opened for fewer layers has the same identity.
    """

    spec: ClassVar[type[BackboneSpec]]
    narrows: ClassVar[bool] = False

    @abstractmethod
    def open(self, spec: CacheSpec, device: str) -> "Backbone":
        """Load the network of a spec onto a device, 'cpu' or 'cuda'.

        Raises
        ------
        BackboneError
            If its weights are missing or do not fit.
        SpecError
            If the network does not support the spec.
        """

    def outline(self, spec: CacheSpec) -> dict[str, Outline]:
        """Return the selected layers, early to late, from the spec alone; empty if the spec does not contain them.

        Raises
        ------
        SpecError
            If a field of the spec is wrong, or a selected layer does not exist.
        """
        return {}

    def files(self, spec: CacheSpec, names: Collection[str]) -> tuple[list[str], str]:
        """Return those files of a hub repository that the network needs.

        Parameters
        ----------
        names : collection of str
            Paths with slashes, from the root.

        Returns
        -------
        list of str, str
            The files, and a text that names the missing ones ('' if none).
        """
        return [], "a kind of backbone that supports weights.hub (give weights.folder)"

    def describe(self, spec: CacheSpec, network: "Backbone | None" = None) -> Description:
        """Return a description of the network of a spec.

        Parameters
        ----------
        network : Backbone, optional
            The opened network, if it brings its weights: some networks cannot be described without it.
        """
        name = type(self).__name__
        made = name if network is None else str(network.identity["class"])
        return Description(name.lower(), made, self.outline(spec))

    def may_match(self, spec: CacheSpec, layers: Sequence[str], identity: Mapping[str, Any]) -> bool:
        """Return whether a spec may be that of a network with this `Backbone.identity` and the fitted `layers`, without
        opening the network."""
        return True

    def in_folder(self, spec: CacheSpec, folder: Path) -> CacheSpec:
        """Return the spec with the weights that `Trainable.save` wrote into a folder.

        Raises
        ------
        SpecError
            If networks of this kind cannot be trained.
        """
        raise SpecError(
            f"spec '{spec.title}'",
            expected="a network that can be fine-tuned: a vision transformer or a module of your own",
            got=self.describe(spec).network,
            fix="Choose another backbone; 'bddn backbones' lists all.",
        )

    def section_of(self, identity: Mapping[str, Any], layers: Sequence[str]) -> BackboneSpec | None:
        """Return the section of a spec that builds the architecture of a network with this `Backbone.identity`, without
        its weights; None if it is a network of another kind, or the identity does not contain the architecture.

        Parameters
        ----------
        identity : mapping
        layers : sequence of str
            Layers to store.
        """
        return None


def kind_of(spec: CacheSpec) -> Kind:
    """Return the kind of the backbone of a spec.

    Raises
    ------
    SpecError
        If the spec has no backbone of an installed kind.
    """
    found: Kind | None = None if spec.backbone is None else find_kind(spec.backbone)
    if found is None:
        raise SpecError(
            f"spec '{spec.title}'",
            expected="the key 'backbone'",
            got="none" if spec.backbone is None else f"a {type(spec.backbone).__name__}, whose kind is not installed",
            fix="Add a family or a module to the spec, or pass a backbone in Python.",
        )
    return found
