"""timm, imported with a stand-in for torchvision where that is missing."""

import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

STAND_INS = Path(__file__).parent.parent / "stand_ins"


@cache
def timm() -> Any:
    """The library. The stand-in is gone afterwards, so that no other library takes it for torchvision."""
    missing = importlib.util.find_spec("torchvision") is None
    if missing:
        sys.path.insert(0, str(STAND_INS))
    try:
        return importlib.import_module("timm")
    finally:
        if missing:
            sys.path.remove(str(STAND_INS))
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]
