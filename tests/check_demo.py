"""Whether the demo recovered what was planted, in each hemisphere; run after `make demo` with its run folder."""

import json
import sys
from pathlib import Path

LIMITS = {"r": (0.9, 1.0), "slope": (0.7, 1.3)}
OF_BOTH = {"r2_over_ceiling": (0.85, 1.1), "mean_ceiling": (0.3, 0.5)}

truth = json.loads((Path(sys.argv[1]) / "truth.json").read_text())
found = {
    f"{part} {hemi} {name}": (truth[part][hemi][name], limits)
    for part in ("depth", "x", "y", "scale")
    for hemi in ("lh", "rh")
    for name, limits in LIMITS.items()
} | {name: (truth[name], limits) for name, limits in OF_BOTH.items()}
bad = [
    f"{what} {value:.3f}, not {low} to {high}"
    for what, (value, (low, high)) in found.items()
    if not low <= value <= high
]
sys.exit("demo: " + "; ".join(bad) if bad else 0)
