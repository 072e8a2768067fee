"""Extract, fit and map one backbone for several subjects, and print one line per subject.

    python pipelines/one_backbone.py clip_vit_b16 build/clip algonauts:data/subj01 algonauts:data/subj02

All subjects share one cache, in which each image is once. Completed work is kept, so the same command resumes after an
interruption.
"""

from pathlib import Path
from typing import Annotated

import typer

import bddn
from bddn.cli import clear_errors
from bddn.figures.single import draw
from bddn.many.plan import subject_name
from bddn.maps.kinds import run_maps


@clear_errors
def one_backbone(
    spec: Annotated[str, typer.Argument(help="Name of a spec in cache_specs/, or a .yaml file.")],
    out: Annotated[Path, typer.Argument(help="Folder for caches and runs.")],
    data: Annotated[list[str], typer.Argument(help="Datasets, KIND:PATH.")],
    fit: Annotated[str, typer.Option(help="Recipe of the fit, or a YAML file of fit settings.")] = "fast",
) -> None:
    """Map one backbone onto the cortex of several subjects."""
    cache = bddn.extract(spec, data, out / "features.zarr")
    for name in data:
        subject = subject_name(name)
        run = bddn.fit(cache, name, out / subject, fit)
        draw(run.voxels, run_maps(run.voxels, run.layers), run.folder / "maps", run.metrics["title"])
        slope = (run.metrics["hierarchy"] or {}).get("slope")
        typer.echo(f"{subject}: R² {run.metrics['r2_test']:.3f}, slope {'-' if slope is None else f'{slope:.2f}'}")


if __name__ == "__main__":
    typer.run(one_backbone)
