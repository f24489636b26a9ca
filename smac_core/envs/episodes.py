"""The batch driver: whole episodes of many simulators at once.

All randomness of an episode is drawn before it starts from the episode's own generator, so its
rows are the same whatever the number of threads and however the episodes are split into batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from smac_core.envs.definition import Environment, Physics
from smac_core.envs.outcomes import check_action, check_rewards, describe, look
from smac_core.errors import SimulationError

KEPT = 6  # sizes of batches whose simulators stay; episodes that end early make for many sizes

Controller = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Maps obs ``[N, obs_dim]``, latent ``[N, latent_dim]``, noise ``[N, action_dim]`` to actions."""


@dataclass(frozen=True)
class Plan:
    """What to run: one row an episode.

    Args:
        task: ``[N, task_dim]`` parameters of each episode's task.
        latent: ``[N, H, latent_dim]`` float32, z at every step; unused by ``Adaptive``.
        noise: ``[N, H, action_dim]`` float32 standard normal, for the actions.
        initial: ``[N, initial_dim]`` start states.
        rows: ``[N]`` int64, the numbers by which ``Adaptive`` knows the episodes; None: 0 to N - 1.
    """

    task: np.ndarray
    latent: np.ndarray
    noise: np.ndarray
    initial: np.ndarray
    rows: np.ndarray | None = None

    @property
    def horizon(self) -> int:
        """Steps of the longest episode."""
        return int(self.noise.shape[1])

    def part(self, rows: slice) -> Plan:
        """Return some of the episodes."""
        return Plan(
            self.task[rows],
            self.latent[rows],
            self.noise[rows],
            self.initial[rows],
            self.numbers[rows],
        )

    @property
    def numbers(self) -> np.ndarray:
        """The number of each episode."""
        return np.arange(len(self.task)) if self.rows is None else self.rows


@dataclass(frozen=True)
class Scripted:
    """Acts by the environment's hand-written rule, which may remember each of its episodes.

    Args:
        env: The environment.
    """

    env: Environment


@dataclass(frozen=True)
class Step:
    """One step of n episodes.

    Args:
        obs: ``[n, obs_dim]`` float32 before the action.
        action: ``[n, action_dim]`` float32.
        reward: ``[n]`` float32, true and unscaled.
        next_obs: ``[n, obs_dim]`` float32.
        terminated: ``[n]`` bool; a time limit is False.
        ended: ``[n]`` bool, terminated or at the time limit.
        t: ``[n]`` int64, the step in its episode, from 0.
    """

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_obs: np.ndarray
    terminated: np.ndarray
    ended: np.ndarray
    t: np.ndarray


@dataclass(frozen=True)
class Adaptive:
    """Acts in episodes that it knows by number, and may learn from every step.

    Args:
        act: Maps numbers ``[n]``, obs ``[n, obs_dim]``, noise ``[n, action_dim]`` to actions.
        observe: Takes numbers and what their step gave, with the true reward, whatever ``rewards``
            of the run says; None: nothing within an episode.
    """

    act: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    observe: Callable[[np.ndarray, Step], None] | None = None


@dataclass(frozen=True)
class Episodes:
    """What happened: row i of episode n is valid for i < length[n].

    Args:
        obs: ``[N, H, obs_dim]`` float32.
        action: ``[N, H, action_dim]`` float32.
        reward: ``[N, H]`` float32; nan everywhere where rewards were not asked for.
        length: ``[N]`` int64 steps.
        terminated: ``[N]`` bool, whether the last step ended in a terminal state.
        final_obs: ``[N, obs_dim]`` float32, after the last step.
        path: ``[N, H + 1, 2]`` float32 positions (m), the start first; nan after the end.
        ok: ``[N]`` bool; False: the simulator diverged, and the episode was cut before that step.
        privileged: ``[N, H, privileged_dim]`` float32, what a script is told before each action;
            None: the environment's script reads observations.
    """

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    length: np.ndarray
    terminated: np.ndarray
    final_obs: np.ndarray
    path: np.ndarray
    ok: np.ndarray
    privileged: np.ndarray | None = None

    @property
    def returns(self) -> np.ndarray:
        """Undiscounted return of each episode, float64."""
        valid = np.arange(self.reward.shape[1]) < self.length[:, None]
        total: np.ndarray = np.where(valid, self.reward, 0.0).sum(axis=1, dtype=np.float64)
        return total

    def select(self, rows: np.ndarray) -> Episodes:
        """Return some of the episodes, in the given order."""
        return Episodes(**{name: getattr(self, name)[rows] for name in self.filled()})

    def filled(self) -> list[str]:
        """Name the arrays that there are."""
        return [n for n in Episodes.__dataclass_fields__ if getattr(self, n) is not None]


