"""Reading NSD takes little more memory than its result: sessions of true size, streamed one after the other."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bddn.cortex.fsaverage import HEMISPHERES, sphere
from bench.report import keep
from data import nsd_tree as tree

N_VERTICES = {"lh": 18_461, "rh": 19_523}  # of nsdgeneral
SESSIONS, N_TRIALS, N_IMAGES = 37, 27_750, 9_841  # of subject 1, as in the Algonauts data
ALLOWED = 1.2

MEASURED = """
import json, sys, time
from pathlib import Path
from bddn.data.nsd.nsd import Nsd

def peak_mb():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:")) / 1024

data = Nsd(Path(sys.argv[1]), subject="1", trials=sys.argv[2])
data.voxels(), data.coords_mm()
before, start = peak_mb(), time.perf_counter()
found = data.responses()
first = time.perf_counter() - start
start = time.perf_counter()
del found
found = data.responses()
print(json.dumps({"before_mb": before, "peak_mb": peak_mb(), "result_mb": found.nbytes / 2**20, "shape": found.shape,
                  "first_s": first, "again_s": time.perf_counter() - start}))
"""


def write(root: Path, n_trials: int, share: float) -> None:
    """Two sessions of random betas at the back of the brain; the other vertices are 0."""
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(10_000), 3))[: 40 * n_trials] + 1
    tree.write_design(root, order, tree.subject_images())
    backward = np.argsort(sphere()[0][:, 1], kind="stable")
    vertices = {hemi: np.sort(backward[: int(n * share)]) for hemi, n in N_VERTICES.items()}
    tree.write_mask(root, vertices)
    rng = np.random.default_rng(1)
    for session in (1, 2):
        values = {hemi: rng.normal(size=(n_trials, len(vertices[hemi]))).astype(np.float32) for hemi in HEMISPHERES}
        tree.write_session(root, session, vertices, values)


def test_reading_takes_little_more_than_the_result(tmp_path: Path, true_size: bool) -> None:
    write(tmp_path, 750 if true_size else 40, 1.0 if true_size else 0.05)
    results: dict[str, Any] = {"extrapolated": {}}
    for trials, rows in (("mean", N_IMAGES), ("single", N_TRIALS)):
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, str(tmp_path), trials], stdout=subprocess.PIPE, text=True, check=True
        )
        found: dict[str, Any] = json.loads(done.stdout)
        n_voxels = found["shape"][1]
        more_mb = found["peak_mb"] - found["before_mb"] - found["result_mb"]
        assert more_mb < 64 + 3 * 750 * n_voxels * 4 / 2**20  # of one session, not of all
        scales_mb = (SESSIONS - 2) * 2 * n_voxels * 4 / 2**20  # mean and deviation of each further session
        result_mb = rows * n_voxels * 4 / 2**20
        ratio = (result_mb + more_mb + scales_mb) / result_mb
        results[trials] = {"two_sessions": found, "beside_the_result_mb": more_mb}
        seconds = {f"{name}_of_37": found[name] * SESSIONS / 2 for name in ("first_s", "again_s")}
        results["extrapolated"][trials] = {"result_mb": result_mb, "ratio": ratio, **seconds}
    if not true_size:
        return
    assert n_voxels == sum(N_VERTICES.values())
    assert max(one["ratio"] for one in results["extrapolated"].values()) <= ALLOWED
    keep("nsd_size_cpu", results)
