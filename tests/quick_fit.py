"""How the run that many tests share was fitted."""

from bddn.spec import FitSpec

QUICK = FitSpec(channels=8, selector_width=16, epochs=1)
