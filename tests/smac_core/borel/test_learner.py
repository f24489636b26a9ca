"""BOReL from belief to policy: the order of its phases, its batches, going on after a kill."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smac_core.borel.config import BeliefConfig, HyperSacConfig
from smac_core.borel.learner import BorelData, BorelLearner, choose_decoders, make_pool
from smac_core.borel.trajectories import draw_trajectories, table_of_episodes
from smac_core.dataset import Transitions
from smac_core.envs.hopper_param import HopperParam
from smac_core.envs.point_robot import PointRobot
from smac_core.errors import NonFiniteError
from smac_core.networks import Shapes

BELIEF = BeliefConfig(
    updates=3,
    latent_dim=2,
    hidden=8,
    decoder=(8,),
    decode="reward",
    num_tasks=2,
    trajectories_per_task=2,
    latents_per_trajectory=3,
)
SAC = HyperSacConfig(
    critic=(8,), policy=(8,), num_tasks=2, rows_per_task=5, refresh_every=2, trajectories_per_task=2
)


def make_data(probability: float = 0.5) -> BorelData:
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 6, 9)
    num = int(lengths.sum())
    task_id = np.repeat(np.arange(9) // 3, lengths)
    draws: Any = lambda: rng.normal(size=(num, 2)).astype(np.float32)  # noqa: E731
    rows = Transitions(
        obs=draws(),
        action=np.tanh(draws()),
        reward=draws()[:, 0],
        next_obs=draws(),
        terminated=np.zeros(num, dtype=np.float32),
        task_id=task_id,
        source=np.zeros(num, dtype=np.int64),
    )
    used = [np.flatnonzero(task_id == t) for t in range(3)]
    table = table_of_episodes(rows, np.cumsum(lengths), used, np.eye(3)[:, :2], (0, 1, 2))
    relabel = (probability, PointRobot().reward_of_rows) if probability else None
    return BorelData(table, 3, relabel)


def make_learner(seed: int = 0, **options: Any) -> BorelLearner:
    device = torch.device("cpu")
    return BorelLearner(Shapes(2, 2), BELIEF, SAC, make_data(**options), seed, device)


def advance(learner: BorelLearner, updates: int) -> BorelLearner:
    for _ in range(updates):
        learner.advance(10)
    return learner


def test_first_the_belief_learns_then_the_policy():
    learner = make_learner()
    states = [advance(learner, n).state() for n in (0, 3, 4)]
    for name in states[0]:
        changed = [(a[name] != b[name]).any() for a, b in pairwise(states)]
        if name.startswith("belief."):
            assert changed == [True, False], name
        elif name in {"critic", "policy", "target_critic"}:
            assert changed == [False, True], name
    assert learner.num_updates == 7


@pytest.mark.parametrize("killed", [0, 2, 3, 4, 6])
def test_going_on_equals_never_stopping(killed):
    whole = advance(make_learner(), 9)
    first = advance(make_learner(), killed)
    second = make_learner()
    second.load_state(first.state())
    advance(second, 9 - killed)
    assert second.read_metrics() == whole.read_metrics()
    ours, theirs = whole.state(), second.state()
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert array.tobytes() == theirs[name].tobytes(), name


def test_another_seed_learns_something_else():
    one, other = (advance(make_learner(seed), 5).state() for seed in (0, 1))
    assert (one["belief.mean.weight"] != other["belief.mean.weight"]).any()
    assert (one["policy"] != other["policy"]).any()


def test_relabelling_changes_what_is_learnt():
    one, other = (advance(make_learner(probability=p), 3).state() for p in (0.0, 1.0))
    assert (one["belief.mean.weight"] != other["belief.mean.weight"]).any()


def test_the_hyper_states_are_those_of_the_trajectories():
    learner = advance(make_learner(), 3)
    slots = np.array([0, 0, 2, 2])
    table = learner.data.table
    drawn = draw_trajectories(table, slots, 3, np.random.default_rng(0), None)
    pool = make_pool(learner.vae, drawn, 2, learner.device)
    obs, belief, _, reward, follow, next_belief, _ = (t.numpy() for t in pool.tensors)
    assert pool.starts.tolist() == [0, drawn.length[:2].sum(), drawn.length.sum()]
    begins = drawn.begins[drawn.mask]
    np.testing.assert_array_equal(obs[:, -1], begins)
    assert begins.sum() == 2 * len(slots)
    ends = np.cumsum(drawn.length)
    inner = np.setdiff1d(np.arange(len(obs) - 1), ends - 1)
    # Within a trajectory, over the boundaries of its episodes too, one belief is the next's start.
    np.testing.assert_array_equal(next_belief[inner], belief[inner + 1])
    np.testing.assert_array_equal(follow[inner][:, -1], obs[inner + 1][:, -1])
    boundary = np.flatnonzero(begins) - 1
    np.testing.assert_array_equal(follow[boundary], obs[boundary + 1])
    assert len(np.unique(belief[ends - drawn.length], axis=0)) == 1  # all start from one belief
    np.testing.assert_array_equal(reward, drawn.reward[drawn.mask])


def test_where_dynamics_differ_the_next_observation_is_decoded_too():
    auto = BeliefConfig()
    assert choose_decoders(auto, PointRobot()).decode == "reward"
    assert choose_decoders(auto, HopperParam()).decode == "both"
    assert choose_decoders(BeliefConfig(decode="next_obs"), PointRobot()).decode == "next_obs"


def test_rows_are_drawn_from_their_task():
    learner = advance(make_learner(), 4)
    pool = learner._pool_of(0)
    rows = pool.draw(50, np.random.default_rng(0)).reshape(2, 50)
    for place, drawn in enumerate(rows):
        assert (drawn >= pool.starts[place]).all()
        assert (drawn < pool.starts[place + 1]).all()


def test_values_that_blow_up_are_told():
    learner = advance(make_learner(), 4)
    learner.sac.critic.flat.fill_(float("inf"))
    learner.advance(1)
    with pytest.raises(NonFiniteError, match="is not finite: in update 5"):
        learner.read_metrics()


def test_the_module_opens_no_file():
    folder = Path(__file__).parents[3] / "smac_core" / "borel"
    assert not [p for p in folder.glob("*.py") if "open(" in p.read_text()]
