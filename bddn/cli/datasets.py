"""The command `bddn datasets`."""

import textwrap

import typer

from bddn.cli.shared import clear_errors


@clear_errors
def datasets() -> None:
    """List the kinds of datasets for --data, with their options and terms of use, and of image sets for --images."""
    from bddn.data.image_sets.kinds import IMAGE_SETS
    from bddn.data.plugins import dataset_kinds, load_kind

    typer.echo("Datasets of responses, for --data:")
    for name in dataset_kinds():
        about = load_kind(name).about
        _echo(about.usage, about.options, about.responses, about.terms)
    typer.echo("Image sets with classes, for --images of 'bddn finetune':")
    for kind in IMAGE_SETS.values():
        _echo(kind.usage, kind.about)


def _echo(usage: str, *texts: str) -> None:
    typer.echo(usage)
    for words in texts:
        if words:
            typer.echo(textwrap.fill(words, 100, initial_indent="    ", subsequent_indent="    "))
