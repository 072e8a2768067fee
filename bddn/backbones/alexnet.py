"""AlexNet (Krizhevsky, 2014, One weird trick for parallelizing convolutional neural networks), as torchvision has it.

It is a classical control of encoding studies. Its fully connected layers have no places, and are left out.
"""

from torch import Tensor, nn

from bddn.backbones.alexnet_kind import CONVOLUTIONS
from bddn.backbones.module import HookedModule
from bddn.backbones.weights.convert import read_checkpoint
from bddn.backbones.weights.loading import refuse_misfits
from bddn.backbones.weights.local import file_of
from bddn.errors import SpecError
from bddn.machine.settings import seeded
from bddn.spec import AlexNetSpec, CacheSpec

FULLY_CONNECTED = "classifier."


class AlexNet(nn.Module):
    """The convolutions, with torchvision's names: `features.1` is the output of the first one after its ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_stage(3, 64, 11, stride=4, padding=2),
            nn.MaxPool2d(3, stride=2),
            *_stage(64, 192, 5, padding=2),
            nn.MaxPool2d(3, stride=2),
            *_stage(192, 384, 3, padding=1),
            *_stage(384, 256, 3, padding=1),
            *_stage(256, 256, 3, padding=1),
            nn.MaxPool2d(3, stride=2),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the map of the last pooling (B, 256, H, W) for pixels (B, 3, H, W)."""
        found: Tensor = self.features(pixels)
        return found


def _stage(n_in: int, n_out: int, side: int, stride: int = 1, padding: int = 0) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(n_in, n_out, side, stride, padding), nn.ReLU()


def open_alexnet(spec: CacheSpec, device: str = "cpu") -> HookedModule:
    """Return AlexNet with the weights of a spec.

    Raises
    ------
    BackboneError
        If weights are missing or do not fit.
    SpecError
        If the spec asks for weights of another format.
    """
    weights, about = spec.weights, spec.section(AlexNetSpec)
    assert weights is not None
    if spec.preprocess == "native":
        raise SpecError(
            f"spec '{spec.title}'",
            expected="preprocess: paper, whose mean and deviation are AlexNet's own",
            got="native",
            fix="Set preprocess: paper in the spec.",
        )
    with seeded(weights.random or 0):
        module = AlexNet()
    if weights.random is None:
        if weights.format != "torchvision":
            raise SpecError(
                f"spec '{spec.title}'",
                expected="weights: {url or file, format: torchvision}, or random",
                got=weights.place,
                fix="Use torchvision's file, as cache_specs/alexnet.yaml does.",
            )
        _load(module, spec)
    layers = about.layers or CONVOLUTIONS
    return HookedModule(module, about.model_copy(update={"layers": layers}), None, spec, device)


def _load(module: AlexNet, spec: CacheSpec) -> None:
    assert spec.weights is not None
    path = file_of(spec.weights)
    found = {key: value for key, value in read_checkpoint(path).items() if not key.startswith(FULLY_CONNECTED)}
    own = module.state_dict()
    misfits = {
        "missing": sorted(own.keys() - found.keys()),
        "unknown": sorted(found.keys() - own.keys()),
        "of another shape": [key for key in sorted(own.keys() & found.keys()) if own[key].shape != found[key].shape],
    }
    refuse_misfits(path, "the weights of torchvision's AlexNet", misfits, "Use torchvision's file.")
    module.load_state_dict(found)
