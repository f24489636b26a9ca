"""The plan: digests of code, paths of inputs and targets, and how light it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline import config as cf
from pipeline.dag import Plan, code_digest, import_closure
from pipeline.launch import job_environment, load_preset
from smac_core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
ACTING = ("rollout", "relabel", "evaluate")
STAGES = (
    "tasks",
    "collect",
    "experts",
    "demonstrations",
    "meta_train",
    *ACTING,
    "finetune",
    "report",
)


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    """A package `my_plug`, and a function that writes a module of it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, text: str) -> None:
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, ns=(write.tick, write.tick))  # the digest cache goes by time
        write.tick += 1

    write.tick = 1
    write("my_plug/__init__", "raise RuntimeError('imported')\n")
    write("my_plug/stage", "from . import near\nimport my_plug.far, numpy, json\n")
    write("my_plug/near", "def f():\n    from my_other import deep\n    return deep\n")
    write("my_plug/far", "X = 1\n")
    write("my_plug/lonely", "X = 1\n")
    write("my_other/deep", "from pipeline import files\n")  # a namespace package
    return write


def test_closure_follows_a_plug_in_without_importing_it(plug_in):
    closure = import_closure(["my_plug.stage"])
    ours = {name for name in closure if name.startswith("my_")}
    assert ours == {"my_plug", "my_plug.stage", "my_plug.near", "my_plug.far", "my_other.deep"}
    assert {"pipeline", "pipeline.files", "smac_core.errors"} <= set(closure)
    assert "numpy" not in closure
    assert "my_plug" not in sys.modules


@pytest.mark.parametrize(
    ("name", "text", "changes"),
    [
        ("near", "def f():\n    from my_other import deep\n    return 2\n", True),
        ("far", "X = 2\n", True),
        ("far", '"""Says."""\n\n\n# why\nX = (\n    1  # one\n)\n', False),
        ("near", 'def f():\n    "S."\n    from my_other import deep\n\n    return deep\n', False),
        ("lonely", "X = 2\n", False),
        ("stage", "from . import near\nimport my_plug.far, numpy\n", True),
    ],
)
def test_digest_changes_with_the_code_alone(plug_in, name, text, changes):
    before = code_digest("my_plug.stage")
    plug_in(f"my_plug/{name}", text)
    assert (code_digest("my_plug.stage") != before) == changes


def test_extra_modules_count(plug_in):
    alone = code_digest("my_plug.far")
    both = code_digest("my_plug.far", ["my_plug.lonely"])
    assert alone != both
    plug_in("my_plug/lonely", "X = 3\n")
    assert both != code_digest("my_plug.far", ["my_plug.lonely"])
    assert alone == code_digest("my_plug.far")


def test_import_strings_and_relative_parents_are_followed(plug_in):
    plug_in("my_plug/deep/__init__", "")
    plug_in("my_plug/deep/a", "from .. import far\nfrom ..lonely import X\n")
    plug_in("my_plug/string", "import importlib\nimportlib.import_module('my_plug.lonely')\n")
    assert {"my_plug.far", "my_plug.lonely"} <= set(import_closure(["my_plug.deep.a"]))
    assert "my_plug.lonely" in import_closure(["my_plug.string"])


def test_type_checking_imports_are_no_dependency(plug_in):
    plug_in(
        "my_plug/typed",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from my_plug import lonely\n"
        "else:\n    from my_plug import far\n",
    )
    closure = import_closure(["my_plug.typed"])
    assert "my_plug.far" in closure
    assert "my_plug.lonely" not in closure


@pytest.mark.parametrize("name", ["no_such_module", "my_plug.nothing", "os.path.nothing"])
def test_unknown_module(plug_in, name):
    with pytest.raises(ConfigError, match=name.rpartition(".")[2]):
        code_digest(name)


def test_module_that_does_not_parse(plug_in):
    plug_in("my_plug/far", "def (:\n")
    with pytest.raises(ConfigError, match="does not parse"):
        code_digest("my_plug.stage")


