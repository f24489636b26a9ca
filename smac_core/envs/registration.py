"""Names for ``gymnasium.make``; importing this module registers the project's environments.

Gymnasium imports it by itself from ``make("smac_core.envs.registration:SMAC/CheetahVel-v0")``.
"""

from __future__ import annotations

import gymnasium

from smac_core.envs.lookup import find_environment

DEFINITIONS = (
    "smac_core.envs.point_robot:PointRobot",
    "smac_core.envs.cheetah_vel:CheetahVel",
    "smac_core.envs.ant_dir:AntDir",
    "smac_core.envs.ant_goal_ring:AntGoalRing",
    "smac_core.envs.ant_goal_ring:AntGoalRingFar",
    "smac_core.envs.humanoid_dir:HumanoidDir",
    "smac_core.envs.walker_param:WalkerParam",
    "smac_core.envs.hopper_param:HopperParam",
    "smac_core.envs.sawyer_push:SawyerPush",
    "smac_core.envs.sawyer_door:SawyerDoor",
)

# Registered where nothing can draw, too; the first observation then says what is missing.
NEED_GRAPHICS = ("smac_core.envs.sawyer_push_pixels:SawyerPushPixels",)

# Registered without PyBullet, too; making one then says how to get it.
NEED_PYBULLET = (
    "smac_core.envs.sawyer.environment:SawyerManipulation",
    "smac_core.envs.sawyer.environment:SawyerManipulation8",
)


def register(definition: str) -> str:
    """Register one environment under its ``gym_id``, with its horizon as the time limit.

    Args:
        definition: ``package.module:Class``.

    Returns:
        The name for ``gymnasium.make``.

    Raises:
        ConfigError: There is no such environment.
    """
    env = find_environment(definition)
    if env.gym_id not in gymnasium.registry:
        gymnasium.register(
            env.gym_id,
            entry_point="smac_core.envs.gym_driver:SmacEnv",
            max_episode_steps=env.horizon,
            kwargs={"definition": definition},
        )
    return env.gym_id


for _definition in (*DEFINITIONS, *NEED_GRAPHICS, *NEED_PYBULLET):
    register(_definition)
