"""The page in a browser: it draws, asks for nothing, answers to mouse, keys and sliders, and shows voxels in place.

Pixels are looked at, not the script's own account of them, wherever that can be.
"""

import gzip
import json
import os
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]

from bddn.maps.colors import NO_EVIDENCE
from bddn.report import write_report
from report.folders import change_json, change_voxels, mark
from report.opened import Opened, coloured, middle

DRAWN_WITHIN_MS = 2000

Open = Callable[[Path], Opened]


@pytest.fixture(scope="module")
def shared(open_page: Open, single: Path) -> Iterator[Opened]:
    """The page of one run, opened once."""
    opened = open_page(single)
    yield opened
    opened.page.close()


@pytest.fixture
def one(shared: Opened) -> Iterator[Opened]:
    """The page of one run, as it was when opened."""
    yield shared
    assert shared.complaints == []
    assert shared.requests == [shared.file.as_uri()]
    shared.run("Controls.only(null); View.set({azimuth: 28, elevation: 8, zoom: 1, panX: 0, panY: 0, shape: 0})")
    shared.slide("threshold", -10)
    shared.choose_map("layer_map")
    shared.page.set_checked("#outlines", True)


@pytest.fixture(scope="module")
def both(open_page: Open, comparison: Path) -> Iterator[Opened]:
    opened = open_page(comparison)
    yield opened
    assert opened.complaints == []
    assert opened.requests == [comparison.as_uri()]
    opened.page.close()


def only_colours(opened: Opened) -> None:
    """Take off what lies on the brain, so that its colours are all that is to be seen."""
    opened.page.set_checked("#outlines", False)
    opened.page.mouse.move(0, 0)
    opened.run("State.pinned = State.hover = null; Page.redraw()")
    opened.settled()


def test_it_draws_soon_and_asks_for_nothing(open_page: Open, single: Path) -> None:
    times = []
    for _ in range(3):
        opened = open_page(single)
        times.append(int(opened.run("document.body.dataset.ready")))
        assert opened.requests == [single.as_uri()]
        assert opened.complaints == []
        assert coloured(opened.picture()).sum() > 500
        opened.page.close()
        busy = max(os.getloadavg()[0] / (os.cpu_count() or 1), 1.0)  # what else this machine is doing
        if times[-1] < DRAWN_WITHIN_MS * busy:
            return
    pytest.fail(f"drawn after {times} ms")


def test_a_request_that_got_in_would_be_stopped(open_page: Open, single: Path) -> None:
    opened = open_page(single)
    stopped = opened.run(
        """new Promise((done) => {
            const found = [];
            setTimeout(() => done(found.sort()), 10000);
            addEventListener("securitypolicyviolation", (event) => {
                found.push(event.effectiveDirective);
                if (found.length === 3) done(found.sort());
            });
            const image = new Image();
            image.src = "https://example.com/x.png";
            fetch("https://example.com/").catch(() => 0);
            const script = document.createElement("script");
            script.textContent = "window.injected = 1";
            document.body.append(script);
        })"""
    )
    assert stopped == ["connect-src", "img-src", "script-src-elem"]
    assert opened.run("window.injected") is None
    opened.page.close()


def test_the_choice_of_the_map_changes_colours(one: Opened) -> None:
    only_colours(one)
    seen = {}
    for name in ("layer_map", "score_map", "place_map", "weight_block_1", "ceiling", "roi"):
        one.choose_map(name)
        picture = one.picture()
        seen[name] = picture[coloured(picture)].mean(axis=0) if coloured(picture).any() else np.zeros(3)
        assert coloured(one.picture("#legend")).any()
    names = list(seen)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert np.abs(seen[a] - seen[b]).max() > 4, (a, b)


def test_colours_are_those_of_the_legend(one: Opened, runs: Path) -> None:
    only_colours(one)
    one.run("View.set({shape: 1, zoom: 6})")
    one.choose_map("score_map")
    voxels = pd.read_parquet(runs / "one" / "voxels.parquet")
    picture = one.picture(".view")
    checked = 0
    for row, voxel in voxels.iterrows():
        at = one.run(f"Overlay.where(0, {int(voxel['hemi'] == 'rh')}, {voxel['vertex']})")
        inside = 2 < at["x"] < picture.shape[1] - 2 and 2 < at["y"] < picture.shape[0] - 2
        if not (at["inSight"] and inside):
            continue
        expected = one.run(
            f"(() => {{ const c = []; Colours.painter(State.map, Data.runs[0], 0)({row}, c, 0); return c; }})()"
        )
        found = picture[round(at["y"]), round(at["x"])]
        checked += np.abs(found - expected).max() < 24
    assert checked > 0.6 * len(voxels)


