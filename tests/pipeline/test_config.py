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

ROOT = Path(__file__).resolve().parents[2]
PRESETS = ["config", "paper", "test"]


def preset(**changes):
    return {"envs": ["point-robot"], "methods": ["smac"], **changes}


def fault_of(act):
    """Returns the message of the ConfigError, empty when there is none; others pass through."""
    try:
        act()
    except ConfigError as fault:
        return str(fault)
    return ""


def refused(mapping):
    """Returns the message of the ConfigError, which must be one line."""
    with pytest.raises(ConfigError) as caught:
        cf.load_run(mapping)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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
        (preset(settings={"al": {}}), ["unknown env"]),
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


def test_offline_of(tmp_path):
    (tmp_path / "method").mkdir()
    for name, source in (("a", "b"), ("b", "a"), ("c", "oracle"), ("d", "nothing")):
        (tmp_path / f"method/{name}.yaml").write_text(f"offline_of: {source}\n")
    folders = [str(tmp_path)]
    run = cf.load_run(preset(methods=["c", "smac", "oracle"], config_folders=folders))
    assert [cf.offline_method(run, m) for m in run.methods] == ["smac"] * 3
    assert "circle" in refused(preset(methods=["a"], config_folders=folders))
    assert "unknown method" in refused(preset(methods=["d"], config_folders=folders))


def test_a_method_without_an_online_phase_ends_at_round_0():
    run = cf.load_run(preset(methods=["smac", "meta-bc"], rounds={"point-robot": 7}))
    assert cf.num_rounds(run, "point-robot", "smac") == 7
    assert cf.num_rounds(run, "point-robot", "meta-bc") == 0


def test_a_method_may_have_rounds_of_its_own():
    rounds = {"point-robot": 4, "point-robot/oracle": 9}
    run = cf.load_run(preset(methods=["smac", "oracle"], rounds=rounds))
    assert cf.num_rounds(run, "point-robot", "smac") == 4
    assert cf.num_rounds(run, "point-robot", "oracle") == 9
    assert cf.num_rounds(run, "point-robot") == 4
    fault = refused(preset(rounds={"point-robot": 4, "point-robot/orakle": 9}))
    assert "unknown method" in fault
    assert "did you mean oracle" in fault
    assert "unknown env" in refused(preset(rounds={"point-robot": 4, "point-robt": 9}))


SECTION = """
from dataclasses import dataclass


@dataclass(frozen=True)
class OwnConfig:
    steps: int = 7
    rate: float = 0.5


@dataclass(frozen=True)
class NeedsConfig:
    steps: int


class Plain:
    pass
"""


@pytest.fixture
def own_method(tmp_path, monkeypatch):
    """Writes the method `own` with this text; gives a preset of it and of smac."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "smac_own_sections.py").write_text(SECTION)
    (tmp_path / "method").mkdir()

    def write(text, **changes):
        (tmp_path / "method/own.yaml").write_text(text)
        return preset(methods=["own", "smac"], config_folders=[str(tmp_path)], **changes)

    return write


OWN = "sections: {meta_train: 'smac_own_sections:OwnConfig'}\nagent: 'my_agent:load'\n"


def test_a_method_brings_its_section_and_its_agent(own_method):
    settings = {
        "point-robot": {"meta_train": {"updates": 3}, "evaluate": {"train_tasks": 2}},
        "all/own": {"meta_train": {"steps": 8, "rate": 0.25}},
        "point-robot/own": {"meta_train": {"steps": 9}},
    }
    run = cf.load_run(own_method(OWN, settings=settings))
    own = cf.stage_config(run, "meta_train", "point-robot", "own")
    assert type(own).__name__ == "OwnConfig"
    assert (own.steps, own.rate) == (9, 0.25)  # what is set for every method passes it by
    assert cf.stage_config(run, "meta_train", "point-robot", "smac").updates == 3
    tested = cf.stage_config(run, "evaluate", "point-robot", "own")
    assert (tested.agent, tested.train_tasks) == ("my_agent:load", 2)
    assert cf.plug_ins(tested) == ["my_agent:load"]
    smac = cf.stage_config(run, "evaluate", "point-robot", "smac")
    assert smac.agent == "smac_core.smac_agent:load"
    text = cf.section_json(run, "meta_train", "point-robot", "own")
    assert cf.resolved("meta_train", text, "point-robot", "own")[1] == own


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sections: {meta_trains: 'a:B'}", "unknown stage of a method.*did you mean meta_train"),
        ("sections: {collect: 'a:B'}", "unknown stage of a method"),
        ("sections: {meta_train: OwnConfig}", r"not a name for a class \(package.module:Class\)"),
        ("sections: {meta_train: 'smac_own_sections:Nothing'}", "no such section.*Nothing"),
        ("sections: {meta_train: 'smac_no_such_module:A'}", "no such section.*smac_no_such_module"),
        ("sections: {meta_train: 'smac_own_sections:Plain'}", "expected a frozen dataclass"),
        ("sections: {meta_train: 'smac_own_sections:NeedsConfig'}", "a default for every field"),
        ("agent: 'smac_core.smac_agent'", r"not a name for a function \(package.module:function\)"),
        ("agent: 3", "agent.*valid string"),
        (OWN + "meta_train: {stepz: 3}", r"own\.yaml: meta_train\.stepz.*did you mean steps"),
        (OWN + "meta_train: {steps: two}", r"own\.yaml: meta_train\.steps.*valid integer"),
        (OWN + "meta_train: {steps: -2}", "out of range"),
        (OWN + "meta_train: {updates: 3}", r"unknown key.*own\.yaml: meta_train\.updates"),
    ],
)
def test_faults_of_a_method_file(own_method, text, words):
    def act():
        run = cf.load_run(own_method(text))
        cf.stage_config(run, "meta_train", "point-robot", "own")

    message = fault_of(act)
    assert re.search(words, message), message
    assert "own.yaml" in message


def test_faults_of_a_methods_settings(own_method):
    for key, section, words in (
        ("all/own", {"meta_train": {"stepz": 1}}, "did you mean steps"),
        ("all/nobody", {"meta_train": {}}, "unknown method"),
        ("all/own", {"collect": {}}, "unknown section"),
        ("point-robot/own", {"meta_train": {"updates": 1}}, "unknown key"),
    ):
        assert words in refused(own_method(OWN, settings={key: section}))


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
