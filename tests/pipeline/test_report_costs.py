"""What the report says that training cost, from made-up records."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import config as cf
from pipeline.report_comparison_page import _costs
from pipeline.report_costs import cost_rows, costs
from pipeline.report_data import MethodResults, Results
from pipeline.report_times import StageTime, stage_time
from tests.pipeline.made_up_comparison import (
    make,
    section,
    table,
    write_methods,
)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, ...]:
    return write_methods(tmp_path)


def times(results: Results) -> None:
    for method in ("smac", "oracle"):
        for seed in (0, 1):
            base = f"point-robot/{method}/seed{seed}"
            facts = {"wall_time_s": 2.0, "peak_memory_mib": 100.0 + seed}
            stages = {"rollout": {"environment_steps": 250}, "finetune": {"updates": 40}}
            for number in (1, 2):
                for stage, more in stages.items():
                    add(results, f"{base}/round{number}/{stage}", stage, facts | more)
            add(results, f"{base}/round2/evaluate", "evaluate", facts)
            if method == "smac":
                add(results, f"{base}/meta_train", "meta_train", facts | {"updates": 300})
                add(results, f"{base}/round0/evaluate", "evaluate", facts)
    add(results, "point-robot/collect", "collect", {"wall_time_s": 9.0, "peak_memory_mib": 50.0})


def add(results: Results, folder: str, stage: str, facts: dict) -> None:
    manifest = facts | {"stage": stage}
    results.times.append(stage_time("point-robot", f"{folder}/manifest.json", manifest))


def test_costs_are_added_up_by_method_seed_and_stage(folders):
    results = make(folders)
    times(results)
    rows = {(r["method"], r["seed"], r["stage"]): r for r in table(cost_rows(costs(results)))}
    data = rows["", "", "collect"]
    assert (data["steps_with_true_reward"], data["gradient_updates"]) == ("400", "50")
    smac = rows["smac", "0", "training"]
    assert smac["gradient_updates"] == "380"
    assert (smac["steps_with_true_reward"], smac["steps_without_reward"]) == ("0", "500")
    assert (smac["offline_rows"], smac["wall_seconds"]) == ("400", "10.0")
    assert rows["smac", "0", "total"]["wall_seconds"] == "14.0"  # two meta-tests more
    assert rows["smac", "1", "total"]["peak_memory_mib"] == "101.0"
    oracle = rows["oracle", "0", "training"]
    assert (oracle["steps_with_true_reward"], oracle["steps_without_reward"]) == ("500", "0")
    assert oracle["gradient_updates"] == "380"
    assert rows["oracle", "0", "meta_train"]["recorded_by"] == "smac"
    assert rows["oracle", "0", "evaluate"]["jobs"] == "2"
    assert not any(key[0] == "macaw" for key in rows)  # it left no record
    assert "What it cost" in section(results)


def test_experts_and_on_policy_steps_are_costs_with_true_reward(folders):
    results = make(folders)
    names = ["gmps", "maml-pg"]
    results.run = cf.load_run({"envs": ["point-robot"], "methods": names, "rounds": 0})
    results.envs[0].methods = [MethodResults(name, name, name, (0,)) for name in names]
    took = {"wall_time_s": 2.0, "peak_memory_mib": 100.0}
    add(results, "point-robot/experts", "experts", took | {"transitions": 300, "updates": 40})
    shown = took | {"transitions": 60, "environment_steps": 1}
    add(results, "point-robot/demonstrations", "demonstrations", shown)
    for name in names:
        facts = took | {"updates": 5, "environment_steps": 700}
        add(results, f"point-robot/{name}/seed0/meta_train", "meta_train", facts)
    found = costs(results)
    rows = {(r["method"], r["stage"]): r for r in table(cost_rows(found))}
    assert rows["", "experts"]["steps_with_true_reward"] == "300"
    assert rows["", "experts"]["gradient_updates"] == "40"
    assert rows["", "demonstrations"]["steps_with_true_reward"] == "60"
    for name, offline in (("gmps", "60"), ("maml-pg", "0")):
        row = rows[name, "training"]
        assert (row["steps_with_true_reward"], row["steps_without_reward"]) == ("700", "0")
        assert row["offline_rows"] == offline
    assert "training the experts" in _costs(found, [])


def test_a_record_tells_whose_it_is():
    facts = {"stage": "finetune", "wall_time_s": 1, "peak_memory_mib": 2, "updates": 3}
    place = "point-robot/smac/seed10/round4/finetune/manifest.json"
    assert stage_time("point-robot", place, facts) == StageTime(
        *("point-robot", "finetune", 1.0, 2.0, "cpu"),
        **{"method": "smac", "seed": 10, "round": 4, "updates": 3},
    )
