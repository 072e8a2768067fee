"""In a browser: the scatter of a voxel with its lists and thumbnails, and links that keep the view."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]

from bddn.evaluation.kept_responses import read_held_out
from bddn.planted.subject import Planted
from bddn.report import write_report
from bddn.run import read_run
from report.opened import Opened, coloured

Open = Callable[[Path], Opened]


@pytest.fixture(scope="module")
def page(scored: Path, brain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([scored], tmp_path_factory.mktemp("page") / "page.html", [Planted(brain)]).path


def test_a_voxel_answers(open_page: Open, page: Path, scored: Path) -> None:
    run, kept = read_run(scored), read_held_out(read_run(scored))
    opened, row = open_page(page), 17
    voxel = run.voxels.iloc[row]
    opened.run(f"Page.pin({{side: {int(voxel['hemi'] == 'rh')}, vertex: {voxel['vertex']}}})")
    label = opened.page.locator(".scatter svg").get_attribute("aria-label")
    r = np.corrcoef(kept.measured[:, row], kept.predicted[:, row])[0, 1]
    assert label is not None
    assert f"R² {voxel['r2_test']:.3f}".replace("-", "−") in label
    assert f"r {r:.3f}, {len(kept.ids)} images".replace("-", "−") in label
    assert coloured(opened.picture(".scatter canvas")).sum() > 20

    slider, words = opened.page.locator(".through input"), opened.page.locator(".through p")
    slider.focus()
    for key, at in (("End", -1), ("Home", 0)):
        opened.page.keyboard.press(key)
        image = int(np.argsort(kept.measured[:, row], kind="stable")[at])
        said = words.inner_text()
        assert kept.ids[image] in said
        numbers = [float(word.replace("−", "-")) for word in said.replace(",", "").split() if word[-1].isdigit()][-2:]
        step = 2 * np.ptp(kept.measured[:, row]) / 255 + 0.006
        assert np.abs(np.subtract(numbers, [kept.measured[image, row], kept.predicted[image, row]])).max() < step
        assert slider.get_attribute("aria-valuetext") == said
    most = opened.page.locator(".images").first.locator("button")
    first = kept.ids[int(kept.measured[:, row].argmax())]
    assert str(most.first.get_attribute("aria-label")).startswith(first)
    most.first.focus()
    assert first in words.inner_text()
    assert opened.page.locator(".images img").count() == 3 * most.count()
    assert opened.run("[...document.querySelectorAll('.images img')].every((image) => image.naturalWidth > 16)")
    assert [
        v["id"] for v in Axe().run(opened.page).response["violations"] if v["impact"] in {"serious", "critical"}
    ] == []
    opened.page.set_viewport_size({"width": 390, "height": 844})
    opened.settled()
    assert opened.run("document.documentElement.scrollWidth") <= 390
    assert opened.complaints == []
    opened.page.close()


OF_STATE = "map.name pinned.side pinned.vertex threshold of frame outlines all"
STATE = f"[{', '.join(f'State.{name}' for name in OF_STATE.split())}, View.now]"


def test_a_link_leads_back_to_the_view(open_page: Open, page: Path) -> None:
    opened = open_page(page)
    start = opened.run(STATE)
    assert opened.page.url == page.as_uri()
    opened.choose_map("scale_map")
    opened.page.select_option("#threshold-of", "ceiling")
    opened.slide("threshold", 0.2)
    opened.slide("frame", 0)
    opened.page.set_checked("#outlines", False)
    opened.page.locator("[data-only='1']").click()
    opened.run("View.set({azimuth: 123.4, zoom: 1.5}); Page.pin({side: 1, vertex: Data.runs[0].vertex.at(-1)})")
    opened.run("void (navigator.clipboard.writeText = async (text) => { window.copied = text; })")
    opened.page.locator("#link").click()
    opened.wait("window.copied && location.hash.length > 1 && location.href === window.copied")
    wanted, link, map_ = opened.run(STATE), opened.page.url, opened.picture(".view")
    assert link.startswith(f"{page.as_uri()}#")
    assert wanted[:1] == ["scale_map"]

    opened.run("void (navigator.clipboard.writeText = () => Promise.reject())")
    opened.page.locator("#link").click()
    assert opened.page.locator("#link-field").input_value() == link

    again = opened.page.context.new_page()
    again.goto(link)
    again.wait_for_selector("body[data-ready]")
    assert again.evaluate(STATE) == wanted
    assert again.locator("#map").input_value() == opened.page.locator("#map").input_value()
    assert again.locator("#threshold-words").inner_text() == opened.page.locator("#threshold-words").inner_text()
    assert not again.is_checked("#outlines")
    again.close()

    opened.page.evaluate("location.hash = ''")  # an address that tells no view changes nothing
    opened.settled()
    assert opened.run(STATE) == wanted
    hemi = ["lh", "rh"][start[1]]
    opened.page.evaluate(f"location.hash = 'voxel={hemi}.{start[2]}'")
    opened.wait("State.map.name === 'layer_map'")
    assert opened.run(STATE) == start
    opened.settled()
    assert np.abs(opened.picture(".view") - map_).max() > 30
    assert opened.complaints == []
    opened.page.close()
