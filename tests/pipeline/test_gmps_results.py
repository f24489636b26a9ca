"""The tables and figures of GMPS's page: from finished runs, and from the tables alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline import cli, gmps_results
from pipeline.files import write_text
from pipeline.store import read_store, write_store

PAGE = Path(__file__).resolve().parents[2] / "docs/results"


@pytest.fixture
def results(finished, tmp_path):
    """Two seeds of GMPS whose adapted policies gain exactly one; their meta-test is SMAC's."""
    root = tmp_path / "results" / "point-robot"
    store = read_store(finished.path("evaluate", 0), "evaluation")
    for seed in (0, 1):
        folder = root / "gmps" / f"seed{seed}"
        arrays = dict(store.arrays)
        before = arrays["arms/test_prior/episode_return"]
        after = arrays["arms/test_online/episode_return"].copy()
        after[..., -1] = before[..., 0] + 1.0
        arrays["arms/test_online/episode_return"] = after
        (folder / "round0/evaluate").mkdir(parents=True)
        path = folder / "round0/evaluate/returns.zarr"
        write_store(path, "evaluation", arrays, store.attributes)
        head = "environment_steps,test_prior_return,test_return"
        write_text(folder / "meta_train/metrics.csv", f"{head}\n100.0,-9.0,-8.0\n200.0,,\n")
    manifest = {"expert_environment_steps": 30, "transitions": 12}
    write_text(root / "demonstrations/manifest.json", json.dumps(manifest))
    return root.parent


def call(*words: object) -> int:
    return cli.run(gmps_results.run, gmps_results.make_parser(), [str(word) for word in words])


def test_the_gain_is_paired(results, tmp_path):
    out = tmp_path / "page"
    assert call("--results", results, "--out", out) == 0
    rows = gmps_results.read_table(out / "gmps.csv")
    assert [(row["seed"], row["explored"]) for row in rows] == [
        (seed, explored) for seed in ("0", "1", "all") for explored in ("0", "2")
    ]
    last = rows[-1]
    gains = [float(last[name]) for name in ("gain", "gain_low", "gain_high")]
    np.testing.assert_allclose(gains, 1.0, atol=1e-5)
    assert float(last["mean"]) == pytest.approx(float(rows[-2]["mean"]) + 1.0, abs=1e-5)
    steps = gmps_results.read_table(out / "gmps-steps.csv")
    found = [(r["seed"], r["environment_steps"], float(r["expert_steps"])) for r in steps]
    assert found == [("0", "100.0", 42.0), ("1", "100.0", 42.0)]
    assert {path.suffix for path in out.iterdir()} == {".csv", ".png"}


@pytest.mark.parametrize(
    "lacking", ["demonstrations/manifest.json", "gmps/seed1/meta_train/metrics.csv"]
)
def test_an_unfinished_run_is_told(results, tmp_path, capsys, lacking):
    (results / "point-robot" / lacking).unlink()
    assert call("--results", results, "--out", tmp_path / "page") == 2
    line = capsys.readouterr().err
    assert line.startswith("error: an unfinished run")
    assert lacking in line
    assert "snakemake --configfile config/gmps.yaml" in line


def test_seeds_of_other_protocols_are_told(results, tmp_path, capsys, monkeypatch):
    read = gmps_results.read_returns

    def shorter(path):
        found = read(path)
        return {0: found[0]} if "seed1" in str(path) else found

    monkeypatch.setattr(gmps_results, "read_returns", shorter)
    assert call("--results", results, "--out", tmp_path / "page") == 2
    assert "error: seeds 0 and 1 explored other numbers of episodes" in capsys.readouterr().err


def test_the_committed_tables_are_drawn(tmp_path):
    for name in gmps_results.HEADS:
        shutil.copy(PAGE / name, tmp_path / name)
    assert call("--out", tmp_path) == 0
    assert (tmp_path / "gmps-steps.png").stat().st_size > 10_000


def test_what_is_not_there_is_told(tmp_path, capsys):
    assert call("--results", tmp_path, "--out", tmp_path) == 2
    assert "no finished run of GMPS or MAML-PG" in capsys.readouterr().err
    assert call("--out", tmp_path) == 2
    assert "no such table" in capsys.readouterr().err
    write_text(tmp_path / "gmps.csv", "a,b\n")
    assert call("--out", tmp_path) == 2
    assert "other columns" in capsys.readouterr().err
