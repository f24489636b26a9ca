"""The sections of the report about tasks and behaviour: what returns mean when one looks."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from pipeline.report_behaviour import VELOCITY, find_paths
from pipeline.report_data import EnvResults, Results
from pipeline.report_figures import TASKS
from pipeline.report_html import embedded, figure, paragraphs
from pipeline.report_numbers import Numbers
from pipeline.report_paths import context_paths, task_kind
from pipeline.report_style import Drawing, Video
from pipeline.report_text import physical_meaning, plural, shift_returns


def tasks_section(results: Results, figures: Mapping[str, Drawing]) -> str:
    """Show the tasks of every environment.

    Args:
        results: What was read.
        figures: The figures by name.

    Returns:
        HTML.
    """
    caption = ["Training tasks in blue, held-out tasks in orange, as in the paper's Figure 9."]
    for env in results.envs:
        count = (
            f"{env.name}: {plural(len(env.tasks.train), 'training task')}, "
            f"{plural(len(env.tasks.test), 'held-out task')}"
        )
        fields = ", ".join(env.tasks.fields)
        count += "" if task_kind(env) else f"; not drawn: a task is {len(env.tasks.fields)} numbers"
        caption.append(f"{count} ({fields}).")
    return figure(figures.get(TASKS), caption)


def behaviour_section(
    results: Results,
    numbers: Numbers,
    figures: Mapping[str, Drawing],
    videos: Mapping[str, Video],
) -> str:
    """Show what the agents do on held-out tasks: paths, velocities, videos.

    Args:
        results: What was read.
        numbers: What was computed.
        figures: The figures by name.
        videos: Videos, or why there is none, by environment.

    Returns:
        HTML.
    """
    out = ""
    for env in results.envs:
        out += f"<h3>{escape(env.name)}</h3>"
        out += figure(figures.get(f"behaviour_{env.name}"), _behaviour_caption(env, numbers))
        tracking = figures.get(f"tracking_{env.name}")
        if tracking is not None:
            told = "velocity over time on some held-out tasks; dashed, what was asked for"
            out += figure(tracking, [f"{env.name}, last episode: {told}."])
        if env.name in videos:
            out += _video(env, videos[env.name])
    return out


def _behaviour_caption(env: EnvResults, numbers: Numbers) -> list[str]:
    checkpoints = find_paths(env, numbers.methods[env.name])
    if not checkpoints:
        return [f"{env.name}: no paths were kept."]
    seen = "a mark is a held-out task; on the dashed line the target is met"
    if VELOCITY not in env.tasks.fields:
        marks = {"goal": "; stars are the goals", "direction": "; a bar is where it should go"}
        seen = "paths on the held-out tasks, a colour a task, ending in a dot"
        seen += f"{marks.get(task_kind(env), '')}; seed {checkpoints[0][0].seed}"
    meant = [physical_meaning(env, method) for method in numbers.methods[env.name]]
    return [f"{env.name}, last episode: {seen}.", " ".join(filter(None, meant))]


def _video(env: EnvResults, video: Video) -> str:
    if not video.webp:
        return paragraphs([video.caption])
    name = f"video_{env.name}.webp"
    link = f'<a href="figures/{escape(name)}">{escape(name)}</a>'
    caption = f"<p>{escape(video.caption)} The file: {link}.</p>"
    return embedded("image/webp", video.webp, f"Video, {env.name}", caption)


def contexts_figure(env: EnvResults, numbers: Numbers, figures: Mapping[str, Drawing]) -> str:
    """Show where adapted agents go under both kinds of context: the paper's Figures 6 and 7.

    Args:
        env: What was read.
        numbers: What was computed.
        figures: The figures by name.

    Returns:
        HTML; empty where there is no such figure.
    """
    drawing, paths = figures.get(f"context_paths_{env.name}"), context_paths(env)
    if drawing is None or paths is None:
        return ""
    method = next(m for m in numbers.methods[env.name] if m.label == paths.label)
    first, second = ("Above", "Below") if len(paths.rounds) > 1 else ("Left", "Right")
    told = (
        f"{paths.label}, seed {paths.seed}: a path for each of {len(paths.own[0])} training tasks. "
        f"{first}, the paper's Figure 6: where the adapted agent goes after offline contexts (blue)"
        f" and after its own exploration (orange). {second}, its Figure 7: the same with the "
        "exploration itself (green)"
    )
    told += (
        " and one episode of the offline data of each task (red)."
        if env.offline_paths
        else "; the offline data hold no positions."
    )
    return figure(drawing, [told, shift_returns(method)])
