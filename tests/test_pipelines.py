"""The recipes run as their texts say."""

import subprocess
import sys
from pathlib import Path

from bddn.spec import CacheSpec

PIPELINES = Path(__file__).parent.parent / "pipelines"


def test_one_backbone_maps_a_subject(brain: Path, spec: CacheSpec, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(spec.model_dump_json())  # JSON is YAML
    (tmp_path / "fit.yaml").write_text("epochs: 1\nchannels: 8\n")
    arguments = [tmp_path / "spec.yaml", tmp_path / "out", f"planted:{brain}", "--fit", tmp_path / "fit.yaml"]
    command = [sys.executable, str(PIPELINES / "one_backbone.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{brain.name}: R² ")
    assert (tmp_path / "out" / brain.name / "maps/layer_map.png").is_file()
