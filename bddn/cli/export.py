"""The command `bddn export`."""

from pathlib import Path
from typing import Annotated

import typer

from bddn.cli.shared import DEVICE, NETWORK, WEIGHTS, Device, clear_errors


@clear_errors
def export(
    run: Annotated[Path, typer.Argument(help="A run folder, or the ensemble of several runs.")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    terms: Annotated[
        str | None,
        typer.Option(
            help="A statement for the card; required if the data do not state their terms.", show_default=False
        ),
    ] = None,
    spec: Annotated[str | None, NETWORK] = None,
    weights: Annotated[str | None, WEIGHTS] = None,
    no_weights: Annotated[
        bool, typer.Option("--no-weights", help="Leave out the network's weights, also those without a public address.")
    ] = False,
    responses: Annotated[
        bool,
        typer.Option(
            "--responses", help="Add the responses to the test images that 'bddn score' keeps, if terms allow it."
        ),
    ] = False,
    device: Annotated[Device, DEVICE] = "auto",
) -> None:
    """Write an encoder, its network and a card with all terms into a folder that can be passed on.

    'bddn predict' and bddn.load_encoder load it on any machine, without cache and data.
    """
    from bddn.cli.predict import find_network
    from bddn.exports import export_with
    from bddn.exports.exporting import check_out, check_terms
    from bddn.run import read_run

    found = read_run(run)
    check_terms(found, terms, responses)
    check_out(out)
    network = find_network(found, spec, weights, device)
    done = export_with(found, network, out, terms=terms, weights=not no_weights, responses=responses)
    kept = "" if done.fresh else ", exported before, kept"
    size = f"{done.n_bytes / 1e6:.1f} MB"
    typer.echo(f"export: {out}, {len(found.voxels)} voxels, weights of the network {done.way}, {size}{kept}")
    for what, words in done.terms.items():
        typer.echo(f"terms: {what}: {words}")
