"""Fine-tune a backbone on an image set, and write it into one folder, which appears when it is complete.

Until then checkpoints and the state of the training are in a hidden folder next to it.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch

from bddn.backbones.backbone import Trainable
from bddn.backbones.kind import kind_of
from bddn.backbones.registry import open_backbone
from bddn.backbones.tuned import ABOUT
from bddn.backbones.weights.own import refuse_other_state
from bddn.data.image_sets.class_split import ClassSplit, class_split
from bddn.data.image_sets.labelled import LabelledImages
from bddn.data.image_sets.set_check import CheckedSet, check_image_set
from bddn.encoder.fit import CHECKPOINT_S
from bddn.errors import BackboneError, SpecError
from bddn.extraction.source import network_identity
from bddn.files.output import hidden_folder, is_vacant
from bddn.files.unfinished import state_file
from bddn.finetune import low_rank
from bddn.finetune.course import Course
from bddn.finetune.image_batches import Inputs, Network
from bddn.finetune.training import repeatable
from bddn.finetune.tuned_folder import FORMAT, Finetuned, check_out, check_whole, differences_if_done, read_finetuned
from bddn.identity import Identity, digest
from bddn.machine.parallel import choose_device, single_threaded_kernels
from bddn.machine.settings import own_settings
from bddn.progress import say
from bddn.spec import CacheSpec, FinetuneSpec


@own_settings()
def finetune(
    spec: CacheSpec,
    images: LabelledImages,
    out: Path,
    settings: FinetuneSpec,
    *,
    device: str = "auto",
    checkpoint_every_s: float = CHECKPOINT_S,
    tell: Callable[[str], object] = say,
) -> Finetuned:
    """Train a network on an image set, and write it as a backbone.

    A training that was stopped resumes, and gives the same bytes. A finished one of the same network, images and
    settings is kept.

    Parameters
    ----------
    spec : CacheSpec
        The network: a vision transformer or a module of the user's own.
    images : LabelledImages
    out : Path
        A new or empty folder, or the same fine-tuning.
    settings : FinetuneSpec
    device : {'auto', 'cpu', 'cuda'}
    checkpoint_every_s : float
        Interval at which the state is written from which the same command resumes.
    tell : function of str
        Callback for notes on how images are read.

    Returns
    -------
    Finetuned

    Raises
    ------
    BddnError
        If the network, the images, the settings or the folder are invalid, or the loss is not finite.
    """
    started = time.monotonic()
    check_out(out)
    device = choose_device(device)
    _check_settings(spec, settings, device)
    _split(images, settings)  # refuses too few images before any of them is read
    with single_threaded_kernels(), repeatable(device):
        network = open_trainable(spec, device)
        checked = check_image_set(images, decode=is_vacant(out, ABOUT))
        for words in checked.notes:
            tell(words)
        images = checked.images
        split = _split(images, settings)  # copies of one file are in one group now
        identity = _identity(spec, network, checked, split, settings, device)
        hidden = hidden_folder(out, f"{identity.digest()[:16]}.finetune")
        if (notes := differences_if_done(out, identity)) is not None:
            shutil.rmtree(hidden, ignore_errors=True)
            check_whole(out, settings.checkpoint_steps)
            return read_finetuned(out).with_notes(notes)
        inputs = Inputs(network, images, checked.sha256, device, settings.autocast)
        with state_file(out, identity, "finetune") as state:
            course = Course(spec, settings, inputs, split, identity, state, checkpoint_every_s)
            course.run()
            try:
                course.publish(out, time.monotonic() - started)
                fresh = True
            except FileExistsError:  # another process has written it meanwhile
                differences_if_done(out, identity)
                fresh = False
            shutil.rmtree(hidden)
    return read_finetuned(out).with_notes((), fresh)


def _check_settings(spec: CacheSpec, settings: FinetuneSpec, device: str) -> None:
    """Refuse, before anything is read, what cannot be trained so."""
    kind_of(spec).in_folder(spec, Path())
    if settings.autocast is not None and device == "cpu":
        raise SpecError(
            "autocast",
            expected="float32 on a CPU, where a lower precision is no faster",
            got=settings.autocast,
            fix="Remove it, or use a GPU.",
        )
    if settings.method == "lora":
        low_rank.check_installed()


def open_trainable(spec: CacheSpec, device: str) -> Network:
    """Open the network of a spec for training up to its last layer, in float32.

    Parameters
    ----------
    spec : CacheSpec
    device : {'cpu', 'cuda'}

    Raises
    ------
    BddnError
        If the network cannot be opened or trained.
    """
    kind = kind_of(spec)
    kind.outline(spec)  # refuses layers that do not exist
    update: dict[str, Any] = {"compile": False, "autocast": None}
    if kind.narrows:
        assert spec.backbone is not None
        update["backbone"] = spec.backbone.model_copy(update={"layers": (-1,)})
    network = open_backbone(spec.model_copy(update=update), device)
    if not isinstance(network, Trainable):
        kind.in_folder(spec, Path())
    found = cast(Network, network)
    refuse_other_state(found.module)
    low = [name for name, weight in found.module.named_parameters() if weight.dtype in (torch.float16, torch.bfloat16)]
    if low:
        raise BackboneError(
            type(found.module).__name__,
            expected="weights in float32, because small steps vanish in a lower precision",
            got=f"a lower precision in {', '.join(low[:8])}",
            fix="Call float() on the module.",
        )
    return found


def _split(images: LabelledImages, settings: FinetuneSpec) -> ClassSplit:
    return class_split(images, settings.per_class, settings.seed, settings.held_out)


def _identity(
    spec: CacheSpec,
    network: Network,
    checked: CheckedSet,
    split: ClassSplit,
    settings: FinetuneSpec,
    device: str,
) -> Identity:
    """Return what determines the result: network, images, settings, and versions."""
    parent = dict(network_identity(spec, network, device).parts)
    made_with = parent.pop("made_with")
    if settings.method == "lora":
        made_with = {**made_with, "peft": low_rank.version()}
    assert spec.backbone is not None
    layers = kind_of(spec).outline(spec) or spec.backbone.layers
    ids = checked.images.stimuli.ids
    return Identity(
        {
            "format": FORMAT,
            "step": settings.n_steps,
            "parent": {**parent, "layers": None if layers is None else [str(layer) for layer in layers]},
            "images": {
                "n_images": len(ids),
                "classes": list(checked.images.classes),
                "sha256": checked.digest,
                "split_sha256": digest([[ids[i] for i in rows] for rows in (split.train, split.test)]),
            },
            "settings": settings.to_dict(),
            "made_with": made_with,
        }
    )
