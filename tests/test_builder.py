"""The command builder of the documentation: whatever is chosen, bddn understands the commands and files it writes."""

import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

import builder_facts
from bddn.backbones.registry import spec_names
from bddn.data.plugins import dataset_kinds
from bddn.spec import CacheSpec, FitSpec
from command_words import command_of, shell_commands
from report.js.check import node

ROOT = Path(__file__).parent.parent
COMBINATIONS = ROOT / "tests/builder_combinations.js"
COMMANDS = {"extract", "fit", "fit-many", "ensemble", "score", "check", "maps", "report", "diagnose"}


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    """What the builder writes for all combinations of choices."""
    script = (ROOT / "docs/js/builder.js").read_text()
    facts = json.dumps(builder_facts.facts())
    text = f"const facts = {facts};\n{script}\n{COMBINATIONS.read_text()}"
    found, _ = node()
    done = subprocess.run([*found, "-"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_all_combinations_are_commands_of_bddn(written: dict[str, Any]) -> None:
    assert written["n"] > 3_000
    ran = set()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for line in written["commands"]:
        (words,) = shell_commands(line)
        if words[0] == "sbatch" and "--wrap" in words:
            (words,) = shell_commands(words[words.index("--wrap") + 1])
        if words[0] == "bddn":
            ran.add(command_of(words[1:]))
        elif words[0] == "pip":
            assert {*re.findall(r"\w+", line.partition("[")[2])} <= extras.keys()
        else:
            (script,) = (word for word in words if word.startswith("pipelines/"))
            assert (ROOT / script).is_file()
            for option in words[words.index(script) :]:
                assert not option.startswith("--") or f"{option[2:]}:" in (ROOT / script).read_text()
    assert {
        ("extract",),
        ("fit",),
        ("fit-many",),
        ("ensemble",),
        ("score",),
        ("data", "check"),
        ("data", "init"),
    } <= ran


def test_all_files_are_specs(written: dict[str, Any]) -> None:
    names = set()
    for file in written["files"]:
        kind = CacheSpec if file["name"] == "mynet.yaml" else FitSpec
        spec = kind.from_yaml(file["text"].encode(), file["name"])
        names.add(file["name"])
        if isinstance(spec, FitSpec):
            recipe = "fast" if "recipe fast" in file["text"] else "paper"
            assert spec.model_copy(update={"split_by": None, "split_seed": None}) == FitSpec.recipe(recipe)
            assert spec.split_by is not None
    assert names == {"mynet.yaml", "fit.yaml"}


def test_the_builder_knows_all_networks_and_kinds_of_data() -> None:
    facts = builder_facts.facts()
    assert all(re.fullmatch(r"[a-z0-9_]+", one["name"]) for one in facts["networks"])
    assert all(shlex.split(one["name"]) == [one["name"]] for one in facts["data"])
    assert [one["name"] for one in facts["networks"]] == spec_names()
    assert {one["kind"] for one in facts["data"]} == dataset_kinds().keys()
    assert facts["data"][0]["kind"] == "planted"
