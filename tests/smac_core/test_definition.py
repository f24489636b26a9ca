"""Environments by import string, task checks, and the layers that the acting side may load."""

from __future__ import annotations

import subprocess
import sys

import gymnasium
import numpy as np
import pytest

from smac_core.envs.ant_dir import AntDir
from smac_core.envs.ant_goal_ring import AntGoalRing, AntGoalRingFar
from smac_core.envs.cheetah_vel import CheetahVel
from smac_core.envs.hopper_param import HopperParam
from smac_core.envs.humanoid_dir import HumanoidDir
from smac_core.envs.lookup import load_environment
from smac_core.envs.point_robot import PointRobot
from smac_core.envs.registration import DEFINITIONS
from smac_core.envs.sawyer_door import SawyerDoor
from smac_core.envs.sawyer_push import SawyerPush
from smac_core.envs.walker_param import WalkerParam
from smac_core.errors import ConfigError, TaskError
from tests.smac_core.stairs import Stairs


def test_environments_are_found_by_import_string() -> None:
    assert isinstance(load_environment("smac_core.envs.point_robot:PointRobot"), PointRobot)
    mine = load_environment("tests.smac_core.stairs:Stairs", {"bad": "reward"})
    assert isinstance(mine, Stairs)
    assert mine.bad == "reward"


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("no_such_module:Env", "No module named 'no_such_module'"),
        ("smac_core.envs.point_robot:Nope", "has no attribute 'Nope'"),
        ("smac_core.envs.point_robot", "unknown environment definition"),
        ("", "unknown environment definition"),
        (".point_robot:PointRobot", "unknown environment definition"),
        ("smac_core.config:NetworkConfig", "not an environment"),
        ("smac_core.envs.point_robot:STEP_LENGTH", "not an environment"),
        ("smac_core.envs.definition:Environment", "refuses its parameters"),
    ],
)
def test_unknown_definitions_are_refused(definition: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_environment(definition)


def test_what_an_episode_means_is_measured_along_the_way_forward() -> None:
    class Eastward(Stairs):
        seen_from_above = True

    path = np.full((3, 7, 2), np.nan, np.float32)
    path[0] = np.linspace([1.0, 1.0], [4.0, 5.0], 7)  # (3, 4) m in six steps of half a second
    path[1, :3] = [[0.0, 0.0], [9.0, 9.0], [-1.0, 1.0]]  # fell after two steps
    path[2, :2] = [[2.0, 0.0], [2.0, 0.0]]
    length, tasks = np.array([6, 2, 1]), np.zeros((3, 2))
    found = Eastward().measure(path, length, tasks)
    np.testing.assert_allclose(found, [[1.0, 5.0], [-1.0, np.sqrt(2.0)], [0.0, 0.0]], rtol=1e-6)
    # The other axis of `position` is a height, which is no distance covered.
    np.testing.assert_allclose(Stairs().measure(path, length, tasks)[:, 1], [3.0, 1.0, 0.0])

    class Northward(Eastward):
        def forward(self, task: np.ndarray) -> np.ndarray:
            return np.tile([0.0, 1.0], (len(task), 1))

    found = Northward().measure(path, length, tasks)
    np.testing.assert_allclose(found[:, 0], [4.0 / 3.0, 1.0, 0.0], rtol=1e-6)


def test_unknown_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="unexpected keyword argument 'mass'"):
        load_environment("tests.smac_core.stairs:Stairs", {"mass": 3})


def test_tasks_are_checked() -> None:
    env = CheetahVel()
    env.check_tasks(np.array([[0.0], [3.0]]))
    with pytest.raises(TaskError, match=r"expected 1 \(target_velocity\), found \(2,\)"):
        env.check_tasks(np.zeros((4, 2)))
    with pytest.raises(TaskError, match="wrong width"):
        env.check_tasks(np.zeros(4))
    with pytest.raises(TaskError, match=r"target_velocity out of range.*task 1.*found 3.5"):
        env.check_tasks(np.array([[1.0], [3.5]]))
    with pytest.raises(TaskError, match="found nan"):
        env.check_tasks(np.array([[np.nan]]))


ENVS = [PointRobot(), CheetahVel(), AntDir(), HumanoidDir(), WalkerParam(), HopperParam()]
ENVS += [AntGoalRing(), AntGoalRingFar(), SawyerPush(), SawyerDoor()]


@pytest.mark.parametrize("env", ENVS, ids=[env.env_id for env in ENVS])
def test_what_a_definition_promises(env) -> None:  # type: ignore[no-untyped-def]
    tasks = env.sample_tasks(0, 7, 3)
    assert tasks.shape == (10, len(env.task_fields))
    assert tasks.dtype == np.float64
    env.check_tasks(tasks)
    # Training tasks come first and do not depend on how many are held out.
    np.testing.assert_array_equal(env.sample_tasks(0, 7, 1)[:7], tasks[:7])
    assert not np.array_equal(env.sample_tasks(1, 7, 3), tasks)
    described = env.latent_of_task(tasks)
    assert np.abs(described).max() <= 1.0
    assert len(np.unique(described, axis=0)) == 10
    np.testing.assert_allclose(np.linalg.norm(env.forward(tasks), axis=1), 1.0)
    rng = np.random.default_rng(0)
    assert env.initial_state(rng).shape == (env.initial_dim,)
    physics = env.make_physics(2)
    physics.reset(np.stack([env.initial_state(rng) for _ in range(2)]), tasks[:2])
    obs = env.observe(physics.state)
    assert obs.shape == (2, env.obs_dim)
    assert obs.dtype == np.float32
    assert env.position(physics.state).shape == (2, 2)
    assert not env.terminated(physics.state).any()


def test_tasks_are_described_to_a_policy_on_one_scale() -> None:
    env = CheetahVel()
    described = env.latent_of_task(np.array([[0.0], [1.5], [3.0]]))
    np.testing.assert_allclose(described, [[-1.0], [0.0], [1.0]])


def test_the_registered_ids_are_those_of_the_definitions() -> None:
    for definition in DEFINITIONS:
        env = load_environment(definition)
        spec = gymnasium.spec(env.gym_id)
        assert (spec.max_episode_steps, spec.kwargs) == (env.horizon, {"definition": definition})
        assert env.gym_id.startswith("SMAC/")
    assert len(DEFINITIONS) == len(ENVS)


def test_without_a_scripted_policy_the_config_is_wrong() -> None:
    with pytest.raises(ConfigError, match="no scripted policy: in environment cheetah-vel"):
        CheetahVel().scripted_action(np.zeros((1, 20)), np.zeros((1, 1)), np.zeros((1, 6)))


def test_the_acting_side_never_imports_torch() -> None:
    stages = "pipeline.tasks, pipeline.rollout, pipeline.relabel, pipeline.evaluate"
    code = f"import sys, {stages}; sys.exit(any(n.split('.')[0] == 'torch' for n in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    # The check can fail: the same line sees torch where it is imported.
    seen = code.replace(f"import sys, {stages}", "import sys; sys.modules['torch.nn'] = sys")
    assert subprocess.run([sys.executable, "-c", seen], check=False).returncode == 1
