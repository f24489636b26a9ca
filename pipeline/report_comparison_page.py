"""The section of the page that compares methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape

from pipeline.intervals import Interval
from pipeline.report_comparison import Comparison, EnvComparison, MethodComparison
from pipeline.report_costs import COLLECTION, Cost
from pipeline.report_data import EnvResults
from pipeline.report_figures import episode_means
from pipeline.report_html import figure, listed, paragraphs
from pipeline.report_numbers import MethodNumbers, Numbers
from pipeline.report_orderings import Ordering
from pipeline.report_style import Drawing
from pipeline.report_tables import table
from pipeline.report_text import number, written

IQM, PROFILES, IMPROVEMENT = "comparison_iqm", "performance_profiles", "improvement"


@dataclass(frozen=True)
class Findings:
    """What the comparison came to.

    Args:
        comparison: The statistics.
        orderings: The expectations and what became of them.
        costs: What every method cost.
    """

    comparison: Comparison
    orderings: list[Ordering]
    costs: list[Cost]


def comparison_section(
    envs: Iterable[EnvResults],
    numbers: Numbers,
    findings: Findings,
    figures: Mapping[str, Drawing],
) -> str:
    """Write the section.

    Args:
        envs: What was read.
        numbers: The means of the report.
        findings: The comparison.
        figures: The figures by name.

    Returns:
        HTML.
    """
    comparison = findings.comparison
    if not comparison.envs:
        return paragraphs(["Nothing was evaluated yet."])
    read = {env.name: env for env in envs}
    out = figure(figures.get(IQM), [_READING])
    for env in comparison.envs:
        out += _returns(read[env.name], env, numbers) + _bars(env)
    out += _normalised(comparison)
    out += "<h3>Orderings that are expected</h3>" + _orderings(findings.orderings)
    out += "<h3>Probability of improvement</h3>"
    for env in comparison.envs:
        drawing = figures.get(f"{IMPROVEMENT}_{env.name}")
        lacks = f"{env.name}: there are no two methods to compare."
        out += figure(drawing, [f"{env.name}. {_MATRIX}" if drawing else lacks])
    out += "<h3>Performance profiles</h3>" + figure(figures.get(PROFILES), [_PROFILE])
    return out + "<h3>What it cost</h3>" + _costs(findings.costs, numbers)


_READING = (
    "Interquartile mean (IQM) of the last episode's return on held-out tasks over seeds and tasks: "
    "the lowest and the highest quarter are left out. Bars: intervals that resample seeds, and "
    "repeats within them; the tasks stay as they are. The upright stroke is the same policy "
    "without adaptation."
)
_MATRIX = (
    "How likely a run of the row's method beats a run of the column's on a held-out task, after "
    "the last round of each; bold: the interval leaves out one half."
)
_PROFILE = (
    "Share of seeds and held-out tasks whose return is above τ, after the last round; bands are "
    "intervals. A curve above another at every τ is the better method whatever the mean; the "
    "lowest hundredth of the returns is not shown."
)


def _ends(method: MethodNumbers, quantity: str) -> str:
    """Write a quantity after the last round, or after the offline phase where there is no other."""
    return written(method.after(quantity) or method.before(quantity))


def _returns(env: EnvResults, found: EnvComparison, numbers: Numbers) -> str:
    """Write every return of the meta-episode, after each method's last round."""
    known = {m.name: m for m in numbers.methods[env.name]}
    rows = []
    for method in found.methods:
        means = episode_means(env, method.name, method.last)
        shown = [number(float(v)) for v in means[:2]] + ["–"] * (2 - len(means[:2]))
        rows.append(
            (
                method.label,
                written(method.iqm.get(0)),
                written(method.iqm.get(method.last)) if method.last else "–",
                written(method.unadapted.get(method.last)),
                *shown,
                _ends(known[method.name], "test_return"),
                _ends(known[method.name], "own_context_return"),
                _ends(known[method.name], "offline_context_return"),
            )
        )
    head = ("", "offline phase", "last round", "no adaptation", "first", "second", "last")
    groups = (("", 1), ("IQM, test tasks", 3), ("mean, test tasks, by episode", 3))
    return table(
        (*head, "own", "offline"),
        rows,
        groups=(*groups, ("mean, train tasks, by context", 2)),
        note=f"{env.name}: returns after each method's last round, and intervals below them",
    )