@pytest.mark.parametrize("stage", STAGES)
def test_closures_of_the_real_stages(stage):
    closure = import_closure([f"pipeline.{stage}"])
    others = {f"pipeline.{other}" for other in STAGES if other != stage}
    assert not others & set(closure), "a stage imports another stage"
    assert {"pipeline.store", "pipeline.manifest", "smac_core.errors"} <= set(closure)
    assert not {"pipeline.config", "pipeline.dag"} & set(closure)  # compared as the section
    if stage in ACTING:
        assert not {"smac_core.learner", "smac_core.losses"} & set(closure)
        assert "kernels.mlp" in closure


def run_of(**changes):
    return cf.load_run({"envs": ["point-robot"], "methods": ["smac", "oracle"], **changes})


def wildcards(**values):
    return SimpleNamespace(**{"env": "point-robot", "method": "smac", "seed": "3", **values})


def alone(plan, stage="rollout"):
    """The rule that serves any one seed."""
    return plan.groups(stage)[-1]


def test_checkpoints_of_the_rounds():
    plan = Plan(run_of())

    def checkpoint(when, **which):
        return plan.checkpoint(when, alone(plan))(wildcards(**which))

    root = "results/point-robot"
    offline = [f"{root}/smac/seed3/meta_train/checkpoint.safetensors"]
    assert checkpoint("after", round="0") == offline
    assert checkpoint("before", round="1") == offline
    assert checkpoint("before", round="1", method="oracle") == offline
    assert checkpoint("offline", round="9", method="oracle") == offline
    second = [f"{root}/oracle/seed3/round2/finetune/checkpoint.safetensors"]
    assert checkpoint("after", round="2", method="oracle") == second
    assert checkpoint("before", round="3", method="oracle") == second


def test_a_job_declares_the_last_round_of_each_seed():
    plan = Plan(run_of(results="out", seeds=[0, 1], seeds_per_job=2))
    (pair, one) = plan.groups("rollout")
    root = "out/point-robot/smac"
    assert plan.last_store("rollout", "before", pair)(wildcards(round="1")) == []
    assert plan.last_store("rollout", "with", one)(wildcards(round="11")) == [
        f"{root}/seed3/round11/rollout/transitions.zarr"
    ]
    assert plan.last_store("relabel", "before", pair)(wildcards(round="3")) == [
        f"{root}/seed{seed}/round2/relabel/rewards.zarr" for seed in (0, 1)
    ]
    assert plan.carried("with", pair)(wildcards(round="9")) == []


@pytest.mark.parametrize("ensemble", ["none", "mean", "lowest"])
def test_an_ensemble_needs_the_offline_checkpoints_of_all_seeds(ensemble):
    relabel = {"relabel": {"ensemble": ensemble}}
    plan = Plan(run_of(results="out", seeds=[3, 7], settings={"all/smac": relabel}))
    found = plan.members(alone(plan, "relabel"))(wildcards())
    path = "out/point-robot/smac/seed{}/meta_train/checkpoint.safetensors"
    wanted = [] if ensemble == "none" else [path.format(seed) for seed in (3, 7)]
    assert found == wanted
    option = plan.member_option(wildcards(), SimpleNamespace(members=found))
    assert option == " ".join(["--members", *wanted] if wanted else [])


def test_a_job_without_shared_files_declares_the_earlier_rounds_too():
    plan = Plan(run_of(), shared_files=False)
    carried = plan.carried("with", alone(plan))(wildcards(round="3"))
    folder = "results/point-robot/smac/seed3"
    assert carried == [
        *(f"{folder}/round{r}/rollout/transitions.zarr" for r in (1, 2)),
        *(f"{folder}/round{r}/relabel/rewards.zarr" for r in (1, 2)),
    ]
    assert plan.carried("before", alone(plan))(wildcards(round="1")) == []


def matches(group, path: str) -> bool:
    """Whether Snakemake would make a path by the rule of a group."""
    seeds = "|".join(group.seeds).replace("{seed}", "[0-9]+")
    return re.fullmatch(f"({group.methods})/seed({seeds})/x", path) is not None