def concatenate(parts: Sequence[Episodes]) -> Episodes:
    """Join episodes along the first axis.

    Args:
        parts: Runs of the same environment.

    Returns:
        All episodes, in order.
    """
    names = parts[0].filled()
    return Episodes(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})


def _empty(env: Environment, num: int, horizon: int) -> Episodes:
    told = (num, horizon, env.privileged_dim)
    return Episodes(
        obs=np.zeros((num, horizon, env.obs_dim), dtype=np.float32),
        action=np.zeros((num, horizon, env.action_dim), dtype=np.float32),
        reward=np.full((num, horizon), np.nan, dtype=np.float32),
        length=np.zeros(num, dtype=np.int64),
        terminated=np.zeros(num, dtype=bool),
        final_obs=np.zeros((num, env.obs_dim), dtype=np.float32),
        path=np.full((num, horizon + 1, 2), np.nan, dtype=np.float32),
        ok=np.ones(num, dtype=bool),
        privileged=np.zeros(told, dtype=np.float32) if env.privileged_dim else None,
    )


def _rows_of(active: np.ndarray) -> slice | np.ndarray:
    """Index the active rows: as a view where all are."""
    return slice(None) if active.all() else np.flatnonzero(active)


def _actor(
    controller: Controller | Scripted | Adaptive, plan: Plan, physics: Physics
) -> Callable[[slice | np.ndarray, np.ndarray, int], np.ndarray]:
    """Make the function that acts in some rows of a plan, given their obs and the step."""
    if isinstance(controller, Scripted):
        env, every = controller.env, np.arange(len(plan.task))
        script = env.script(plan.initial, plan.task)

        def scripted(rows: slice | np.ndarray, obs: np.ndarray, step: int) -> np.ndarray:
            told = env.privileged(physics.state[rows]) if env.privileged_dim else obs
            return script(every[rows], told, plan.noise[rows, step])

        return scripted
    if isinstance(controller, Adaptive):
        adaptive, numbers = controller, plan.numbers
        return lambda rows, obs, step: adaptive.act(numbers[rows], obs, plan.noise[rows, step])
    return lambda rows, obs, step: controller(obs, plan.latent[rows, step], plan.noise[rows, step])


def _teller(
    env: Environment,
    controller: Controller | Scripted | Adaptive,
    plan: Plan,
    states: np.ndarray,
    out: Episodes,
) -> Callable[[slice | np.ndarray, np.ndarray, int], None] | None:
    """Make the function that tells what a step gave in some rows, given which of all have ended."""
    observe = controller.observe if isinstance(controller, Adaptive) else None
    if observe is None:
        return None
    numbers = plan.numbers

    def tell(rows: slice | np.ndarray, ended: np.ndarray, step: int) -> None:
        told = numbers[rows]
        if len(told) == 0:
            return
        t = np.full(len(told), step)
        action = out.action[rows, step]
        reward = env.reward(states[rows, step], action, states[rows, step + 1], plan.task[rows])
        check_rewards(env, reward, t)
        out.reward[rows, step] = reward
        terminated = ended[rows]
        observe(
            told,
            Step(
                obs=out.obs[rows, step],
                action=action,
                reward=out.reward[rows, step],
                next_obs=out.final_obs[rows].copy(),  # the next step writes there
                terminated=terminated,
                ended=terminated | (step == plan.horizon - 1),
                t=t,
            ),
        )

    return tell


def _start(env: Environment, physics: Physics, plan: Plan) -> np.ndarray:
    """Reset every simulator and observe."""
    physics.reset(plan.initial, plan.task)
    obs, good = look(env, physics)
    if not good.all():
        raise SimulationError(
            "observation is not finite at the start of an episode",
            where=f"{env.env_id}, simulator {int(np.argmin(good))}",
            expected="finite numbers",
            fix="check the environment's initial_state and task parameters",
        )
    return obs


