"""Guided Meta-Policy Search: the inner step, the guard of its ratio, aggregation."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from smac_core.envs.episodes import Episodes
from smac_core.envs.point_robot import PointRobot
from smac_core.errors import CheckpointError, ConfigError, NonFiniteError
from smac_core.gmps.config import GmpsConfig, GmpsNetworkConfig
from smac_core.gmps.learner import GmpsLearner, stacked
from smac_core.gmps.objective import Objective, PolicyRows
from smac_core.gmps.policy import acting_policies, log_prob, mean_action
from smac_core.gmps.trainer import Demonstrations, GmpsTrainer, TrainingTasks
from smac_core.gmps_agent import PolicyGradientAgent, load
from smac_core.maml.losses import clipped_surrogate, policy_gradient_loss
from smac_core.networks import Shapes

ENV = PointRobot()
CPU = torch.device("cpu")
NETWORKS = GmpsNetworkConfig(policy=(8, 8), bias_dim=3)
CONFIG = GmpsConfig(
    exploration_episodes=2, outer_episodes=1, updates_per_batch=3, outer_rows=5, initial_rate=0.1
)
TASKS = ENV.sample_tasks(0, 4, 0)


def toward_goal(place: int, obs: np.ndarray) -> np.ndarray:
    action: np.ndarray = np.clip((TASKS[place] - obs) / 0.1, -1.0, 1.0).astype(np.float32)
    return action


def make_trainer(config: GmpsConfig = CONFIG, *, expert: bool = True) -> GmpsTrainer:
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(4, 6, 2)).astype(np.float32)
    shown = tuple(Demonstrations(obs, toward_goal(n, obs)) for n, obs in enumerate(seen))
    tasks = TrainingTasks((0, 1, 2, 3), TASKS, shown, toward_goal if expert else None)
    return GmpsTrainer(ENV, NETWORKS, config, tasks, 0, CPU)


# Advantages


def hand_made() -> tuple[dict[str, dict[str, torch.Tensor]], PolicyRows]:
    """One input, one output, no hidden layer, standard deviation 2."""
    policy = {
        "0.weight": torch.tensor([[0.5]]),
        "0.bias": torch.tensor([0.1]),
        "log_std": torch.tensor([math.log(2.0)]),
    }
    rates = {"0.weight": 0.3, "0.bias": 0.2, "log_std": 0.1}
    meta = {
        "policy": policy,
        "rates": {n: torch.full(policy[n].shape, r) for n, r in rates.items()},
    }
    obs, action = torch.tensor([[1.0], [-2.0]]), torch.tensor([[0.9], [-0.5]])
    rows = PolicyRows(obs, action, torch.tensor([1.0, -3.0]), log_prob(policy, obs, action))
    return meta, rows


def test_the_inner_step_by_hand():
    meta, rows = hand_made()
    adapted, metrics = Objective(CONFIG).adapt(meta, rows)
    # d log N / d mean = (a - mean) / std², d log N / d log_std = ((a - mean) / std)² - 1
    error = np.array([0.9 - 0.6, -0.5 + 0.9])
    by_mean = np.array([1.0, -3.0]) * error / 4.0
    by_std = np.array([1.0, -3.0]) * (error**2 / 4.0 - 1.0)
    assert adapted["0.weight"].item() == pytest.approx(
        0.5 + 0.3 * np.mean(by_mean * [1.0, -2.0]), abs=1e-6
    )
    assert adapted["0.bias"].item() == pytest.approx(0.1 + 0.2 * np.mean(by_mean), abs=1e-6)
    assert adapted["log_std"].item() == pytest.approx(math.log(2) + 0.1 * np.mean(by_std), abs=1e-6)
    assert metrics["behaviour_drift"].item() == 0.0


def test_a_second_step_weighs_by_the_ratio():
    meta, rows = hand_made()
    once, _ = Objective(CONFIG).adapt(meta, rows, 1)
    ratio = (log_prob(once, rows.obs, rows.action) - rows.behaviour).exp()
    weighted = rows._replace(advantage=rows.advantage * ratio)
    onward = {"policy": once, "rates": meta["rates"]}
    fresh = weighted._replace(behaviour=log_prob(once, rows.obs, rows.action))
    expected, _ = Objective(CONFIG).adapt(onward, fresh, 1)
    twice, _ = Objective(CONFIG).adapt(meta, rows, 2)
    for name, tensor in expected.items():
        torch.testing.assert_close(twice[name], tensor)


def test_the_guard_keeps_the_ratio_within_its_limits():
    own = torch.tensor([2.0, -2.0, 0.1], requires_grad=True)
    before, advantage = torch.zeros(3), torch.tensor([1.0, 1.0, 1.0])
    guarded = policy_gradient_loss(own, before, advantage, (0.5, 2.0))
    guarded.backward()
    expected = -torch.tensor([2.0, 0.5, math.exp(0.1)]) / 3
    torch.testing.assert_close(own.grad, expected)
    own.grad = None
    policy_gradient_loss(own, before, advantage, None).backward()
    torch.testing.assert_close(own.grad, -own.detach().exp() / 3)


def test_a_row_beyond_the_clip_in_its_favour_has_no_gradient():
    ratio = torch.tensor([1.5, 0.5, 1.5, 0.5, 1.1])
    own = ratio.log().requires_grad_()
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0, -2.0])
    loss = clipped_surrogate(own, torch.zeros(5), advantage, 0.2)
    assert loss.item() == pytest.approx(-(1.2 + 0.5 - 1.5 - 0.8 - 2.2) / 5)
    loss.backward()
    torch.testing.assert_close(own.grad, -torch.tensor([0.0, 0.5, -1.5, 0.0, -2.2]) / 5)


def test_the_outer_clip_stands_for_the_limits_of_the_adapted_policy_alone():
    meta, rows = hand_made()
    own = log_prob(meta["policy"], rows.obs, rows.action)
    far = rows._replace(behaviour=own - 5.0)  # both ratios are far above 1.2
    plain, clipped = Objective(CONFIG), Objective(replace(CONFIG, outer_clip=0.2))
    assert clipped.surrogate(own, far).item() == pytest.approx(-(1.2 - 3 * math.exp(5)) / 2)
    assert plain.surrogate(own, far) == policy_gradient_loss(
        own, far.behaviour, far.advantage, (0.5, 2.0)
    )
    for name, tensor in plain.adapt(meta, rows)[0].items():
        assert torch.equal(tensor, clipped.adapt(meta, rows)[0][name])


# Acting


def test_acting_is_what_is_trained():
    learner = GmpsLearner(Shapes(2, 2), NETWORKS, CONFIG, 1, CPU)
    obs = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
    acting = acting_policies(stacked(learner.meta))
    expected = mean_action(learner.meta["policy"], torch.from_numpy(obs)).numpy()
    rows = np.zeros(7, np.int64)
    np.testing.assert_allclose(acting.mean(rows, obs), expected, atol=1e-6)
    noise = np.full((7, 2), 0.01, np.float32)
    played = acting.act(rows, obs, noise, sample=True)
    np.testing.assert_allclose(played, np.clip(expected + 0.01, -1, 1), atol=1e-6)


# Training


def test_a_first_layer_is_drawn_for_what_observations_are_like():
    mean, spread = (0.5, -1.0), (0.1, 2.0)
    obs = torch.tensor([[0.45, 3.0], [0.7, -2.0]])
    told = replace(NETWORKS, obs_mean=mean, obs_spread=spread)
    means = []
    for networks, seen in (
        (NETWORKS, (obs - torch.tensor(mean)) / torch.tensor(spread)),
        (told, obs),
    ):
        policy = GmpsLearner(Shapes(2, 2), networks, CONFIG, 0, CPU).meta["policy"]
        means.append(mean_action(policy, seen).numpy())
    np.testing.assert_allclose(*means, atol=1e-5)
    for wrong in ({"obs_mean": mean}, {"obs_mean": mean, "obs_spread": (1.0, 0.0)}):
        with pytest.raises(ConfigError, match="do not fit observations"):
            GmpsLearner(Shapes(2, 2), replace(NETWORKS, **wrong), CONFIG, 0, CPU)


def test_the_expert_labels_where_the_adapted_policies_go():
    trainer = make_trainer(replace(CONFIG, aggregate_every=2))
    assert trainer.iterate(lambda n: None)["expert_rows"] == 24
    assert trainer.environment_steps == 4 * 2 * 20
    assert trainer.iterate(lambda n: None)["expert_rows"] == 24 + 4 * 20
    assert trainer.environment_steps == 2 * 4 * 2 * 20 + 4 * 20
    for place, shown in enumerate(trainer.tasks.demonstrations):
        assert len(shown.obs) == 26
        np.testing.assert_array_equal(shown.action, toward_goal(place, shown.obs))
        np.testing.assert_array_equal(shown.obs[6], 0.0)  # an episode starts at the origin


@pytest.mark.parametrize("outer", ["imitation", "policy-gradient"])
def test_training_goes_on_from_a_state(outer):
    config = replace(CONFIG, outer=outer, num_tasks=3, draws_per_task=2)
    config = replace(config, aggregate_every=int(outer == "imitation"))
    through, first, second = (make_trainer(config) for _ in range(3))
    rows = [through.iterate(lambda n: None) for _ in range(2)]
    assert first.iterate(lambda n: None) == rows[0]
    second.load_state(first.state())
    assert second.iterate(lambda n: None) == rows[1]
    for name, array in through.state().items():
        np.testing.assert_array_equal(second.state()[name], array, err_msg=name)


@pytest.mark.parametrize(("rates", "shape"), [("element", (5, 8)), ("scalar", ()), ("fixed", ())])
def test_which_rates_are_learned(rates, shape):
    trainer = make_trainer(replace(CONFIG, rates=rates))
    before = trainer.state()["rates/0.weight"]
    assert before.shape == shape
    trainer.iterate(lambda n: None)
    assert (trainer.state()["rates/0.weight"] == before).all() == (rates == "fixed")


def test_it_learns_to_adapt_to_where_the_goal_is():
    config = replace(
        CONFIG, updates_per_batch=60, aggregate_every=1, discount=0.9, draws_per_task=4
    )
    tasks = ENV.sample_tasks(5, 24, 0)

    def expert(place: int, obs: np.ndarray) -> np.ndarray:
        action: np.ndarray = np.clip((tasks[place] - obs) / 0.1, -1.0, 1.0).astype(np.float32)
        return action

    start = np.zeros((1, 2), np.float32)
    shown = tuple(Demonstrations(start, expert(n, start)) for n in range(24))
    on = TrainingTasks(tuple(range(24)), tasks, shown, expert)
    trainer = GmpsTrainer(ENV, GmpsNetworkConfig(policy=(32, 32)), config, on, 0, CPU)
    losses = [trainer.iterate(lambda n: None) for _ in range(4)]
    assert losses[-1]["mean_shift"] > 0.15, "the inner step moves the policy"
    from smac_core.adaptation import MetaTest
    from smac_core.config import AdaptationConfig

    agent = PolicyGradientAgent(trainer.learner.meta, trainer.learner.objective)
    new = ENV.sample_tasks(9, 20, 0)
    test = MetaTest(
        trainer.driver, agent, AdaptationConfig(repeats=1), range(20), new, (0, 1, 2, 3)
    )
    gain = test.online()[0].episode_return[..., -1] - test.unadapted(7).episode_return[..., 0]
    assert gain.mean() > 2 * gain.std() / math.sqrt(20) > 0, "better than without adaptation"


def test_an_inner_step_that_diverges_is_told():
    with pytest.raises(NonFiniteError):
        make_trainer(replace(CONFIG, initial_rate=1e30)).iterate(lambda n: None)
    trainer = make_trainer(replace(CONFIG, outer="policy-gradient", initial_rate=1e38))
    with pytest.raises(NonFiniteError, match="an inner step diverged: in iteration 1"):
        trainer.iterate(lambda n: None)


# The agent


def episodes(seed: int = 0) -> Episodes:
    rng = np.random.default_rng(seed)
    num, steps = 3, 20
    return Episodes(
        obs=rng.normal(size=(num, steps, 2)).astype(np.float32),
        action=np.tanh(rng.normal(size=(num, steps, 2))).astype(np.float32),
        reward=rng.normal(size=(num, steps)).astype(np.float32),
        length=np.array([steps, 5, 12]),
        terminated=np.array([False, True, True]),
        final_obs=rng.normal(size=(num, 2)).astype(np.float32),
        path=np.zeros((num, steps + 1, 2), np.float32),
        ok=np.ones(num, dtype=bool),
    )


def make_agent() -> PolicyGradientAgent:
    learner = GmpsLearner(Shapes(2, 2), NETWORKS, CONFIG, 1, CPU)
    return PolicyGradientAgent(learner.meta, Objective(CONFIG))


def explored(agent: PolicyGradientAgent, rows: np.ndarray) -> np.ndarray:
    agent.begin_task(len(rows))
    own = np.arange(len(rows))
    for seed in (0, 1):
        agent.observe_episodes(own, episodes(seed).select(rows))
    agent.adapt(own)
    obs = episodes(7).obs[rows, 0]
    return agent.act(own, obs, np.zeros((len(rows), 2), np.float32), explore=False)


def test_adaptation_does_not_depend_on_what_is_beside_it():
    agent = make_agent()
    together = explored(agent, np.arange(3))
    for row in range(3):
        np.testing.assert_array_equal(explored(agent, np.array([row]))[0], together[row])
    np.testing.assert_array_equal(explored(agent, np.array([2, 0])), together[[2, 0]])


def test_only_what_the_unadapted_policy_played_is_learned_from():
    agent = make_agent()
    before = explored(agent, np.arange(3))
    agent.observe_episodes(np.arange(3), episodes(5))
    agent.adapt(np.arange(3))
    obs, none = episodes(7).obs[:, 0], np.zeros((3, 2), np.float32)
    np.testing.assert_array_equal(agent.act(np.arange(3), obs, none, explore=False), before)
    agent.begin_task(3)
    assert (agent.act(np.arange(3), obs, none, explore=False) != before).any()


def test_exploration_draws_and_the_rest_does_not():
    agent = make_agent()
    agent.begin_task(2)
    rows, obs = np.arange(2), np.zeros((2, 2), np.float32)
    noise = np.full((2, 2), 0.3, np.float32)
    drawn, mean = (agent.act(rows, obs, noise, explore=e) for e in (True, False))
    np.testing.assert_allclose(drawn, np.clip(mean + 0.3, -1, 1), atol=1e-6)
    assert np.isnan(agent.diagnosis().kl).all()


def test_who_draws_after_adaptation_draws_with_its_own_spread():
    agent, rows, noise = make_agent(), np.arange(3), np.full((3, 2), 0.02, np.float32)
    explored(agent, rows)
    obs = episodes(7).obs[:, 0]
    drawn, mean = (agent.act(rows, obs, noise, explore=e) for e in (True, False))
    inside = np.abs(mean) < 0.9
    spread = ((drawn - mean) / noise)[inside]
    assert inside.any()
    assert (np.abs(spread - 1.0) > 1e-3).any(), "the inner step moves it off the initial 1"
    agent.begin_task(3)
    drawn, mean = (agent.act(rows, obs, noise, explore=e) for e in (True, False))
    np.testing.assert_allclose((drawn - mean) / noise, 1.0, atol=1e-4)


class Elsewhere:
    """An inner step on another device than the CPU, that notes what it is given."""

    def __init__(self, result: dict[str, torch.Tensor]) -> None:
        self.config, self.picture, self.result, self.seen = CONFIG, None, result, []

    def adapt(self, meta, rows, steps):
        self.seen += [tensor.device.type for tensor in rows]
        return self.result, {}


def test_adaptation_happens_where_the_parameters_are():
    agent = make_agent()
    objective = Elsewhere({n: t.detach() for n, t in agent.meta["policy"].items()})
    agent.objective = objective
    agent.meta = {
        group: {name: tensor.detach().to("meta") for name, tensor in part.items()}
        for group, part in agent.meta.items()
    }
    explored(agent, np.arange(2))
    assert objective.seen == ["meta"] * 8


def test_checkpoints_that_do_not_fit_are_refused():
    learner = GmpsLearner(Shapes(2, 2), NETWORKS, CONFIG, 1, CPU)
    meta = {"algorithm": "gmps", "networks": asdict(NETWORKS), "learner": asdict(CONFIG)}
    assert load(learner.state(), meta, ENV).needs_order
    with pytest.raises(CheckpointError, match="expected algorithm gmps, found maml"):
        load(learner.state(), meta | {"algorithm": "maml"}, ENV)
    wide = meta | {"networks": asdict(replace(NETWORKS, policy=(9, 8)))}
    with pytest.raises(CheckpointError, match=r"policy/0.weight does not fit: expected \(5, 9\)"):
        load(learner.state(), wide, ENV)
