"""A method says what it needs of the offline data, and is refused data without it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline import store
from pipeline.needs import _CHECKS
from pipeline.sections import NEEDS


def with_needs(finished, *needs):
    document = json.loads(finished.section("meta_train"))
    return json.dumps(document | {"needs": list(needs)})


def changed(finished, out, attributes=None, **arrays):
    found = finished.transitions(finished.path("collect"))
    new = {name.replace("__", "/"): array for name, array in arrays.items()}
    kept = {n: a for n, a in (found.arrays | new).items() if a is not None}
    store.write_store(out, "transitions", kept, found.attributes | (attributes or {}))
    return out


def test_every_need_has_its_check():
    assert tuple(_CHECKS) == NEEDS


def test_data_that_have_everything_are_taken(finished, tmp_path):
    source = finished.transitions(finished.path("collect")).arrays["meta/episode_source"]
    path = changed(finished, tmp_path / "a.zarr", meta__episode_source=np.full_like(source, 4))
    changes = {"config": with_needs(finished, *NEEDS), "transitions": path}
    changes["out"] = tmp_path / "out/checkpoint.safetensors"
    assert finished.call("meta_train", changes=changes) == 0


def test_data_without_true_rewards_are_refused(finished, refused, tmp_path):
    none = changed(finished, tmp_path / "n.zarr", {"reward_source": "none"}, data__reward=None)
    told = changed(finished, tmp_path / "d.zarr", {"reward_source": "decoder"})
    for path, source in ((none, "none"), (told, "decoder")):
        changes = {"config": with_needs(finished, "rewards"), "transitions": path}
        line = refused("meta_train", changes=changes)
        assert "smac needs the true reward of every step" in line
        assert f"found reward_source {source}" in line
        assert "the stage collect makes it" in line


def test_data_without_the_order_of_steps_are_refused(finished, refused, tmp_path):
    arrays = finished.transitions(finished.path("collect")).arrays
    rows = len(arrays["data/obs"])
    per_row = {
        "meta__episode_ends": np.arange(1, rows + 1),
        "meta__final_obs": arrays["data/obs"],
        "meta__episode_task_id": arrays["data/task_id"],
        "meta__episode_source": np.zeros(rows, np.int8),
        "meta__episode_iteration": np.zeros(rows, np.int32),
        "meta__episode_ok": np.ones(rows, bool),
        "data__truncated": np.ones(rows, bool),
    }
    path = changed(finished, tmp_path / "a.zarr", **per_row)
    changes = {"config": with_needs(finished, "order"), "transitions": path}
    line = refused("meta_train", changes=changes)
    assert "smac needs the steps of an episode in their order" in line
    assert "no episode of two steps" in line
    assert "the stage collect makes it" in line


def test_data_without_experts_are_refused(finished, refused):
    line = refused("meta_train", changes={"config": with_needs(finished, "experts")})
    assert "smac needs expert episodes of every training task" in line
    assert "none for 4 of 4 tasks, task 0 first" in line
    assert "in place of the stage collect makes them" in line


def test_an_expert_whose_simulator_diverged_shows_nothing(finished, refused, tmp_path):
    shown = finished.transitions(finished.path("demonstrations")).arrays["meta/episode_ok"].copy()
    shown[:2] = False  # both episodes of task 0
    path = tmp_path / "diverged.zarr"
    finished.rewrite(finished.path("demonstrations"), path, meta__episode_ok=shown)
    changes = {"config": with_needs(finished, "experts"), "transitions": path}
    assert "none for 1 of 4 tasks, task 0 first" in refused("meta_train", changes=changes)


def test_an_unknown_need_is_refused(finished, refused):
    line = refused("meta_train", changes={"config": with_needs(finished, "luck")})
    assert "needs luck; known are rewards, order, experts" in line


@pytest.mark.parametrize("method", ["macaw", "borel"])
def test_the_methods_that_need_order_say_so(method):
    from pipeline import config as cf

    run = cf.load_run({"envs": ["point-robot"], "methods": [method]})
    assert "order" in cf.method_config(run, method).needs
    text = cf.section_json(run, "meta_train", "point-robot", method)
    assert json.loads(text)["needs"] == ["rewards", "order"]
