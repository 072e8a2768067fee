"""The page of a diagnosis in a browser: readable at 1400 and 390 pixels, with keys, on paper, without any request."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]

from bddn.evaluation.diagnosis.diagnosis import Diagnosis, diagnose_runs
from bddn.evaluation.forgetting.drift import drift
from bddn.report.diagnosis_page import write_page
from bddn.run import read_run
from bddn.stats.hierarchy import IDEAL_DEPTH
from bench.rivals import Kind, simulate
from evaluation.test_diagnosis import ORDERS, plant
from report.folders import change_json
from report.opened import Opened, coloured

EVIL = "</script><img src=x onerror='window.hit=1'>\"'&{{ title }}"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    root = tmp_path_factory.mktemp("runs")
    (fits,) = simulate(Kind(n_images=60, n_voxels=140), 1, 0).models.values()
    folders = [plant(root / name, ORDERS[name], fits[0], name) for name in ("ordered", "last_in_middle")]
    change_json(folders[1] / "metrics.json", lambda metrics: metrics.update(title=EVIL))
    parent, child = (read_run(folder) for folder in folders)
    return replace(diagnose_runs([parent, child], IDEAL_DEPTH), drift=drift([child], parent, [], IDEAL_DEPTH))


@pytest.fixture(scope="module")
def page(found: Diagnosis, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(found, tmp_path_factory.mktemp("page") / "diagnosis.html")


@pytest.fixture(scope="module")
def opened(page: Path, open_page: Callable[[Path], Opened]) -> Iterator[Opened]:
    one = open_page(page)
    yield one
    assert one.complaints == []
    assert one.requests == [page.as_uri()]
    one.page.close()


@pytest.mark.parametrize("width", [1400, 390])
def test_it_is_readable_and_accessible(opened: Opened, width: int) -> None:
    opened.page.set_viewport_size({"width": width, "height": 900})
    opened.settled()
    assert opened.run("document.documentElement.scrollWidth") <= width
    picture = opened.page.locator("#network-1 .pictures img")
    assert coloured(opened.picture("#network-1 .pictures img")).sum() > 500
    box = picture.bounding_box()
    assert box is not None
    assert 300 < box["width"] < width
    violations = Axe().run(opened.page).response["violations"]
    assert [(v["id"], v["help"]) for v in violations if v["impact"] in {"serious", "critical"}] == []
    small = opened.run(
        "[...document.querySelectorAll('main p, main dd, main td, main li')]"
        ".filter((e) => parseFloat(getComputedStyle(e).fontSize) < 12).length"
    )
    assert small == 0


def test_networks_are_sorted_with_keys_and_linked(opened: Opened) -> None:
    opened.page.set_viewport_size({"width": 1400, "height": 900})
    names = opened.page.locator("#networks tbody th")
    assert names.all_inner_texts() == ["ordered", "last_in_middle"]
    slope = opened.page.locator("#networks thead button", has_text="Slope")
    slope.focus()
    opened.page.keyboard.press("Enter")
    opened.page.keyboard.press("Enter")
    assert names.all_inner_texts() == ["last_in_middle", "ordered"]
    assert opened.page.locator("#networks th[aria-sort=ascending]").count() == 1
    opened.page.locator("#summary a", has_text="last_in_middle").click()
    assert "block_7, the last layer" in opened.page.locator("#network-2 .verdict").inner_text()
    assert opened.page.locator("#network-2 svg text.wrong").all_text_contents() == ["block_7"]
    assert opened.page.locator("#network-1 svg text.wrong").count() == 0


def test_each_claim_on_the_page_has_number_source_and_limits(opened: Opened) -> None:
    claims = opened.page.locator(".claims li")
    assert claims.count() > 15
    for claim in claims.all():
        values = claim.locator("dd").all_inner_texts()
        assert len(values) == 3
        assert all(value.strip() for value in values)


def test_text_of_a_run_is_only_text_and_paper_has_all_of_it(opened: Opened) -> None:
    assert opened.run("window.hit") is None
    assert EVIL in opened.page.locator("#network-2").inner_text()
    assert "not over seeds" in opened.page.locator("#drift .tests").inner_text()
    assert opened.page.locator("main img:not([src^='data:image/png'])").count() == 0
    assert len(opened.page.pdf(format="A4")) > 50_000


def test_the_same_diagnosis_gives_the_same_bytes(found: Diagnosis, page: Path, tmp_path: Path) -> None:
    assert write_page(found, tmp_path / "again.html").read_bytes() == page.read_bytes()
