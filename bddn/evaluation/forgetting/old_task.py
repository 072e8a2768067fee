"""The old task of a fine-tuned network: how well a linear probe still classifies what its parent knew.

Two probes answer two questions. The *kept head* is fitted on the parent's features and applied to the new ones, as if
the network were replaced in a system that is in use. The *new probe* is fitted on the new features: what can still be
read from them. Features are the global tokens of the last layer.
"""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bddn.backbones.tuned import ABOUT
from bddn.data.image_sets.class_split import class_split, largest_per_class
from bddn.data.image_sets.labelled import LabelledImages
from bddn.data.image_sets.set_check import check_image_set
from bddn.files import atomic
from bddn.files.checksum import file_sha256
from bddn.finetune.finetuning import open_trainable
from bddn.finetune.image_batches import Inputs
from bddn.identity import digest
from bddn.machine.parallel import choose_device, single_threaded_kernels
from bddn.machine.settings import own_settings
from bddn.progress import progress
from bddn.run.folder import without_nan
from bddn.run.inputs import environment
from bddn.spec import CacheSpec
from bddn.stats import paired
from bddn.stats.linear_probe import Probe, fit_probe, wilson

PER_CLASS, MOST_TEST = 50, 200  # training and test images of each class, at most
NUMBERS = "old_task.json"

Tokens = npt.NDArray[np.float32]
Correct = npt.NDArray[np.bool_]


class OldTask:
    """A labelled image set, divided into training and test images, and the parent's probe of it.

    50 images of each class are for training, or as many as leave test images. Copies of one file are in one part. The
    parent's features are computed when they are needed.

    Parameters
    ----------
    parent : CacheSpec
        The network before fine-tuning.
    images : LabelledImages
    seed : int
        Of the division, and of the folds that choose penalties.
    device : {'auto', 'cpu', 'cuda'}

    Raises
    ------
    BddnError
        If an image is damaged, or a class has only one image.
    """

    def __init__(self, parent: CacheSpec, images: LabelledImages, seed: int = 0, device: str = "auto") -> None:
        self._parent, self._seed, self._device = parent, seed, choose_device(device)
        checked = check_image_set(images)
        self._images = images = checked.images  # copies of one file are in one group now
        self._sha256, ids = checked.sha256, images.stimuli.ids
        described = zip(ids, images.labels.tolist(), self._sha256, strict=True)
        n = min(PER_CLASS, max(1, largest_per_class(images, seed)))
        self._split = class_split(images, n, seed, MOST_TEST)
        self._about = {
            "images": images.name,
            "images_sha256": digest(sorted([stimulus, images.classes[k], sha] for stimulus, k, sha in described)),
            "split_sha256": digest([[ids[i] for i in rows] for rows in (self._split.train, self._split.test)]),
            "n_classes": len(images.classes),
            "n_train": len(self._split.train),
            "n_images": len(self._split.test),
            "seed": seed,
        }

    def accuracies(self, network: CacheSpec, checkpoint: Path, out: Path) -> dict[str, Any]:
        """Return what `measure` does for the network in the folder of a checkpoint; it is kept in `out/old_task.json`.

        Parameters
        ----------
        network : CacheSpec
        checkpoint : Path
            Its folder.
        out : Path
        """
        inputs = {"finetune_sha256": file_sha256(checkpoint / ABOUT), "versions": environment(self._device)}
        try:
            found: dict[str, Any] = json.loads((out / NUMBERS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = {}
        if any(found.get(name) != value for name, value in (self._about | inputs).items()):
            found = without_nan(self.measure(network) | inputs)
            atomic.write_json(out / NUMBERS, found)
        return found

    @own_settings()
    def measure(self, network: CacheSpec) -> dict[str, Any]:
        """Return the accuracies of both probes on the features of a network, with 95 % intervals.

        Returns
        -------
        dict
            `images`, `images_sha256`, `split_sha256`, `n_classes`, `n_train`, `n_images`, `seed`; `before`, `kept` and
            `new`, the accuracies of the parent's probe before, of the kept head and of the new probe, each with `…_low`
            and `…_high` (Wilson); `kept_difference` and `new_difference` to `before`, with their intervals, paired by
            image (t distribution); and the chosen inverse penalties.
        """
        probe, before = self._before
        train, test = self._features(network)
        labels, split = self._images.labels, self._split
        own = fit_probe(train, labels[split.train], self._seed)
        correct = {"before": before} | {
            name: one.correct(test, labels[split.test]) for name, one in (("kept", probe), ("new", own))
        }
        found = dict(self._about)
        for name, right in correct.items():
            low, high = wilson(int(right.sum()), len(right))
            found |= {name: float(right.mean()), f"{name}_low": low, f"{name}_high": high}
        for name in ("kept", "new"):
            apart = correct[name].astype(np.float64) - before
            reach = float(paired.over(apart[:, None]).reach()[0]) if len(apart) > 1 else float("nan")
            ends = {"": 0.0, "_low": -reach, "_high": reach}
            found |= {f"{name}_difference{end}": float(apart.mean() + shift) for end, shift in ends.items()}
        return found | {"strength_before": probe.strength, "strength_new": own.strength}

    @cached_property
    def _before(self) -> tuple[Probe, Correct]:
        """The parent's probe, and whether it is correct about each test image."""
        train, test = self._features(self._parent)
        probe = fit_probe(train, self._images.labels[self._split.train], self._seed)
        return probe, probe.correct(test, self._images.labels[self._split.test])

    def _features(self, spec: CacheSpec) -> tuple[Tokens, Tokens]:
        """Return the features of the training and of the test images, (n, C) each."""
        parts = self._split.train, self._split.test
        with single_threaded_kernels():
            inputs = Inputs(open_trainable(spec, self._device), self._images, self._sha256, self._device, None)
            with progress("tokens of the old task", sum(map(len, parts)), "images") as advance:
                train, test = (inputs.tokens(rows, advance).numpy() for rows in parts)
        return train, test