@pytest.mark.parametrize(
    ("seeds", "size", "path", "rule"),
    [
        ([0, 1], 1, "smac/seed0/x", "relabel"),
        ([0, 1], 2, "smac/seed0/x", "relabel"),
        ([0, 1], 2, "smac/seed10/x", "relabel_one_seed"),
        ([0, 1, 2, 3, 4], 2, "smac/seed3/x", "relabel_2"),
        ([0, 1, 2, 3, 4], 2, "oracle/seed4/x", "relabel_one_seed"),
        ([0, 1], 2, "smac-2/seed0/x", "relabel_one_seed"),
        ([0, 1], 9, "oracle/seed1/x", "relabel"),
    ],
)
def test_every_path_belongs_to_one_rule(seeds, size, path, rule):
    groups = Plan(run_of(seeds=seeds, seeds_per_job=size)).groups("relabel")
    assert [group.rule for group in groups if matches(group, path)] == [rule]


def test_a_swapped_stage_has_groups_only_if_it_says_so(plug_in):
    def rules():
        run = run_of(seeds=[0, 1], seeds_per_job=2, stages={"relabel": "my_plug.far"})
        return [group.rule for group in Plan(run).groups("relabel")]

    assert rules() == ["relabel"]
    plug_in("my_plug/far", "X = 1\nMANY_SEEDS = True\n")
    assert rules() == ["relabel", "relabel_one_seed"]
    plug_in("my_plug/far", "MANY_SEEDS = 0\n")
    assert rules() == ["relabel"]


def test_notice_of_shared_jobs():
    assert Plan(run_of(seeds=[0, 1])).notice() is None
    said = Plan(run_of(seeds=[4, 7, 9], seeds_per_job=2, seeds_per_learner=3)).notice()
    assert "seeds 4 and 7 and 9 of meta_train, finetune" in said
    assert "seeds 4 and 7 of rollout, relabel, evaluate" in said


@pytest.mark.parametrize(
    ("every", "rounds", "expected"),
    [("all", 2, [0, 1, 2]), (2, 5, [0, 2, 4, 5]), (9, 5, [0, 5]), ("all", 0, [0])],
)
def test_evaluated_rounds(every, rounds, expected):
    plan = Plan(run_of(rounds=rounds, evaluate_rounds=every))
    assert plan.evaluated_rounds("point-robot", "smac") == expected


def test_report_reads_every_evaluation_once():
    plan = Plan(run_of(methods=["smac", "oracle", "meta-bc"], seeds=[0, 1], rounds=1))
    inputs = plan.report_inputs()
    assert len(inputs) == len(set(inputs))
    stores = [path for path in inputs if path.endswith("returns.zarr")]
    assert len(stores) == 2 * (2 + 1 + 1)  # round 0 of the oracle is that of SMAC
    assert all(path.replace("returns.zarr", "manifest.json") in inputs for path in stores)
    assert not any("oracle/seed0/meta_train" in path for path in inputs)


def test_params_of_a_rule():
    run = run_of(stages={"tasks": "pipeline.verify"})
    plan = Plan(run)
    params = plan.params("rollout", alone(plan))
    job = wildcards(round="2")
    assert params["module"](job) == "pipeline.rollout"
    assert params["job"](job) == "--env point-robot --method smac --seed 3 --round 2"
    assert params["cfg"](job) == cf.section_json(run, "rollout", "point-robot", "smac")
    assert params["code"](job) == code_digest("pipeline.rollout", ["smac_core.envs.point_robot"])
    pair = Plan(run_of(seeds=[0, 1], seeds_per_job=2)).groups("rollout")[0]
    words = plan.params("rollout", pair)["job"](job)
    assert words == "--env point-robot --method smac --seed 0 1 --round 2"
    tasks = Plan(run).params("tasks")
    only_env = SimpleNamespace(env="point-robot")
    assert tasks["module"](only_env) == "pipeline.verify"
    assert tasks["job"](only_env) == "--env point-robot"
    report = Plan(run).params("report")
    assert cf.read_run(report["cfg"](SimpleNamespace())) == run
    assert report["job"](SimpleNamespace()) == ""


