"""Measure what networks forget of the brain while they are fine-tuned: Table 3, Figure 7, and a curve along the steps.

    python pipelines/finetuning.py build/finetuning --network clip_vit_b16 --network mae_b \
        --images folder:data/EuroSAT --images isic2018:data/ISIC --data algonauts:data/subj01 \
        --old folder:data/photographs --checkpoint-every 1000

Each network is fine-tuned on each image set. The network and every checkpoint are then extracted, fitted with the same
split and seed, scored and compared; other seeds of the encoder on the network before say how far fits differ by chance.
The old task is an image set that the network should still classify. Completed work is kept: the same command resumes.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import typer

import bddn
from bddn.backbones.registry import load_spec
from bddn.cli import clear_errors
from bddn.cli.shared import as_table, given, ready_spec
from bddn.data import Dataset, open_dataset
from bddn.data.image_sets.kinds import open_images
from bddn.data.image_sets.labelled import LabelledImages
from bddn.errors import SpecError
from bddn.evaluation.contrast import published
from bddn.evaluation.contrast.output import write_csv
from bddn.evaluation.forgetting.forgetting import forgetting
from bddn.evaluation.forgetting.old_task import OldTask
from bddn.evaluation.forgetting.output import VOXELS, read_forgetting, write_forgetting
from bddn.evaluation.forgetting.tables import COLUMNS, Measured, course, table_3
from bddn.evaluation.held_out import predict_held_out
from bddn.evaluation.kept_responses import is_scored
from bddn.figures.adapted import Adapted, adapted
from bddn.figures.forgetting_curve import draw_curves
from bddn.figures.grid import draw_grid
from bddn.files import atomic
from bddn.finetune import Finetuned, finetune
from bddn.run import Run
from bddn.run.folder import without_nan
from bddn.run.inputs import environment
from bddn.run.recipes import fit_spec
from bddn.spec import CacheSpec, FinetuneSpec, FitSpec
from bddn.store.reader import Cache

N_EXAMPLES, EXAMPLE_PX = 4, 160


@clear_errors
def finetuning(
    out: Annotated[Path, typer.Argument(help="Folder of networks, caches, runs, tables and figures.")],
    network: Annotated[list[str], typer.Option(help="Name of a spec, or a .yaml file; repeat it.")],
    images: Annotated[list[str], typer.Option(help="Image set of a new task, KIND:PATH; repeat it.")],
    data: Annotated[list[str], typer.Option(help="Dataset, KIND:PATH: one for all networks, or one for each.")],
    old: Annotated[str | None, typer.Option(help="Image set of the old task.")] = None,
    settings: Annotated[
        list[Path] | None,
        typer.Option(
            help="YAML file of settings (FinetuneSpec): one for all, one for each network, or one for each network and "
            "image set, network by network."
        ),
    ] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Measure also after each of so many steps.")] = None,
    fit: Annotated[str, typer.Option("--spec", "--fit", help="paper, fast, or a YAML file of fit settings.")] = "paper",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of the encoder on each network before.")] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Fine-tune networks, and measure what they forget."""
    read = [FinetuneSpec.from_yaml(path.read_bytes(), str(path)) for path in settings or ()] or [FinetuneSpec()]
    chosen = given(checkpoint_every=checkpoint_every)
    how = [FinetuneSpec.parse(one.to_dict() | chosen, "settings of fine-tuning") for one in read]
    for option, n, most in (("--data", len(data), 1), ("--settings", len(how), len(images))):
        if n not in (1, len(network), len(network) * most):
            of_sets = (
                f", or one for each of the {len(network) * most} pairs of network and image set" if most > 1 else ""
            )
            raise SpecError(
                option,
                expected=f"one for all networks, or one for each of the {len(network)}{of_sets}",
                got=f"{n}",
                fix=f"Repeat {option} in the order of --network.",
            )
    specs = {_name(name, "--network", network): ready_spec(name) for name in network}
    sets = {_name(name, "--images", images): open_images(name) for name in images}
    before_all = None if old is None else open_images(old)
    work = Work(out, sets, before_all, fit_spec(fit, {}, "fit settings"), seeds, device)
    places, ways = data * (len(specs) // len(data)), _by_network(how, len(specs), len(sets))
    tables = [
        table
        for (name, spec), place, way in zip(specs.items(), places, ways, strict=True)
        for table in work.of_network(name, spec, open_dataset(place), way)
    ]
    finetune_settings = {
        name: {images: one.to_dict() for images, one in zip(sets, way, strict=True)}
        for name, way in zip(specs, ways, strict=True)
    }
    about = {"finetune": finetune_settings, "data": dict(zip(specs, places, strict=True))}
    _write(pd.concat(tables, ignore_index=True), out, work, about)


class Work:
    """The work on networks; see `finetuning`."""

    def __init__(
        self,
        out: Path,
        sets: dict[str, LabelledImages],
        old: LabelledImages | None,
        fit: FitSpec,
        seeds: int,
        device: Any,
    ) -> None:
        self.out, self.sets, self.old, self.device = out, sets, old, device
        self.fit, self.seeds = fit.model_copy(update={"split_seed": fit.seed_of_split}), seeds

    def of_network(
        self, name: str, spec: CacheSpec, dataset: Dataset, ways: Sequence[FinetuneSpec]
    ) -> list[pd.DataFrame]:
        """Fine-tune a network on all image sets, with the settings of each; return the rows of each."""
        folder = self.out / name
        before = bddn.extract(spec, dataset, folder / "before.zarr", device=self.device)
        first, *noise = (
            self._run(before, dataset, folder / "before" / f"seed{seed}", seed)
            for seed in range(self.fit.seed, self.fit.seed + self.seeds)
        )
        old = None if self.old is None else OldTask(spec, self.old, ways[0].seed, self.device)
        tables, shown = [], []
        for (set_name, images), how in zip(self.sets.items(), ways, strict=True):
            place = folder / set_name
            tuned = finetune(spec, images, place / "network", how, device=self.device)
            measured = []
            for step, checkpoint in sorted(tuned.checkpoints.items()):
                here, after_spec = place / f"step_{step:06d}", load_spec(str(checkpoint))
                after = bddn.extract(after_spec, dataset, here / "after.zarr", device=self.device)
                run = self._run(after, dataset, here / "run", self.fit.seed)
                numbers = self._compare(first, run, before, after, noise, here)
                measured.append(
                    Measured(step, numbers, None if old is None else old.accuracies(after_spec, checkpoint, here))
                )
                typer.echo(_line(name, set_name, measured[-1], tuned))
            tables.append(course(name, set_name, measured, tuned.accuracy))
            voxels = pd.read_parquet(here / VOXELS)
            shown.append(Adapted(f"{set_name}: examples", run, voxels, examples(images)))
        sheet = adapted(first, shown, f"{name}: layer maps before and after {measured[-1].step:,} steps of fine-tuning")
        draw_grid(sheet.rows, self.out / f"figure7_{name}", sheet.title, sheet.heading)
        return tables

    def _run(self, cache: Cache, dataset: Dataset, out: Path, seed: int) -> Run:
        run = bddn.fit(cache, dataset, out, self.fit.model_copy(update={"seed": seed}), device=self.device)
        if not is_scored(run):
            predict_held_out(run, [cache], [dataset])
        return run

    @staticmethod
    def _compare(
        first: Run, run: Run, before: Cache, after: Cache, noise: Sequence[Run], folder: Path
    ) -> dict[str, Any]:
        if (known := read_forgetting(folder, first, run, noise)) is not None:
            return known
        found = forgetting(first, run, before_cache=before, after_cache=after, noise=noise)
        return write_forgetting(found, first, run, noise, folder)


def _by_network(how: Sequence[FinetuneSpec], n_networks: int, n_sets: int) -> list[list[FinetuneSpec]]:
    """Return the settings of every image set, for each network."""
    if len(how) == n_networks * n_sets:
        return [list(how[k * n_sets : (k + 1) * n_sets]) for k in range(n_networks)]
    return [[how[k % len(how)]] * n_sets for k in range(n_networks)]


def examples(images: LabelledImages) -> list[npt.NDArray[np.uint8]]:
    """Return the first image of some classes, evenly spaced, (160, 160, 3) each."""
    classes = np.unique(np.linspace(0, len(images.classes) - 1, N_EXAMPLES).round().astype(int))
    rows = [int(np.flatnonzero(images.labels == k)[0]) for k in classes]
    return [np.asarray(images.stimuli.image(row).resize((EXAMPLE_PX, EXAMPLE_PX))) for row in rows]


def _name(given_name: str, option: str, every: Sequence[str]) -> str:
    """Return the last part of the path of a spec or an image set, which must be of this one alone."""
    paths = [Path(one.partition(",")[0].rpartition(":")[2]) for one in every]
    names = [path.stem if path.suffix in (".yaml", ".yml", ".csv") else path.name for path in paths]
    name = names[list(every).index(given_name)]
    if names.count(name) > 1:
        raise SpecError(option, expected="different names", got=f"'{name}' twice", fix="Rename one of the files.")
    return name


def _line(network: str, images: str, one: Measured, tuned: Finetuned) -> str:
    """Return what one step gave, in one line."""
    score, accuracy = one.numbers["score"], tuned.accuracy.set_index("step")["accuracy"].get(one.step)
    words = [
        f"{network}, {images}, step {one.step}: R² {score['before']:.3f} → {score['after']:.3f} "
        f"({score['difference']:+.3f} [{score['low']:+.3f}, {score['high']:+.3f}]), {score['n_worse']} of "
        f"{score['n_voxels']} voxels worse"
    ]
    words += [] if accuracy is None else [f"new task {accuracy:.3f}"]
    words += [] if one.old is None else [f"old task {one.old['before']:.3f} → {one.old['kept']:.3f}"]
    return ", ".join(words)


def _write(table: pd.DataFrame, out: Path, work: Work, inputs: dict[str, Any]) -> None:
    """Write the tables and the curve, and print Table 3."""
    write_csv(out / "forgetting.csv", table)
    third = table_3(table)
    wide = published.wide(third)
    write_csv(out / "table_3.csv", third)
    atomic.write_text(out / "table_3.md", published.markdown(wide))
    atomic.write_text(out / "table_3.tex", wide.to_latex(index=False, escape=True))
    draw_curves(table, out / "forgetting_curve", "Forgetting along fine-tuning")
    about = {
        "rows": json.loads(table.to_json(orient="records")),
        "columns": dict(COLUMNS),
        **inputs,
        "fit": work.fit.to_dict(),
        "images": {name: images.name for name, images in work.sets.items()},
        "old_task": None if work.old is None else work.old.name,
        "versions": environment("cpu"),
    }
    atomic.write_json(out / "forgetting.json", without_nan(about))
    typer.echo(f"Table 3, ours (published): {out / 'table_3'}.csv, .md, .tex\n{as_table(published.as_rows(wide))}")
    typer.echo(f"finetuning: {out / 'forgetting.csv'}, {out / 'forgetting_curve.png'}")


if __name__ == "__main__":
    typer.run(finetuning)
