"""Keep the figures of a benchmark, with machine, versions and date."""

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def keep(name: str, figures: dict[str, Any]) -> None:
    """Write `results/NAME.json` and print it."""
    report = figures | {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {_gpu()}",
        "versions": {"python": platform.python_version(), "torch": version("torch")},
        "date": datetime.now(UTC).date().isoformat(),
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(report, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
