"""The command `bddn diagnose`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bddn.cli.hierarchy import ROIS
from bddn.cli.shared import as_table, clear_errors

if TYPE_CHECKING:
    from bddn.evaluation.diagnosis.diagnosis import Candidate


@clear_errors
def diagnose(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of candidate networks; seeds of one are pooled.")],
    out: Annotated[Path, typer.Option(help="Folder of diagnosis.html and diagnosis.json.")] = Path("diagnosis"),
    rois: Annotated[str | None, ROIS] = None,
    evidence: Annotated[
        list[Path] | None,
        typer.Option(
            help="What is known of forgetting: experiment.csv of pipelines/hierarchy_and_forgetting.py, or a "
            "forgetting.json of one of these networks. Repeat it for several files.",
            show_default=False,
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="The run of the parent, if RUNS are fits of one fine-tuned network.", show_default=False),
    ] = None,
    noise: Annotated[
        list[Path] | None,
        typer.Option(
            help="With --against, a run of the parent with another seed. Repeat it; three or more are best.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Diagnose backbones on one page: how organised, how fragile, and what is not known, each claim with its source.

    With --against, the exit code is 1 if the network drifted from its parent beyond noise, and 0 if not.
    """
    from dataclasses import replace

    from bddn.errors import SpecError
    from bddn.evaluation.contrast.rivals import check_different, is_copy
    from bddn.evaluation.diagnosis.diagnosis import NUMBERS, diagnose_runs, write_diagnosis
    from bddn.evaluation.forgetting.drift import drift
    from bddn.evaluation.slopes import check_refits, ordered_rois
    from bddn.files.output import check_folder
    from bddn.report.diagnosis_page import PAGE, write_page
    from bddn.run import read_run

    if noise and against is None:
        raise SpecError(
            "--noise", expected="--against PARENT beside it", got="no parent", fix="Add --against, or remove --noise."
        )
    ideal = ordered_rois(rois)
    found, seeds = [read_run(run) for run in runs], [read_run(run) for run in noise or ()]
    parent = None if against is None else read_run(against)
    check_folder(out)
    drifted = None
    if parent is not None:
        check_refits(found)
        check_different([parent, *seeds])
        drifted = drift(found, parent, seeds, ideal)
        # a network that did not change has a drift of zero, but is not one more fit of its parent
        found += [one for one in (parent, *seeds) if not any(is_copy(one, run) for run in found)]
    made = replace(diagnose_runs(found, ideal, evidence or ()), drift=drifted)
    write_diagnosis(made, out)
    write_page(made, out / PAGE)
    typer.echo(f"{as_table([_row(one) for one in made.candidates])}\n")
    for one in made.candidates:
        typer.echo(f"{one.name}: {one.summary}")
    for claim in made.associations:
        typer.echo(f"Forgetting: {claim.sentence}")
    for note in made.notes:
        typer.echo(f"note: {note}")
    if drifted is not None:
        typer.echo(drifted.verdict)
    typer.echo(f"diagnose: {out / PAGE}, {out / NUMBERS}")
    if drifted is not None and drifted.is_drift:
        raise typer.Exit(1)


def _row(one: "Candidate") -> dict[str, str]:
    """Return the numbers of a network as text."""
    from bddn.evaluation.diagnosis.claims import number

    def text(name: str, digits: int = 2) -> str:
        claim = one.claim(name)
        if claim is None or claim.value is None:
            return "not known"
        ends = (
            ""
            if claim.low is None or claim.high is None
            else (f" [{number(claim.low, digits)}, {number(claim.high, digits)}]")
        )
        return number(claim.value, digits) + ends

    return {
        "network": one.name,
        "slope": text("slope"),
        "corrected": text("corrected slope"),
        "b0": text("b0"),
        "b1": text("b1"),
        "R²": text("brain score", 3),
        "out of order": "not known" if one.read.order is None else str(len(one.read.order.misplaced)),
        "fits": str(len(one.read.fits)),
    }
