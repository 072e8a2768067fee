"""The recipes run as their texts say."""

import os
import subprocess
import sys
from pathlib import Path

import quick_commands
from bddn.extraction import extract
from bddn.planted.subject import Planted
from bddn.spec import CacheSpec, ModuleSpec
from bddn.store.reader import Cache

TESTS = Path(__file__).parent
PIPELINES = TESTS.parent / "pipelines"


def test_one_backbone_maps_a_subject(brain: Path, spec: CacheSpec, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(spec.model_dump_json())  # JSON is YAML
    (tmp_path / "fit.yaml").write_text("epochs: 1\nchannels: 8\n")
    arguments = [tmp_path / "spec.yaml", tmp_path / "out", f"planted:{brain}", "--fit", tmp_path / "fit.yaml"]
    done = quick_commands.run(PIPELINES / "one_backbone.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{brain.name}: R² ")
    assert (tmp_path / "out" / brain.name / "maps/layer_map.png").is_file()


def test_backbones_are_compared_beside_the_published_tables(
    brain: Path, spec: CacheSpec, sealed: Path, tmp_path: Path
) -> None:
    caches, fit = tmp_path / "caches", tmp_path / "fit.yaml"
    caches.mkdir()
    (caches / "tower.zarr").symlink_to(sealed)
    extract(spec.model_copy(update={"grid": (2, 2)}), Planted(brain), caches / "clip_vit_b16_brain.zarr")
    fit.write_text("epochs: 1\nchannels: 8\n")
    arguments = [caches, tmp_path / "out", f"planted:{brain}", "--fit", fit]
    done = quick_commands.run(PIPELINES / "compare_backbones.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert (
        f"missing in Table 1: bddn extract sam_b --data planted:{brain} --out {caches}/sam_b/sam_b.zarr" in done.stdout
    )
    assert "missing in Table 2: bddn extract clip_vit_b16" not in done.stdout
    table = (tmp_path / "out/published_table_2.md").read_text()
    own = next(line for line in table.splitlines() if "clip_vit_b16" in line)
    assert "(0.131)" in own
    assert own.count("| -") < table.count("| -")
    for name in ("published_table_1.csv", "published_table_1.tex", "differences.png", f"figure4_{brain.name}.png"):
        assert (tmp_path / "out" / name).is_file(), name


def test_an_array_of_jobs_extracts_and_the_last_one_seals(brain: Path, spec: CacheSpec, tmp_path: Path) -> None:
    """With a network that needs no import of transformers, which would cost each job seconds."""
    own = ModuleSpec(module="slow_nets:build", layers=("cut", "blocks.*"))
    spec = spec.model_copy(update={"backbone": own, "weights": None, "global_token": "mean"})
    extract(spec, Planted(brain), tmp_path / "here.zarr")
    (tmp_path / "spec.yaml").write_text(spec.model_dump_json())
    said = []
    for task in (1, 2):
        environment = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": "2"}
        environment["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent), str(TESTS)])
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        script = ["bash", PIPELINES / "extract_array.slurm", tmp_path / "spec.yaml", f"planted:{brain}"]
        done = subprocess.run(
            [*map(str, script), str(tmp_path / "new.zarr")],
            env={**os.environ, **environment, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert "2 computed now, not sealed: other parts are missing" in said[0]
    assert f"1 computed now, digest {Cache(tmp_path / 'here.zarr').digest[:16]}" in said[1]
