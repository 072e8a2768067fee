"""The course of a fine-tuning: its steps, accuracies, checkpoints, and the state from which it resumes."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from bddn.backbones.tuned import ABOUT
from bddn.data.image_sets.class_split import ClassSplit
from bddn.errors import FitError, OutputError
from bddn.files import atomic
from bddn.files.output import new_folder
from bddn.finetune.accuracy import accuracy_of, sample
from bddn.finetune.head import Head
from bddn.finetune.image_batches import Inputs, Rows
from bddn.finetune.training import Training
from bddn.finetune.tuned_folder import IMAGES, RESULT, STEPS, TIMING, write_network
from bddn.identity import Identity
from bddn.machine.parallel import n_threads
from bddn.progress import progress
from bddn.spec import CacheSpec, FinetuneSpec, ParentSpec

STATE_SHARE = 20  # writing the state takes at most this part of the time


class Course:
    """A fine-tuning that is not finished, in its hidden folder.

    Parameters
    ----------
    spec : CacheSpec
        Of the network before fine-tuning.
    settings : FinetuneSpec
    inputs : Inputs
    split : ClassSplit
    identity : Identity
        What determines the result.
    state : Path
        File from which the training resumes; checkpoints are written beside it.
    every_s : float
        Interval at which it is written.
    """

    def __init__(
        self,
        spec: CacheSpec,
        settings: FinetuneSpec,
        inputs: Inputs,
        split: ClassSplit,
        identity: Identity,
        state: Path,
        every_s: float,
    ) -> None:
        self._spec, self._settings, self._inputs, self._split = spec, settings, inputs, split
        self._identity, self._state, self._every_s = identity, state, every_s
        self._curve = sample(split.test, inputs.images.labels, settings.evaluate_per_class, settings.seed)
        self._rows: list[dict[str, Any]] = []
        self._training = Training(inputs, self._new_head(), split.train, settings)
        self._check_disk()
        if state.exists():
            self._rows = self._training.resume(state).get("rows", [])
        self._first, self._seconds = self._training.step, 0.0

    def run(self) -> None:
        """Make all steps, with their accuracies and checkpoints.

        Raises
        ------
        FitError
            If loss or gradient are not finite. The message says where the last checkpoint is.
        """
        training, settings = self._training, self._settings
        if settings.n_steps == 0:
            return
        if not self._rows:
            self._evaluate(self._curve)
        saved = time.monotonic()
        with progress("finetune", settings.n_steps * settings.batch_size, "images") as advance:
            advance(self._first * settings.batch_size, earlier=True)
            clock = time.monotonic()
            try:
                for step in training.steps():
                    self._seconds += time.monotonic() - clock
                    if step < settings.n_steps and step in settings.evaluated_steps:
                        self._evaluate(self._curve)
                    accuracy = f"accuracy {self._rows[-1]['accuracy']:.3f} at step {self._rows[-1]['step']}"
                    advance(settings.batch_size, note=f"loss {training.losses[-1]:.3f}, {accuracy}")
                    if step in settings.checkpoint_steps:
                        self._checkpoint()
                    clock = time.monotonic()
                    if clock > saved + self._every_s or step == settings.n_steps:
                        training.save({"rows": self._rows}, self._state)
                        saved = time.monotonic() + STATE_SHARE * (time.monotonic() - clock)
                        clock = time.monotonic()
            except FitError as error:
                raise self._with_last_checkpoint(error) from error

    def publish(self, out: Path, seconds: float) -> None:
        """Measure the last accuracy and write everything to `out`, all at once.

        Raises
        ------
        FileExistsError
            If another process has put files there meanwhile.
        """
        with progress("accuracy", len(self._split.test), "images") as advance:
            predicted = self._evaluate(self._split.test, advance)
        with new_folder(out, ABOUT) as aside:
            steps = self._state.parent / STEPS
            if steps.is_dir():
                shutil.copytree(steps, aside / STEPS, copy_function=_link)
            self._write(aside)
            atomic.write_text(aside / IMAGES, self._table(predicted).to_csv(index=False))
            n = (self._training.step - self._first) * self._settings.batch_size
            timing = {
                "seconds": seconds,
                "training_seconds": self._seconds,
                "training_images": n,
                "training_images_per_s": n / self._seconds if n else None,
                "device": self._inputs.device,
                "threads": n_threads(),
            }
            atomic.write_text(aside / TIMING, json.dumps(timing, indent=1) + "\n")

    def _new_head(self) -> Head:
        rows, settings = self._split.train, self._settings
        with progress("tokens of training images", len(rows), "images") as advance:
            tokens = self._inputs.tokens(rows, advance)
        head = Head(tokens, len(self._inputs.images.classes), settings.seed)
        if settings.method in ("head", "lp_ft"):
            head.solve(tokens, self._inputs.labels(rows))
        return head

    def _evaluate(self, rows: Rows, advance: Callable[[int], object] = lambda n: None) -> Rows:
        """Add a row of accuracies, and return the predicted classes (n,) of these images."""
        training = self._training
        tokens = self._inputs.tokens(rows, advance)
        with torch.no_grad():
            logits = training.head(tokens.to(self._inputs.device))
        predicted: Rows = logits.argmax(1).cpu().numpy()
        since = training.losses[self._rows[-1]["step"] if self._rows else 0 :]
        about = {"step": training.step, "loss": float(np.mean(since)) if since else None}
        self._rows.append(about | accuracy_of(predicted, self._inputs.images.labels[rows]))
        return predicted

    def _checkpoint(self) -> None:
        folder = self._state.parent / STEPS / f"{self._training.step:06d}"
        if not (folder / ABOUT).is_file():  # written before the process was stopped
            with new_folder(folder, ABOUT) as aside:
                self._write(aside)

    def _write(self, folder: Path) -> None:
        training, images, parts = self._training, self._inputs.images, self._identity.parts
        parent = ParentSpec(
            title=self._spec.title,
            weights_sha256=parts["parent"]["backbone"]["weights_sha256"],
            images=images.name,
            images_sha256=parts["images"]["sha256"],
            method=self._settings.method,
            steps=training.step,
            seed=self._settings.seed,
        )
        title = f"{self._spec.title}, fine-tuned on {images.name}, {training.step} steps"
        spec = self._spec.model_copy(update={"title": title, "parent": parent, "groups": ()})
        about = {**parts, "step": training.step, RESULT: {"title": title, "images": images.name}}
        head = training.head.folded()
        write_network(folder, spec, self._inputs.network, training.state(), head, self._rows, about)

    def _table(self, predicted: Rows) -> pd.DataFrame:
        images, train, test = self._inputs.images, self._split.train, self._split.test
        names, rows = np.array(images.classes, object), np.concatenate([train, test])
        return pd.DataFrame(
            {
                "id": [images.stimuli.ids[row] for row in rows],
                "class": names[images.labels[rows]],
                "part": ["training"] * len(train) + ["held-out"] * len(test),
                "predicted": [None] * len(train) + names[predicted].tolist(),
            }
        )

    def _check_disk(self) -> None:
        """Refuse a disk that cannot hold all checkpoints and the state."""
        settings, folder = self._settings, self._state.parent
        network = sum(value.nbytes for value in self._training.state().values())
        there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        needed = (len(settings.checkpoint_steps) + 1) * network + 2 * self._training.n_bytes
        free = shutil.disk_usage(folder).free
        if needed - there > free:
            raise OutputError(
                f"--out in {folder.parent}",
                expected=f"{(needed - there) / 1e9:.2f} GB of free space for "
                f"{len(settings.checkpoint_steps) + 1} checkpoints and the state of the training",
                got=f"{free / 1e9:.2f} GB",
                fix="Free space, give another --out, or a larger --checkpoint-every.",
            )

    def _with_last_checkpoint(self, error: FitError) -> FitError:
        kept = sorted((self._state.parent / STEPS).glob("[0-9]*"))
        where = f" The network after step {int(kept[-1].name)} is kept in {kept[-1]}." if kept else ""
        return FitError(error.place, expected=error.expected, got=error.got, fix=error.fix + where)


def _link(source: str, target: str) -> None:
    """Link a file, or copy it where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
