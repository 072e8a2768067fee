"""Pages without a browser: what stands in them, how large they are, and what is said of folders that are no runs."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bddn.errors import BddnError, DataError, RunError
from bddn.report import library, write_report
from bddn.report.library import LibraryError, niivue_script, niivue_version
from bddn.report.packing import unpacked
from bddn.report.payload import MAX_BYTES
from bddn.report.shown import read_shown
from bddn.report.tables import hierarchy, regions
from bddn.report.words import facts
from bddn.run import labels
from bddn.stats.scores import in_roi, robust_mean
from report.folders import change_json, change_voxels
from report.test_templates import made


class Outline(HTMLParser):
    """The elements of a page, with the text of its data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.data, self._inside = "", False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = dict(attrs).get("id") == "data"

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "script"

    def handle_data(self, data: str) -> None:
        self.data += data if self._inside else ""


def outline(page: Path) -> Outline:
    return Outline(page.read_text(encoding="utf-8"))


def test_a_page_is_whole_and_links_to_nothing_outside(single: Path) -> None:
    page = outline(single)
    for tag, attributes in page.found:
        assert tag not in {"iframe", "object", "embed", "base"}
        for name in ("src", "href", "action", "srcset"):
            value = attributes.get(name)
            assert value is None or not re.match(r"(https?:)?//", value), value
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    policy = next(a["content"] for t, a in page.found if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.search(r"{[{%#]", re.sub(r"<script>.*?</script>", "", single.read_text(), flags=re.DOTALL))


def test_the_numbers_in_the_page_are_those_of_the_table(single: Path, runs: Path) -> None:
    (run,) = json.loads(outline(single).data)["runs"]
    voxels = pd.read_parquet(runs / "one" / "voxels.parquet")
    numbers = run["voxels"]["numbers"]
    for name in voxels.select_dtypes("number").columns.drop("vertex"):
        assert unpacked(numbers[name]).tobytes() == voxels[name].to_numpy(dtype=np.float32).tobytes()
    assert unpacked(run["voxels"]["vertex"]).tolist() == voxels["vertex"].tolist()
    assert (unpacked(run["similar"]["row"]) < len(voxels)).all()


def test_the_same_run_gives_the_same_page(single: Path, runs: Path) -> None:
    again = write_report([runs / "one"], single.with_name("again.html"))
    assert again.path.read_bytes() == single.read_bytes()
    assert again.n_bytes == single.stat().st_size


def test_links_lead_to_the_files_beside(runs: Path, tmp_path: Path) -> None:
    (runs / "one" / "maps").mkdir(exist_ok=True)
    (runs / "one" / "maps" / "layer map.png").write_bytes(b"")
    page = write_report([runs / "one"], tmp_path / "deep" / "er" / "page.html").path
    shutil.rmtree(runs / "one" / "maps")
    links = [a["href"] for t, a in outline(page).found if t == "a" and a["href"] and not a["href"].startswith("#")]
    names = {"voxels.parquet", "metrics.json", "run.json", "split.json", "encoder.safetensors", "learning.safetensors"}
    assert names <= {Path(link).name for link in links}
    for link in links:
        found = (page.parent / unquote(link)).resolve()
        assert found.is_relative_to((runs / "one").resolve())
        assert found.exists() or found.name == "layer map.png"


def test_voxels_without_a_place_on_fsaverage5_are_counted_not_drawn(run_copy: Path) -> None:
    def far(voxels: pd.DataFrame) -> pd.DataFrame:
        voxels.loc[voxels.index[:10], "vertex"] += 100_000
        return voxels

    change_voxels(run_copy, far)
    n = len(pd.read_parquet(run_copy / "voxels.parquet"))
    page = write_report([run_copy]).path
    (run,) = json.loads(outline(page).data)["runs"]
    assert page == run_copy / "report.html"
    assert len(unpacked(run["voxels"]["vertex"])) == n - 10
    assert run["film"]["drawn"]["shape"] == [n - 10]
    assert f"Drawn: {n - 10} of {n} voxels" in page.read_text()


def test_all_of_fsaverage5_with_many_layers_keeps_within_its_size() -> None:
    from bddn.encoder.learning import Learning
    from bddn.report.page import _own_script
    from bddn.report.payload import contents
    from bddn.report.shown import Shown
    from bddn.run import Run

    n, layers = 20_484, [f"block_{i}" for i in range(12)]
    rng = np.random.default_rng(0)
    vertex = np.tile(np.arange(n // 2), 2)
    table = {name: rng.random(n) for name in ("ceiling", "r2_val", "r2_test", "depth", "confidence", "x", "y", "scale")}
    table |= {f"weight_{name}": rng.random(n).astype(np.float32) for name in layers}
    words = {"hemi": ["lh"] * (n // 2) + ["rh"] * (n // 2), "roi": ["V1v"] * n, "layer_argmax": ["block_3"] * n}
    voxels = pd.DataFrame({"vertex": vertex, **words, **table})
    frames = np.zeros((120, n), np.uint8)
    step, row, loss = np.arange(120, dtype=np.int32), np.arange(n, dtype=np.int32), np.ones(120, np.float32)
    learning = Learning(step, row, frames, frames, np.zeros((120, n, 2), np.uint8), frames, loss)
    channels = rng.normal(size=(n, 8)).astype(np.float32)
    run = Run(Path(), tuple(layers), voxels, {"title": "all"}, None, {})
    library = niivue_script()
    data = contents([Shown(run, "all", channels, {}, learning)], len(library))
    assert len(data) + len(library) + len(_own_script()) < MAX_BYTES - 100_000
    assert json.loads(data)["runs"][0]["film"]["frames"] == 120


def test_runs_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    assert labels([tmp_path / "a" / "x", tmp_path / "b" / "x"]) == ["a/x", "b/x"]
    assert labels([tmp_path / "a"]) == ["a"]


def test_tables_say_what_the_metrics_say(runs: Path) -> None:
    shown = read_shown([runs / "one", runs / "two"])
    metrics = [s.run.metrics for s in shown]
    page = made("sortable", regions(shown[:1]))
    for name, found in metrics[0]["roi_r2_test"].items():
        assert f'<th scope="row">{name}</th>' in page
        assert f'data-value="{found["mean"]!r}"' in page
    both = made("sortable", regions(shown))
    assert all(f'data-value="{m["roi_r2_test"][name]["mean"]!r}"' in both for m in metrics for name in m["roi_r2_test"])
    slopes = made("sortable", hierarchy(shown))
    for m in metrics:
        for key in ("slope", "b0", "b1") if m["hierarchy"] else ():
            assert f'data-value="{m["hierarchy"][key]!r}"' in slopes


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (shutil.rmtree, "no such folder"),
        (lambda run: (run / "voxels.parquet").unlink(), "got a folder without voxels.parquet"),
        (lambda run: (run / "metrics.json").write_text("{"), "run.json, metrics.json and voxels.parquet"),
        (lambda run: (run / "voxels.parquet").write_bytes(b"PAR1"), "run.json, metrics.json and voxels.parquet"),
        (lambda run: (run / "encoder.safetensors").write_bytes(b"x" * 99), "encoder.safetensors"),
        (lambda run: (run / "encoder.safetensors").unlink(), "encoder.safetensors"),
        (lambda run: (run / "split.json").write_text("[1]"), "split.json"),
        (lambda run: (run / "learning.safetensors").write_bytes(b"x" * 99), "learning.safetensors"),
        (lambda run: change_json(run / "metrics.json", lambda m: m.pop("roi_r2_test")), "roi_r2_test"),
        (lambda run: change_json(run / "run.json", lambda r: r.pop("fit")), "fit"),
        (lambda run: change_voxels(run, lambda v: v.drop(columns=["x"])), "expected columns x"),
        (lambda run: change_voxels(run, lambda v: v.iloc[:-1]), "voxels of voxels.parquet"),
    ],
)
def test_a_damaged_run_is_refused_in_one_message(run_copy: Path, spoil, says: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    spoil(run_copy)
    with pytest.raises((RunError, DataError)) as error:
        write_report([run_copy], tmp_path / "page.html")
    assert says in str(error.value)
    assert not (tmp_path / "page.html").exists()


def test_a_run_without_its_learning_has_no_film(run_copy: Path) -> None:
    (run_copy / "learning.safetensors").unlink()
    (run,) = json.loads(outline(write_report([run_copy]).path).data)["runs"]
    assert run["film"] is None


def test_the_same_run_twice_or_too_many_are_refused(runs: Path) -> None:
    with pytest.raises(RunError, match="twice"):
        write_report([runs / "one", runs / "two" / ".." / "one"])
    with pytest.raises(RunError, match="1 to 12"):
        write_report([])


def test_niivue_is_read_from_the_installed_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = niivue_script()
    assert re.fullmatch(r"0\.\d+\.\d+", niivue_version(script))
    assert niivue_version("") == ""
    monkeypatch.setattr(library, "_FILE", ("no", "such.js"))
    with pytest.raises(LibraryError, match=r'pip install "nilearn>=0\.14,<0\.15"'):
        niivue_script()
    assert issubclass(LibraryError, BddnError)


def test_no_third_party_code_lies_in_the_package() -> None:
    web = Path(library.__file__).parent / "web"
    for file in web.iterdir():
        assert file.stat().st_size < 20_000, file
        if file.suffix == ".js":
            lines = file.read_text().splitlines()
            assert lines[0] == '"use strict";', file
            assert max(map(len, lines)) <= 120, file
            assert len(lines) < 300, file


def test_the_command_writes_a_page(runs: Path, tmp_path: Path) -> None:
    import typer

    from bddn.cli.report import report

    app = typer.Typer()
    app.command()(report)
    done = CliRunner().invoke(app, [str(runs / "one"), str(runs / "two"), "--out", str(tmp_path / "both.html")])
    assert done.exit_code == 0, done.output
    assert re.search(r"page: .*both\.html, \d\.\d MB", done.output)
    failed = CliRunner().invoke(app, [str(tmp_path / "none")])
    assert failed.exit_code == 2
    assert "no such folder" in failed.output


def test_the_command_builds_no_network_and_does_not_load_torch(scored: Path, runs: Path, tmp_path: Path) -> None:
    command = ["report", str(scored), str(runs / "two"), "--out", str(tmp_path / "both.html")]
    code = (
        "from typer.testing import CliRunner\nimport bddn.cli, sys\n"
        f"assert CliRunner().invoke(bddn.cli.app, {command!r}).exit_code == 0\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert "'pandas'" in done.stdout
    assert "'torch'" not in done.stdout


def test_importing_the_command_loads_nothing_heavy() -> None:
    code = "import bddn.cli.report, sys; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert not set(loaded.stdout.split()) & {"torch", "numpy", "pandas", "matplotlib", "bddn.report"}


def without_evidence(voxels: pd.DataFrame) -> pd.DataFrame:
    """Every second voxel has none."""
    return voxels.assign(q_test=np.where(np.arange(len(voxels)) % 2, 0.5, 0.01))


def test_a_page_counts_voxels_without_evidence_and_leaves_them_out_of_means(run_copy: Path) -> None:
    change_voxels(run_copy, without_evidence)
    voxels = pd.read_parquet(run_copy / "voxels.parquet")
    n, lacking = len(voxels), len(voxels) // 2
    page = write_report([run_copy]).path
    (run,) = json.loads(outline(page).data)["runs"]
    assert unpacked(run["voxels"]["evident"]).tolist() == (voxels["q_test"] <= 0.05).tolist()
    assert f"{lacking} of {n} voxels have no evidence" in page.read_text()
    table = regions(read_shown([run_copy]))
    assert "Evident" in table.heads
    for row in table.rows:
        here = voxels[in_roi(voxels, str(row[0]))]
        known = here[here["q_test"] <= 0.05]
        found = dict(zip(table.heads, row, strict=True))
        assert found["Evident"] == len(known)
        assert found["Depth"] == pytest.approx(known["depth"].mean(), nan_ok=True)
        assert found["Score R²"] == pytest.approx(robust_mean(here["r2_test"].to_numpy()))


def test_a_page_of_a_run_without_a_test_of_evidence_says_so(run_copy: Path) -> None:
    change_voxels(run_copy, lambda voxels: voxels.drop(columns=["p_test", "q_test"], errors="ignore"))
    page = write_report([run_copy]).path
    (run,) = json.loads(outline(page).data)["runs"]
    assert unpacked(run["voxels"]["evident"]).all()
    assert "No test of evidence" in page.read_text()
    assert "Evident" not in regions(read_shown([run_copy])).heads


def test_two_runs_of_which_one_has_no_test_of_evidence(runs: Path, run_copy: Path, tmp_path: Path) -> None:
    change_voxels(run_copy, without_evidence)
    old = shutil.copytree(runs / "one", tmp_path / "old")
    change_voxels(old, lambda voxels: voxels.drop(columns=["p_test", "q_test"], errors="ignore"))
    text = write_report([run_copy, old], tmp_path / "both.html").path.read_text()
    assert re.search(r"run: \d+ of \d+ voxels have no evidence", text)
    assert "old: No test of evidence" in text


def test_doubts_about_a_fit_are_notices_and_the_rest_is_said_to_be_in_order(run_copy: Path) -> None:
    settled = {"layer_changed": 0.02, "place_moved": 0.01, "regularized": False, "converged": True}
    audit = {"alike": [], "norms": {"block_0": 1.0, "block_1": 2.0}}

    def change(**parts: object) -> list[str]:
        change_json(run_copy / "metrics.json", lambda metrics: metrics.update(parts))
        page = write_report([run_copy]).path.read_text()
        assert ("no two layers carry the same information" in page.lower()) == (parts["layer_audit"] == audit)
        assert ("no selector is saturated" in page.lower()) == (not parts["saturated_selectors"])
        return re.findall(r'<p class="notice">(?!The brain)(.*?)</p>', page)

    assert change(convergence=settled, layer_audit=audit, saturated_selectors=[]) == []
    alike = {"alike": [["block_0", "block_1"]], "norms": {"block_0": 1.0, "block_1": 20.0}}
    moving = {**settled, "layer_changed": 0.31, "converged": False}
    change_json(run_copy / "run.json", lambda about: about["fit"].update(features="raw"))
    found = change(convergence=moving, layer_audit=alike, saturated_selectors=["scale"])
    starts = ("Saturated .*: scale", "The selectors had not .* 31% ", "Layers block_0, block_1 carry", "The tokens of ")
    assert len(found) == len(starts)
    for said, start in zip(found, starts, strict=True):
        assert re.match(start, said), said
    fine: dict[str, object] = {"convergence": settled, "layer_audit": audit, "saturated_selectors": []}
    change_voxels(run_copy, without_evidence)
    (said,) = change(**fine, unread_layers=["block_1"])
    assert said.startswith("No voxel reads block_1: another layer")
    *_, said = change(**fine, unread_layers=[f"block_{i}" for i in range(60)])
    assert said.startswith("No voxel reads block_0, block_1, block_2, block_3, block_4 and 55 more: another layer")
    change_json(run_copy / "metrics.json", lambda metrics: metrics.update(unread_layers=["block_1"]))
    change_voxels(run_copy, lambda voxels: voxels.assign(q_test=1.0))
    assert change(**fine) == []  # what voxels without evidence read is chance
    change_json(run_copy / "run.json", lambda about: about["fit"].update(fixed="layer", shared_noise="limited"))
    fixed, noisy = change(**fine, components=[{"share": 0.6, "explained": 0.5}, {"share": 0.1, "explained": 0.9}])
    assert fixed == "The settings fixed the layer: all layers have equal weights. The fit did not find it."
    assert noisy.startswith("30% of the variance of the responses to the training images is one component")
    change_json(run_copy / "run.json", lambda about: about["fit"].update(fixed=None))
    change(**fine, components=[])
    fits = [{"convergence": moving}, {"convergence": settled}, {"convergence": moving}]
    found = change(
        ensemble={"fits": fits, "n_fits": 3, "level": 0.9}, layer_audit=audit, saturated_selectors=[], unread_layers=[]
    )
    assert found == ["The selectors of 2 of 3 fits had not converged."]
    assert "90% interval over the fits" in (run_copy / "report.html").read_text()


def test_a_slope_has_its_interval_if_it_is_known(runs: Path) -> None:
    (shown,) = read_shown([runs / "one"])
    old = {"slope": 0.5, "b0": 0.1, "b1": 0.6, "n_voxels": 9}
    for found, heads, words in (
        ({**old, "slope_low": -0.1, "slope_high": 0.9}, ["Slope", "from", "to", "b0"], "0.50 [−0.10, 0.90]"),
        (old, ["Slope", "b0", "b1", "Voxels"], "0.50"),
    ):
        one = replace(shown, run=replace(shown.run, metrics={**shown.run.metrics, "hierarchy": found}))
        table = hierarchy([one])
        assert table.heads[1:5] == heads
        assert len(table.rows[0]) == len(table.heads)
        assert dict(facts(one))["hierarchy slope"] == words


def test_the_interval_of_depth_has_a_width_unless_it_is_too_wide(run_copy: Path) -> None:
    assert "depth_width" not in read_shown([run_copy])[0].run.voxels
    high = np.where(np.arange(len(pd.read_parquet(run_copy / "voxels.parquet"))) % 2, 0.3, 0.9)
    change_voxels(run_copy, lambda voxels: voxels.assign(depth_low=0.1, depth_high=high))
    width = read_shown([run_copy])[0].run.voxels["depth_width"].to_numpy()
    assert np.isnan(width[::2]).all()
    assert np.allclose(width[1::2], 0.2)
    page = json.loads(outline(write_report([run_copy]).path).data)
    assert "depth_width" in {map_["name"] for map_ in page["maps"]}
    assert np.allclose(unpacked(page["runs"][0]["voxels"]["numbers"]["depth_width"])[1::2], 0.2)
