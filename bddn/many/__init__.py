"""Many fits: caches × subjects × seeds × bootstraps, each in its own run folder, and one table of all runs."""

from bddn.many.campaign import Many, fit_many
from bddn.many.plan import numbers
from bddn.many.run_table import summary

__all__ = ["Many", "fit_many", "numbers", "summary"]