def _bars(env: EnvComparison) -> str:
    """Write whether each method ends above its own un-adapted policy and above chance."""

    def cells(value: Interval | None) -> tuple[str, str]:
        if value is None:
            return "–", "not measured"
        if value.includes_zero:
            return written(value, sign=True), "unclear"
        return written(value, sign=True), "above" if value.mean > 0 else "below"

    rows = [
        (m.label, *cells(m.above_unadapted), *cells(m.above_random)) for m in _measured(env.methods)
    ]
    return table(
        ("", "difference", "", "difference", ""),
        rows,
        groups=(("", 1), ("against itself un-adapted", 2), ("against random actions", 2)),
        note=f"{env.name}: return after the last round, mean difference, paired by seed and task",
    )


def _measured(methods: Iterable[MethodComparison]) -> list[MethodComparison]:
    return [method for method in methods if method.iqm]


def _normalised(comparison: Comparison) -> str:
    scaled = [(env.name, env.scale) for env in comparison.envs if env.scale is not None]
    if not scaled:
        return paragraphs(
            [
                "No normalised score: it needs a floor and an oracle above it in the same "
                "environment."
            ]
        )
    told = [
        f"{name}: 0 is {scale.floor} ({number(scale.low)}), 1 is {scale.oracle} after its last "
        f"round ({number(scale.high)})."
        for name, scale in scaled
    ]
    rows = [(label, written(value)) for label, value in comparison.normalised.items()]
    note = "IQM of the normalised score over all these environments, seeds and tasks"
    text = (
        "A normalised score makes environments comparable. Every task counts once, so one with "
        "more held-out tasks weighs more; only methods that were measured in each are listed."
    )
    return paragraphs([text]) + listed(told) + table(("", "score"), rows, note=note)


def _orderings(found: list[Ordering]) -> str:
    rows = [(it.env, it.claim, it.verdict, it.evidence) for it in found]
    body = "".join(
        f"<tr><td>{escape(env)}</td><td class=text>{escape(claim)}</td>"
        f'<td class="{_CLASSES.get(verdict, "unclear")}">{escape(verdict)}</td>'
        f"<td class=text>{escape(evidence)}</td></tr>"
        for env, claim, verdict, evidence in rows
    )
    head = "".join(f"<th>{name}</th>" for name in ("environment", "expected", "", "evidence"))
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    ) + paragraphs([_ORDERINGS])


_CLASSES = {"holds": "rose", "does not hold": "fell"}
_ORDERINGS = (
    "Differences are means, paired by seed and task, with the page's intervals. The oracle's "
    "ordering does not hold where the interval lies below zero. SMAC and meta-BC count as alike "
    "where the difference is at most a tenth of the way from the floor to the best return, not "
    "already where the interval includes zero; the effective sample size of the AWAC weights must "
    "be 0.9 or more. "
    "Q is overestimated where the last logged mean Q exceeds, beyond the interval, what the "
    "adapted policy earns on training tasks: its mean reward, scaled as the critic's, discounted "
    "over an endless stream, or up to the terminal state."
)


_SHARED = {
    **{COLLECTION: "collecting the data", "experts": "training the experts"},
    "demonstrations": "demonstrations of the experts",
}


def _costs(costs: list[Cost], numbers: Numbers) -> str:
    labels = {(m.env, m.name): m.label for m in numbers}
    rows = []
    for env, method in dict.fromkeys((cost.env, cost.method) for cost in costs):
        mine = [cost for cost in costs if (cost.env, cost.method) == (env, method)]
        tests = [cost.seconds for cost in mine if cost.stage == "evaluate"]
        tested = f"{sum(tests) / len(tests):,.1f}" if tests else "–"
        for stage, what in (
            {"training": labels.get((env, method), method)} if method else _SHARED
        ).items():
            if main := [cost for cost in mine if cost.stage == stage]:
                rows.append((env, what, *_mean(main), tested))
    head = ("environment", "method", "updates", "with reward", "without", "offline rows")
    out = table(
        (*head, "seconds", "peak, MiB", "meta-tests, s"),
        rows,
        words=2,
        note="Training, mean over seeds; environment steps with the true reward, and without it",
    )
    return out + paragraphs(
        [
            "Training is meta_train, rollout, relabel and finetune, all rounds together; costs.csv "
            "has each by itself. A method that starts from another's offline phase carries its "
            "cost as well. Seconds are wall time as each stage recorded it, with whatever else ran "
            "beside it; seeds that one learner stacks each record all of it. Steps are those of "
            "training, not of the meta-test."
        ]
    )


def _mean(parts: list[Cost]) -> tuple[str, ...]:
    def over(name: str) -> float:
        return float(sum(getattr(part, name) for part in parts)) / len(parts)

    counts = ("updates", "rewarded_steps", "unrewarded_steps", "offline_rows")
    return (
        *(f"{over(name):,.0f}" for name in counts),
        f"{over('seconds'):,.1f}",
        f"{max(part.memory for part in parts):,.0f}",
    )
