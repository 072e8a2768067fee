"""Make a planted brain: images, a small network, and responses of a subject that are computed from the network."""

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bddn.backbones.backbone import Backbone
from bddn.backbones.preprocess import squash
from bddn.backbones.registry import open_backbone
from bddn.data.decoding import decode
from bddn.data.listing import visible_images
from bddn.errors import DataError, MismatchError
from bddn.files import atomic
from bddn.files.output import check_folder, is_vacant, new_folder
from bddn.files.paths import expand_home
from bddn.machine.parallel import single_threaded_kernels
from bddn.machine.settings import own_settings
from bddn.planted.brain import image_path, true_maps, true_responses, write_subject
from bddn.planted.scenes import crop, draw_gratings, draw_leaves, draw_scene
from bddn.planted.subject import BACKBONE, PLANTED, SUBJECT, TRUTH
from bddn.planted.tower import write_small_clip
from bddn.progress import progress
from bddn.spec import CacheSpec, FamilySpec, PlantSpec, WeightsSpec

if TYPE_CHECKING:
    from PIL.Image import Image

N_SAMPLE = 128  # images that are used to scale the network's weights
BATCH = 64


@own_settings()
def plant(spec: PlantSpec, out: Path, network: CacheSpec | None = None) -> dict[str, Any]:
    """Write a planted brain into the folder `out`. If the same one exists there already, change nothing.

    Parameters
    ----------
    spec : PlantSpec
    out : Path
    network : CacheSpec, optional
        The network that the brain sees through, with the layers that it reads; by default a small CLIP tower with
        seeded weights, which is written beside the subject.

    Returns
    -------
    dict
        The content of `planted.json`: spec, number of voxels, mean noise ceiling, and correlations between layers.

    Raises
    ------
    MismatchError
        If `out` holds other files, or a brain planted with another spec.
    """
    opened = None if network is None else open_backbone(network)
    about = {"spec": spec.to_dict(), "network": None}
    if network is not None and opened is not None:
        identity = {name: value for name, value in opened.identity.items() if name != "made_with"}
        about["network"] = {"spec": network.to_dict(), **identity}
    if (found := _existing(about, out)) is not None:
        return found
    check_folder(out, "OUT")
    try:
        with new_folder(out, PLANTED) as aside, single_threaded_kernels():  # more threads may give other last bits
            return _make(spec, opened, about, aside)
    except FileExistsError:
        if (found := _existing(about, out)) is None:  # else another process has planted the same one meanwhile
            raise
        return found


def _make(spec: PlantSpec, network: Backbone | None, about: dict[str, Any], folder: Path) -> dict[str, Any]:
    subject = folder / SUBJECT
    _draw(spec, subject)
    network = network or open_backbone(_tower(spec, subject, folder / BACKBONE))
    local, global_ = _tokens(network, subject, spec.n_images)
    truth = true_maps(spec, len(local))
    write_subject(subject, true_responses(local, global_, truth, spec), truth)
    (folder / TRUTH).parent.mkdir()
    atomic.write_table(folder / TRUTH, truth.drop(columns=["reach", "nominal", "angle", "forward", "upward"]))
    about |= {
        "n_voxels": len(truth),
        "mean_ceiling": float(truth["ceiling"].mean()),
        "layer_correlation": {"local": layer_correlation(local), "global": layer_correlation(global_)},
    }
    atomic.write_json(folder / PLANTED, about)
    return about


def layer_correlation(tokens: Sequence["np.ndarray"]) -> dict[str, float] | None:
    """Correlate the tokens of pairs of layers, L arrays (n_images, ..., C), over images, positions and channels.

    Return the mean over `neighbours`, and the value of `first_last`, the first layer with the last; None if layers
    differ in shape.
    """
    if len({t.shape for t in tokens}) > 1:
        return None
    centred = [(t - t.mean(0)).reshape(-1) for t in tokens]

    def r(a: "np.ndarray", b: "np.ndarray") -> float:
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))

    neighbours = [r(a, b) for a, b in pairwise(centred)]
    return {"neighbours": float(np.mean(neighbours)), "first_last": r(centred[0], centred[-1])}


def _existing(wanted: dict[str, Any], out: Path) -> dict[str, Any] | None:
    if is_vacant(out, PLANTED, "OUT"):
        return None
    try:
        about = json.loads((out / PLANTED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        about = None
    is_brain = isinstance(about, dict) and isinstance(about.get("spec"), dict)
    if not is_brain or any(about.get(name) != value for name, value in wanted.items()):
        raise MismatchError(
            out,
            expected="an empty folder, or the same planted brain",
            got="a planted brain made with other options or by another version" if is_brain else "other files",
            fix="Give another folder, or delete this one.",
        )
    found: dict[str, Any] = about
    return found


def _draw(spec: PlantSpec, subject: Path) -> None:
    """Draw and save all images."""
    photographs = [np.asarray(decode(path.read_bytes()).image) for path in _photographs(spec)]
    draw: dict[str, Callable[[np.random.Generator], Image]] = {
        "shapes": draw_scene,
        "leaves": draw_leaves,
        "gratings": draw_gratings,
        "photographs": lambda rng: crop(rng, photographs),
    }
    with progress("draw", spec.n_images, "images") as advance:
        for i in range(spec.n_images):
            path = image_path(subject, i)
            path.parent.mkdir(parents=True, exist_ok=True)
            draw[spec.scenes](np.random.default_rng([spec.seed, 1, i])).save(path, compress_level=1)
            advance()


def _photographs(spec: PlantSpec) -> list[Path]:
    """Return the files of photographs; an empty list if the spec asks for none."""
    if not spec.photographs:
        return []
    folder = Path(expand_home(spec.photographs))
    found = visible_images(folder) if folder.is_dir() else []
    if not found:
        raise DataError(folder, expected="a folder with photographs", got="none", fix="Give another one.")
    return found


def _tower(spec: PlantSpec, subject: Path, folder: Path) -> CacheSpec:
    """Make the small CLIP tower."""
    size = (spec.image_size, spec.image_size)
    sample = [squash(_image(subject, i), size) for i in range(min(N_SAMPLE, spec.n_images))]
    write_small_clip(folder, torch.stack(sample), spec.seed, spec.n_layers, spec.width, spec.patch)
    return CacheSpec(
        title="planted",
        backbone=FamilySpec(family="clip"),
        weights=WeightsSpec(folder=str(folder)),
        image_size=spec.image_size,
        grid=(spec.image_size // spec.patch, spec.image_size // spec.patch),
    )


def _tokens(network: Backbone, subject: Path, n_images: int) -> tuple[list["np.ndarray"], list["np.ndarray"]]:
    """Return the network's tokens of all images by layer: local (n, H, W, C) and global (n, C), float32."""
    local: list[list[Tensor]] = [[] for _ in network.layers]
    global_: list[list[Tensor]] = [[] for _ in network.layers]
    with progress("tokens", n_images, "images") as advance:
        for start in range(0, n_images, BATCH):
            rows = range(start, min(start + BATCH, n_images))
            tokens = network(torch.stack([network.preprocess(_image(subject, i)) for i in rows]))
            for layer, found in enumerate(tokens.values()):
                assert found.global_ is not None
                local[layer].append(found.local_.permute(0, 2, 3, 1).contiguous())
                global_[layer].append(found.global_)
            advance(len(rows))
    return [torch.cat(v).numpy() for v in local], [torch.cat(v).numpy() for v in global_]


def _image(subject: Path, i: int) -> "Image":
    from PIL import Image

    with Image.open(image_path(subject, i)) as image:
        return image.convert("RGB")
