"""Test the claim that networks with a larger hierarchy slope forget less when they are fine-tuned.

    python pipelines/hierarchy_and_forgetting.py build/claim --network clip_vit_b16 --network mae_b --network sam_b \
        --images folder:data/EuroSAT --images isic2018:data/ISIC --old folder:data/photographs \
        --data algonauts:data/subj01 --seeds 0-2

Each network is fine-tuned on each image set with each seed, which is that of the fine-tuning and of the encoder. It is
extracted and fitted before and after, with the same split. The old task is an image set that the network should still
classify. `experiment.csv` has one row per network, image set and seed; `association.json` and `association.csv` relate
the slope before, and rival predictors, to what was forgotten, with networks as the units. Completed work is kept: the
same command resumes, and with more networks or seeds it extends the same table.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

import bddn
from bddn.backbones.registry import load_spec
from bddn.cli import clear_errors
from bddn.cli.shared import ready_spec
from bddn.data import Dataset, open_dataset
from bddn.data.image_sets.kinds import open_images
from bddn.data.image_sets.labelled import LabelledImages
from bddn.errors import SpecError
from bddn.evaluation.contrast.output import write_csv
from bddn.evaluation.forgetting.association_words import in_words, sentences
from bddn.evaluation.forgetting.expected import published
from bddn.evaluation.forgetting.experiment import OUTCOMES, about_experiment, experiment, read_experiment
from bddn.evaluation.forgetting.forgetting import forgetting
from bddn.evaluation.forgetting.old_task import OldTask
from bddn.evaluation.forgetting.output import read_forgetting, write_forgetting
from bddn.evaluation.held_out import predict_held_out
from bddn.evaluation.kept_responses import is_scored
from bddn.figures.association_chart import draw_experiment
from bddn.files import atomic
from bddn.finetune import finetune
from bddn.finetune.finetuning import open_trainable
from bddn.many import numbers
from bddn.run import Run
from bddn.run.recipes import fit_spec
from bddn.spec import CacheSpec, FinetuneSpec, FitSpec
from bddn.stats.association import associate
from bddn.store.reader import Cache

TABLE, ASSOCIATIONS, ABOUT, FIGURE = "experiment.csv", "association.csv", "association.json", "association"
OLD_SEED = 0  # one division of the old task for all fine-tunings


@clear_errors
def hierarchy_and_forgetting(
    out: Annotated[Path, typer.Argument(help="Folder of networks, caches, runs and tables.")],
    network: Annotated[list[str], typer.Option(help="Name of a spec, a .yaml file, or a folder of 'bddn finetune'.")],
    images: Annotated[list[str], typer.Option(help="Image set of a new task, KIND:PATH; repeat it.")],
    data: Annotated[str, typer.Option(help="Dataset of the brain, KIND:PATH.")],
    old: Annotated[str, typer.Option(help="Image set of the old task.")],
    seeds: Annotated[str, typer.Option(help="Seeds, e.g. 0-2; at least two, which tell what chance does.")] = "0-2",
    settings: Annotated[Path | None, typer.Option(help="A YAML file of settings (FinetuneSpec).")] = None,
    fit: Annotated[str, typer.Option("--spec", "--fit", help="paper, fast, or a YAML file of fit settings.")] = "paper",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Relate the hierarchy slope of networks to what they forget."""
    how = FinetuneSpec() if settings is None else FinetuneSpec.from_yaml(settings.read_bytes(), str(settings))
    specs = dict(zip(_names(network, "--network"), map(ready_spec, network), strict=True))
    sets = dict(zip(_names(images, "--images"), map(open_images, images), strict=True))
    work = Work(out, sets, open_images(old), open_dataset(data), how, fit_spec(fit, {}, "fit settings"), device)
    rows: list[dict[str, Any]] = []
    for name, spec in specs.items():
        for row in work.rows(name, spec, numbers(seeds, "--seeds")):
            rows.append(row)
            write_csv(out / TABLE, pd.DataFrame(rows))
            typer.echo(_line(row))
    report(out)


def report(out: Path) -> None:
    """Relate the rows of an experiment to each other; write tables and figure, and print what they say."""
    table = read_experiment(out / TABLE)
    found = experiment(table)
    four = published().networks
    known = associate(four["slope"].to_numpy(), four["loss"].to_numpy(), four["network"].tolist())
    said = {
        "sentences": sentences(found, table),
        "published": in_words(known, f"The paper's networks: {OUTCOMES['brain_loss']}"),
    }
    write_csv(out / ASSOCIATIONS, found.associations)
    about = found.to_dict() | said | {"published_association": known.to_dict()} | about_experiment(out / TABLE)
    atomic.write_json(out / ABOUT, about)
    draw_experiment(found, table, out / FIGURE, "What networks forget, and their hierarchy slope before")
    for sentence in (*found.notes, *said["sentences"], *said["published"]):
        typer.echo(sentence)
    typer.echo(f"experiment: {out / TABLE}, {out / ASSOCIATIONS}, {out / ABOUT}, {out / FIGURE}.png")


