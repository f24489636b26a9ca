"""What a method file may bring: an offline phase, rounds, a section of its own, an agent."""

from __future__ import annotations

import re

import pytest

from pipeline import config as cf
from tests.pipeline.preset_faults import fault_of, preset, refused


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
