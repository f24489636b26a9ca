"""The figures about tasks and places: the paper's Figures 6, 7 and 9, and velocities over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.report_behaviour import GOAL, VELOCITY
from pipeline.report_data import EnvResults, MethodResults
from pipeline.report_style import FLOOR, TEXT, WIDTH, grid, legend_below

# The paper's colours, in shades that every kind of colour vision tells apart.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#B2182B"
_WINDOW = 0.5  # s, over which a velocity is averaged
_SHOWN = 5  # held-out tasks, spread over their range


def task_kind(env: EnvResults) -> str:
    """Tell how the tasks of an environment can be drawn.

    Args:
        env: What was read.

    Returns:
        ``velocity``, ``goal`` or ``direction``; empty: not at all.
    """
    if VELOCITY in env.tasks.fields:
        return "velocity"
    if env.tasks.fields == GOAL:
        return "goal"
    ahead = env.definition.forward(env.tasks.parameters)
    return "direction" if np.ptp(ahead, axis=0).max() > 0 else ""


def draw_tasks(envs: Sequence[EnvResults]) -> Figure | None:
    """Draw training and held-out tasks of every environment: the paper's Figure 9.

    Args:
        envs: What was read.

    Returns:
        The figure; None: no tasks that can be drawn.
    """
    drawn = [env for env in envs if task_kind(env)]
    if not drawn:
        return None
    figure, panels = grid(len(drawn), 3, 3.6, WIDTH if len(drawn) > 1 else 5.0)
    for env, axes in zip(drawn, panels, strict=True):
        for ids, shade, label, place in (
            (env.tasks.train, BLUE, "training tasks", 0),
            (env.tasks.test, ORANGE, "held-out tasks", 1),
        ):
            _draw_tasks(axes, env, env.tasks.parameters[list(ids)], shade, label, place)
        axes.set_title(env.name)
    legend_below(figure, panels)
    return figure


def _draw_tasks(
    axes: Axes, env: EnvResults, tasks: np.ndarray, shade: str, label: str, place: int
) -> None:
    kind = task_kind(env)
    if kind == "velocity":
        velocity = tasks[:, env.tasks.fields.index(VELOCITY)]
        axes.vlines(velocity, place + 0.08, place + 0.92, color=shade, linewidth=1.3, label=label)
        axes.set(xlabel="target velocity, m/s", ylim=(-0.1, 2.1))
        axes.set_yticks([])
        axes.grid(visible=False)
        return
    axes.set_aspect("equal")
    if kind == "goal":
        axes.plot(*tasks.T, "*" if place else "o", color=shade, markersize=9 if place else 4)
        axes.plot(0, 0, "+", color=TEXT, markersize=9, markeredgewidth=1.6)
        axes.set(xlabel="x, m", ylabel="y, m")
    else:
        ends = env.definition.forward(tasks) * (1.0 + 0.18 * place)
        zero = np.zeros(len(ends))
        axes.plot(*np.stack([0.25 * ends, ends]).transpose(2, 0, 1), color=shade, linewidth=1.1)
        axes.plot(*ends.T, "o", color=shade, markersize=3.5)
        axes.plot(zero, zero, "+", color=TEXT, markersize=9, markeredgewidth=1.6)
        axes.set(xlabel="direction, x", ylabel="direction, y")
    axes.plot([], [], "o", color=shade, label=label)


@dataclass(frozen=True)
class ContextPaths:
    """Paths of one method under both kinds of context, at one seed.

    Args:
        label: Of the method.
        seed: The seed.
        rounds: The offline phase, and the last round where there is one.
        offline: ``[T, H + 1, 2]`` of each round, adapted to offline contexts.
        own: The same, adapted to contexts of the agent's own exploration.
        exploration: The same, while it explores.
    """

    label: str
    seed: int
    rounds: list[int]
    offline: list[np.ndarray]
    own: list[np.ndarray]
    exploration: list[np.ndarray]


def context_paths(env: EnvResults) -> ContextPaths | None:
    """Choose what the paper's Figures 6 and 7 show: the first method with rounds, its first seed.

    Args:
        env: What was read.

    Returns:
        The paths; None: the environment is not seen from above, or no paths were kept.
    """
    if not env.definition.seen_from_above:
        return None
    for method in sorted(env.methods, key=lambda m: m.rounds[-1] == 0):
        for seed in sorted({seed for seed, _ in method.evaluations}):
            found = _context_paths(method, seed)
            if found is not None:
                return found
    return None


def _context_paths(method: MethodResults, seed: int) -> ContextPaths | None:
    known = sorted(number for s, number in method.evaluations if s == seed)
    out = ContextPaths(method.label, seed, list(dict.fromkeys((known[0], known[-1]))), [], [], [])
    for number in out.rounds:
        evaluation = method.evaluations[seed, number]
        explored = evaluation.adapted("train") or {}
        arms = [evaluation.arms.get(name, {}) for name in ("train_offline", "train_matched")]
        if "first_path" not in explored or any("final_path" not in arm for arm in arms):
            return None
        out.offline.append(arms[0]["final_path"])
        out.own.append(arms[1]["final_path"])
        out.exploration.append(explored["first_path"])
    return out


def draw_context_paths(env: EnvResults) -> Figure | None:
    """Draw where the adapted agent goes under offline and under own contexts: Figures 6 and 7.

    Args:
        env: What was read.

    Returns:
        The figure; None: there is nothing to draw.
    """
    paths = context_paths(env)
    if paths is None:
        return None
    count = len(paths.rounds)
    figure, panels = grid(2 * count, 2, 4.4)  # of one round, the two figures side by side
    for place, axes in enumerate(panels):
        column = place % count
        if place >= count:
            data = [path[: paths.own[column].shape[1]] for path in env.offline_paths]
            _draw_lines(axes, data[: len(paths.own[column])], RED, "offline data")
            _draw_lines(axes, paths.exploration[column], GREEN, "exploration")
        _draw_lines(axes, paths.offline[column], BLUE, "adapted to offline contexts")
        _draw_lines(axes, paths.own[column], ORANGE, "adapted to own exploration")
        axes.plot(0, 0, "+", color=TEXT, markersize=9, markeredgewidth=1.6, zorder=5)
        axes.set(title=_when(paths.rounds[column]), xlabel="x, m", ylabel="y, m")
        axes.set_aspect("equal")
    _share(panels[:count])
    _share(panels[count:])
    legend_below(figure, panels[count:])
    return figure


def _when(number: int) -> str:
    return "after the offline phase" if number == 0 else f"after round {number}"


def _draw_lines(
    axes: Axes, paths: Sequence[np.ndarray] | np.ndarray, shade: str, name: str
) -> None:
    for place, path in enumerate(paths):
        label = name if place == 0 else None
        axes.plot(*path.T, color=shade, linewidth=1.2, alpha=0.7, label=label)


def _share(panels: Sequence[Axes]) -> None:
    low, high = np.inf, -np.inf
    for axes in panels:
        low = min(low, axes.get_xlim()[0], axes.get_ylim()[0])
        high = max(high, axes.get_xlim()[1], axes.get_ylim()[1])
    for axes in panels:
        axes.set(xlim=(low, high), ylim=(low, high))


def draw_tracking(env: EnvResults) -> Figure | None:
    """Draw the velocity over time on some held-out tasks, with the velocity that was asked for.

    Args:
        env: What was read.

    Returns:
        The figure; None: no target velocities, or no paths were kept.
    """
    chosen = list(_tracked(env)) if VELOCITY in env.tasks.fields else []
    if not chosen:
        return None
    figure, panels = grid(len(chosen), 2, 3.4)
    for (title, task_ids, path), axes in zip(chosen, panels, strict=True):
        target = env.tasks.parameters[task_ids, env.tasks.fields.index(VELOCITY)]
        order = np.argsort(target)
        picked = order[np.linspace(0, len(order) - 1, min(_SHOWN, len(order))).astype(int)]
        shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.88, len(picked)))
        for row, shade in zip(picked, shades, strict=True):
            seconds, velocity = velocities(path[row, :, 0], env.definition.control_seconds)
            label = f"{target[row]:.2f} m/s asked for"
            axes.plot(seconds, velocity, color=shade, linewidth=1.4, label=label)
            axes.axhline(target[row], color=shade, linestyle="--", linewidth=1.1)
        axes.axhline(0, color=FLOOR, linewidth=0.8)
        axes.set(title=title, xlabel="time, s", ylabel=f"velocity, m/s, over {_WINDOW} s")
    limits = np.array([axes.get_ylim() for axes in panels])
    for axes in panels:
        axes.set_ylim(limits[:, 0].min(), limits[:, 1].max())
    legend_below(figure, panels, 5)
    return figure


def _tracked(env: EnvResults) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Find the adapted paths on held-out tasks, before and after, of one method and seed."""
    for method in sorted(env.methods, key=lambda m: m.rounds[-1] == 0):
        keys = sorted(method.evaluations)
        mine = [key for key in keys if key[0] == keys[0][0]]
        for key in dict.fromkeys((*mine[:1], *mine[-1:])):
            arm = method.evaluations[key].adapted("test") or {}
            if "final_path" in arm:
                title = f"{method.label}, seed {key[0]}, {_when(key[1])}"
                yield title, arm["task_id"], arm["final_path"]
        if keys:
            return


def velocities(position: np.ndarray, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute the velocity along a path, averaged over half a second.

    Args:
        position: ``[H + 1]`` along the axis of interest (m); nan after the end.
        seconds: Time between two positions (s).

    Returns:
        Times at the middle of each window (s), and velocities (m/s).
    """
    window = min(max(1, round(_WINDOW / seconds)), len(position) - 1)
    moved = position[window:].astype(np.float64) - position[:-window]
    times = seconds * (np.arange(len(moved)) + window / 2)
    return times, moved / (window * seconds)
