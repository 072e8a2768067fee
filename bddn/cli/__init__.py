"""The command line: thin, and quick to start, since every command imports what it needs."""

from bddn.cli.backbones import backbones_app, fetch
from bddn.cli.cache import cache_app
from bddn.cli.commands import app
from bddn.cli.datasets import datasets
from bddn.cli.figures import figure, maps
from bddn.cli.many import fit_many
from bddn.cli.pictures import film
from bddn.cli.predict import predict
from bddn.cli.report import report
from bddn.cli.shared import clear_errors, stops_cleanly

__all__ = ["app", "clear_errors", "stops_cleanly"]

app.command()(fit_many)
app.command()(maps)
app.command()(figure)
app.command()(film)
app.command()(report)
app.command()(predict)
app.command()(fetch)
app.command()(datasets)
app.add_typer(backbones_app, name="backbones")
app.add_typer(cache_app, name="cache")
