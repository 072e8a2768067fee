"""Many fits: caches × subjects × seeds × bootstraps, each in a run folder of its own, and one table of all of them."""

from bddn.many.campaign import Many, fit_many
from bddn.many.plan import numbers
from bddn.many.run_table import summary

__all__ = ["Many", "fit_many", "numbers", "summary"]
