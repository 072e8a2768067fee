"""Folders of fine-tuned networks: what is in them, how they are written and read.

`finetune.json` contains what determines the network (parent, images, settings, versions) and the numbers at its step;
`config.json` and `model.safetensors`, or `state.safetensors` of an own module, the weights; `spec.yaml` opens them;
`head.safetensors` is the linear head for global tokens as they are; `accuracy.csv` has the accuracies until this step.
The folder of the last step also has `images.csv`, `timing.json`, and the earlier checkpoints under `steps/`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from bddn.backbones.backbone import weights_sha256
from bddn.backbones.tuned import ABOUT, SPEC, write_tuned
from bddn.errors import FitError, RunError
from bddn.files import atomic
from bddn.files.filekind import explain_folder
from bddn.files.output import check_new_or_result, is_vacant, occupied
from bddn.finetune.image_batches import Network
from bddn.identity import Identity, only_made_with
from bddn.spec import CacheSpec
from bddn.text import count, shorten

FORMAT = 1
HEAD, ACCURACY, IMAGES, TIMING, STEPS = "head.safetensors", "accuracy.csv", "images.csv", "timing.json", "steps"
RESULT = "result"


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned network.

    Attributes
    ----------
    folder : Path
        The network after the last step. It is a backbone: give it as the spec.
    checkpoints : dict of int to Path
        Folder of the network after each step that was kept, with the last.
    accuracy : DataFrame
        One row per measurement: `step`, `loss` (mean training loss since the row before), `accuracy` on held-out images
        with `accuracy_low` and `accuracy_high` (95 %), `balanced_accuracy`, `n_images`.
    about : dict
        Content of `finetune.json`.
    fresh : bool
        False if it existed already.
    notes : tuple of str
        Differences of versions, if it existed already.
    """

    folder: Path
    checkpoints: dict[int, Path]
    accuracy: pd.DataFrame
    about: dict[str, Any]
    fresh: bool = False
    notes: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, str]]:
        """Return the accuracies as text, for a table."""
        return [
            {
                "step": str(row["step"]),
                "loss": "" if pd.isna(row["loss"]) else f"{row['loss']:.3f}",
                "accuracy": f"{row['accuracy']:.3f}",
                "95 % interval": f"{row['accuracy_low']:.3f} to {row['accuracy_high']:.3f}",
                "mean of classes": f"{row['balanced_accuracy']:.3f}",
                "images": str(row["n_images"]),
            }
            for row in self.accuracy.to_dict("records")
        ]

    def summary(self) -> str:
        """Return steps, checkpoints and speed as text."""
        timing = json.loads((self.folder / TIMING).read_text(encoding="utf-8"))
        rate = timing["training_images_per_s"]
        return (
            f"{self.about['step']} steps, {count(len(self.checkpoints), 'checkpoint')}"
            f"{'' if rate is None else f', {rate:.1f} training images/s'}, weights "
            f"{self.about[RESULT]['weights_sha256'][:16]}"
        )

    def with_notes(self, notes: tuple[str, ...], fresh: bool = False) -> "Finetuned":
        """Return the same with these notes."""
        return replace(self, notes=notes, fresh=fresh)


def read_finetuned(folder: Path) -> Finetuned:
    """Read a folder of 'bddn finetune'.

    Raises
    ------
    RunError
        If it is missing, incomplete or has another format.
    """
    try:
        about = atomic.read_object(folder / ABOUT)
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']!r}, not {FORMAT}")
        table = pd.read_csv(folder / ACCURACY)
        found = {int(path.name): path for path in sorted((folder / STEPS).glob("[0-9]*"))}
        return Finetuned(folder, {**found, int(about["step"]): folder}, table, about)
    except (OSError, ValueError, KeyError, TypeError) as error:
        fix = "Give the --out of a finished 'bddn finetune'."
        got, fix = explain_folder(folder, (ABOUT, ACCURACY), f"{type(error).__name__}: {error}", fix)
        raise RunError(folder, expected=f"a folder of 'bddn finetune', with {ABOUT}", got=got, fix=fix) from error


