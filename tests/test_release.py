"""What a release says of itself agrees: versions, commands and files."""

import re
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import yaml
from packaging.specifiers import SpecifierSet

import bddn
from bddn.backbones.registry import spec_folder

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == bddn.__version__
    assert citation["license"] == PROJECT["project"]["license"]
    assert {author["name"] for author in citation["authors"]} == {one["name"] for one in PROJECT["project"]["authors"]}
    first = re.search(r"^## (\S+?),? ?(?:not yet released)?$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert first is not None
    assert first[1] == bddn.__version__
    assert "The bddn authors" in (ROOT / "LICENSE").read_text()


def test_pinned_versions_install_on_the_oldest_python() -> None:
    pins = set((ROOT / "constraints.txt").read_text().splitlines())
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=") + ".0"
    # not all packages name the Pythons that they need
    found = {
        f"{one.name}=={one.version}": ",".join(one.metadata.get_all("Requires-Python") or ()) for one in distributions()
    }
    assert len(pins & found.keys()) > 50
    assert [pin for pin in sorted(pins & found.keys()) if oldest not in SpecifierSet(found[pin])] == []


def test_its_commands_are_targets_of_make() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in ("CONTRIBUTING.md", "README.md"):
        for target in re.findall(r"^make ([\w-]+)", (ROOT / page).read_text(), re.M):
            assert re.search(rf"^{target}:|^{re.sub('-.*', '-', target)}\$\(1\):", makefile, re.M), target


def test_every_extra_that_a_text_names_exists() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    texts = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "bddn").rglob("*.py"),
        *ROOT.glob("pipelines/*"),
    ]
    for path in (text for text in texts if text.is_file()):
        for names in re.findall(r"(?:bddn|/src)\[([\w,]+)\]", path.read_text()):
            assert {*names.split(",")} <= extras.keys(), path
    assert {"film", "s3", "slurm"} <= extras.keys()
    lowest = re.search(r"^LOWEST_EXTRAS := (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert lowest is not None
    assert {*lowest[1].split()} <= extras.keys()


def test_all_pythons_that_it_names_are_allowed() -> None:
    named = [line.rpartition(" ")[2] for line in PROJECT["project"]["classifiers"] if line.count("Python :: 3.")]
    assert named == ["3.11", "3.12", "3.13"]
    assert PROJECT["project"]["requires-python"] == f">={named[0]}"


def test_the_wheel_has_the_specs() -> None:
    inside = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert inside == {spec_folder().name: f"bddn/{spec_folder().name}"}


def test_the_paths_that_the_targets_name_exist() -> None:
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    found = re.search(r"^LOWEST_TESTS := (.*)$", text, re.M)
    assert found is not None
    for path in found[1].split():
        assert (ROOT / path).exists(), path
    for path in re.findall(r"^COPY (.+) /src", (ROOT / "pipelines" / "Containerfile").read_text(), re.M):
        assert all((ROOT / one).exists() for one in path.split())
