"""Choosing hyperparameters on validation tasks: no test task is within reach."""

from __future__ import annotations

import json

from pipeline.task_list import read_tasks
from smac_core.envs.point_robot import PointRobot


def test_validation_tasks_stand_in_for_test_tasks(finished, tmp_path):
    out = tmp_path / "tasks.json"
    config = finished.section("tasks", held_out="validation", num_validation=2)
    assert finished.call("tasks", changes={"config": config, "out": out}) == 0
    every, chosen = (read_tasks(p, PointRobot()) for p in (finished.path("tasks"), out))
    assert (chosen.train, chosen.test, chosen.validation) == ((0, 1), (2, 3), ())
    assert chosen.parameters.tolist() == every.parameters[:4].tolist()
    for parameters in every.parameters[list(every.test)].tolist():
        assert json.dumps(parameters) not in out.read_text()


def test_fewer_training_tasks_leave_the_held_out_ones_as_they_are(finished, tmp_path):
    out = tmp_path / "tasks.json"
    assert (
        finished.call("tasks", changes={"config": finished.section("tasks", used=3), "out": out})
        == 0
    )
    every, few = (read_tasks(p, PointRobot()) for p in (finished.path("tasks"), out))
    assert few.train == every.train[:3] == (0, 1, 2)
    assert (few.test, few.unused, few.validation) == (every.test, (3,), ())  # 3 is for validation
    assert few.parameters.tolist() == every.parameters.tolist()
    config = finished.section("tasks", used=1, held_out="validation", num_validation=2)
    assert finished.call("tasks", changes={"config": config, "out": out}) == 0
    chosen = read_tasks(out, PointRobot())
    assert (chosen.train, chosen.test, chosen.unused) == ((0,), (2, 3), (1,))


def test_no_more_training_tasks_than_were_drawn(finished, tmp_path, capsys):
    changes = {"out": tmp_path / "tasks.json"}
    for section in ({"used": 5}, {"used": 3, "held_out": "validation", "num_validation": 2}):
        config = finished.section("tasks", **section)
        assert finished.call("tasks", changes=changes | {"config": config}) == 2
        assert f"{section['used']} used of" in capsys.readouterr().err
