"""What the command builder knows of bddn: kinds of data, networks, recipes."""

import json
from typing import Any

from bddn.backbones.registry import load_specs
from bddn.backbones.weights.fetch import is_remote
from bddn.data.plugins import dataset_kinds, load_kind
from bddn.spec import RECIPES, BackboneSpec, CacheSpec

WORDS = {  # kinds of data in the order of the page; others follow
    "planted": "the demo's planted brain",
    "algonauts": "Algonauts 2023 Challenge",
    "nsd": "Natural Scenes Dataset",
    "laion": "LAION-fMRI",
    "things": "THINGS-fMRI",
    "mosaic": "MOSAIC",
    "table": "my own data",
}
NAMES = {"planted": "planted:build/demo", "table": "table:mylab/data.yaml"}
TESTS = {"nsd": "shared515"}
EXTRAS = {"timm": "timm"}  # families whose library is an extra


def facts() -> dict[str, Any]:
    """All of it, as JSON types."""
    kinds = sorted(dataset_kinds(), key=lambda kind: (list(WORDS).index(kind) if kind in WORDS else len(WORDS), kind))
    return {
        "data": [_data(kind) for kind in kinds],
        "networks": [_network(name, spec) for name, spec in load_specs().items()],
        "recipes": json.loads(json.dumps(RECIPES)),
    }


def script() -> str:
    """A script of the page that defines them."""
    return f"const FACTS = {json.dumps(facts(), ensure_ascii=False)};\n"


def _data(kind: str) -> dict[str, str]:
    about = load_kind(kind).about
    name = NAMES.get(kind, about.usage.replace("[", "").replace("]", ""))
    return {
        "kind": kind,
        "words": WORDS.get(kind, about.name),
        "name": name,
        "terms": about.terms,
        "test": TESTS.get(kind, ""),
    }


def _network(name: str, spec: CacheSpec) -> dict[str, Any]:
    section: BackboneSpec | None = spec.backbone
    extra = EXTRAS.get(str(getattr(section, "family", "")), "")
    return {
        "name": name,
        "title": spec.title,
        "licence": spec.licence or "",
        "downloads": is_remote(spec),
        "extra": extra,
    }