def test_a_click_on_a_voxel_shows_its_numbers(one: Opened, runs: Path) -> None:
    voxels = pd.read_parquet(runs / "one" / "voxels.parquet")
    box = one.page.locator(".view").bounding_box()
    assert box is not None
    clicked = 0
    for _, voxel in voxels.iloc[::9].iterrows():
        side = int(voxel["hemi"] == "rh")
        at = one.run(f"Overlay.where(0, {side}, {voxel['vertex']})")
        if not at["inSight"]:
            continue
        one.page.mouse.click(box["x"] + at["x"], box["y"] + at["y"])
        cells = one.run("[...document.querySelectorAll('[data-exact]')].map((c) => [c.dataset.exact, c.textContent])")
        shown = dict(cells)
        if int(shown["vertex"]) != voxel["vertex"]:  # on the edge, a neighbour is nearer
            continue
        clicked += 1
        assert (shown["hemi"], shown["layer_argmax"]) == (voxel["hemi"], voxel["layer_argmax"])
        for name, value in voxel.items():
            if isinstance(value, float):
                assert float(shown[str(name)].replace("−", "-")) == pytest.approx(np.float32(value), rel=1e-7)
                exact = one.run(f"Data.runs[0].numbers[{json.dumps(name)}][Data.runs[0].at[{side}][{voxel['vertex']}]]")
                assert exact == np.float32(value)
        read = f"{voxel['r2_test']:.3f}".replace("-", "−")
        assert one.page.locator("[data-column=r2_test]").inner_text() == read
        said = one.page.locator("#found").inner_text()
        assert f"vertex {voxel['vertex']}" in said
        assert f"brain score {read}" in said
    assert clicked >= 3


def test_keys_and_the_form_find_voxels(one: Opened) -> None:
    one.page.select_option("#region", index=1)
    region = one.page.locator("#region").input_value()
    assert region in one.page.locator(".regions").inner_text().split("\n")
    before = one.page.locator(".who").inner_text()
    one.page.locator(".view").focus()
    seen = {before}
    for key in ("ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown"):
        one.page.keyboard.press(key)
        seen.add(one.page.locator(".who").inner_text())
    assert len(seen) > 1
    azimuth = one.run("View.now.azimuth")
    one.page.keyboard.press("Shift+ArrowRight")
    assert one.run("View.now.azimuth") == azimuth + 15
    one.page.keyboard.press("f")
    one.settled()
    assert one.page.locator("#shape-words").inner_text() == "flat"
    vertex = one.run("Data.runs[0].vertex[3]")
    side = one.run("Data.runs[0].side[3]")
    one.page.select_option("#side", str(side))
    one.page.fill("#vertex", str(vertex))
    one.page.locator("#find button").click()
    assert one.page.locator(".who").inner_text().endswith(f"vertex {vertex}")
    one.page.fill("#vertex", "10241")
    one.page.locator("#find button").click()
    assert "no voxel at vertex 10241" in one.page.locator("#missing").inner_text()


def test_nearest_by_channels_lead_to_each_other(one: Opened) -> None:
    first = one.page.locator(".similar button").first
    vertex = first.get_attribute("data-vertex")
    first.click()
    assert one.page.locator(".who").inner_text().endswith(f"vertex {vertex}")


def test_sliders_move(one: Opened, runs: Path) -> None:
    only_colours(one)
    all_of_them = coloured(one.picture()).sum()
    scores = pd.read_parquet(runs / "one" / "voxels.parquet")["r2_test"]
    limit = round(float(scores.quantile(0.8)), 2)
    one.slide("threshold", limit)
    assert (
        f"{(scores.astype(np.float32) >= limit).sum()} of {len(scores)}"
        in one.page.locator("#threshold-words").inner_text()
    )
    assert coloured(one.picture()).sum() < 0.6 * all_of_them
    one.slide("threshold", -10)
    inflated = one.picture()
    one.slide("shape", 0.4)
    between = one.picture()
    one.page.locator("#fold").click()
    one.page.locator("#fold").click()
    one.slide("shape", 1)
    flat = one.picture()
    for a, b in ((inflated, between), (between, flat)):
        assert (np.abs(a - b).max(axis=2) > 20).mean() > 0.1


