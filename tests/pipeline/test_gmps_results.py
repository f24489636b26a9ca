"""The tables and figures of GMPS's page: from finished runs, and from the tables alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline import cli, gmps_ablations, gmps_results, gmps_tables
from pipeline.files import write_text
from pipeline.gmps_factors import FACTORS, HEAD, factor_rows
from pipeline.gmps_tables import HEADS, read_table
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
    by_task = {"return": [-1.0, -3.0], "goal_distance": [0.0, 0.5]}
    manifest = {"expert_environment_steps": 30, "transitions": 12, "by_task": by_task}
    write_text(root / "demonstrations/manifest.json", json.dumps(manifest))
    return root.parent


def call(*words: object) -> int:
    return cli.run(gmps_results.run, gmps_results.make_parser(), [str(word) for word in words])


def table(folder: Path, name: str) -> list[dict[str, str]]:
    return read_table(folder / name, HEADS[name])


def test_the_gain_is_paired(results, tmp_path):
    out = tmp_path / "page"
    assert call("--results", results, "--out", out) == 0
    rows = table(out, "gmps.csv")
    assert [(row["seed"], row["explored"]) for row in rows] == [
        (seed, explored) for seed in ("0", "1", "all") for explored in ("0", "2")
    ]
    last = rows[-1]
    gains = [float(last[name]) for name in ("gain", "gain_low", "gain_high")]
    np.testing.assert_allclose(gains, 1.0, atol=1e-5)
    assert float(last["mean"]) == pytest.approx(float(rows[-2]["mean"]) + 1.0, abs=1e-5)
    steps = table(out, "gmps-steps.csv")
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
    read = gmps_tables.read_measured
    numbers = iter([2, 1])

    def fewer(store):
        return dict(list(read(store).items())[: next(numbers)])

    monkeypatch.setattr(gmps_tables, "read_measured", fewer)
    assert call("--results", results, "--out", tmp_path / "page") == 2
    assert "error: seeds 0 and 1 explored other numbers of episodes" in capsys.readouterr().err


def test_what_episodes_were_and_what_the_expert_shows(results, tmp_path):
    assert call("--results", results, "--out", tmp_path / "page") == 0
    rows = table(tmp_path / "page", "gmps-outcomes.csv")
    own = [row for row in rows if row["method"] == "gmps"]
    assert {(row["explored"], row["measure"], row["unit"]) for row in own} == {
        (explored, *measure)
        for explored in ("0", "2")
        for measure in (("return", "reward"), ("goal_distance", "m"), ("distance", "m"))
    }
    store = read_store(
        results / "point-robot/gmps/seed0/round0/evaluate/returns.zarr", "evaluation"
    )
    place = store.attributes["measures"].index("goal_distance")
    last = store.arrays["arms/test_online/measure"][:, :, -1, place].mean()
    adapted = next(r for r in own if (r["explored"], r["measure"]) == ("2", "goal_distance"))
    assert float(adapted["mean"]) == pytest.approx(float(last), rel=1e-5)
    expert = [(r["measure"], float(r["mean"])) for r in rows if r["method"] == "expert"]
    assert expert == [("return", -2.0), ("goal_distance", 0.25)]


def test_several_folders_are_one_set_of_tables(results, tmp_path, capsys):
    other, out = tmp_path / "other", tmp_path / "page"
    moved = results / "point-robot/gmps/seed1"
    shutil.copytree(results / "point-robot/demonstrations", other / "point-robot/demonstrations")
    shutil.move(moved, other / "point-robot/gmps/seed1")
    assert call("--results", results, other, "--out", out) == 0
    assert {row["seed"] for row in table(out, "gmps.csv")} == {"0", "1", "all"}
    assert call("--results", results, other, results, "--out", out) == 2
    assert "error: a second run of gmps in point-robot" in capsys.readouterr().err


def test_rows_of_what_did_not_run_stay(results, tmp_path):
    out = tmp_path / "page"
    assert call("--results", results, "--out", out) == 0
    before = {name: (out / name).read_text() for name in HEADS}
    for name, text in before.items():
        head, *lines = text.splitlines()
        others = [line.replace("point-robot,gmps", "ant,gmps") for line in lines]
        write_text(out / name, "\n".join([head, *others, *lines]) + "\n")
    assert call("--results", results, "--out", out) == 0
    for name, text in before.items():
        head, *lines = (out / name).read_text().splitlines()
        assert [line for line in lines if "point-robot" in line] == text.splitlines()[1:]
        assert [line.split(",")[0] for line in lines if "ant,gmps" in line]


def test_pearl_has_its_curve_from_the_collector_or_from_rounds(results, tmp_path):
    env, out = results / "point-robot", tmp_path / "page"
    section = {"policy": "pearl", "evaluate_every": 1, "seed": 7}
    write_text(env / "collect/manifest.json", json.dumps({"config": {"section": section}}))
    head = "environment_steps,test_prior_return,test_return"
    write_text(env / "collect/metrics.csv", f"{head}\n50.0,-9.5,-9.0\n150.0,,\n")
    evaluated = env / "gmps/seed0/round0/evaluate/returns.zarr"
    store = read_store(evaluated, "evaluation")
    for number, steps in ((0, 0), (2, 800)):
        path = env / f"oracle-scratch/seed0/round{number}/evaluate/returns.zarr"
        path.parent.mkdir(parents=True)
        told = store.attributes | {"self_supervised_steps": steps}
        write_store(path, "evaluation", dict(store.arrays), told)
    assert call("--results", results, "--out", out) == 0
    rows = table(out, "gmps-steps.csv")
    found = {(r["method"], r["seed"], r["environment_steps"]) for r in rows}
    assert ("pearl", "7", "50.0") in found
    assert {step for method, _, step in found if method == "oracle-scratch"} == {"0.0", "800.0"}
    assert {row["method"] for row in table(out, "gmps.csv")} == {"gmps", "oracle-scratch"}


def test_the_factor_of_steps_is_that_to_what_both_reach():
    def points(method, seed, pairs, expert=0):
        names = ("environment", "method", "seed", "environment_steps", "test_return")
        keys = [*names, "expert_steps"]
        return [
            dict(zip(keys, map(str, ("e", method, seed, s, r, expert)), strict=True))
            for s, r in pairs
        ]

    rows = points("gmps", 0, [(10, 0.0), (20, 4.0), (30, 3.0)], 40)
    rows += points("gmps", 1, [(10, 0.0), (20, 6.0), (30, 5.0)], 40)  # their mean: 0, 5, 4
    rows += points("maml-pg", 0, [(100, 1.0), (200, 4.5), (300, 9.0)])
    rows += points("pearl", 0, [(100, 1.0), (200, 1.0), (300, 0.5)])  # learns nothing: no factor
    (row,) = (dict(zip(HEAD, row, strict=True)) for row in factor_rows(rows))
    assert (row["best"], row["other_best"], row["level"]) == (5.0, 9.0, 5.0)
    assert (row["steps"], row["other_steps"], row["factor"]) == (20.0, 300.0, 15.0)
    assert row["factor_with_expert"] == 300.0 / 60.0


def ablate(*words: object) -> int:
    given = [str(word) for word in words]
    return cli.run(gmps_ablations.run, gmps_ablations.make_parser(), given)


def test_an_ablation_is_paired_with_what_it_is_based_on(results, tmp_path, capsys):
    env, out = results / "point-robot", tmp_path / "page"
    preset = tmp_path / "preset.yaml"
    arm = "{of: gmps, label: less, question: Needed}"
    head = "envs: [point-robot]\nmethods: [gmps]\nseeds: [0, 1]\nrounds: 0\n"
    write_text(preset, f"{head}results: {results}\narms:\n  gmps-less: {arm}\n")
    assert ablate("--preset", preset, "--out", out) == 2
    assert "error: an unfinished run" in capsys.readouterr().err
    for seed in (0, 1):
        store = read_store(env / f"gmps/seed{seed}/round0/evaluate/returns.zarr", "evaluation")
        arrays = dict(store.arrays)
        arrays["arms/test_online/episode_return"] = arrays["arms/test_online/episode_return"] - 0.5
        path = env / f"gmps-less/seed{seed}/round0/evaluate/returns.zarr"
        path.parent.mkdir(parents=True)
        write_store(path, "evaluation", arrays, store.attributes)
    assert ablate("--preset", preset, "--out", out) == 0
    base, less = read_table(out / gmps_ablations.TABLE, gmps_ablations.HEAD)
    assert (base["arm"], base["difference"], less["label"]) == ("gmps", "", "less")
    ends = [float(less[f"difference{end}"]) for end in ("", "_low", "_high")]
    np.testing.assert_allclose(ends, -0.5, atol=1e-5)
    assert float(base["mean"]) == pytest.approx(float(base["unadapted"]) + 1.0, abs=1e-5)
    assert (out / "gmps-ablations.png").stat().st_size > 10_000


def test_the_committed_tables_are_drawn(tmp_path):
    for name in HEADS:
        shutil.copy(PAGE / name, tmp_path / name)
    assert call("--out", tmp_path) == 0
    assert (tmp_path / FACTORS).read_text() == (PAGE / FACTORS).read_text()
    assert (tmp_path / "gmps-steps.png").stat().st_size > 10_000


def test_what_is_not_there_is_told(tmp_path, capsys):
    assert call("--results", tmp_path, "--out", tmp_path) == 2
    assert "no finished run of GMPS or MAML-PG" in capsys.readouterr().err
    assert call("--out", tmp_path) == 2
    assert "no such table" in capsys.readouterr().err
    write_text(tmp_path / "gmps.csv", "a,b\n")
    assert call("--out", tmp_path) == 2
    assert "other columns" in capsys.readouterr().err
