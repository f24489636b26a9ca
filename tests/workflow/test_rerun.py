"""Which jobs run again after an edit: exactly those that it can change, and their followers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.workflow

# point-robot; smac, oracle and meta-bc; two seeds; two rounds of the two online methods.
EVERYTHING = {
    "tasks": 1,
    "collect": 1,
    "meta_train": 4,
    "rollout": 8,
    "relabel": 8,
    "finetune": 8,
    "evaluate": 12,  # round 0 of the oracle is SMAC's
    "report": 1,
}
FROM_COLLECT = {rule: n for rule, n in EVERYTHING.items() if rule != "tasks"}
FROM_META_TRAIN = {rule: n for rule, n in FROM_COLLECT.items() if rule != "collect"}
ROUNDS = {rule: n for rule, n in FROM_META_TRAIN.items() if rule != "meta_train"}
AFTER_RELABEL = {**ROUNDS, "rollout": 4, "evaluate": 8}  # round 1's rollout and round 0 stand


def test_everything_runs_first(fresh):
    assert fresh().would_run() == EVERYTHING


def test_second_run_has_nothing_to_do(tree):
    assert tree.would_run() == {}


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        # Collection acts, and everything follows collection.
        ("kernels/policy.py", "return 1", "return 2", FROM_COLLECT),
        ("kernels/stream.py", "WORD = 1", "WORD = 2", FROM_META_TRAIN),  # two imports away
        ("kernels/relabel.py", "return 1", "return 2", AFTER_RELABEL),
        ("pipeline/rollout.py", "exist_ok=True", "exist_ok=1", ROUNDS | {"evaluate": 8}),
        ("pipeline/evaluate.py", "exist_ok=True", "exist_ok=1", {"evaluate": 12, "report": 1}),
        ("pipeline/report.py", "exist_ok=True", "exist_ok=1", {"report": 1}),
        ("smac_core/envs/point_robot.py", "HORIZON = 20", "HORIZON = 30", EVERYTHING),
    ],
)
def test_edit_of_code(tree, path, old, new, expected):
    tree.edit(path, old, new)
    assert tree.would_run() == expected


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        ("config/env/point-robot.yaml", "num_test: 20", "num_test: 19", EVERYTHING),
        (
            "config/method/meta-bc.yaml",
            "actor: bc",
            "actor: bc\n    kl_weight: 0.3",
            {"meta_train": 2, "evaluate": 2, "report": 1},
        ),
        (
            "config/method/oracle.yaml",
            "rewards: environment",
            "rewards: environment\n  latent: mean",
            {"rollout": 2, "relabel": 4, "finetune": 4, "evaluate": 4, "report": 1},
        ),
        (
            "pipeline/sections.py",
            "updates: int = 16000",
            "updates: int = 8000",
            {"rollout": 4, "relabel": 4, "finetune": 8, "evaluate": 8, "report": 1},
        ),
    ],
)
def test_edit_of_a_value(tree, path, old, new, expected):
    tree.edit(path, old, new)
    found = tree.would_run()
    if path == "pipeline/sections.py":
        assert found.pop("report") == expected.pop("report")
    assert found == expected


def test_edits_that_change_nothing_rerun_nothing(tree):
    tree.edit("kernels/policy.py", '"""Acts."""', "# It acts.")
    tree.edit("kernels/policy.py", "return 1", "return (  # one\n        1\n    )")
    tree.edit("pipeline/tasks.py", '"""Runs."""', '"""Draws tasks."""')
    tree.edit("pipeline/dag.py", "def check(self)", "def check_all(self)")  # compared as sections
    tree.edit("pipeline/common.smk", "plan.check()", "plan.check_all()")
    tree.edit("config/env/point-robot.yaml", "num_test: 20 #", "num_test: 20 # still")
    assert tree.would_run() == {"report": 1}  # how the plan lists files is the report's concern
    tree.edit("pipeline/dag.py", "def check_all(self)", "def check(self)")
    tree.edit("pipeline/common.smk", "plan.check_all()", "plan.check()")
    tree.edit("smac_core/envs/cheetah_vel.py", "HORIZON = 20", "HORIZON = 30")  # not in this run
    tree.edit("config/env/cheetah-vel.yaml", "num_test: 30", "num_test: 29")
    assert tree.would_run() == {}


def settings(text: str) -> tuple[str, str]:
    return ("rounds: 2", f"rounds: 2\nsettings: {{{text}}}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all: {collect: {seed: 1}}", FROM_COLLECT),
        ("all: {relabel: {context_size: 9}}", AFTER_RELABEL),
        # The oracle's round 0 is then no longer measured as SMAC's is.
        ("point-robot/smac: {evaluate: {train_tasks: 9}}", {"evaluate": 8, "report": 1}),
        ("all: {report: {confidence: 0.5}}", {"report": 1}),
        ("cheetah-vel: {tasks: {seed: 1}}", {"report": 1}),  # the report is given the whole preset
    ],
)
def test_edit_of_the_presets_settings(tree, text, expected):
    tree.edit("config/config.yaml", *settings(text))
    assert tree.would_run() == expected


def test_more_rounds_and_seeds_keep_what_is_there(tree):
    one_round = {"rollout": 4, "relabel": 4, "finetune": 4, "evaluate": 4, "report": 1}
    assert tree.would_run("--config", "rounds=3") == one_round
    assert tree.would_run("--config", "seeds=[0,1,2]") == {
        "meta_train": 2,
        "rollout": 4,
        "relabel": 4,
        "finetune": 4,
        "evaluate": 6,
        "report": 1,
    }


def test_swapped_stage_reruns_from_there_on(tree):
    package = tree.root / "my_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('Snakemake must not import me')\n")
    (package / "near.py").write_text("X = 1\n")
    source = (tree.root / "pipeline/relabel.py").read_text()
    (package / "my_relabel.py").write_text("from my_package import near\n" + source)
    tree.edit(
        "config/config.yaml", "rounds: 2", "rounds: 2\nstages: {relabel: my_package.my_relabel}"
    )
    assert tree.would_run() == AFTER_RELABEL
    (package / "__init__.py").write_text("")
    tree.snakemake("--cores", "2")
    assert tree.would_run() == {}
    tree.edit("my_package/near.py", "X = 1", "X = 2")
    assert tree.would_run() == AFTER_RELABEL


def test_a_replaced_dataset_is_noticed(tree):
    store = tree.root / "results/point-robot/collect/transitions.zarr"
    shutil.rmtree(store)
    store.mkdir()
    (store / "zarr.json").write_text("mine")
    assert tree.would_run() == FROM_META_TRAIN


def test_a_failed_stage_leaves_no_output_and_names_its_log(fresh):
    tree = fresh()
    tree.edit("pipeline/meta_train.py", "import argparse", "import argparse, no_such_module")
    said = tree.snakemake("--cores", "1", fails=True)
    assert "meta_train.log" in said
    assert not list(tree.root.glob("results/*/*/*/meta_train/checkpoint.safetensors"))
    logs = (tree.root / "results/logs").rglob("meta_train.log")
    assert any("No module named 'no_such_module'" in log.read_text() for log in logs)


def test_an_oracles_offline_phase_is_smacs(tree):
    assert not (tree.root / "results/point-robot/oracle/seed0/meta_train").exists()
    # Its evaluation too, as long as the meta-test is the same.
    assert not (tree.root / "results/point-robot/oracle/seed0/round0").exists()
    tree.edit("config/config.yaml", *settings("point-robot/oracle: {evaluate: {train_tasks: 9}}"))
    assert tree.would_run() == {"evaluate": 6, "report": 1}
    mine = "results/point-robot/oracle/seed0/round0/evaluate/returns.zarr"
    said = tree.snakemake("--dry-run", "--printshellcmds", mine)
    assert "--checkpoint results/point-robot/smac/seed0/meta_train/checkpoint.safetensors" in said


def test_runs_in_another_folder_where_names_clash(fresh, tmp_path):
    tree, elsewhere = fresh(), tmp_path / "else where"
    (elsewhere / "pipeline").mkdir(parents=True)
    (elsewhere / "pipeline/__init__.py").write_text("raise RuntimeError('the wrong pipeline')\n")
    said = tree.snakemake(
        *("--cores", "2", "--directory", str(elsewhere)),
        *("--config", "methods=[meta-bc]", "seeds=[5]", "results=out/here"),
    )
    assert "5 of 5 steps" in said or "6 of 6 steps" in said
    assert (elsewhere / "out/here/report.html").is_file()
    assert (elsewhere / "out/here/point-robot/meta-bc/seed5/round0/evaluate").is_dir()
    assert not (tree.root / "results").exists()


def test_another_preset_inherits_nothing_of_the_default(fresh, tmp_path):
    tree = fresh()
    tree.edit("config/config.yaml", *settings("all: {tasks: {seed: 99}}"))
    other = tmp_path / "other.yaml"
    other.write_text("envs: [point-robot]\nmethods: [meta-bc]\n")
    said = tree.snakemake("-n", "--printshellcmds", "--configfile", str(other))
    assert '"seed":1337' in said
    assert '"seed":99' not in said


def test_values_reach_the_shell_quoted(fresh):
    tree = fresh()
    poison = """a'b" c; touch pwned; $(touch pwned) `touch pwned`"""
    params = f"  params: {{name: {json.dumps(poison)}}}"
    tree.edit("config/env/point-robot.yaml", ":PointRobot", f":PointRobot\n{params}")
    tree.snakemake("--cores", "2", "--config", "methods=[meta-bc]", "seeds=[0]")
    assert not list(tree.root.rglob("pwned"))
    written = (tree.root / "results/point-robot/tasks.json").read_text()
    assert json.dumps(poison) in written


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("seedz=[1]", "did you mean seeds?"),
        ("results='a; touch pwned'", "not a name"),
        ("stages={'relabel':'my_missing.stage'}", "unknown module"),
    ],
)
def test_a_bad_preset_stops_before_the_first_job(fresh, config, words):
    tree = fresh()
    said = tree.snakemake("--cores", "1", "--config", config, fails=True)
    assert words in said
    assert "Traceback" not in said
    assert not (tree.root / "results").exists()
    assert not list(tree.root.rglob("pwned"))


def test_wildcards_take_names_only(fresh):
    assert "MissingRuleException" in fresh().snakemake("-n", "results/../x/tasks.json", fails=True)


def test_lint_and_layout(fresh):
    tree = fresh()
    assert "good condition" in tree.snakemake("--lint")
    assert len((tree.root / "Snakefile").read_text().splitlines()) <= 200


def test_parsing_writes_nothing(fresh):
    tree = fresh()
    before = {path for path in tree.root.rglob("*") if "__pycache__" not in path.parts}
    tree.would_run()
    after = {path for path in tree.root.rglob("*") if "__pycache__" not in path.parts}
    assert {path for path in after - before if ".snakemake" not in path.parts} == set()


def test_workstation_profile(tree):
    profile = Path(__file__).resolve().parents[2] / "profiles/workstation-gpu"
    said = tree.snakemake("-n", "--forceall", "--profile", str(profile), "--config", "gpu=true")
    assert said.count("gpu=1") == EVERYTHING["meta_train"] + EVERYTHING["finetune"]
