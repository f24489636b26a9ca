"""Policies that see pictures: the convolutions, what adapts, and training and acting with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch.func import grad

from smac_core.adaptation import MetaTest
from smac_core.config import AdaptationConfig
from smac_core.envs.episodes import BatchDriver
from smac_core.envs.point_robot import PointRobot
from smac_core.errors import CheckpointError, ConfigError
from smac_core.gmps.config import GmpsConfig, GmpsNetworkConfig
from smac_core.gmps.convolution import (
    Eye,
    encode,
    initial_convolution,
    make_eye,
    same,
)
from smac_core.gmps.learner import GmpsLearner, initial_meta, stacked
from smac_core.gmps.objective import Objective, PolicyRows, TaskBatch
from smac_core.gmps.policy import acting_policies, initial_policy, log_prob, mean_action
from smac_core.gmps.rollouts import policy_rows
from smac_core.gmps.trainer import Demonstrations, GmpsTrainer, TrainingTasks
from smac_core.gmps_agent import PolicyGradientAgent, load
from smac_core.maml.meta_learner import to_groups
from smac_core.networks import Shapes

CPU = torch.device("cpu")
PICTURE = (7, 10, 3)  # neither side a multiple of a stride
SHAPES = Shapes(7 * 10 * 3 + 2, 2, PICTURE)
NETWORKS = GmpsNetworkConfig(policy=(8, 8), bias_dim=3, convolution=True, initial_std=0.3)
CONFIG = GmpsConfig(
    exploration_episodes=2,
    outer_episodes=1,
    updates_per_batch=3,
    outer_rows=5,
    initial_rate=0.1,
    baseline="none",
    aggregate_every=1,
)


def drawn(seed: int = 0, picture: tuple[int, int, int] = PICTURE) -> dict[str, np.ndarray]:
    """Convolutions whose biases are not zero either."""
    rng = np.random.default_rng(seed)
    arrays = initial_convolution(rng, picture)
    return {n: a + rng.normal(0, 0.1, a.shape).astype(np.float32) for n, a in arrays.items()}


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def eye_of(arrays: dict[str, np.ndarray], picture: tuple[int, int, int] = PICTURE) -> Eye:
    eye = make_eye({name: array[None] for name, array in arrays.items()}, picture)
    assert eye is not None
    return eye


def pictures(num: int, shapes: Shapes = SHAPES) -> np.ndarray:
    return np.random.default_rng(1).uniform(size=(num, shapes.obs_dim)).astype(np.float32)


# The convolutions


def slowly(arrays: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """One picture ``[H, W, C]`` to 32 numbers, by loops."""
    for number, (kernel, stride) in enumerate(((5, 3), (3, 3), (3, 1))):
        weight, bias = (arrays[f"conv{number}.{part}"] for part in ("weight", "bias"))
        height, width = (-(-size // stride) for size in x.shape[:2])
        before = [
            max(0, (out - 1) * stride + kernel - size) // 2
            for out, size in zip((height, width), x.shape[:2], strict=True)
        ]
        found = np.zeros((height, width, 16))
        for i, j in np.ndindex(height, width):
            total = bias.astype(np.float64)
            for a, b in np.ndindex(kernel, kernel):
                y, z = i * stride + a - before[0], j * stride + b - before[1]
                if 0 <= y < x.shape[0] and 0 <= z < x.shape[1]:
                    total = total + weight[:, :, a, b] @ x[y, z]
            found[i, j] = np.maximum(total, 0.0)
        x = found
    share = np.exp(x) / np.exp(x).sum(axis=(0, 1))
    down, across = (np.linspace(-1, 1, size) for size in x.shape[:2])
    by_x = (share * across[None, :, None]).sum(axis=(0, 1))
    by_y = (share * down[:, None, None]).sum(axis=(0, 1))
    return np.concatenate([by_x, by_y])


@pytest.mark.parametrize("picture", [PICTURE, (48, 64, 3)])
def test_convolutions_and_points_equal_loops(picture):
    shapes = Shapes(int(np.prod(picture)) + 2, 2, picture)
    arrays, obs = drawn(0, picture), pictures(2, shapes)
    found = encode(tensors(arrays), torch.from_numpy(obs), picture).numpy()
    assert found.shape == (2, 34)
    for row in range(2):
        expected = slowly(arrays, obs[row, :-2].reshape(picture))
        np.testing.assert_allclose(found[row, :-2], expected, atol=1e-5)
    np.testing.assert_array_equal(found[:, -2:], obs[:, -2:])
    assert found[:, :-2].std() > 0.01


def test_a_point_lies_where_its_channel_sees_something():
    arrays = {name: np.zeros_like(array) for name, array in drawn(0, (48, 64, 3)).items()}
    for number in range(3):
        weight = arrays[f"conv{number}.weight"]
        weight[0, 2 if number == 0 else 0, weight.shape[2] // 2, weight.shape[3] // 2] = 10.0
    obs = np.zeros((2, 48 * 64 * 3), np.float32)
    image = obs.reshape(2, 48, 64, 3)
    image[0, :, 55:, 2], image[1, :9, :, 2] = 1.0, 1.0  # blue on the right, blue at the top
    found = encode(tensors(arrays), torch.from_numpy(obs), (48, 64, 3)).numpy()
    right, top = found[:, [0, 16]]
    assert right[0] > 0.8
    assert right[1] == pytest.approx(0.0, abs=1e-5)
    assert top[0] == pytest.approx(0.0, abs=1e-5)
    assert top[1] < -0.7
    np.testing.assert_allclose(found[:, 1:16], 0.0, atol=1e-6)


def test_padding_is_that_of_the_same_size():
    assert same(48, 5, 3) == (1, 1)
    assert same(64, 5, 3) == (2, 2)
    assert same(7, 5, 3) == (2, 2)
    assert same(10, 3, 3) == (1, 1)
    assert same(4, 3, 3) == (1, 1)
    assert same(5, 3, 3) == (0, 1)
    assert same(6, 3, 3) == (0, 0)


def test_numpy_sees_what_torch_sees_and_each_row_alone():
    arrays, obs = drawn(), pictures(9)
    eye = eye_of(arrays)
    found = eye.encode(obs)
    expected = encode(tensors(arrays), torch.from_numpy(obs), PICTURE).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32
    for rows in ([4], [8, 0, 3], [1, 2, 3, 4]):
        np.testing.assert_array_equal(eye.encode(obs[rows]), found[rows])


def test_rows_are_encoded_in_parts(monkeypatch):
    policy, obs = tensors(drawn()), torch.from_numpy(pictures(12)).reshape(3, 4, -1)
    expected = encode(policy, obs.flatten(0, 1), PICTURE).reshape(3, 4, -1)
    monkeypatch.setattr("smac_core.gmps.convolution.CHUNK", 5)
    torch.testing.assert_close(encode(policy, obs, PICTURE), expected)
    plain = encode({}, obs, PICTURE)
    assert plain.shape == obs.shape
    assert torch.equal(plain, obs)


# The inner step


def meta_and_tasks(tasks: int = 3, rows: int = 4) -> tuple[dict, TaskBatch]:
    arrays = initial_meta(SHAPES, NETWORKS, CONFIG, 0)
    meta = to_groups(arrays, CPU)
    meta["policy"] |= tensors(drawn())
    rng = np.random.default_rng(3)
    obs = torch.from_numpy(pictures(tasks * rows)).reshape(tasks, rows, -1)
    action = torch.from_numpy(rng.uniform(-1, 1, (tasks, rows, 2)).astype(np.float32))
    gain = torch.from_numpy(rng.normal(size=(tasks, rows)).astype(np.float32))
    seen = encode(meta["policy"], obs, PICTURE)
    behaviour = log_prob(meta["policy"], seen.flatten(0, 1), action.flatten(0, 1))
    inner = PolicyRows(obs, action, gain, behaviour.reshape(tasks, rows))
    return meta, TaskBatch(inner, PolicyRows(obs.flip(1), action.flip(1), gain.flip(1), gain))


def test_the_inner_step_leaves_the_convolutions_alone():
    meta, tasks = meta_and_tasks()
    assert not any(name.startswith("conv") for name in meta["rates"])
    assert set(meta["policy"]) - set(meta["rates"]) == set(drawn())
    objective = Objective(CONFIG, PICTURE)
    together = objective.adapt_all(meta, tasks.inner)
    encoded = tasks.inner._replace(obs=encode(meta["policy"], tasks.inner.obs, PICTURE))
    for row in range(3):
        rows = PolicyRows(*(part[row] for part in encoded))
        alone, _ = objective.adapt(meta, rows)
        for name, tensor in alone.items():
            torch.testing.assert_close(together[name][row], tensor)
            moved = not torch.equal(tensor, meta["policy"][name])
            assert moved == (not name.startswith("conv")), name


def test_the_meta_gradient_goes_through_pictures_of_both_batches():
    meta, tasks = meta_and_tasks()
    # A ratio that is always 1, as the gradient takes it for a constant.
    config = replace(CONFIG, ratio_limits=(1.0, 1.0))
    objective = Objective(config, PICTURE)

    def loss(weight: torch.Tensor) -> float:
        changed = meta | {"policy": meta["policy"] | {"conv1.weight": weight}}
        return objective.batch_loss(changed, tasks)[0].item()

    gradient, _ = grad(objective.batch_loss, has_aux=True)(meta, tasks)
    own = gradient["policy"]["conv1.weight"]
    direction = own / own.norm()
    step = 1e-2 * direction
    weight = meta["policy"]["conv1.weight"]
    slope = (loss(weight + step) - loss(weight - step)) / 2e-2
    assert slope == pytest.approx(float((own * direction).sum()), rel=0.02)
    first = Objective(replace(config, second_order=False), PICTURE)
    first_order, _ = grad(first.batch_loss, has_aux=True)(meta, tasks)
    assert not torch.allclose(first_order["policy"]["conv1.weight"], own, rtol=1e-4)


# Acting


def test_acting_is_what_is_trained():
    learner = GmpsLearner(SHAPES, NETWORKS, CONFIG, 1, CPU)
    obs, rows = pictures(7), np.zeros(7, np.int64)
    acting = acting_policies(stacked(learner.meta), PICTURE)
    policy = learner.meta["policy"]
    seen = encode(policy, torch.from_numpy(obs), PICTURE)
    np.testing.assert_allclose(acting.mean(rows, obs), mean_action(policy, seen), atol=1e-6)
    assert acting.finite()
    policy["conv2.bias"][3] = torch.nan
    assert not acting_policies(stacked(learner.meta), PICTURE).finite()


def test_convolutions_need_a_picture():
    with pytest.raises(ConfigError, match="an environment whose observations begin with a picture"):
        initial_policy(np.random.default_rng(0), Shapes(4, 2), NETWORKS)


# Training and meta-test


class Pictured(PointRobot):
    """The point robot, which sees a dark dot where it is and itself knows nothing of it."""

    image_shape = PICTURE
    obs_dim = SHAPES.obs_dim
    privileged_dim = 2

    def observe(self, state: np.ndarray) -> np.ndarray:
        down, across = np.arange(7)[None, :, None], np.arange(10)[None, None]
        where = super().observe(state)
        far = (down - 3 - 2 * where[:, 1, None, None]) ** 2
        far = far + (across - 5 - 3 * where[:, 0, None, None]) ** 2
        image = np.repeat(1 - np.exp(-far)[..., None], 3, axis=3).reshape(len(state), -1)
        rest = np.zeros((len(state), 2))
        return np.concatenate([image, rest], axis=1).astype(np.float32)

    def privileged(self, state: np.ndarray) -> np.ndarray:
        return super().observe(state)


ENV = Pictured()
TASKS = ENV.sample_tasks(0, 3, 0)


def toward_goal(place: int, told: np.ndarray) -> np.ndarray:
    assert told.shape[1] == 2, "the expert is told where the robot is"
    action: np.ndarray = np.clip((TASKS[place] - told) / 3.0, -1.0, 1.0).astype(np.float32)
    return action


def make_trainer(
    config: GmpsConfig = CONFIG, networks: GmpsNetworkConfig = NETWORKS
) -> GmpsTrainer:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(3, 6, 2))
    shown = tuple(
        Demonstrations(ENV.observe(s), toward_goal(n, s.astype(np.float32)), s.astype(np.float32))
        for n, s in enumerate(states)
    )
    tasks = TrainingTasks(range(3), TASKS, shown, toward_goal, privileged=True)
    return GmpsTrainer(ENV, networks, config, tasks, 0, CPU)


@pytest.mark.parametrize("outer", ["imitation", "policy-gradient"])
def test_training_from_pictures_goes_on_from_a_state(outer):
    config = replace(CONFIG, outer=outer, aggregate_every=int(outer == "imitation"), num_tasks=2)
    through, first, second = (make_trainer(config) for _ in range(3))
    before = through.learner.meta["policy"]["conv0.weight"].clone()
    rows = [through.iterate(lambda n: None) for _ in range(2)]
    assert not torch.equal(through.learner.meta["policy"]["conv0.weight"], before)
    assert first.iterate(lambda n: None) == rows[0]
    second.load_state(first.state())
    assert second.iterate(lambda n: None) == rows[1]
    for name, array in through.state().items():
        np.testing.assert_array_equal(second.state()[name], array, err_msg=name)


def test_an_expert_that_is_told_more_labels_pictures():
    trainer = make_trainer()
    trainer.iterate(lambda n: None)
    for place, shown in enumerate(trainer.tasks.demonstrations):
        assert shown.obs.shape == (6 + 20, SHAPES.obs_dim)
        np.testing.assert_array_equal(shown.obs[6], ENV.observe(np.zeros((1, 2)))[0])
        np.testing.assert_array_equal(
            shown.action[6], toward_goal(place, np.zeros((1, 2), np.float32))[0]
        )
        assert (shown.action[6:] != shown.action[6]).any(), "it is told where the robot has come"


def played(agent: PolicyGradientAgent, tasks: Sequence[int], driver: BatchDriver) -> np.ndarray:
    config = AdaptationConfig(repeats=1)
    arm, _ = MetaTest(driver, agent, config, list(tasks), TASKS[list(tasks)], (0, 1)).online()
    return arm.episode_return[:, 0]


def test_a_checkpoint_adapts_from_pictures_and_alone():
    learner = make_trainer().learner
    meta = {"algorithm": "gmps", "networks": asdict(NETWORKS), "learner": asdict(CONFIG)}
    agent = load(learner.state(), meta, ENV)
    together = played(agent, range(3), BatchDriver(ENV))
    assert np.isfinite(together).all()
    assert (together[:, -1] != together[:, 0]).any()
    np.testing.assert_array_equal(played(agent, range(3), BatchDriver(ENV, batch=1)), together)
    np.testing.assert_array_equal(played(agent, [1], BatchDriver(ENV)), together[[1]])


def test_a_checkpoint_of_other_convolutions_is_refused():
    learner = make_trainer().learner
    state = learner.state()
    meta = {"algorithm": "gmps", "networks": asdict(NETWORKS), "learner": asdict(CONFIG)}
    state["policy/conv0.weight"] = state["policy/conv0.weight"][:, :1]
    with pytest.raises(CheckpointError, match=r"policy/conv0.weight does not fit"):
        load(state, meta, ENV)
    plain = meta | {"networks": asdict(replace(NETWORKS, convolution=False))}
    with pytest.raises(CheckpointError, match=r"policy/0.weight does not fit"):
        load(learner.state(), plain, ENV)


# Convolutions that stay


FROZEN = replace(NETWORKS, encoder_updates=300)


def test_convolutions_learn_where_the_robot_is_and_then_stay():
    first, second = (make_trainer(networks=FROZEN) for _ in range(2))
    assert first.encoder_error is not None
    assert make_trainer(networks=replace(FROZEN, encoder_updates=1)).encoder_error > (
        1.5 * first.encoder_error
    )
    seen = first.learner.meta["policy"]["conv0.weight"].clone()
    assert not torch.equal(seen, make_trainer().learner.meta["policy"]["conv0.weight"])
    rows = [first.iterate(lambda n: None) for _ in range(2)]
    assert torch.equal(first.learner.meta["policy"]["conv0.weight"], seen)
    assert rows[0]["encoder_error"] == first.encoder_error
    assert first.tasks.demonstrations[0].obs.shape == (6 + 2 * 20, 34)
    assert second.iterate(lambda n: None) == rows[0]
    third = make_trainer(networks=FROZEN)
    third.load_state(second.state())
    assert third.iterate(lambda n: None) == rows[1]


@pytest.mark.parametrize("baseline", ["none", "linear"])
def test_rows_are_encoded_once_or_every_time_alike(baseline):
    config = replace(CONFIG, baseline=baseline, ratio_limits=(1.0, 1.0))
    trainer = make_trainer(config, networks=FROZEN)
    meta, frozen = trainer.learner.meta, trainer.learner.objective
    assert frozen.frozen
    own = stacked(meta)
    episodes = trainer._play(own, 0, 2, shared=True)
    once = policy_rows(episodes, 3, frozen, own)
    each = policy_rows(episodes, 3, replace(frozen, frozen=False), own)
    assert once.obs.shape[-1] == 34
    assert each.obs.shape[-1] == SHAPES.obs_dim
    for name in ("action", "advantage", "behaviour"):
        torch.testing.assert_close(getattr(once, name), getattr(each, name))
    adapted = frozen.adapt_all(meta, once)
    again = replace(frozen, frozen=False).adapt_all(meta, each)
    for name, tensor in adapted.items():
        torch.testing.assert_close(again[name], tensor)


def test_meta_test_adapts_as_training_does():
    config = replace(CONFIG, baseline="linear")
    trainer = make_trainer(config, networks=FROZEN)
    meta, objective = trainer.learner.meta, trainer.learner.objective
    own = stacked(meta)
    episodes = trainer._play(own, 0, 2, shared=True)
    adapted = objective.adapt_all(meta, policy_rows(episodes, 3, objective, own))
    agent = PolicyGradientAgent(meta, objective)
    agent.begin_task(3)
    for place in (0, 1):
        rows = np.arange(3)
        agent.observe_episodes(rows, episodes.select(2 * rows + place))
    agent.adapt(np.arange(3))
    expected = acting_policies(adapted, PICTURE)
    for found, wanted in zip(agent._weight, expected.weight, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_seeing_needs_positions():
    tasks = make_trainer().tasks
    blind = tuple(replace(shown, position=None) for shown in tasks.demonstrations)
    with pytest.raises(ConfigError, match="demonstrations that tell positions"):
        GmpsTrainer(ENV, FROZEN, CONFIG, replace(tasks, demonstrations=blind), 0, CPU)
