"""The command `bddn datasets`."""

import textwrap

import typer

from bddn.cli.shared import clear_errors


@clear_errors
def datasets() -> None:
    """List the kinds of datasets for --data, with their options and terms of use."""
    from bddn.data.plugins import dataset_kinds, load_kind

    for name in dataset_kinds():
        about = load_kind(name).about
        typer.echo(about.usage)
        for words in (about.options, about.responses, about.terms):
            if words:
                typer.echo(textwrap.fill(words, 100, initial_indent="    ", subsequent_indent="    "))
