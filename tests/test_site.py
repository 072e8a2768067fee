"""The site of the documentation: built without a network and a warning, and looked at in a browser, from disk.

`--long` looks at all its pages, and in dark colours too.
"""

import json
import socket
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from mkdocs.commands.build import build
from mkdocs.config import load_config

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parent.parent
PAGES = {1400: ("index",), 390: ("builder", "api")}  # of each width in pixels
AXE = {"preload": False, "resultTypes": ["violations"]}  # what passes is not listed, which takes longer than the checks
FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; the build has no network, and a warning is an error."""
    out = tmp_path_factory.mktemp("site")

    def refuse(*_: object, **__: object) -> None:
        raise OSError("the documentation is built without a network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        patch.setattr(socket.socket, "connect", refuse)
        config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(out), strict=True)
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
    return out


class Fetched(HTMLParser):
    """What a page makes the browser load."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get(FETCHED.get(tag, ""))
        if address and not (tag == "link" and dict(attrs).get("rel") in ("canonical", "next", "prev")):
            self.addresses.append(address)


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        found = Fetched()
        found.feed(page.read_text(encoding="utf-8"))
        assert len(found.addresses) > 3 or page.parent != site  # pages of bddn itself
        for address in found.addresses:
            assert not address.startswith(("http:", "https:", "//")), f"{page.name} loads {address}"
    for sheet in site.rglob("*.css"):
        assert "url(http" not in sheet.read_text(encoding="utf-8")
        assert "@import" not in sheet.read_text(encoding="utf-8")


class Looked:
    """A page in the browser, with what it complained of and asked for."""

    def __init__(self, browser: "Browser", width: int) -> None:
        self.page: Page = browser.new_page(viewport={"width": width, "height": 900})
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._asked(request.url))

    def _asked(self, address: str) -> None:
        if not address.startswith(("file:", "data:", "about:")):
            self.complaints.append(f"asks for {address}")


@pytest.mark.parametrize("width", PAGES)
def test_pages_fit_and_are_accessible(site: Path, browser: "Browser", width: int, long: bool) -> None:
    looked = Looked(browser, width)
    names = sorted({path.stem for path in site.glob("*.html")} - {"404"}) if long else PAGES[width]
    wrong = []
    for scheme in ("light", "dark") if long else ("light",):
        looked.page.emulate_media(color_scheme=scheme)
        for name in names:
            looked.page.goto((site / f"{name}.html").as_uri())
            if looked.page.evaluate("document.documentElement.scrollWidth") > width:
                wrong.append(f"{name}: wider than {width} px")
            for violation in Axe().run(looked.page, options=AXE).response["violations"]:
                places = [node["html"] for node in violation["nodes"]]
                wrong.append(f"{name}, {width} px, {scheme}: {violation['help']}: {places[:3]}")
    assert not wrong, "\n".join(wrong)
    assert looked.complaints == []
    looked.page.close()


def test_the_search_works_from_disk(site: Path, browser: "Browser") -> None:
    looked = Looked(browser, 1400)
    looked.page.goto((site / "index.html").as_uri())
    looked.page.keyboard.press("/")
    looked.page.keyboard.type("challenge score")
    looked.page.wait_for_selector(".md-search-result__item a[href*='scores.html']", timeout=20_000)
    assert looked.complaints == []
    looked.page.close()


def test_the_builder_is_used_by_keyboard(site: Path, browser: "Browser") -> None:
    looked = Looked(browser, 390)
    page = looked.page
    page.goto((site / "builder.html").as_uri())
    assert "planted:build/demo" in page.inner_text("#builder-out")
    page.focus("#builder-data")
    page.keyboard.type("my own")  # the browser's own way to choose by letters
    assert page.input_value("#builder-name") == "table:mylab/data.yaml"
    page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type("table:it's here/data.yaml")
    assert "--data 'table:it'\\''s here/data.yaml'" in page.inner_text("#builder-out")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Copy":
            break
    else:
        pytest.fail("no button to copy")
    facts: dict[str, Any] = json.loads((site / "js/facts.js").read_text().removeprefix("const FACTS = ").rstrip(";\n"))
    assert page.locator("#builder-network option").count() == len(facts["networks"]) + 1
    assert looked.complaints == []
    page.close()


def test_the_brain_of_the_landing_page_is_loaded_on_request(site: Path, browser: "Browser") -> None:
    if not (site / "demo" / "report.html").exists():
        looked = Looked(browser, 390)
        looked.page.goto((site / "index.html").as_uri())
        assert "make demo" in looked.page.inner_text(".turn")
        return
    looked = Looked(browser, 1400)
    looked.page.goto((site / "index.html").as_uri())
    assert looked.page.locator(".turn iframe").count() == 0
    looked.page.focus(".turn button")
    looked.page.keyboard.press("Enter")
    looked.page.frame_locator(".turn iframe").locator("body[data-ready]").wait_for(timeout=60_000)
    assert looked.complaints == []
