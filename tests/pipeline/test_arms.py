"""Arms of a study, and variants of an environment: what holds for them, and where they run."""

from __future__ import annotations

import json

import pytest

from pipeline import config as cf
from pipeline.dag import Plan
from smac_core.errors import ConfigError

ENVS = ["point-robot", "cheetah-vel"]


def run_of(arms, **changes):
    methods = {"envs": ENVS, "methods": ["smac", "oracle"]}
    return cf.load_run({**methods, "arms": arms, **changes})


def refused(arms, **changes):
    with pytest.raises(ConfigError) as caught:
        run_of(arms, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def finetune(run, env, method):
    return cf.stage_config(run, "finetune", env, method)


def test_what_holds_for_the_method_holds_for_its_arm_under_its_own():
    settings = {
        "all": {"finetune": {"updates": 1, "learner": {"discount": 0.5}}},
        "cheetah-vel": {"finetune": {"updates": 2}},
        "all/meta-bc-online": {"finetune": {"learner": {"kl_weight": 0.3}}},
        "cheetah-vel/meta-bc-online": {"finetune": {"updates": 3}},
    }
    arms = {
        "b": {"of": "a", "settings": {"cheetah-vel": {"finetune": {"updates": 5}}}},
        "a": {
            "of": "meta-bc-online",
            "settings": {
                "all": {"finetune": {"updates": 4, "learner": {"learning_rate": 0.1}}},
                "point-robot": {"finetune": {"learner": {"kl_weight": 0.4}}},
            },
        },
    }
    run = run_of(arms, settings=settings)
    assert run.methods == ("smac", "oracle", "b", "a")
    assert finetune(run, "cheetah-vel", "meta-bc-online").updates == 3
    assert [finetune(run, env, "a").updates for env in ENVS] == [4, 4]
    assert [finetune(run, env, "b").updates for env in ENVS] == [4, 5]
    for name in "ab":
        learner = finetune(run, "point-robot", name).learner
        assert (learner.actor, learner.discount, learner.learning_rate) == ("bc", 0.5, 0.1)
        assert learner.kl_weight == 0.4
        assert finetune(run, "cheetah-vel", name).learner.kl_weight == 0.3
    assert finetune(run, "point-robot", "smac").updates == 1


def test_the_head_is_that_of_the_method_but_for_label_and_offline_phase():
    arms = {
        "late": {"of": "smac", "label": "later data"},
        "late-oracle": {"of": "oracle", "offline_of": "late"},
        "plain": {"of": "oracle"},
        "cloned": {"of": "meta-bc"},
        "theirs": {"of": "borel"},
    }
    run = run_of(arms, rounds={"point-robot": 4, "point-robot/late": 9, "cheetah-vel": 1})
    heads = {name: cf.method_config(run, name) for name in arms}
    assert [heads[name].label for name in ("late", "plain")] == ["later data", "plain"]
    assert [cf.offline_method(run, n) for n in ("late-oracle", "plain")] == ["late", "smac"]
    assert (heads["theirs"].agent, heads["theirs"].needs) == (
        "smac_core.borel_agent:load",
        ("rewards", "order"),
    )
    assert type(cf.stage_config(run, "meta_train", "point-robot", "theirs")).__name__ == (
        "BorelTrainConfig"
    )
    assert cf.stage_module(run, "meta_train", "theirs") == "pipeline.borel_train"
    rounds = {name: cf.num_rounds(run, "point-robot", name) for name in arms}
    assert rounds == {"late": 9, "late-oracle": 4, "plain": 4, "cloned": 0, "theirs": 0}
    over = run_of(
        {"a": {"of": "smac"}}, rounds={"point-robot": 4, "point-robot/smac": 6, "cheetah-vel": 1}
    )
    assert cf.num_rounds(over, "point-robot", "a") == 6


def test_a_run_comes_back_from_its_json():
    run = run_of({"a": {"of": "smac", "envs": ["cheetah-vel"]}})
    assert cf.read_run(cf.to_json(run)) == run
    text = cf.section_json(run, "rollout", "cheetah-vel", "a")
    found = cf.resolved("rollout", text, "cheetah-vel", "a")[1]
    assert found == cf.stage_config(run, "rollout", "cheetah-vel", "smac")
    assert json.loads(text)["stage"] == "rollout"


def test_an_arm_runs_where_it_says():
    arms = {"here": {"of": "smac", "envs": ["cheetah-vel"]}, "everywhere": {"of": "smac"}}
    run = run_of(arms, methods_in={"cheetah-vel": ["smac"]})
    assert cf.methods_of(run, "point-robot") == ("smac", "oracle", "everywhere")
    assert cf.methods_of(run, "cheetah-vel") == ("smac", "here")
    paths = Plan(run).report_inputs()
    ran = {tuple(path.split("/")[1:3]) for path in paths if "/round1/" in path}
    expected = {("point-robot", m) for m in ("smac", "oracle", "everywhere")}
    assert ran == expected | {("cheetah-vel", m) for m in ("smac", "here")}
    alone = cf.load_run({"envs": ["point-robot"], "methods": [], "arms": {"a": {"of": "smac"}}})
    assert alone.methods == ("a",)


def test_arms_that_share_the_offline_phase_share_its_files():
    run = run_of({"a": {"of": "smac", "offline_of": "smac"}}, envs=["point-robot"])
    paths = [path for path in Plan(run).report_inputs() if "/a/" in path]
    assert paths
    assert not [path for path in paths if "meta_train" in path or "round0" in path]


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        ({"of": "smack"}, ["unknown method: in arms.a.of", "did you mean smac?"]),
        ({"of": "b"}, ["circle", "a -> b -> a"]),
        ({"of": "a"}, ["circle", "a -> a"]),
        ({}, ["missing", "arms.a.of"]),
        (
            {"of": "smac", "settingz": {}},
            ["unknown key", "arms.a.settingz", "did you mean settings?"],
        ),
        ({"of": "smac", "envs": ["cheeta-vel"]}, ["unknown env", "did you mean cheetah-vel?"]),
        ({"of": "smac", "settings": {"al": {}}}, ["unknown env"]),
        (
            {"of": "smac", "settings": {"all": {"colect": {}}}},
            ["unknown section", "arms.a.settings"],
        ),
        ({"of": "smac", "settings": {"all": {"collect": {}}}}, ["unknown section"]),
        (
            {"of": "smac", "settings": {"all": {"finetune": {"update": 3}}}},
            ["arms.a.settings.all.finetune.update", "did you mean updates?"],
        ),
        (
            {"of": "smac", "offline_of": "smac", "settings": {"all": {"meta_train": {}}}},
            ["without effect", "smac", "drop offline_of"],
        ),
        ({"of": "smac", "offline_of": "nobody"}, ["arms.a.offline_of", "found nobody"]),
        ({"of": "smac", "offline_of": "a"}, ["circle"]),
        ({"of": "smac", "label": 3}, ["arms.a.label", "string"]),
    ],
)
def test_faults_of_an_arm(arm, words):
    message = refused({"a": arm, "b": {"of": "a"}})
    for word in words:
        assert word in message


