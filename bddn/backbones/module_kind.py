"""The kind `module`: a user's own torch module."""

from pathlib import Path
from typing import TYPE_CHECKING

from bddn.backbones.kind import Description, Kind, Outline
from bddn.backbones.weights.local import STATE
from bddn.spec import CacheSpec, ModuleSpec

if TYPE_CHECKING:
    from bddn.backbones.backbone import Backbone


class ModuleKind(Kind):
    """A user's own module; its layers are known only when it is open."""

    spec = ModuleSpec

    def open(self, spec: CacheSpec, device: str) -> "Backbone":
        from bddn.backbones.module import open_module

        return open_module(spec, device)

    def describe(self, spec: CacheSpec, network: "Backbone | None" = None) -> Description:
        about, forms = spec.section(ModuleSpec), getattr(network, "forms", {})
        return Description(
            family="own module",
            network="own module" if network is None else f"{network.identity['class']}, own module",
            outline={name: Outline(form.channels, form.places, form.prefix[1]) for name, form in forms.items()},
            layers=tuple(f"{name} → {form}" for name, form in forms.items()),
            architecture=("the module's own",),
            stored="output of each submodule;",
            cls=any(form.prefix[0] for form in forms.values()),
            registers=any(form.prefix[1] for form in forms.values()),
            weights=f"the module {about.module} brings them"
            if about.state is None
            else f"file {about.state}, loaded into the module {about.module}",
        )

    def in_folder(self, spec: CacheSpec, folder: Path) -> CacheSpec:
        section = spec.section(ModuleSpec).model_copy(update={"state": str(folder / STATE)})
        return spec.model_copy(update={"backbone": section})


KIND = ModuleKind()
