"""Whether the demo recovered what was planted; run after `make demo` with its run folder."""

import json
import sys
from pathlib import Path

AT_LEAST = {"depth_r": 0.97, "place_x_r": 0.95, "place_y_r": 0.95, "r2_over_ceiling": 0.80, "mean_ceiling": 0.3}
AT_MOST = {"mean_ceiling": 0.5}

truth = json.loads((Path(sys.argv[1]) / "truth.json").read_text())
bad = [f"{k} {truth[k]:.3f} < {v}" for k, v in AT_LEAST.items() if truth[k] < v]
bad += [f"{k} {truth[k]:.3f} > {v}" for k, v in AT_MOST.items() if truth[k] > v]
sys.exit("demo: " + ", ".join(bad) if bad else 0)