def test_faults_around_arms():
    arm = {"a": {"of": "smac"}}
    assert "name of a method" in refused({"meta-bc": {"of": "smac"}})
    assert "not a name for an arm" in refused({"A b": {"of": "smac"}})
    assert "arms.a.settings.all" in refused(arm, settings={"all/a": {"finetune": {}}})
    assert "not a method of this run" in refused(arm, methods_in={"point-robot": ["meta-bc"]})
    assert "unknown env" in refused(arm, methods_in={"point-robt": ["smac"]})
    nowhere = {"a": {"of": "smac", "envs": ["cheetah-vel"]}}
    assert "no method runs here" in refused(nowhere, methods=[])


@pytest.fixture
def variant(tmp_path):
    """Writes files of environments; gives what a preset says of their folder."""
    (tmp_path / "env").mkdir()

    def write(**files):
        for name, text in files.items():
            (tmp_path / f"env/{name}.yaml").write_text(text)
        return {"config_folders": [str(tmp_path)]}

    return write


def test_what_holds_for_an_environment_holds_for_its_variant_under_its_own(variant):
    folders = variant(few="of: cheetah-vel\ntasks: {used: 20}\ncollect: {iterations: 3}\n")
    settings = {
        "all": {"collect": {"initial_steps": 7}},
        "cheetah-vel": {"collect": {"iterations": 9}, "meta_train": {"updates": 5}},
        "cheetah-vel/smac": {"rollout": {"tasks_per_round": 4}},
    }
    arms = {
        "a": {
            "of": "smac",
            "settings": {
                "cheetah-vel": {"finetune": {"updates": 6}},
                "few": {"rollout": {"tasks_per_round": 8}},
            },
        }
    }
    rounds = {"cheetah-vel": 3, "cheetah-vel/oracle": 5}
    run = run_of(arms, envs=["few"], settings=settings, rounds=rounds, **folders)
    env = cf.env_config(run, "few")
    assert (env.id, env.definition) == ("few", cf.env_config(run, "cheetah-vel").definition)
    tasks, collect = (cf.stage_config(run, stage, "few") for stage in ("tasks", "collect"))
    assert (tasks.used, tasks.num_test) == (20, 30)
    assert (collect.iterations, collect.initial_steps) == (3, 7)
    train = cf.stage_config(run, "meta_train", "few", "smac")
    assert (train.updates, train.replay.rows) == (5, 1200)
    rollouts = {m: cf.stage_config(run, "rollout", "few", m).tasks_per_round for m in run.methods}
    assert rollouts == {"smac": 4, "oracle": 5, "a": 8}
    assert finetune(run, "few", "a").updates == 6
    assert {m: cf.num_rounds(run, "few", m) for m in run.methods} == {
        "smac": 3,
        "oracle": 5,
        "a": 3,
    }


def test_faults_of_a_variant(variant):
    folders = variant(
        a="of: b\n", b="of: a\n", c="of: cheeta-vel\n", d="of: 3\n", e="of: cheetah-vel\ntask: {}\n"
    )
    words = {
        "a": "circle",
        "c": "c.yaml: of, found cheeta-vel; did you mean cheetah-vel?",
        "d": "expected an environment",
        "e": "did you mean tasks?",
    }
    for name, word in words.items():
        with pytest.raises(ConfigError) as caught:
            cf.stage_config(run_of({}, envs=[name], **folders), "tasks", name)
        assert word in str(caught.value)
        assert "\n" not in str(caught.value)
