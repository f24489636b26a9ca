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