def run_batch(
    env: Environment,
    physics: Physics,
    controller: Controller | Scripted | Adaptive,
    plan: Plan,
    *,
    rewards: bool,
) -> Episodes:
    """Run one episode in every simulator of a batch, in lockstep.

    Args:
        env: The definition.
        physics: Exactly as many simulators as the plan has episodes.
        controller: The policy, the environment's script, or what adapts.
        plan: Tasks, latents, noise and starts.
        rewards: Whether the true reward is computed at all.

    Returns:
        The episodes.

    Raises:
        SimulationError: A start state, an action or a reward is not finite.
    """
    out = _empty(env, len(plan.task), plan.horizon)
    act = _actor(controller, plan, physics)
    obs = _start(env, physics, plan)
    active = np.ones(len(plan.task), dtype=bool)
    out.final_obs[:] = obs
    states = np.zeros((len(plan.task), plan.horizon + 1, physics.state.shape[1]))
    states[:, 0] = physics.state
    tell = _teller(env, controller, plan, states, out)
    action = np.zeros((len(plan.task), env.action_dim), dtype=np.float32)
    for step in range(plan.horizon):
        # The policy costs as much as a step of light physics: only where one follows.
        rows = _rows_of(active)
        action[rows] = act(rows, obs[rows], step)
        check_action(env, action[rows], step)
        physics.step(action, active)
        before = obs
        obs, good = look(env, physics)
        if not good[rows].all():
            out.ok[active & ~good] = False
            active = active & good
            rows = _rows_of(active)
        states[rows, step + 1] = physics.state[rows]
        out.obs[rows, step] = before[rows]
        out.action[rows, step] = action[rows]
        out.final_obs[rows] = obs[rows]
        out.length[rows] += 1
        ended = active & env.terminated(physics.state)
        if tell is not None:
            tell(rows, ended, step)
        if ended.any():
            out.terminated[ended] = True
            active = active & ~ended
        if not active.any():
            break
    describe(env, plan.task, states, out, rewards=rewards)
    return out


class BatchDriver:
    """Simulators that are built once and run plan after plan.

    Args:
        env: The definition.
        threads: How many batches run side by side; None: as the definition says. Results do not
            depend on it.
        batch: Most simulators a batch; None: as the definition says. Results do not depend on it.
    """

    def __init__(
        self, env: Environment, threads: int | None = None, batch: int | None = None
    ) -> None:
        self.env = env
        self.threads = threads or env.lanes
        self.batch = batch or env.batch
        self._pools: list[dict[int, Physics]] = [{} for _ in range(self.threads)]

    def run(
        self, controller: Controller | Scripted | Adaptive, plan: Plan, *, rewards: bool
    ) -> Episodes:
        """Run every episode of the plan.

        Args:
            controller: The policy, which must be safe to call from several threads, the
                environment's script, or what adapts.
            plan: Tasks, latents, noise and starts.
            rewards: Whether the true reward is computed at all.

        Returns:
            The episodes, in the plan's order.

        Raises:
            SimulationError: A start state, an action or a reward is not finite, or an episode
                diverged at its first step.
        """
        total = len(plan.task)
        size = min(self.batch, -(-total // self.threads))  # something to do for every thread
        slices = [slice(i, min(i + size, total)) for i in range(0, total, size)]

        def work(lane: int) -> list[tuple[int, Episodes]]:
            done = []
            for number in range(lane, len(slices), self.threads):
                part = plan.part(slices[number])
                physics = self._physics(lane, len(part.task))
                done.append(
                    (number, run_batch(self.env, physics, controller, part, rewards=rewards))
                )
            return done

        if self.threads == 1 or len(slices) == 1:
            results = [item for lane in range(self.threads) for item in work(lane)]
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                results = [item for lane in pool.map(work, range(self.threads)) for item in lane]
        episodes = concatenate([part for _, part in sorted(results, key=lambda item: item[0])])
        if (episodes.length == 0).any():
            raise SimulationError(
                "simulator diverged at the first step",
                where=f"{self.env.env_id}, episode {int(np.argmin(episodes.length))}",
                expected="a finite state",
                fix="check the environment's physics and task parameters",
            )
        return episodes

    def _physics(self, lane: int, num: int) -> Physics:
        pool = self._pools[lane]
        physics = pool.pop(num, None)
        if physics is None:
            if len(pool) == KEPT:
                del pool[next(iter(pool))]  # the one that was not used for longest
            physics = self.env.make_lane(num, lane)
        pool[num] = physics
        return physics