def test_a_method_may_bring_its_own_stage(tmp_path):
    (tmp_path / "method").mkdir()
    (tmp_path / "method/mine.yaml").write_text(
        "stages: {meta_train: pipeline.verify, finetune: pipeline.verify}\n"
    )
    run = run_of(
        methods=["smac", "mine"],
        config_folders=[str(tmp_path)],
        stages={"finetune": "pipeline.collect"},
    )
    assert cf.stage_module(run, "meta_train", "mine") == "pipeline.verify"
    assert cf.stage_module(run, "meta_train", "smac") == "pipeline.meta_train"
    assert cf.stage_module(run, "finetune", "mine") == "pipeline.collect"


@pytest.mark.parametrize(
    ("changes", "stage", "gpus"),
    [
        ({}, "meta_train", None),
        ({"gpu": True}, "meta_train", 1),
        ({"gpu": True}, "collect", None),  # point-robot's collector is scripted
        ({"gpu": True, "settings": {"all": {"collect": {"policy": "pearl"}}}}, "collect", 1),
        ({"gpu": True}, "experts", 1),
        (
            {"gpu": True, "settings": {"all": {"finetune": {"learner": {"device": "cpu"}}}}},
            "finetune",
            None,
        ),
    ],
)
def test_gpus(changes, stage, gpus):
    assert Plan(run_of(**changes)).gpu(stage)(wildcards(round="1")) == gpus


def test_check_finds_faults_of_the_whole_run(tmp_path):
    Plan(run_of(methods=["smac", "oracle", "meta-bc", "paper"])).check()
    with pytest.raises(ConfigError, match=r"unknown module.*my_missing"):
        Plan(run_of(stages={"evaluate": "my_missing.stage"})).check()
    settings = {"point-robot/smac": {"relabel": {"rewards": "environment"}}}
    with pytest.raises(ConfigError, match="no rollout records them"):
        Plan(run_of(settings=settings)).check()


def test_load_preset_reads_the_files_again(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("seeds: [0]\nseeds: [1]\n")
    merged = {"envs": ["point-robot"], "methods": ["smac"], "seeds": [1]}
    with pytest.raises(ConfigError, match="given twice"):
        load_preset([file], merged, {})
    file.write_text("seeds: [1]\n")
    assert load_preset([file], merged, {"seeds": ["4", "5"]}).seeds == (4, 5)
    with pytest.raises(ConfigError, match=r"mine\.yaml \+ --config"):
        load_preset([file], merged, {"seeds": ["x"]})


def test_job_environment():
    made = job_environment("/checkout", {"PATH": "/bin", "PYTHONPATH": "/mine"})
    assert made["PYTHONPATH"].split(os.pathsep) == ["/checkout", "/mine", os.getcwd()]
    assert made["PATH"].split(os.pathsep) == [os.path.dirname(sys.executable), "/bin"]
    assert made["OMP_NUM_THREADS"] == made["NUMBA_NUM_THREADS"] == "1"


def test_the_plan_is_light():
    heavy = "{'torch', 'numpy', 'numba', 'zarr', 'mujoco', 'snakemake'}"
    code = f"import sys, pipeline.dag; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_only_a_method_that_needs_experts_reads_demonstrations():
    plan = Plan(run_of(methods=["gmps", "maml-pg", "smac"]))
    demonstrated = "results/point-robot/demonstrations/transitions.zarr"
    assert plan.offline_data(wildcards(method="gmps")) == demonstrated
    assert plan.expert(wildcards(method="gmps")) == [
        "results/point-robot/experts/checkpoint.safetensors"
    ]
    for method in ("maml-pg", "smac"):
        collected = "results/point-robot/collect/transitions.zarr"
        assert plan.offline_data(wildcards(method=method)) == collected
        assert plan.expert(wildcards(method=method)) == []


@pytest.mark.parametrize(("method", "guided"), [("gmps", True), ("maml-pg", False)])
def test_the_report_reads_what_stands_behind_methods_that_need_experts(method, guided):
    inputs = Plan(run_of(methods=[method])).report_inputs()
    for stage in ("experts", "demonstrations"):
        assert (f"results/point-robot/{stage}/manifest.json" in inputs) == guided