def check_whole(out: Path, steps: Sequence[int]) -> None:
    """Refuse a finished folder that has lost files, or checkpoints after these steps: it cannot be kept as a result.

    Raises
    ------
    RunError
    """
    lost = [name for name in (ACCURACY, IMAGES, TIMING) if not (out / name).is_file()]
    for folder in (out, *(out / STEPS / f"{step:06d}" for step in steps)):
        lost += [_within(folder / name, out) for name in (ABOUT, SPEC, HEAD) if not (folder / name).is_file()]
        weights = [path for path in sorted(folder.glob("[!.]*.safetensors")) if path.name != HEAD]
        lost += [_within(path, out) for path in weights if not _is_readable(path)]
        lost += [] if weights else [f"the weights in {_within(folder, out)}"]
    if lost:
        raise RunError(
            out,
            expected="the whole result of this fine-tuning, which is kept",
            got=f"files that are missing or damaged: {shorten(lost)}",
            fix="Restore them; or move the folder away, and run the same command again.",
        )


def _within(path: Path, out: Path) -> str:
    return out.name if path == out else path.relative_to(out).as_posix()


def _is_readable(path: Path) -> bool:
    """Return whether a safetensors file has the length that its header says."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt"):
            return True
    except (OSError, SafetensorError):
        return False


_occupied = partial(occupied, mine="the same fine-tuning")
_OTHER = "a folder that is not empty and is not a fine-tuned network"


def check_out(out: Path) -> None:
    """Refuse an output folder that contains other files, or that cannot be written.

    Raises
    ------
    OutputError, RunError
    """
    check_new_or_result(out, ABOUT, lambda: _occupied(out, _OTHER))


def differences_if_done(out: Path, identity: Identity) -> tuple[str, ...] | None:
    """Return None if `out` is free, or how the versions of the same network in it differ.

    Raises
    ------
    RunError
        If `out` contains something else.
    """
    if is_vacant(out, ABOUT):
        return None
    try:
        there = {name: part for name, part in atomic.read_object(out / ABOUT).items() if name != RESULT}
    except (OSError, ValueError) as error:
        raise _occupied(out, _OTHER) from error
    words = Identity(there).differences(identity)
    if not only_made_with(words):
        raise _occupied(out, f"a network that differs in: {'; '.join(words)}")
    return tuple(words)


def write_network(
    folder: Path,
    spec: CacheSpec,
    network: Network,
    state: Mapping[str, Tensor],
    head: Mapping[str, Tensor],
    rows: list[dict[str, Any]],
    about: Mapping[str, Any],
) -> None:
    """Write a network with its head into an existing folder.

    Parameters
    ----------
    folder : Path
    spec : CacheSpec
        Spec of the tuned network; its weights are replaced by those in the folder.
    network : Network
    state, head : mapping of str to Tensor
        Weights and buffers of the network, and of the linear head.
    rows : list of dict
        Rows of `accuracy.csv` until this step.
    about : mapping
        Content of `finetune.json` without hash of the weights and accuracy.

    Raises
    ------
    FitError
        If a weight is not finite.
    """
    from safetensors.torch import save_file

    state = {name: value.detach().cpu() for name, value in state.items()}
    bad = [name for name, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        raise FitError(
            f"step {rows[-1]['step']}",
            expected="finite weights",
            got=f"NaN or infinity in {', '.join(bad[:8])}",
            fix="Use a smaller --learning-rate.",
        )
    network.save(folder, state)
    write_tuned(spec, folder)
    save_file({name: value.cpu().contiguous() for name, value in head.items()}, folder / HEAD)
    atomic.write_text(folder / ACCURACY, pd.DataFrame(rows).to_csv(index=False))
    for path in folder.iterdir():
        atomic.fsync_path(path)
    last = {name: value for name, value in rows[-1].items() if name != "step"}
    result = {**about[RESULT], "weights_sha256": weights_sha256(state), **last}
    atomic.write_json(folder / ABOUT, {**about, RESULT: result})