class Work:
    """The work on networks; see `hierarchy_and_forgetting`."""

    def __init__(
        self,
        out: Path,
        sets: dict[str, LabelledImages],
        old: LabelledImages,
        dataset: Dataset,
        how: FinetuneSpec,
        fit: FitSpec,
        device: Any,
    ) -> None:
        self.out, self.sets, self.old, self.dataset, self.how, self.device = out, sets, old, dataset, how, device
        self.fit = fit.model_copy(update={"split_seed": fit.seed_of_split})

    def rows(self, name: str, spec: CacheSpec, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Fine-tune a network on all image sets with all seeds; yield a row of the experiment for each."""
        folder = self.out / name
        before = bddn.extract(spec, self.dataset, folder / "before.zarr", device=self.device)
        first = {seed: self._run(before, folder / "before" / f"seed{seed}", seed) for seed in seeds}
        n_parameters = sum(weight.numel() for weight in open_trainable(spec, "cpu").module.parameters())
        old = OldTask(spec, self.old, OLD_SEED, self.device)
        for task, images in self.sets.items():
            for seed in seeds:
                here = folder / task / f"seed{seed}"
                how = self.how.model_copy(update={"seed": seed})
                tuned = finetune(spec, images, here / "network", how, device=self.device)
                after = load_spec(str(tuned.folder))
                cache = bddn.extract(after, self.dataset, here / "after.zarr", device=self.device)
                run = self._run(cache, here / "run", seed)
                others = [first[other] for other in seeds if other != seed]
                told = _forgetting(first[seed], run, before, cache, others, here)
                kept = old.accuracies(after, tuned.folder, here)
                slope = told["slope"]["before"] or {}
                yield {
                    "network": name,
                    "task": task,
                    "seed": seed,
                    "slope_before": slope.get("slope"),
                    "slope_low": slope.get("slope_low"),
                    "slope_high": slope.get("slope_high"),
                    "r2_before": told["score"]["before"],
                    "r2_after": told["score"]["after"],
                    "old_accuracy_before": kept["before"],
                    "old_accuracy_after": kept["kept"],
                    "accuracy": float(tuned.accuracy["accuracy"].iloc[-1]),
                    "rewiring": told["rewiring"]["distance"],
                    "rewiring_noise": told["rewiring"]["noise"],
                    "cka": told["representation"]["cka"],
                    "neighbours": told["representation"]["neighbours"],
                    "n_parameters": n_parameters,
                }

    def _run(self, cache: Cache, out: Path, seed: int) -> Run:
        run = bddn.fit(cache, self.dataset, out, self.fit.model_copy(update={"seed": seed}), device=self.device)
        if not is_scored(run):
            predict_held_out(run, [cache], [self.dataset])
        return run


def _forgetting(
    first: Run, run: Run, before: Cache, after: Cache, others: Sequence[Run], folder: Path
) -> dict[str, Any]:
    known = read_forgetting(folder, first, run, others)
    if known is not None:
        return known
    found = forgetting(first, run, before_cache=before, after_cache=after, noise=others)
    return write_forgetting(found, first, run, others, folder)


def _names(given: Sequence[str], option: str) -> list[str]:
    """Return the last part of each path of specs or image sets, which must differ."""
    names = [Path(one.partition(",")[0].rpartition(":")[2]).name.removesuffix(".yaml") for one in given]
    if twice := [name for name in names if names.count(name) > 1]:
        raise SpecError(option, expected="different names", got=f"'{twice[0]}' twice", fix="Rename one of the files.")
    return names


def _line(row: dict[str, Any]) -> str:
    slope = "no slope" if row["slope_before"] is None else f"slope {row['slope_before']:.2f}"
    return (
        f"{row['network']}, {row['task']}, seed {row['seed']}: {slope}, R² {row['r2_before']:.3f} → "
        f"{row['r2_after']:.3f}, old task {row['old_accuracy_before']:.3f} → {row['old_accuracy_after']:.3f}, "
        f"new task {row['accuracy']:.3f}"
    )


if __name__ == "__main__":
    typer.run(hierarchy_and_forgetting)
