"""BOReL's acting side: torch's numbers, a belief that outlives episodes, rows that stay apart."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from smac_core.borel.config import BeliefConfig, HyperSacConfig
from smac_core.borel.learner import BorelLearner, make_pool
from smac_core.borel.trajectories import draw_trajectories
from smac_core.borel_agent import BorelAgent, load
from smac_core.envs.episodes import Step
from smac_core.envs.point_robot import PointRobot
from smac_core.errors import CheckpointError
from smac_core.meta_agent import Context
from smac_core.networks import Shapes, forward
from tests.smac_core.borel.test_learner import make_data

BELIEF = BeliefConfig(
    updates=0, latent_dim=3, hidden=20, decoder=(8,), decode="reward", log_variance_limit=2.0
)
SAC = HyperSacConfig(critic=(8,), policy=(16, 16))
METADATA: dict[str, Any] = {
    "algorithm": "borel",
    "networks": {"belief": dataclasses.asdict(BELIEF)},
    "sizes": {"policy": [2 + 1 + 6, 16, 16, 4]},
}
Rows = np.ndarray


@pytest.fixture(scope="module")
def learner() -> BorelLearner:
    device = torch.device("cpu")
    made = BorelLearner(Shapes(2, 2), BELIEF, SAC, make_data(), 3, device)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.vae.parameters():  # biases of the GRU too, which start at 0
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=noise))
        made.sac.policy.flat += 0.3 * torch.randn(made.sac.policy.flat.shape, generator=noise)
    return made


@pytest.fixture
def agent(learner: BorelLearner) -> BorelAgent:
    return load(learner.state(), METADATA, PointRobot())


def make_steps(num: int, steps: int, seed: int = 0) -> list[Step]:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=(num, *shape)).astype(np.float32)

    return [
        Step(
            obs=draw(2),
            action=np.tanh(draw(2)),
            reward=draw(),
            next_obs=draw(2),
            terminated=np.zeros(num, dtype=bool),
            ended=np.zeros(num, dtype=bool),
            t=np.full(num, t),
        )
        for t in range(steps)
    ]


def of(step: Step, rows: Rows) -> Step:
    return Step(**{f.name: getattr(step, f.name)[rows] for f in dataclasses.fields(Step)})


def act(agent: BorelAgent, rows: Rows, obs: np.ndarray) -> np.ndarray:
    return agent.act(rows, obs, np.ones((len(rows), 2), np.float32), explore=False)


def test_the_belief_is_that_of_torch(agent: BorelAgent, learner: BorelLearner) -> None:
    steps, rows = make_steps(5, 30), np.arange(5)
    agent.begin_task(5)
    found = [agent.diagnosis()]
    for step in steps:
        agent.observe(rows, step)
        found.append(agent.diagnosis())
    columns = ("action", "next_obs", "reward")
    arrays = [np.stack([getattr(s, n) for s in steps], axis=1) for n in columns]
    with torch.no_grad():
        beliefs = learner.vae.beliefs(*(torch.from_numpy(a) for a in arrays))
    mean = np.stack([d.mean for d in found], axis=1)
    variance = np.stack([d.variance for d in found], axis=1)
    np.testing.assert_allclose(mean, beliefs.mean.numpy(), atol=2e-5)
    np.testing.assert_allclose(variance, beliefs.log_variance.exp().numpy(), rtol=1e-4)
    assert variance.max() == pytest.approx(np.exp(2.0))  # the clamp is met, and is the same


def test_actions_are_those_of_the_trained_policy(agent: BorelAgent, learner: BorelLearner) -> None:
    # What training calls the hyper-states of a trajectory is what the agent meets in it.
    table = learner.data.table
    drawn = draw_trajectories(table, np.array([1]), 3, np.random.default_rng(2), None)
    pool = make_pool(learner.vae, drawn, 1, learner.device)
    inputs = torch.cat(pool.tensors[:2], dim=-1)[None]
    with torch.no_grad():
        output = forward(learner.sac.policy.networks["policy"], inputs)[0]
    expected = torch.tanh(output[:, :2]).numpy()
    agent.begin_task(1)
    row, found = np.zeros(1, dtype=np.int64), []
    for t in range(int(drawn.length[0])):
        if drawn.begins[0, t]:
            agent.end_episode(row)
            agent.adapt(row)
        found.append(act(agent, row, drawn.obs[:, t])[0])
        step = {n: getattr(drawn, n)[:, t] for n in ("obs", "action", "reward", "next_obs")}
        flags = {n: np.zeros(1, dtype=bool) for n in ("terminated", "ended")}
        agent.observe(row, Step(**step, **flags, t=np.array([t])))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert drawn.begins.sum() == 2


def test_the_belief_outlives_episodes_and_not_the_task(agent: BorelAgent) -> None:
    rows = np.arange(2)
    agent.begin_task(2)
    start = agent.diagnosis()
    for step in make_steps(2, 4):
        agent.observe(rows, step)
    learnt = agent.diagnosis()
    assert (learnt.mean != start.mean).any()
    agent.end_episode(rows)
    agent.adapt(rows)
    np.testing.assert_array_equal(agent.diagnosis().mean, learnt.mean)
    agent.begin_task(2)
    np.testing.assert_array_equal(agent.diagnosis().mean, start.mean)


def test_the_first_observation_of_a_later_episode_is_marked(agent: BorelAgent) -> None:
    rows, obs = np.arange(1), np.ones((1, 2), np.float32)
    agent.begin_task(1)
    first = act(agent, rows, obs)
    agent.end_episode(rows)
    assert (act(agent, rows, obs) != first).any()
    (step,) = make_steps(1, 1)
    agent.begin_task(1)
    agent.observe(rows, step)
    plain = act(agent, rows, obs)
    agent.end_episode(rows)
    agent.observe(rows, step)
    agent._hidden[:] = 0.0
    agent._hidden[:] = agent.belief.step(agent._hidden, step.action, step.next_obs, step.reward)
    np.testing.assert_array_equal(act(agent, rows, obs), plain)


def test_rows_do_not_depend_on_their_batch(agent: BorelAgent) -> None:
    steps = make_steps(70, 3)  # more than one panel of the kernels

    def play(parts: list[Rows]) -> tuple[np.ndarray, np.ndarray]:
        agent.begin_task(70)
        actions = np.zeros((70, 2), np.float32)
        for step in steps:
            for rows in parts:
                actions[rows] = act(agent, rows, step.obs[rows])
                agent.observe(rows, of(step, rows))
        return actions, agent._hidden.copy()

    whole = play([np.arange(70)])
    for parts in ([np.arange(1), np.arange(1, 70)], [np.array([r]) for r in range(70)]):
        for one, other in zip(whole, play(parts), strict=True):
            np.testing.assert_array_equal(one, other)


def test_an_offline_context_is_filtered_step_by_step(agent: BorelAgent) -> None:
    lengths = (5, 2, 0)
    steps = make_steps(3, 5)
    contexts = []
    for row, length in enumerate(lengths):
        columns = {
            name: np.array([getattr(s, name)[row] for s in steps[:length]]).reshape(length, *shape)
            for name, shape in (("obs", (2,)), ("action", (2,)), ("reward", ()), ("next_obs", (2,)))
        }
        counter = np.arange(length)
        ends = np.zeros(length, dtype=bool)
        contexts.append(Context(**columns, terminated=ends, episode=counter // 3, t=counter % 3))
    agent.begin_task(3)
    for number, step in enumerate(steps):
        rows = np.flatnonzero(number < np.array(lengths))
        agent.observe(rows, of(step, rows))
    expected = agent.diagnosis()
    agent.given(contexts)
    found = agent.diagnosis()
    np.testing.assert_array_equal(found.mean, expected.mean)
    np.testing.assert_array_equal(found.kl, expected.kl)
    assert agent._begins[:, 0].tolist() == [1.0, 1.0, 0.0]


def test_it_needs_every_step_in_order(agent: BorelAgent) -> None:
    assert agent.needs_steps
    assert agent.needs_order


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"algorithm": "smac"}, "checkpoint of another method.*expected borel, found smac"),
        ({"sizes": {"policy": [9, 16, 16, 6]}}, "policy of another shape: expected 9 inputs and 4"),
        ({"sizes": {"policy": [9, 16, 4]}}, "policy does not fit"),
        (
            {"networks": {"belief": dataclasses.asdict(BELIEF) | {"latent_dim": 2}}},
            "policy of another shape: expected 7 inputs",
        ),
    ],
)
def test_metadata_that_do_not_fit_are_refused(
    learner: BorelLearner, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        load(learner.state(), METADATA | change, PointRobot())


def test_arrays_that_do_not_fit_are_refused(learner: BorelLearner) -> None:
    state = learner.state()
    for name in ("belief.gru.weight_hh_l0", "belief.embed_obs.weight", "belief.mean.bias"):
        with pytest.raises(CheckpointError, match=f"{name} does not fit.*found none"):
            load({n: a for n, a in state.items() if n != name}, METADATA, PointRobot())
        with pytest.raises(CheckpointError, match=f"{name} does not fit"):
            load(state | {name: np.full_like(state[name], np.nan)}, METADATA, PointRobot())
    narrow = state | {"belief.embed_obs.weight": state["belief.embed_obs.weight"][:, :1]}
    with pytest.raises(CheckpointError, match=r"embed_obs.weight does not fit.*found \(32, 1\)"):
        load(narrow, METADATA, PointRobot())


def test_acting_loads_no_torch() -> None:
    code = "import sys, smac_core.borel_agent; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
