"""The configuration: layers, strictness, and one line for every fault."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import config as cf
from pipeline.sections import SOURCES
from pipeline.store import EPISODE_SOURCES
from pipeline.strict import deep_merge, read_yaml, retype
from smac_core.config import LearnerConfig, SliceConfig
from smac_core.errors import ConfigError
from tests.pipeline.preset_faults import fault_of, preset, refused

ROOT = Path(__file__).resolve().parents[2]
PRESETS = ["config", "paper", "test"]


@pytest.mark.parametrize("name", PRESETS)
def test_every_section_of_the_presets_resolves(name):
    run = cf.read_run(str(ROOT / f"config/{name}.yaml"))
    for env in run.envs:
        assert cf.env_config(run, env).id == env
        for method in run.methods:
            for stage in cf.STAGES:
                section = cf.stage_config(run, stage, env, method)
                assert isinstance(section, cf.STAGES[stage])


def test_defaults_are_the_papers():
    run = cf.load_run(preset(envs=["cheetah-vel"]))
    train = cf.stage_config(run, "meta_train", "cheetah-vel", "smac")
    assert train.updates == 50000
    assert train.learner == LearnerConfig()
    assert train.replay == SliceConfig("first", 1200)
    assert train.context == SliceConfig("last", 400, ("init", "prior"))
    tasks = cf.stage_config(run, "tasks", "cheetah-vel")
    assert (tasks.seed, tasks.num_train, tasks.num_test) == (1337, 100, 30)
    online = cf.stage_config(run, "finetune", "cheetah-vel", "smac").learner
    assert (online.rows_per_task, online.policy_gradient_weight) == (256, 1.0)
    assert not online.train_model


def test_layers_win_in_order():
    layers = {
        "all": {"meta_train": {"updates": 1, "learner": {"discount": 0.5, "kl_weight": 0.2}}},
        "cheetah-vel": {"meta_train": {"updates": 2, "learner": {"discount": 0.6}}},
        "cheetah-vel/meta-bc": {"meta_train": {"updates": 3}},
    }
    run = cf.load_run(
        preset(envs=["cheetah-vel", "point-robot"], methods=["smac", "meta-bc"], settings=layers)
    )

    def train(env, method):
        return cf.stage_config(run, "meta_train", env, method)

    assert train("point-robot", "smac").updates == 1
    assert train("cheetah-vel", "smac").updates == 2
    assert train("cheetah-vel", "meta-bc").updates == 3
    cloned = train("cheetah-vel", "meta-bc")
    assert (cloned.learner.actor, cloned.learner.discount) == ("bc", 0.6)
    assert cloned.learner.kl_weight == 0.2  # deeper keys of a lower layer stay
    assert cloned.replay.rows == 1200  # of config/env/cheetah-vel.yaml


def test_partial_learner_keeps_the_online_defaults():
    run = cf.load_run(preset(settings={"all": {"finetune": {"learner": {"discount": 0.9}}}}))
    learner = cf.stage_config(run, "finetune", "point-robot", "smac").learner
    assert (learner.discount, learner.rows_per_task, learner.train_model) == (0.9, 256, False)


def test_null_takes_the_context_slice_back():
    run = cf.load_run(
        preset(envs=["cheetah-vel"], settings={"all": {"meta_train": {"context": None}}})
    )
    assert cf.stage_config(run, "meta_train", "cheetah-vel", "smac").context is None


def test_dataset_does_not_depend_on_the_method():
    run = cf.load_run(preset(methods=["smac", "meta-bc"]))
    assert cf.stage_config(run, "collect", "point-robot", "meta-bc") == cf.stage_config(
        run, "collect", "point-robot"
    )


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        (preset(seedz=[0]), ["seedz", "did you mean seeds?"]),
        ({"envs": ["point-robot"]}, ["missing", "methods"]),
        (preset(envs=["point-robt"]), ["unknown env", "did you mean point-robot?"]),
        (preset(methods=["smack"]), ["unknown method", "did you mean smac?"]),
        (preset(envs=["../secret"]), ["not a name", "../secret"]),
        (preset(envs=["a b; rm -rf $(x)"]), ["not a name"]),
        (preset(envs=[]), ["empty list"]),
        (preset(seeds=[0, 0]), ["twice"]),
        (preset(seeds=["0"]), ["seeds.0", "integer", "'0'"]),
        (preset(seeds=[True]), ["integer", "True"]),
        (preset(seeds=[-1]), ["out of range", "-1"]),
        (preset(seeds=[2**32]), ["out of range"]),
        (preset(rounds="many"), ["rounds", "'many'"]),
        (preset(rounds={"cheetah-vel": 3}), ["no number of rounds", "point-robot"]),
        (preset(rounds=-1), ["out of range"]),
        (preset(evaluate_rounds=0), ["out of range"]),
        (preset(results="a; rm x"), ["not a name for a folder"]),
        (preset(stages={"relable": "x"}), ["unknown stage", "did you mean relabel?"]),
        (preset(stages={"relabel": "os; x"}), ["not a name for a module"]),
        (preset(settings={"al": {}}), ["unknown env", "settings.al"]),
        (preset(settings={"all/smack": {}}), ["unknown method", "settings.all/smack"]),
        (preset(methods_in={"point-robt": ["smac"]}), ["unknown env", "methods_in"]),
        (preset(settings={"all": 3}), ["settings.all", "3"]),
        (preset(settings={"all": {"colect": {}}}), ["unknown section", "did you mean collect?"]),
        (preset(settings={"point-robot/smac": {"collect": {}}}), ["unknown section"]),
        (preset(settings={"point-robot": {"report": {}}}), ["unknown section"]),
    ],
)
def test_faults_of_a_preset(mapping, words):
    message = refused(mapping)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("stage", "section", "words"),
    [
        ("meta_train", {"learner": {"discont": 0.9}}, ["learner.discont", "discount?"]),
        ("meta_train", {"learner": {"discount": 1.5}}, ["out of range", "0 to 1"]),
        ("meta_train", {"learner": {"discount": "0.9"}}, ["number", "'0.9'"]),
        ("meta_train", {"learner": {"learning_rate": "1e-3"}}, ["1.0e-3"]),
        ("meta_train", {"learner": {"learning_rate": 0.0}}, ["more than 0"]),
        ("meta_train", {"learner": {"learning_rate": float("nan")}}, ["finite"]),
        ("meta_train", {"learner": {"kl_weight": float("inf")}}, ["finite"]),
        ("meta_train", {"learner": {"actor": "sac"}}, ["actor sac; known are awac, bc"]),
        ("meta_train", {"learner": None}, ["learner"]),
        ("meta_train", {"updates": 10.0}, ["updates", "integer"]),
        ("meta_train", {"updates": 2**80}, ["updates"]),
        ("meta_train", {"networks": {"policy": [64, 0]}}, ["policy", "out of range"]),
        ("meta_train", {"networks": {"latent_dim": 0}}, ["latent_dim"]),
        ("meta_train", {"context": {"take": "last"}}, ["take last of 0 rows"]),
        ("meta_train", {"replay": {"sources": ["pryor"]}}, ["pryor", "prior"]),
        ("tasks", {"num_train": 3, "num_validation": 4}, ["4 validation tasks of 3"]),
        ("tasks", {"held_out": "validation"}, ["with 0 validation tasks of 100"]),
        ("collect", {"initial_steps": 0}, ["no data"]),
        ("experts", {"cloning": {}}, ["no script", "policy: scripted"]),
        ("experts", {"policy": "scripted", "cloning": {"updates": 0}}, ["would learn nothing"]),
        ("experts", {"policy": "scripted", "cloning": {"rows": 0}}, ["would learn nothing"]),
        ("meta_train", {"model_updates": 0}, ["would learn nothing"]),
        ("meta_train", {"model_updates": -1}, ["model_updates", "out of range"]),
        ("rollout", {"visit": {"prior_steps": 0, "posterior_steps": 0}}, ["no steps"]),
        ("evaluate", {"adaptation": {"exploration_episodes": 3}}, ["none is left to measure"]),
        (
            "evaluate",
            {"adaptation": {"min_transitions": 0}},
            ["no episode is run"],
        ),
        ("env", {"params": {"x": [1]}}, ["params"]),
    ],
)
def test_faults_of_a_section(stage, section, words):
    message = refused(preset(settings={"all": {stage: section}}))
    for word in [*words, f"settings.all.{stage}"]:
        assert word in message


def test_a_model_that_stops_after_the_end_is_refused():
    train = {"all": {"meta_train": {"model_updates": 9}}, "point-robot": {}}
    run = cf.load_run(preset(settings=train | {"point-robot/smac": {"meta_train": {"updates": 8}}}))
    fault = "settings without effect: in meta_train of point-robot/smac, found model_updates 9 of 8"
    with pytest.raises(ConfigError, match=fault):
        cf.stage_config(run, "meta_train", "point-robot", "smac")
    whole = dataclasses.replace(run, settings=train)  # the layers below have updates enough
    document = json.loads(cf.section_json(whole, "meta_train", "point-robot", "smac"))
    document["section"]["updates"] = 8
    with pytest.raises(ConfigError, match="settings without effect: in --config, section"):
        cf.resolved("meta_train", json.dumps(document), "point-robot", "smac")


def test_a_fault_names_the_file_it_stands_in(tmp_path):
    (tmp_path / "env").mkdir()
    (tmp_path / "env/mine.yaml").write_text(
        "env: {definition: 'smac_core.envs.point_robot:PointRobot'}\ntasks: {num_trains: 3}\n"
    )
    run = cf.load_run(preset(envs=["mine"], config_folders=[str(tmp_path)]))
    with pytest.raises(ConfigError, match=r"mine\.yaml: tasks\.num_trains.*did you mean num_train"):
        cf.stage_config(run, "tasks", "mine")


def test_every_method_sees_the_same_rows():
    run = cf.load_run(preset(envs=["cheetah-vel"], methods=["smac", "macaw", "borel"]))
    seen = [cf.stage_config(run, "meta_train", "cheetah-vel", m).replay for m in run.methods]
    assert seen[0].take == "first"
    assert seen == [seen[0]] * 3
    chosen = {"replay": {"take": "all", "rows": 0}}
    run = dataclasses.replace(run, settings={"cheetah-vel/macaw": {"meta_train": chosen}})
    assert cf.stage_config(run, "meta_train", "cheetah-vel", "macaw").replay.take == "all"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("env: {definition: 'os.system'}\n", "package.module:Class"),
        ("tasks: {}\n", "definition"),
        ("env: {id: other}\ntask: {}\n", "did you mean tasks"),
        ("- a list\n", "not a mapping"),
        ("tasks: 3\n", "not a mapping"),
        ("tasks: {}\ntasks: {}\n", "given twice"),
        ("tasks: &a [*a]\n", "mapping"),
        ("tasks: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("tasks: {2: 3}\n", "mapping"),
        ("[", "not valid YAML"),
        ("\x00", "not valid YAML"),
    ],
)
def test_hostile_environment_files(tmp_path, text, words):
    (tmp_path / "env").mkdir()
    (tmp_path / "env/mine.yaml").write_text(text)
    run = cf.RunConfig(envs=("mine",), methods=("smac",), config_folders=(str(tmp_path),))
    message = fault_of(lambda: (cf.stage_config(run, "tasks", "mine"), cf.env_config(run, "mine")))
    assert re.search(words, message)
    assert "\n" not in message


def test_yaml_merge_keys_work(tmp_path):
    (tmp_path / "a.yaml").write_text("a: &a {x: 1}\nb: {<<: *a, y: 2}\n")
    assert read_yaml(tmp_path / "a.yaml")["b"] == {"x": 1, "y": 2}


def test_json_forms_come_back_equal():
    run = cf.read_run(str(ROOT / "config/test.yaml"))
    assert cf.read_run(cf.to_json(run)) == run
    for stage in ("tasks", "collect", "meta_train", "rollout", "relabel", "finetune", "evaluate"):
        text = cf.section_json(run, stage, "cheetah-vel", "smac")
        env, section = cf.resolved(stage, text, "cheetah-vel", "smac")
        assert env == cf.env_config(run, "cheetah-vel")
        assert section == cf.stage_config(run, stage, "cheetah-vel", "smac")
        by_path = cf.resolved(stage, str(ROOT / "config/test.yaml"), "cheetah-vel", "smac")
        assert by_path == (env, section)
        assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stage": "rollout"}, "made for something else"),
        ({"env": {"id": "cheetah-vel"}}, "made for something else"),
        ({"env": {"id": "point-robot", "definition": "x"}}, "package.module:Class"),
        ({"section": 3}, "not a mapping"),
        ({"class": "os:path"}, "not a section"),
        ({"class": "os.path"}, "package.module:Class"),
        ({"section": {"updates": "7"}}, "updates"),
        ({"more": 1}, "unknown key"),
    ],
)
def test_faults_of_a_resolved_section(change, words):
    document = json.loads(cf.section_json(cf.load_run(preset()), "meta_train", "point-robot"))
    with pytest.raises(ConfigError, match=words):
        cf.resolved("meta_train", json.dumps({**document, **change}), "point-robot", "smac")


@pytest.mark.parametrize("text", ["{", "{}", "[]", "/no/such/file.yaml", ""])
def test_config_that_is_none(text):
    with pytest.raises(ConfigError):
        cf.resolved("tasks", text, "point-robot")


def test_schema_agrees_with_the_check(tmp_path):
    validate = pytest.importorskip("snakemake.utils").validate
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(cf.preset_schema()))
    for name in PRESETS:
        document = read_yaml(ROOT / f"config/{name}.yaml")
        validate(document, str(path), set_default=False)
    from snakemake.exceptions import WorkflowError

    for bad in (preset(seedz=[1]), preset(seeds=["0"]), {"envs": ["point-robot"]}):
        with pytest.raises(WorkflowError):
            validate(bad, str(path), set_default=False)


def test_source_names_are_those_of_the_store():
    assert tuple(sorted(EPISODE_SOURCES, key=EPISODE_SOURCES.__getitem__)) == SOURCES


def test_conda_file_lists_what_pyproject_lists():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    conda = read_yaml(ROOT / "config/conda.yaml")["dependencies"]
    assert conda[-1]["pip"] == project["dependencies"]


def test_retype_reads_numbers_of_the_command_line():
    given = {"seeds": ["0", "1"], "gpu": "true", "envs": ["point-robot"], "rounds": {"a": "3"}}
    assert retype(given) == {
        "seeds": [0, 1],
        "gpu": True,
        "envs": ["point-robot"],
        "rounds": {"a": 3},
    }


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
keys = st.sampled_from([field.name for field in dataclasses.fields(cf.RunConfig)])
stages = st.sampled_from([*cf.STAGES, "env"])


@settings(deadline=None)
@given(st.dictionaries(keys, trees, max_size=3))
def test_fuzzed_presets_run_or_give_one_line(changes):
    assert "\n" not in fault_of(lambda: cf.load_run(preset(**changes)))


@settings(deadline=None)
@given(stages, st.data())
def test_fuzzed_sections_run_or_give_one_line(stage, data):
    cls = cf.EnvConfig if stage == "env" else cf.STAGES[stage]
    names = st.sampled_from([field.name for field in dataclasses.fields(cls)])
    section = data.draw(st.dictionaries(names, trees, max_size=3))

    def resolve():
        run = cf.load_run(preset(settings={"all": {stage: section}}))
        cf.env_config(run, "point-robot")
        if stage != "env":
            cf.stage_config(run, stage, "point-robot", "smac")

    assert "\n" not in fault_of(resolve)


@settings(deadline=None)
@given(trees, trees)
def test_deep_merge_lets_the_overlay_win(below, above):
    merged = deep_merge({"a": below, "b": 1}, {"a": above})
    assert merged["b"] == 1
    if not (isinstance(below, dict) and isinstance(above, dict)):
        assert merged["a"] is above
    else:
        assert set(merged["a"]) == set(below) | set(above)