def test_the_film_shows_what_was_learned(one: Opened) -> None:
    only_colours(one)
    fitted = one.picture()
    assert one.page.locator("#film").is_visible()
    one.slide("frame", 0)
    assert one.page.locator("#frame-words").inner_text() == "step 0"
    first = one.picture()
    assert (np.abs(first - fitted).max(axis=2) > 20).sum() > 200
    one.choose_map("scale_map")
    assert one.run("State.frame") == 0
    one.choose_map("score_map")  # scores are known in the end only
    assert one.run("State.frame") is None
    assert one.page.locator("#frame-words").inner_text() == "fitted"
    one.page.locator("#play").click()
    one.wait("State.frame > 0")
    assert one.run("State.map.name") == "layer_map"
    one.page.locator("#play").click()
    one.slide("frame", 10_000)
    assert np.abs(one.picture() - fitted).max() < 30


def test_tables_sort(one: Opened) -> None:
    table = one.page.locator("table.sortable").first
    head = table.locator("thead button", has_text="Score")

    def column() -> list[float]:
        cells = table.locator("tbody tr td:nth-child(3)").all_inner_texts()
        return [float(cell.replace("−", "-")) for cell in cells]

    before = column()
    head.click()
    assert column() == sorted(before, reverse=True)
    assert table.locator("th[aria-sort=descending]").count() == 1
    head.click()
    assert column() == sorted(before)
    table.locator("thead button", has_text="Region").click()
    names = table.locator("tbody th").all_inner_texts()
    assert names == sorted(names)


def test_no_serious_fault_of_accessibility(one: Opened, both: Opened) -> None:
    for opened in (one, both):
        found = Axe().run(opened.page).response["violations"]
        serious = [(v["id"], v["help"]) for v in found if v["impact"] in {"serious", "critical"}]
        assert serious == []


def test_long_names_of_layers_fit_a_phone(open_page: Open, run_copy: Path, tmp_path: Path) -> None:
    begin = "a_network_with_a_very_long_name_of_its_own.module.residual_stages."
    layers = [f"{begin}{i}.post_attention_layer_normalization_{'abc'[i]}_out" for i in range(3)]
    named = dict(zip(("block_0", "block_1", "block_2"), layers, strict=True))
    change_json(run_copy / "run.json", lambda about: about.update(layers=layers))
    change_json(run_copy / "metrics.json", lambda metrics: metrics.update(unread_layers=layers[1:]))
    weights = {f"weight_{old}": f"weight_{new}" for old, new in named.items()}
    change_voxels(run_copy, lambda table: table.replace({"layer_argmax": named}).rename(columns=weights))
    (run_copy / "learning.safetensors").unlink()
    opened = open_page(write_report([run_copy], tmp_path / "long.html").path)
    opened.page.set_viewport_size({"width": 360, "height": 800})
    opened.settled()
    assert opened.run("document.documentElement.scrollWidth") <= 360
    assert f"{begin}*_out" in opened.page.inner_text("#legend")
    written = opened.page.locator("#legend .names span, #voxel .bars .chosen, #voxel .bars .other").all_text_contents()
    assert max(len(text) for text in written) == len("0.pos…tion_a")
    boxes = opened.run(
        "[...document.querySelectorAll('#voxel .bars text')].filter((text) => text.textContent.includes('…'))"
        ".map((text) => text.getBoundingClientRect()).map((box) => [box.left, box.right])"
    )
    assert all(left >= right for (_, right), (left, _) in pairwise(sorted(boxes))), boxes
    opened.page.close()


def test_it_is_readable_on_a_phone_and_on_paper(one: Opened) -> None:
    one.page.set_viewport_size({"width": 390, "height": 844})
    one.settled()
    assert one.run("document.documentElement.scrollWidth") <= 390
    assert coloured(one.picture()).sum() > 30
    one.page.set_viewport_size({"width": 1400, "height": 900})
    one.settled()
    assert len(one.page.pdf(format="A4")) > 20_000
    assert one.run("document.getElementById('print').naturalWidth") > 1000  # the brain as a picture


