"""All pages of the documentation: their commands exist, their links lead somewhere, their code runs or says why not."""

import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from bddn.errors import BddnError
from bddn.spec import CacheSpec, FinetuneSpec, FitSpec, OwnDataSpec, PlantSpec
from bddn.spec.yaml_file import read_yaml
from command_words import command_of, shell_commands
from fenced_code import FENCE, Block, blocks
from gallery import FILES
from gallery_figures import FIGURES, GROUPS

ROOT = Path(__file__).parent.parent

LISTED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
PAGES = sorted({ROOT / name for name in LISTED.stdout.split()} | {*ROOT.glob("docs/*.md"), ROOT / "README.md"})
EXECUTED = {  # pages whose blocks without a reason are run, and the test that does it
    "docs/demo.md": "tests/test_docs_run.py",
    "docs/export.md": "tests/test_docs_run.py",
    "docs/own_data.md": "tests/test_own_data_docs.py",
    "docs/own_model.md": "tests/test_tutorial.py",
    "docs/library_networks.md": "tests/test_library_tutorial.py",
    "docs/python.md": "tests/test_docs_run.py",
}
LANGUAGES = {"bash", "python", "yaml", "toml", "text", "json"}
SPECS = (CacheSpec, FitSpec, FinetuneSpec, PlantSpec, OwnDataSpec)
OTHERS = {
    "apptainer",
    "docker",
    "apt-get",
    "aws",
    "cat",
    "cd",
    "cp",
    "curl",
    "export",
    "git",
    "head",
    "hf",
    "ls",
    "mkdir",
    "mv",
    "open",
    "rsync",
    "source",
    "ssh",
    "unzip",
}
INCOMPLETE = {"BadOptionUsage", "BadParameter", "MissingParameter"}  # of click, or of the copy of it in typer
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?: \"[^\"]*\")?\)")
CODE_SPAN = re.compile(r"``.*?``|`[^`\n]+`")
HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)?(?: *\{.*\})?$", re.MULTILINE)


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_block_has_a_language_and_is_run_or_says_why_not(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = blocks(page)
    assert 2 * len(found) == len(re.findall(r"^```", text, re.MULTILINE)), "a block whose first line is not understood"
    for block in found:
        assert block.language in LANGUAGES, block.text[:80]
        if block.language in ("bash", "python") and not block.why and not block.file:
            assert _name(page) in EXECUTED, f"no test runs it, and it does not say why: {block.text[:80]}"


@pytest.mark.parametrize("page", EXECUTED)
def test_the_tests_that_run_pages_name_them(page: str) -> None:
    read = (ROOT / EXECUTED[page]).read_text() + (ROOT / "tests/data/own_trees.py").read_text()
    assert Path(page).name in read


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_command_and_option_exists(page: Path) -> None:
    for block in blocks(page):
        if block.language == "bash":
            for words in shell_commands(block.text):
                _check(words)
    for span in CODE_SPAN.findall(_prose(page)):
        text = span.strip("`").strip()
        if text.startswith("bddn ") and "…" not in text.partition(" ")[2][:2] and text[5:6].islower():
            _check_mentioned(text.removeprefix("bddn "))


def _check(words: list[str]) -> None:
    program, *rest = words
    program = program.removeprefix(".venv/bin/")
    if program == "bddn":
        command_of([word for word in rest if word != "…"])
    elif program == "make":
        _check_targets([word for word in rest if "=" not in word])
    elif program == "pip" and "install" in rest:
        _check_extras(" ".join(rest))
    elif program in ("python", "python3", "sbatch") and (script := _script(rest)):
        assert (ROOT / script).is_file(), script
        source = (ROOT / script).read_text()
        own = rest[rest.index(script) + 1 :] if program != "sbatch" else []
        for option in own:
            if option.startswith("--"):
                name = option[2:].partition("=")[0]
                assert name.replace("-", "_") in source or f'"--{name}"' in source, f"{script} has no {option}"
    else:
        assert program in {*OTHERS, "python", "python3", "pip"}, " ".join(words)


def _script(words: list[str]) -> str | None:
    return next((word for word in words if word.startswith(("pipelines/", "tests/"))), None)


def _check_mentioned(text: str) -> None:
    """What is mentioned in a sentence may lack arguments, and have letters for numbers."""
    (words, *_) = shell_commands(text) or [[]]
    try:
        command_of([word for word in words if word != "…"])
    except Exception as error:
        if type(error).__name__ not in INCOMPLETE:
            raise


@cache
def _targets() -> set[str]:
    done = subprocess.run(["make", "-qp"], cwd=ROOT, capture_output=True, text=True, check=False)
    return set(re.findall(r"^([a-z][\w.-]*):", done.stdout, re.MULTILINE))


def _check_targets(names: list[str]) -> None:
    for name in names:
        stem, _, end = name.partition("-")
        assert name in _targets() or (end in ("NAME", "GROUP") and f"{stem}-clip_vit_b16" in _targets()), name


def _check_extras(words: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for group in re.findall(r"bddn\[([\w,]+)\]", words):
        assert {*group.split(",")} <= extras.keys(), group


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_extras_that_are_named_exist(page: Path) -> None:
    _check_extras(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_settings_are_those_of_a_spec(page: Path) -> None:
    for block in blocks(page):
        if block.language == "yaml":
            assert _parses(block), block.text


def _parses(block: Block) -> bool:
    for kind in SPECS:
        try:
            kind.from_yaml(block.text.encode(), "documentation")
        except BddnError:
            continue
        return True
    value = read_yaml(block.text.encode(), "documentation").value
    assert isinstance(value, dict)
    sections = {name: CacheSpec.class_of(name, section) for name, section in value.items()}  # a part of a spec
    return all(kind is not None and kind.model_validate(value[name]) for name, kind in sections.items())


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    """Links to the web are not followed. Pages that show a README of a room have its headings."""
    for target in LINK.findall(CODE_SPAN.sub("", _prose(page))):
        path, _, anchor = target.partition("#")
        if "://" in path or path.startswith("mailto:"):
            continue
        at = (page.parent / path).resolve() if path else page
        assert at.exists(), f"{_name(page)}: {target}"
        if anchor:
            assert anchor in _anchors(at), f"{_name(page)}: {target}"


@cache
def _anchors(page: Path) -> set[str]:
    text = page.read_text(encoding="utf-8")
    for room in re.findall(r"^<!-- insert: room (\S+) -->$", text, re.MULTILINE):
        text += (ROOT / room).read_text(encoding="utf-8")
    found = {_slug(heading) for heading in HEADING.findall(FENCE.sub("", text))}
    for names in re.findall(r"^<!-- insert: settings (.+) -->$", text, re.MULTILINE):
        found |= {name.lower() for name in names.split()}
    return found


def _slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and the site make it for the headings that are used here."""
    kept = re.sub(r"[^\w\s-]", "", heading.replace("`", "").lower()).strip()
    return re.sub(r"[\s-]+", "-", kept)


def test_every_page_is_in_the_navigation() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())

    def pages(part: Any) -> set[str]:
        if isinstance(part, str):
            return {part}
        return set().union(*(pages(one) for one in (part.values() if isinstance(part, dict) else part)))

    assert pages(site["nav"]) == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_the_commands_and_settings_of_the_gallery_exist() -> None:
    for group in GROUPS:
        for command in (*group.prepared, *(figure.command for figure in group.figures)):
            _check(shell_commands(command)[0])
    assert len({figure.name for figure in FIGURES}) == len(FIGURES)
    for name in {path.name for path in FILES.glob("*.yaml")}:
        assert _parses(Block("yaml", name, "", (FILES / name).read_text())), name


def test_the_demo_page_has_the_commands_of_make_demo() -> None:
    (block, *_) = (one for one in blocks(ROOT / "docs/demo.md") if "bddn plant" in one.text)
    done = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True)
    made = [line.strip().partition("/bin/")[2] for line in done.stdout.splitlines() if "/bin/bddn " in line]
    assert block.text.splitlines() == made


def test_a_package_index_shows_no_broken_pictures_and_links() -> None:
    hook = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["metadata"]["hooks"]
    text = (ROOT / "README.md").read_text()
    for one in hook["fancy-pypi-readme"]["substitutions"]:
        text, n = re.subn(one["pattern"], one["replacement"], text)
        assert n
    assert not [target for target in LINK.findall(text) if "://" not in target]
    assert "make demo" in text


def test_the_readme_names_what_a_newcomer_needs() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text
    assert len(text.splitlines()) < 90
