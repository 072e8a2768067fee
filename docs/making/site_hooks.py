"""Hooks of the site: what is inserted into its pages, and how their blocks of code are shown.

A line `<!-- insert: NAME ARGUMENT -->` in a page is replaced by what `INSERTS[NAME]` returns for the argument.
"""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import builder_facts
import gallery
from fenced_code import FENCE, attributes
from reference_pages import commands, datasets, recipes, settings, weights

ROOT = Path(__file__).resolve().parents[2]
DEMO_PAGE = ROOT / "build/demo/run/report.html"
SHOWN_PAGE = "demo/report.html"
RUN = ("bash", "python")
SEARCH = 'data-md-component="search" role="dialog"'
OPTION = re.compile(r"<code>(--[^<]{1,24}</code>)")
INSERT = re.compile(r"^<!-- insert: (\S+) ?(.*?) -->$", re.MULTILINE)


def room(path: str) -> str:
    """The README of a room of the code, with its links as they are among the pages of the site."""
    return re.sub(r"\]\((?:\.\./)+docs/", "](", (ROOT / path).read_text(encoding="utf-8"))


def brain(_: str) -> str:
    """The page of the demo, which is loaded on request if the demo was made, and its picture."""
    picture = '<img src="images/demo_page.png" alt="The page of the demo: an inflated brain, coloured by layer">'
    if not DEMO_PAGE.is_file():
        hint = "Run <code>make demo</code>, then <code>make docs</code>: here is then a brain to turn."
        return f'<div class="turn">{picture}<p>{hint}</p></div>'
    size = f"{DEMO_PAGE.stat().st_size / 1e6:.0f} MB"
    return (
        f'<div class="turn" data-page="{SHOWN_PAGE}">{picture}'
        f'<p><button type="button">Turn the brain ({size})</button> '
        f'or <a href="{SHOWN_PAGE}">open its page alone</a>.</p></div>'
    )


INSERTS: dict[str, Callable[[str], str]] = {
    "brain": brain,
    "commands": commands,
    "datasets": datasets,
    "gallery": gallery.page,
    "recipes": recipes,
    "room": room,
    "settings": settings,
    "weights": weights,
}


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add what the command builder knows, and the page of the demo and the gallery's pictures, if they were made."""
    files.append(File.generated(config, "js/facts.js", content=builder_facts.script()))
    for picture in gallery.drawn():
        files.append(File.generated(config, f"gallery/{picture.name}", abs_src_path=str(picture)))
    if DEMO_PAGE.is_file():
        files.append(File.generated(config, SHOWN_PAGE, abs_src_path=str(DEMO_PAGE)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Fill in what is inserted, and say under the page what the tests do with its code. The landing page is wide."""
    if page.file.src_uri == "index.md":
        page.meta["hide"] = ["navigation", "toc"]
    text = INSERT.sub(lambda found: INSERTS[found[1]](found[2]), markdown)
    n_run, reasons = 0, Counter[str]()

    def shown(found: re.Match[str]) -> str:
        nonlocal n_run
        language, given = found["language"], attributes(found["attributes"])
        if "why" in given:
            reasons[given["why"]] += 1
        elif language in RUN:
            n_run += 1
        title = f' title="{given["file"]}"' if "file" in given else ""
        return f"```{language}{title}\n{found['text']}```"

    return FENCE.sub(shown, text) + _note(n_run, reasons)


def on_page_content(html: str, **_: Any) -> str:
    """Mark options, whose hyphens are no places to begin a new line."""
    return OPTION.sub(r'<code class="option">\1', html)


def on_post_page(output: str, **_: Any) -> str:
    """Name the dialog of the search for screen readers, which the theme forgets."""
    return output.replace(SEARCH, f'{SEARCH} aria-label="Search"')


def _note(n_run: int, reasons: Counter[str]) -> str:
    parts = [f"run by the tests as written: {_blocks(n_run)}"] if n_run else []
    parts += [f"not run, {why}: {_blocks(n)}" for why, n in reasons.items()]
    if not parts:
        return ""
    end = " Tests check that all commands and options exist." if reasons else ""
    return f'\n\n<p class="code-note">Code on this page: {"; ".join(parts)}.{end}</p>\n'


def _blocks(n: int) -> str:
    return "1 block" if n == 1 else f"{n} blocks"
