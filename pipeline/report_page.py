"""The page of the report: one file with everything in it, no scripts, no links to elsewhere."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from html import escape

from pipeline import config as cf
from pipeline.report_comparison_page import Findings, comparison_section
from pipeline.report_data import Results
from pipeline.report_figures import CURVE, EPISODES, episode_means
from pipeline.report_html import figure, listed, paragraphs
from pipeline.report_numbers import Numbers
from pipeline.report_quantities import meanings
from pipeline.report_scenes import behaviour_section, contexts_figure, tasks_section
from pipeline.report_style import Drawing, Video
from pipeline.report_tables import (
    conclusion,
    model_table,
    physical_table,
    returns_table,
    sources_table,
    table,
    times_table,
)
from pipeline.report_text import (
    above,
    adaptation,
    episodes,
    floors,
    learning,
    percent,
    physical_meaning,
    sample,
    scripted_success,
    shift,
    shift_returns,
)

_CSS = """
:root { color: #1f2933; background: #f4f5f7; }
body { font: 16px/1.55 "Segoe UI", "Helvetica Neue", Arial, "DejaVu Sans", sans-serif;
  max-width: 1080px; margin: 0 auto; padding: 2.2rem 2.5rem 4rem; background: #fff; }
h1 { font-size: 1.75rem; margin: 0 0 .2rem; }
h2 { font-size: 1.25rem; margin: 2.8rem 0 .6rem; padding-top: .9rem;
  border-top: 1px solid #e4e7eb; }
h3 { font-size: 1rem; margin: 1.6rem 0 .3rem; }
p, li { max-width: 60rem; } ul { padding-left: 1.2rem; } li { margin: .25rem 0; }
.lead { color: #52606d; margin-top: 0; }
nav { font-size: .9rem; margin: 1rem 0 0; display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; }
nav a { color: #0b5a8f; text-decoration: none; white-space: nowrap; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .3rem 0 .4rem; }
th, td { padding: .38rem .7rem; text-align: left; border-bottom: 1px solid #e4e7eb;
  vertical-align: top; }
th { border-bottom: 2px solid #9aa5b1; font-weight: 600; vertical-align: bottom; }
th.group { text-align: center; border-bottom: 1px solid #9aa5b1; }
.n { text-align: right; } td { white-space: nowrap; }
td small { display: block; color: #52606d; }
td.rose { color: #00664b; font-weight: 600; } td.fell { color: #a63c00; font-weight: 600; }
td.n:last-child { white-space: normal; }
td.unclear { color: #52606d; } td.text { white-space: normal; min-width: 15rem; }
figure { margin: 1.4rem 0 1.8rem; } figure img { width: 100%; height: auto; display: block; }
figure img.narrow { width: 75%; }
figcaption { font-size: .92rem; color: #3e4c59; margin-top: .5rem; }
figcaption p { margin: .25rem 0; }
.missing { background: #fff8e6; border-left: 4px solid #e69f00; padding: .6rem 1rem; }
.missing p { margin: .2rem 0; } .missing ul { margin: .3rem 0; font-size: .9rem; }
details { margin: .6rem 0; } summary { cursor: pointer; font-weight: 600; }
pre { background: #f4f5f7; padding: .8rem 1rem; overflow-x: auto; font-size: .8rem;
  line-height: 1.4; }
dt { font-weight: 600; font-family: monospace; } dd { margin: 0 0 .4rem 1.2rem; }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_MISSING_SHOWN = 6  # rounds a seed


def page(
    results: Results,
    numbers: Numbers,
    findings: Findings,
    figures: Mapping[str, Drawing],
    videos: Mapping[str, Video],
) -> str:
    """Write the page.

    Args:
        results: What was read.
        numbers: What was computed.
        findings: The comparison of the methods.
        figures: The figures by name.
        videos: Videos, or why there is none, by environment.

    Returns:
        HTML.
    """
    sections = (
        ("conclusion", "Conclusion", _conclusion(results, numbers)),
        ("adaptation", "Return against steps without reward", _curves(numbers, figures)),
        (
            *("comparison", "The methods compared"),
            comparison_section(results.envs, numbers, findings, figures),
        ),
        ("shift", "The context shift", _shift(results, numbers, figures)),
        ("numbers", "Returns, reward decoder and KL gap", _tables(results, numbers)),
        ("episodes", "Within a meta-episode", _episodes(results, numbers, figures)),
        (
            *("behaviour", "Behaviour on held-out tasks"),
            behaviour_section(results, numbers, figures, videos),
        ),
        ("tasks", "The tasks", tasks_section(results, figures)),
        ("data", "The offline data", _data(results, figures)),
        ("training", "Training", _training(results, figures)),
        ("run", "This run", _run(results)),
        ("reading", "How to read the numbers", _reading(results, numbers)),
    )
    links = "".join(f'<a href="#{key}">{escape(title)}</a>' for key, title, _ in sections)
    body = "".join(
        f'<section id="{key}"><h2>{escape(title)}</h2>{content}</section>'
        for key, title, content in sections
    )
    run = results.run
    lead = (
        f"Environments: {', '.join(run.envs)}. Methods: {', '.join(run.methods)}. "
        f"Seeds: {', '.join(map(str, run.seeds))}."
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>SMAC: report</title><style>{_CSS}</style></head><body>"
        "<h1>Offline meta-RL with online self-supervision</h1>"
        f'<p class="lead">{escape(lead)}</p><nav>{links}</nav>{body}</body></html>\n'
    )


def _conclusion(results: Results, numbers: Numbers) -> str:
    if not any(method.rounds for method in numbers):
        text = "<p>Nothing was evaluated yet.</p>"
    else:
        text = conclusion(numbers)
        text += paragraphs(
            [
                "Return of the last episode on held-out tasks, after adaptation. Rose and fell: "
                "the interval of the change excludes zero.",
                _reward_sources(results, numbers),
            ]
        )
        text += listed(sample(numbers, env) for env in numbers.methods)
        text += "<h3>What these returns are, physically</h3>"
        text += listed(
            f"{env.name}, {physical_meaning(env, method)}"
            for env in results.envs
            for method in numbers.methods[env.name]
            if physical_meaning(env, method)
        )
    if not results.missing:
        return text
    head = "<p><strong>Missing from this run</strong></p>"
    return text + f'<div class="missing">{head}{listed(_missing(results))}</div>'


def _reward_sources(results: Results, numbers: Numbers) -> str:
    """Say from the configuration which methods saw true rewards after the offline data."""
    sources: dict[str, list[str]] = {}
    for method in numbers:
        if method.online:
            section = cf.stage_config(results.run, "relabel", method.env, method.name)
            labels = sources.setdefault(section.rewards, [])
            labels += [method.label] if method.label not in labels else []
    said = {"decoder": "only the offline data had a true reward; its learned decoder gave the rest"}
    said["environment"] = "the environment's own rewards went on"
    parts = [f"{', '.join(labels)}: {said[source]}" for source, labels in sources.items()]
    return f"{'. '.join(parts)}." if parts else ""


def _missing(results: Results) -> list[str]:
    groups: dict[str, dict[str, list[str]]] = {}
    for it in results.missing:
        groups.setdefault(it.what, {}).setdefault(it.seed, []).append(it.when)
    lines = []
    for what, seeds in groups.items():
        parts = []
        for seed, places in seeds.items():
            shown = ", ".join(filter(None, places[:_MISSING_SHOWN]))
            more = len(places) - _MISSING_SHOWN
            shown += f" and {more} more" if more > 0 else ""
            parts.append(f"{seed}: {shown}" if shown else seed)
        listed = "; ".join(filter(None, parts))
        lines.append(f"{what} ({listed})" if listed else what)
    return lines


def _curves(numbers: Numbers, figures: Mapping[str, Drawing]) -> str:
    reading = (
        "The line is the mean over seeds and held-out tasks; the band, an interval, resamples "
        "seeds and repeats and keeps the tasks, so it shows what separates methods (in the "
        "paper's Figure 5: one standard deviation over seeds). Thin lines are single seeds, where "
        "there are few methods. A dash-dotted line is a method without a self-supervised phase; "
        "dashed lines are floors."
    )
    out = figure(figures.get(CURVE), [reading])
    for env, methods in numbers.methods.items():
        sentences = [f"{adaptation(method)} {above(method)}" for method in methods]
        out += f"<h3>{escape(env)}</h3>" + paragraphs([floors(numbers, env)])
        out += listed(sentences)
    return out


def _shift(results: Results, numbers: Numbers, figures: Mapping[str, Drawing]) -> str:
    out = paragraphs(
        [
            "At meta-test the context comes from the agent's own exploration, in training it came "
            "from the offline data. Both contexts here have the same size and belong to the same "
            "training tasks; only their origin differs (the paper's Figure 2). Dashed lines are "
            "means; the last bin holds everything beyond it."
        ]
    )
    for env in results.envs:
        caption = []
        for method in numbers.methods[env.name]:
            if method.adapted or (0, "kl_gap") in method.at:
                caption.append(f"{shift(method)} {shift_returns(method)}")
        without = [
            method.label
            for method in numbers.methods[env.name]
            if method.rounds and not method.adapted and (0, "kl_gap") not in method.at
        ]
        caption += [f"No posterior was measured of: {'; '.join(without)}."] if without else []
        caption = caption or [f"{env.name}: no posterior was measured."]
        out += f"<h3>{escape(env.name)}</h3>"
        out += figure(figures.get(f"context_shift_{env.name}"), caption)
        out += contexts_figure(env, numbers, figures)
    return out


def _tables(results: Results, numbers: Numbers) -> str:
    return "".join(
        returns_table(env, numbers) + physical_table(env, numbers) + model_table(env, numbers)
        for env in results.envs
    )


def _episodes(results: Results, numbers: Numbers, figures: Mapping[str, Drawing]) -> str:
    caption = [
        "Dotted with open markers: after the offline phase; solid: after the last round. Of more "
        "than four methods only the last is drawn."
    ]
    for env in results.envs:
        parts = []
        for method in numbers.methods[env.name]:
            if not method.rounds:
                continue
            after = episode_means(env, method.name, method.rounds[-1]) if method.adapted else None
            parts.append(episodes(method, episode_means(env, method.name, 0), after))
        caption.append(f"{env.name}: {' '.join(parts)}" if parts else "")
    return figure(figures.get(EPISODES), caption)


def _data(results: Results, figures: Mapping[str, Drawing]) -> str:
    out = ""
    for env in results.envs:
        drawing = figures.get(f"collection_{env.name}")
        out += sources_table(env)
        success = (env.collection or {}).get("success")
        if success is not None:
            caption = [scripted_success(env.name, success)]
            out += figure(figures.get(f"pictures_{env.name}"), caption)
        if drawing is not None:
            out += figure(drawing, [learning(env)], narrow=True)
    return out


def _training(results: Results, figures: Mapping[str, Drawing]) -> str:
    out = ""
    for env in results.envs:
        caption = [
            f"{env.name}: what the learner logged, a line a seed; the dotted line is the end of "
            "the offline phase. An effective sample size near 1 means that the actor weighs all "
            "actions alike, as imitation does."
        ]
        drawing = figures.get(f"training_{env.name}")
        out += figure(drawing, caption if drawing else [f"{env.name}: nothing was logged."])
    return out


def _run(results: Results) -> str:
    versions = [(lib, ", ".join(sorted(v))) for lib, v in sorted(results.versions.items())]
    preset = json.dumps(dataclasses.asdict(results.run), indent=2, sort_keys=True)
    out = paragraphs(
        ["Wall time and peak memory as each stage recorded them; jobs may have run side by side."]
    )
    out += times_table(results) + table(("library", "version"), versions, words=2)
    out += f"<details><summary>The preset</summary><pre>{escape(preset)}</pre></details>"
    for env in results.envs:
        for method in cf.methods_of(results.run, env.name):
            sections = {
                stage: dataclasses.asdict(cf.stage_config(results.run, stage, env.name, method))
                for stage in cf.STAGES
                if stage != "report"
            }
            text = json.dumps(sections, indent=2, sort_keys=True)
            out += (
                f"<details><summary>Resolved configuration: {escape(env.name)}, {escape(method)}"
                f"</summary><pre>{escape(text)}</pre></details>"
            )
    return out


def _reading(results: Results, numbers: Numbers) -> str:
    config = numbers.config
    out = paragraphs(
        [
            f"Every interval holds {percent(config.confidence)} of the means of "
            f"{config.bootstrap_samples:,} bootstrap resamples. Seeds and tasks are resampled "
            "whole, because all seeds meet the same tasks. Changes are paired: the same seed and "
            "task before and after. With few seeds the intervals are too narrow; read the "
            "changes by seed beside them.",
            "The KL gap is the mean posterior KL under contexts of the agent's own exploration "
            "minus that under offline contexts; its closed share is 1 − |after| / |before|. "
            "The interquartile means of the comparison, its probabilities and profiles keep the "
            "tasks, and resample seeds and repeats within them: docs/metrics.md says why. "
            "comparison.csv, improvement.csv and costs.csv hold the numbers of that section; "
            "summary.csv holds every other number, these are its quantities:",
        ]
    )
    terms = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>"
        for name, text in meanings(results.envs).items()
    )
    return f"{out}<dl>{terms}</dl>"
