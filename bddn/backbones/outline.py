"""The layers of a spec, told from its architecture alone: no network is built, no weights are read."""

from bddn.backbones.layers import select
from bddn.errors import SpecError
from bddn.spec import CacheSpec, DiffusionSpec, FamilySpec

VAE_LEVELS = 4  # of an autoencoder's configuration that does not tell


def outline(spec: CacheSpec) -> dict[str, int]:
    """Channels of the layers that a spec chooses, early to late.

    Raises
    ------
    SpecError
        Where its architecture does not tell, as for a module of the user's own, or lacks a layer that is asked for.
    """
    about = spec.backbone
    if isinstance(about, DiffusionSpec):
        from bddn.backbones.diffusion import layer_channels

        return layer_channels(about)
    depth, width = _field(spec, "num_hidden_layers"), _field(spec, "hidden_size")
    assert isinstance(about, FamilySpec)
    names = tuple(f"block_{i}" for i in range(depth))
    return dict.fromkeys(select(about.layers, names, f"spec '{spec.title}'"), width)


def places(spec: CacheSpec) -> dict[str, tuple[int, int]]:
    """Rows and columns of the layers' local tokens, before they are resized to the grid of the store.

    Raises
    ------
    SpecError
        As `outline`.
    """
    height, width = spec.image_hw
    about = spec.backbone
    if isinstance(about, DiffusionSpec):
        from bddn.backbones.diffusion import STABLE_DIFFUSION_1

        unet, vae = (about.architecture.get(part, {}) for part in ("unet", "vae"))
        n_levels = len({**STABLE_DIFFUSION_1, **unet}["block_out_channels"])
        widths = vae.get("block_out_channels", [0] * VAE_LEVELS)
        assert isinstance(widths, list)
        unit = 2 ** (len(widths) - 1)
        halved = {layer: unit * 2 ** _level(layer, n_levels) for layer in outline(spec)}
        return {layer: (height // unit, width // unit) for layer, unit in halved.items()}
    patch = _field(spec, "patch_size")
    return dict.fromkeys(outline(spec), (height // patch, width // patch))


def is_told(spec: CacheSpec) -> bool:
    """Whether its architecture tells the layers; if not, only the weights or the module do."""
    about = spec.backbone
    fields = {"num_hidden_layers", "hidden_size", "patch_size"}
    return isinstance(about, DiffusionSpec) or (isinstance(about, FamilySpec) and fields <= about.architecture.keys())


def _level(layer: str, n_levels: int) -> int:
    """How often the latent was halved where a block of the U-Net runs: levels go down from 0, and up to 0."""
    side, _, i = layer.partition(".")[0].partition("_")
    return int(i) if side == "down" else n_levels - 1 - (int(i) if side == "up" else 0)


def _field(spec: CacheSpec, name: str) -> int:
    about = spec.backbone
    value = about.architecture.get(name) if isinstance(about, FamilySpec) else None
    if not isinstance(value, int) or value < 1:
        raise SpecError(
            f"spec '{spec.title}'",
            expected=f"{name} in backbone.architecture, to tell the layers without the network",
            got="none" if value is None else repr(value),
            fix="Add it, after the specs in cache_specs/.",
        )
    return value
