"""Self-supervision on held-out tasks (Figure 8): whose data the episodes join and label them."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.data import phase_dataset, read_labelled, read_offline
from pipeline.rollout import draw_visits
from pipeline.sections import RolloutConfig
from pipeline.store import read_store
from pipeline.task_list import read_tasks
from smac_core.config import SliceConfig
from smac_core.envs.point_robot import PointRobot

ENV = PointRobot()
WHOLE = (SliceConfig(), SliceConfig())


@pytest.fixture(params=[False, True], ids=["without rewards", "with rewards"])
def explored(finished, tmp_path, request):
    """A round on held-out tasks, labelled and trained on."""
    rewards = request.param
    source = "environment" if rewards else "decoder"
    sections = {
        "rollout": {"exploration_tasks": "test", "record_rewards": rewards, "tasks_per_round": 6},
        "relabel": {"rewards": source},
        "finetune": {},
    }
    names = {
        "rollout": "rollout/transitions.zarr",
        "relabel": "relabel/rewards.zarr",
        "finetune": "finetune/checkpoint.safetensors",
    }
    outs = {stage: tmp_path / "round1" / name for stage, name in names.items()}
    for stage, changes in sections.items():
        given = {"config": finished.section(stage, **changes), "out": outs[stage]}
        given |= {"rollout": outs["rollout"]} if stage == "relabel" else {}
        if stage == "finetune":
            given |= {"rollouts": [outs["rollout"]], "rewards": [outs["relabel"]]}
        assert finished.call(stage, 1, changes=given) == 0
    return rewards, outs


def test_episodes_act_on_held_out_tasks_and_join_the_data_of_one_task(finished, explored):
    rewards, outs = explored
    tasks = read_tasks(finished.path("tasks"), ENV)
    arrays = read_store(outs["rollout"], "transitions").arrays
    acted, joined = arrays["meta/episode_task_id"], arrays["meta/episode_buffer"]
    assert set(acted) <= set(tasks.test)
    assert set(joined) <= set(tasks.test if rewards else tasks.train)
    assert ("data/reward" in arrays) == rewards
    if rewards:
        np.testing.assert_array_equal(acted, joined)
    else:
        assert len(set(joined)) > 1


def test_training_draws_them_as_data_of_that_task(finished, explored):
    rewards, outs = explored
    tasks = read_tasks(finished.path("tasks"), ENV)
    offline = read_offline(finished.path("collect"), ENV, tasks.train, WHOLE)
    rounds = read_labelled([outs["rollout"]], [outs["relabel"]], ENV, 1)
    for growth in ("all", "frozen"):
        data = phase_dataset(offline, rounds, tasks.train, WHOLE, growth, context_next_obs=False)
        arrays = read_store(outs["rollout"], "transitions").arrays
        extra = sorted(set(arrays["meta/episode_buffer"]) - set(tasks.train))
        assert data.task_ids == (*tasks.train, *extra)
        assert bool(extra) == rewards
        for slot, task in enumerate(data.task_ids):
            owners = np.unique(data.transitions.task_id[data.replay.of(slot)])
            assert owners.tolist() == [task]
        assert data.replay.counts.sum() == len(offline) + len(rounds[0])
        kept = len(offline) + (0 if growth == "frozen" and not rewards else len(rounds[0]))
        assert data.context.counts.sum() == kept


def test_contexts_can_be_of_one_source_or_of_rollouts_alone(finished):
    tasks = read_tasks(finished.path("tasks"), ENV)
    offline = read_offline(finished.path("collect"), ENV, tasks.train, WHOLE)
    rounds = read_labelled([finished.path("rollout")], [finished.path("relabel")], ENV, 1)
    mixed, apart, online = (
        phase_dataset(offline, rounds, tasks.train, WHOLE, growth, context_next_obs=False)
        for growth in ("all", "separate", "online")
    )
    explored = np.unique(rounds[0].task_id).tolist()
    assert 0 < len(explored) < len(tasks.train)
    assert apart.task_ids == (*tasks.train, *explored)
    for slot, task in enumerate(apart.task_ids):
        first = tasks.train.index(task)
        np.testing.assert_array_equal(apart.replay.of(slot), mixed.replay.of(first))
        in_rollouts = apart.context.of(slot) >= len(offline)
        assert in_rollouts.all() if slot >= len(tasks.train) else not in_rollouts.any()
    assert apart.context.counts.sum() == mixed.context.counts.sum()
    for slot, task in enumerate(tasks.train):
        in_rollouts = online.context.of(slot) >= len(offline)
        assert in_rollouts.all() if task in explored else not in_rollouts.any()
        np.testing.assert_array_equal(online.replay.of(slot), mixed.replay.of(slot))


def test_labels_come_from_the_data_that_the_episode_joins(finished, explored):
    rewards, outs = explored
    labels = read_store(outs["relabel"], "rewards").arrays
    assert ("meta/episode_latent" in labels) == (not rewards)
    if rewards:
        true = read_store(outs["rollout"], "transitions").arrays["data/reward"]
        np.testing.assert_array_equal(labels["data/generated_reward"], true)


def test_training_tasks_are_drawn_as_before(finished):
    tasks = read_tasks(finished.path("tasks"), ENV)
    visits = draw_visits(RolloutConfig(), tasks, np.random.default_rng(0))
    drawn = np.asarray(tasks.train)[np.random.default_rng(0).integers(0, len(tasks.train), 5)]
    for found in (visits.task_ids, visits.buffers, visits.lenders):
        np.testing.assert_array_equal(found, drawn)