def test_brains_rotate_together(both: Opened) -> None:
    only_colours(both)
    views = both.page.locator(".view")
    assert views.count() == 2
    box = views.first.bounding_box()
    assert box is not None
    before = [both.picture(f".tile[data-run='{k}'] .view") for k in (0, 1)]
    both.page.mouse.move(box["x"] + 200, box["y"] + 150)
    both.page.mouse.down()
    both.page.mouse.move(box["x"] + 60, box["y"] + 170, steps=4)
    both.page.mouse.up()
    both.settled()
    after = [both.picture(f".tile[data-run='{k}'] .view") for k in (0, 1)]
    for old, new in zip(before, after, strict=True):
        assert (np.abs(old - new).max(axis=2) > 20).mean() > 0.05
    outline = [picture.min(axis=2) < 250 for picture in after]  # of the brain, whatever its colours
    width = min(o.shape[1] for o in outline)
    assert (outline[0][:, :width] != outline[1][:, :width]).mean() < 0.03
    assert both.run("View.now.azimuth") != 28


def test_compared_runs_share_map_colours_and_voxel(both: Opened) -> None:
    assert both.run("Data.maps.filter((map) => map.name === 'score_map').length") == 1
    assert both.run("new Set(Data.maps.map((map) => map.name)).size") == both.run("Data.maps.length")
    both.choose_map("weight_block_1")  # the second run has no such layer, and so bare cortex
    only_colours(both)
    both.settled()
    assert coloured(both.picture(".tile[data-run='0'] .view")).sum() > 200
    assert coloured(both.picture(".tile[data-run='1'] .view")).sum() < 20
    both.run("Page.pin({side: Data.runs[0].side[5], vertex: Data.runs[0].vertex[5]})")
    who = both.page.locator(".card .who").all_inner_texts()
    assert len(who) == 2
    assert len(set(who)) == 1


def nilearn_mesh(kind: str, side: str) -> npt.NDArray[np.float64]:
    """Places of the vertices as nilearn's own file has them."""
    package = find_spec("nilearn")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).parent / "datasets" / "data" / "fsaverage5" / f"{kind}_{side}.gii.gz"
    return np.asarray(nibabel.GiftiImage.from_bytes(gzip.decompress(file.read_bytes())).agg_data()[0], dtype=np.float64)


