"""Fits of the two halves of the training images, and how well their layer maps agree."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bddn.cli import app
from bddn.data.splits import Split
from bddn.encoder.parts import Parts
from bddn.errors import SpecError
from bddn.many import fit_many, summary
from bddn.many.run_table import to_text
from bddn.spec import FitSpec

SPEC = FitSpec(channels=8, selector_width=16, epochs=1)
QUICK = "channels: 8\nselector_width: 16\nepochs: 1\n"


def test_halves_have_no_image_in_common_and_all_rows_of_an_image() -> None:
    ids = [f"i{k % 11}" for k in range(30)]
    split = Split(tuple(f"i{k}" for k in range(7)), ("i7", "i8"), ("i9", "i10"))
    parts = Parts.of(split, ids)
    images = [{ids[row] for row in parts.halved(3, half).train} for half in (0, 1)]
    assert not images[0] & images[1]
    assert images[0] | images[1] == set(split.train)
    assert sorted(map(len, images)) == [3, 4]
    rows = np.concatenate([parts.halved(3, half).train for half in (0, 1)])
    assert sorted(rows) == sorted(parts.train)
    assert {*parts.halved(4, 0).train} != {*parts.halved(3, 0).train}
    assert parts.halved(3, 1).val is parts.val
    assert parts.halved(3, None) is parts
    with pytest.raises(SpecError, match="half or bootstrap, not both"):
        FitSpec.parse({"half": 0, "bootstrap": 1}, "test")


def test_the_table_compares_the_halves_of_each_seed(sealed: Path, brain: Path, tmp_path: Path) -> None:
    (tmp_path / "fit.yaml").write_text(QUICK)
    folder, data = tmp_path / "many", f"planted:{brain}"
    done = CliRunner().invoke(
        app,
        f"fit-many {sealed} --data {data} --out {folder} --seeds 0-1 --halves --spec {tmp_path / 'fit.yaml'}".split(),
    )
    assert done.exit_code == 0, done.output
    assert "runs: 6 of 6 done" in done.output
    table = pd.read_csv(folder / "results.csv")
    assert ("have a saturated selector" in done.output) == table["saturated"].notna().any()
    names = [Path(name).name for name in table["folder"]]
    assert names == [f"seed{seed}{half}" for seed in (0, 1) for half in ("", "-half0", "-half1")]
    chosen = [pd.read_parquet(folder / name / "voxels.parquet")["layer_argmax"] for name in table["folder"]]
    is_half = table["half"].notna()
    for k in (1, 4):
        same = (chosen[k] == chosen[k + 1]).mean()
        np.testing.assert_allclose(table.loc[[k, k + 1], "agreement_halves"], same)
    assert table.loc[~is_half, "agreement_halves"].isna().all()
    np.testing.assert_allclose(table.loc[~is_half, "agreement"], (chosen[0] == chosen[3]).mean())
    assert table.loc[is_half, "agreement"].isna().all()
    weights = [pd.read_parquet(folder / name / "voxels.parquet")["weight_block_0"] for name in table["folder"]]
    assert not np.allclose(weights[1], weights[2])

    again = fit_many([sealed], [data], folder, SPEC, seeds=(0, 1))
    assert (again.n_runs, again.n_kept, len(again.table)) == (2, 2, 6)
    shown = {row["images"]: row for row in to_text(summary(again.table))}
    assert shown.keys() == {"all", "half"}
    assert "(halves)" in shown["half"]["R²"]
    assert "(bootstraps)" not in shown["half"]["R²"]
    assert (shown["half"]["agreement"], shown["all"]["agreement of halves"]) == ("-", "-")
    assert shown["half"]["agreement of halves"] == f"{table['agreement_halves'].mean():.2f}"
