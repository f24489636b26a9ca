"""The cheetah against MuJoCo's own Python bindings, and the authors' task list."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from kernels.mujoco_step import MAX_STATE
from smac_core.adaptation import act_at_random
from smac_core.agent import prior
from smac_core.envs.cheetah_vel import CheetahVel
from smac_core.envs.episodes import BatchDriver, Episodes, Plan
from smac_core.envs.mujoco_physics import load_mjcf
from smac_core.errors import SimulationError
from smac_core.planning import plan_episodes

ENV = CheetahVel()


def random_plan(num: int, seed: int = 0) -> Plan:
    tasks = ENV.sample_tasks(1337, num, 0)
    keys = [(seed, 3, row) for row in range(num)]
    return plan_episodes(ENV, keys, tasks, prior(num, 2), resample_every_step=False)


@pytest.fixture(scope="module")
def episodes() -> Episodes:
    return BatchDriver(ENV).run(act_at_random, random_plan(40), rewards=True)


def test_the_task_list_is_the_published_one_bit_for_bit() -> None:
    published = np.random.RandomState(1337).uniform(0.0, 3.0, 130)
    assert ENV.sample_tasks(1337, 100, 30)[:, 0].tolist() == published.tolist()
    # Fewer tasks are the first training and the first held-out ones.
    few = ENV.sample_tasks(1337, 10, 5)[:, 0]
    assert few.tolist() == published[:10].tolist() + published[100:105].tolist()
    # More than were published are drawn in one go.
    many = ENV.sample_tasks(1337, 101, 2)
    assert many.shape == (103, 1)
    assert len(np.unique(many)) == 103


def test_observations_and_rewards_equal_plain_mujoco(episodes: Episodes) -> None:
    plan = random_plan(40)
    model = load_mjcf("half_cheetah.xml")
    data = mujoco.MjData(model)
    for row in (0, 7):
        goal = plan.task[row, 0]
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:] = plan.initial[row, :9], plan.initial[row, 9:]
        mujoco.mj_forward(model, data)
        for step in range(200):
            obs = np.concatenate([data.qpos[1:], data.qvel, data.body("torso").xpos])
            np.testing.assert_array_equal(episodes.obs[row, step], obs.astype(np.float32))
            action = episodes.action[row, step].astype(np.float64)
            x_before = data.qpos[0]
            data.ctrl[:] = action
            for _ in range(5):
                mujoco.mj_step(model, data)
            velocity = (data.qpos[0] - x_before) / 0.05
            reward = -abs(velocity - goal) - 0.05 * np.sum(action**2)
            assert episodes.reward[row, step] == pytest.approx(reward, rel=1e-6, abs=1e-6)
            np.testing.assert_array_equal(episodes.path[row, step + 1], data.qpos[:2].astype("f4"))
        final = np.concatenate([data.qpos[1:], data.qvel, data.body("torso").xpos])
        np.testing.assert_array_equal(episodes.final_obs[row], final.astype(np.float32))


def test_one_control_step_lasts_a_twentieth_of_a_second() -> None:
    assert ENV.control_seconds == pytest.approx(0.05)
    before, after = np.zeros((1, 21)), np.zeros((1, 21))
    after[0, 0] = 0.1
    assert ENV.velocity(before, after)[0] == pytest.approx(2.0)
    action = np.array([[1.0, -1.0, 0.5, 0.0, 0.0, 2.0]], np.float32)  # 2 counts as 1
    reward = ENV.reward(before, action, after, np.array([[2.5]]))
    assert reward[0] == pytest.approx(-0.5 - 0.05 * 3.25)


def test_starts_are_perturbed_as_published() -> None:
    rng = np.random.default_rng(0)
    starts = np.stack([ENV.initial_state(rng) for _ in range(4000)])
    assert np.abs(starts[:, :9]).max() <= 0.1  # the rest pose is zero
    np.testing.assert_allclose(starts[:, :9].std(0), 0.1 / np.sqrt(3), rtol=0.05)
    np.testing.assert_allclose(starts[:, 9:].std(0), 0.1, rtol=0.05)
    np.testing.assert_allclose(starts.mean(0), 0.0, atol=0.01)


def test_an_untrained_policy_moves_as_measured(episodes: Episodes) -> None:
    # smac-reference section 4: velocity -0.05 ± 0.74 m/s under tanh-N(0, 1).
    x = episodes.path[:, :, 0].astype(np.float64)
    velocity = np.diff(x, axis=1) / 0.05
    assert velocity.mean() == pytest.approx(-0.05, abs=0.06)
    assert velocity.std() == pytest.approx(0.74, abs=0.08)
    assert np.percentile(velocity, 99) == pytest.approx(1.6, abs=0.5)
    assert (episodes.length == 200).all()
    assert not episodes.terminated.any()
    goals = np.full((40, 1), 1.5)
    measured, error, distance = ENV.measure(episodes.path, episodes.length, goals).T
    np.testing.assert_allclose(measured, velocity.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(error, np.abs(measured - 1.5), rtol=1e-6)
    np.testing.assert_allclose(distance, np.abs(x[:, -1] - x[:, 0]), rtol=1e-6)


def test_a_diverging_simulator_is_cut_in_silence_and_alone(
    capfd: pytest.CaptureFixture[str], episodes: Episodes
) -> None:
    plan = random_plan(3)
    plan.initial[1, 9:] = 150.0  # rad/s: the state grows past every limit in the second step
    cut = BatchDriver(ENV).run(act_at_random, plan, rewards=True)
    assert cut.ok.tolist() == [True, False, True]
    assert 0 < cut.length[1] < 200
    steps = slice(0, int(cut.length[1]))
    for name in ("obs", "action", "reward", "path"):
        assert np.isfinite(getattr(cut, name)[1, steps]).all()
        assert np.abs(getattr(cut, name)[1, steps]).max() <= 100 * MAX_STATE
    for row in (0, 2):
        np.testing.assert_array_equal(cut.obs[row], episodes.obs[row])
        np.testing.assert_array_equal(cut.reward[row], episodes.reward[row])
    assert capfd.readouterr() == ("", "")


def test_a_start_that_is_not_finite_is_refused() -> None:
    for value in (np.nan, np.inf, 1e11):
        plan = random_plan(2)
        plan.initial[1, 3] = value
        with pytest.raises(SimulationError, match=r"at the start .* cheetah-vel, simulator 1"):
            BatchDriver(ENV).run(act_at_random, plan, rewards=True)


def test_a_missing_model_names_the_package() -> None:
    with pytest.raises(SimulationError, match=r"missing MJCF file: in .*no_such.xml"):
        load_mjcf("no_such.xml")