@pytest.fixture(scope="module")
def marked(runs: Path, open_page: Open, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """A page with one voxel that is predicted well in each hemisphere: left high up, right low, both behind outside."""
    import shutil

    folder = shutil.copytree(runs / "one", tmp_path_factory.mktemp("marked") / "run")
    left, right = nilearn_mesh("infl", "left"), nilearn_mesh("infl", "right")
    mark(
        folder,
        {"lh": int((left @ [-1, -1, 1]).argmax()), "rh": int((right @ [1, -1, -1]).argmax())},
    )
    opened = open_page(write_report([folder]).path)
    opened.slide("threshold", 0.5)
    opened.choose_map("score_map")
    only_colours(opened)
    yield opened
    assert opened.complaints == []
    opened.page.close()


def seen_from(opened: Opened, view: str) -> npt.NDArray[np.bool_]:
    opened.page.locator(f"[data-view={view}]").click()
    opened.run("View.zoom(1.2)")
    opened.settled()
    return coloured(opened.picture(".view"))


def test_a_marked_voxel_is_on_its_side_and_in_its_place(marked: Opened) -> None:
    back = seen_from(marked, "back")
    half = back.shape[1] // 2
    left, right = middle(back[:, :half]), middle(back[:, half:])
    assert left[1] < 0.5 < right[1]  # high up on the left, low on the right
    above = seen_from(marked, "top")
    x, y = middle(above[:, :half])
    assert y > 0.5  # behind, and what is in front is up
    assert not above[:, half:].any()
    below = seen_from(marked, "below")
    x, y = middle(below[:, half:])
    assert y < 0.5
    assert not below[:, :half].any()
    from_left = seen_from(marked, "left")
    x, y = middle(from_left)
    assert x > 0.5  # behind is to the right of who looks at the left hemisphere
    assert y < 0.5
    from_right = seen_from(marked, "right")
    x, y = middle(from_right)
    assert x < 0.5
    assert y > 0.5


def test_letters_say_where_is_what(marked: Opened) -> None:
    expected = {"back": "LRSI", "left": "APSI", "right": "PASI", "top": "LRAP", "below": "LRPA"}
    for view, letters in expected.items():
        marked.page.locator(f"[data-view={view}]").click()
        marked.settled()
        edges = ("left", "right", "top", "bottom")
        assert "".join(marked.page.locator(f".letter.{edge}").inner_text() for edge in edges) == letters


def test_flat_maps_lie_side_by_side_and_unflipped(marked: Opened) -> None:
    marked.run("View.set({azimuth: 200, shape: 1, zoom: 1})")
    marked.settled()
    flat = coloured(marked.picture(".view"))
    half = flat.shape[1] // 2
    assert flat[:, :half].any()
    assert flat[:, half:].any()
    for side, name, toward in ((0, "left", -1), (1, "right", 1)):
        sheet = nilearn_mesh("flat", name)
        at = np.array(
            [
                [p["x"], p["y"], p["inSight"]]
                for p in marked.run(f"Array.from({{length: 512}}, (_, i) => Overlay.where(0, {side}, 20 * i))")
            ]
        )
        known = at[:, 2] == 1
        assert np.corrcoef(at[known, 0], sheet[::20][:512][known, 0])[0, 1] > 0.999
        assert np.corrcoef(at[known, 1], sheet[::20][:512][known, 1])[0, 1] < -0.999  # rows run down
        front = nilearn_mesh("infl", name)[::20][:512, 1]
        assert np.sign(np.corrcoef(at[known, 0], front[known])[0, 1]) == toward


EVIL = "</script><img src=x onerror='window.hit=1'><script>window.hit=1</script>\"'&${title}{{ title }}{# x #}{% raw %}"


def test_text_of_a_run_is_only_text(run_copy: Path, open_page: Open) -> None:
    change_json(run_copy / "metrics.json", lambda metrics: metrics.update(title=EVIL, cache_digest=EVIL))
    change_json(run_copy / "run.json", lambda about: about["cache"].update(digest=EVIL))
    change_voxels(run_copy, lambda voxels: voxels.assign(roi=EVIL, words=EVIL).rename(columns={"words": EVIL}))
    opened = open_page(write_report([run_copy]).path)
    opened.choose_map("roi")
    assert opened.run("window.hit") is None
    assert opened.page.locator("h1").inner_text() == EVIL
    assert opened.page.locator("h1 > *").count() == 0
    assert opened.page.locator(".regions li").first.inner_text() == EVIL
    assert opened.page.locator("img:not(#print)").count() == 0
    assert opened.complaints == []
    assert re.fullmatch(r"file://.*/report\.html", opened.requests[0])
    assert len(opened.requests) == 1
    opened.page.close()


def test_voxels_without_evidence_are_one_grey_until_they_are_asked_for(
    runs: Path, open_page: Open, tmp_path: Path
) -> None:
    import shutil

    folder = shutil.copytree(runs / "one", tmp_path / "run")

    def change(voxels: pd.DataFrame) -> pd.DataFrame:
        left = voxels["hemi"] == "lh"
        layer = np.where(left, "block_0", "block_2")
        return voxels.assign(q_test=np.where(left, 0.5, 0.01), layer_argmax=layer, size=1.0)

    change_voxels(folder, change)
    voxels = pd.read_parquet(folder / "voxels.parquet")
    lacking = voxels[voxels["hemi"] == "lh"]
    opened = open_page(write_report([folder]).path)
    only_colours(opened)
    opened.page.locator("[data-only='0']").click()
    opened.run("View.set({shape: 1})")
    for name in ("layer_map", "place_map", "scale_map", "size", "depth"):
        opened.choose_map(name)
        assert opened.page.locator("#evidence").is_visible()
        assert not coloured(opened.picture(".view")).any(), name
        grey = np.abs(opened.picture(".view") - 255 * NO_EVIDENCE).max(axis=2) < 3
        assert grey.sum() > 100, name
    opened.choose_map("score_map")
    assert not opened.page.locator("#evidence").is_visible()
    assert coloured(opened.picture(".view")).any()
    opened.choose_map("layer_map")
    words = opened.page.locator("#evidence-words").inner_text()
    assert words == f"no evidence: {len(lacking)} of {len(voxels)} voxels"
    assert opened.page.locator(".shares").inner_text().split() == ["0%", "0%", "100%"]
    opened.page.check("#all")
    opened.settled()
    assert coloured(opened.picture(".view")).any()
    share = round(100 * len(lacking) / len(voxels))
    assert opened.page.locator(".shares").inner_text().split() == [f"{share}%", "0%", f"{100 - share}%"]
    opened.run(f"Page.pin({{side: 0, vertex: {lacking['vertex'].iloc[0]}}})")
    assert "No evidence (q 0.500)" in opened.page.locator(".card").inner_text()
    assert "1.00" in opened.page.locator(".card .part", has_text="Size").inner_text()
    assert "no evidence" in opened.page.locator("#found").inner_text()
    assert opened.complaints == []
    opened.page.close()
