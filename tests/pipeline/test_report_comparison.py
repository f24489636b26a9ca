"""The comparison of methods in the report, from made-up evaluations whose numbers are known."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pipeline.intervals import Interval
from pipeline.report_comparison import Comparison, arm_scores, compare
from pipeline.report_comparison_figures import draw_improvement, draw_iqm, draw_profiles
from pipeline.report_comparison_page import Findings, comparison_section
from pipeline.report_comparison_tables import comparison_rows, improvement_rows
from pipeline.report_costs import cost_rows
from pipeline.report_data import Results
from pipeline.report_figures import draw_curves, draw_episodes, draw_shift
from pipeline.report_numbers import MethodNumbers, Numbers, summarise
from pipeline.report_orderings import orderings
from pipeline.report_page import page
from pipeline.report_style import colour, marker, styled
from pipeline.report_text import gap_closed
from tests.pipeline.made_up_comparison import (
    CONFIG,
    LENGTH,
    found,
    make,
    section,
    table,
    without_posterior,
    write_methods,
)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, ...]:
    return write_methods(tmp_path)


def test_a_row_holds_every_return_of_an_arm(folders):
    rows = table(comparison_rows(make(folders), CONFIG))
    keyed = {(r["method"], r["seed"], r["round"], r["arm"]): r for r in rows}
    row = keyed["smac", "0", "2", "test_online"]
    assert float(row["mean_return"]) == -12.5  # -14 plus the mean of 0, 1, 2, 3
    assert float(row["iqm"]) == -12.5  # of 1 and 2
    episodes = [float(row[f"{name}_return"]) for name in ("first", "second", "last")]
    assert episodes == [-14.5, -13.5, -12.5]
    assert float(row["unadapted_return"]) == -16.5
    assert (row["environment_steps"], row["num_tasks"], row["num_repeats"]) == ("1000.0", "4", "2")
    both = keyed["smac", "all", "2", "test_online"]
    assert float(both["mean_return"]) == pytest.approx(-12.45)
    # Sorted: -14, -13.9, [-13, -12.9, -12, -11.9], -11, -10.9.
    assert float(both["iqm"]) == pytest.approx(-12.45)
    assert (float(both["iqm_low"]), float(both["iqm_high"])) == pytest.approx((-12.5, -12.4))
    prior = keyed["macaw", "1", "0", "test_prior"]
    assert prior["second_return"] == ""  # it has a single episode
    assert keyed["macaw", "1", "0", "train_offline"]["unadapted_return"] == ""
    # Arms x (two seeds and all) x methods: 5 and two floors at round 0, 5 at the last round.
    assert len(rows) == 3 * (5 * 7 + 2 * 5)


def test_the_improvement_table_has_both_sides(folders):
    results = make(folders)
    comparison = compare(results, summarise(results, CONFIG))
    rows = {(r["when"], r["method"], r["other"]): r for r in table(improvement_rows(comparison))}
    assert float(rows["last", "oracle", "smac"]["probability"]) == 1.0
    assert float(rows["last", "smac", "oracle"]["probability"]) == 0.0
    # Equal levels: of the four pairs of seeds one wins, one loses and two tie.
    assert float(rows["offline", "oracle", "smac"]["probability"]) == 0.5
    same = rows["offline", "smac", "oracle"]
    assert float(same["low"]) <= 0.5 <= float(same["high"])
    assert len(rows) == 2 * 5 * 4


def test_a_normalised_score_runs_from_the_floor_to_the_oracle(folders):
    results = make(folders)
    comparison = compare(results, summarise(results, CONFIG))
    scale = comparison.envs[0].scale
    assert scale is not None
    assert (scale.floor, scale.oracle) == ("do nothing", "oracle")
    assert (scale.low, scale.high) == pytest.approx((-28.5, -8.45))
    assert comparison.normalised["oracle"].mean == pytest.approx(1.0)
    expected = (-12.45 + 28.5) / (-8.45 + 28.5)
    assert comparison.normalised["SMAC"].mean == pytest.approx(expected)


def test_without_an_oracle_there_is_no_normalised_score(folders):
    results = make(folders, ("smac", "meta-bc"))
    assert compare(results, summarise(results, CONFIG)).normalised == {}
    assert "No normalised score" in section(results)


def outcome(results: Results, part: str) -> tuple[str, str]:
    numbers = summarise(results, CONFIG)
    (it,) = [it for it in orderings(results, numbers) if part in it.claim]
    return it.verdict, it.evidence


def shift_returns(results: Results, name: str, by: float) -> None:
    for method in results.envs[0].methods:
        if method.name == name:
            for it in method.evaluations.values():
                for key in ("test_online", "train_online"):
                    it.arms[key]["episode_return"] += by


def test_the_oracle_is_held_against_smac(folders):
    results = make(folders)
    assert outcome(results, "≥ SMAC") == ("holds", "difference +4.00 [+4.00, +4.00]")
    shift_returns(results, "oracle", -5.0)
    assert outcome(results, "≥ SMAC") == ("does not hold", "difference −1.00 [−1.00, −1.00]")
    verdict, evidence = outcome(make(folders, ("smac",)), "≥ SMAC")
    assert (verdict, evidence) == ("not measured", "one of the two was not evaluated")


def test_smac_is_meta_bc_only_while_the_weights_are_uniform(folders):
    results = make(folders)
    verdict, evidence = outcome(results, "meta-BC")
    assert verdict == "holds"  # 0.5 of 20.05 is 2 %
    assert "effective sample size 0.960" in evidence
    assert "SMAC − meta-BC +0.500 [+0.500, +0.500], 2 % of the way" in evidence
    shift_returns(results, "meta-bc", -4.0)
    assert outcome(results, "meta-BC")[0] == "does not hold"
    smac = results.envs[0].methods[0]
    for curve in smac.offline_metrics.values():
        curve["effective_sample_size"] = np.array([0.5, np.nan])
    verdict, evidence = outcome(results, "meta-BC")
    assert verdict == "not measured"
    assert "not near uniform" in evidence
    smac.offline_metrics.clear()
    assert outcome(results, "meta-BC") == ("not measured", "no weights were logged")


def test_q_is_held_against_what_the_policy_earns(folders):
    results = make(folders)
    verdict, evidence = outcome(results, "overestimates")
    # Training tasks end with -28 and -27 in 10 steps, a tenth more with the second seed: mean
    # reward -2.745, times the scale 5, over 1 - 0.9: -137.25. The last logged Q is 5.
    assert verdict == "holds"
    assert "last logged Q 5.00 (own_action_value), realised −137, excess +142" in evidence
    assert "largest |Q| 900" in evidence
    # SMAC earns -19.45 an episode, -97.2 in scaled reward, and its critic says -200.
    assert "SMAC's excess −103" in evidence
    for method in results.envs[0].methods:
        for curve in method.offline_metrics.values():
            curve["own_action_value"] = np.array([-1000.0, -900.0])
    assert outcome(results, "overestimates")[0] == "does not hold"
    assert outcome(make(folders, ("smac",)), "overestimates")[0] == "not measured"


def test_a_terminal_state_ends_the_stream_of_rewards(folders):
    results = make(folders)
    for it in results.envs[0].methods[3].evaluations.values():
        it.arms["train_online"]["episode_end"][:] = 2
    share = 1.0 - 0.9**LENGTH
    evidence = outcome(results, "overestimates")[1]
    assert f"realised −{137.25 * share:.1f}" in evidence


def test_methods_without_a_posterior_are_skipped_where_they_have_none(folders):
    results = make(folders)
    without_posterior(results, "macaw")
    numbers, findings = found(results)
    macaw = numbers.methods["point-robot"][-1]
    assert macaw.before("kl_gap") is None
    assert macaw.before("test_decoder_mse") is None
    assert macaw.before("test_return") is not None
    with styled():
        assert draw_shift(results.envs[0], numbers) is not None  # of the other methods
        text = page(results, numbers, findings, {}, {})
    assert "No posterior was measured of: MACAW." in text
    assert "nan" not in text.replace("nan nats", "")


def test_where_no_method_has_a_posterior_there_is_no_figure_of_it(folders):
    results = make(folders, ("macaw",))
    without_posterior(results, "macaw")
    numbers, findings = found(results)
    assert draw_shift(results.envs[0], numbers) is None
    assert "No posterior was measured" in page(results, numbers, findings, {}, {})
    assert draw_iqm(findings.comparison, numbers) is not None
    assert draw_improvement(findings.comparison.envs[0]) is None  # nothing to compare with
    assert "there are no two methods to compare" in section(results)


@pytest.mark.parametrize(
    "arm_name", ["test_prior", "train_online", "train_matched", "train_offline", "test_random"]
)
def test_an_arm_may_be_missing(folders, arm_name):
    results = make(folders)
    for method in results.envs[0].methods:
        for it in method.evaluations.values():
            it.arms.pop(arm_name, None)
    numbers, findings = found(results)
    assert page(results, numbers, findings, {}, {})
    rows = table(comparison_rows(results, CONFIG))
    assert rows
    assert arm_name not in {row["arm"] for row in rows}


def test_only_one_method_may_lack_an_arm(folders):
    results = make(folders)
    for it in results.envs[0].methods[-1].evaluations.values():
        del it.arms["test_online"], it.arms["test_prior"], it.arms["train_offline"]
    numbers, findings = found(results)
    text = page(results, numbers, findings, {}, {})
    assert "MACAW: not evaluated after the offline phase" in text
    assert "macaw" not in {name for pair in findings.comparison.envs[0].final for name in pair}
    with styled():
        for draw in (draw_iqm, draw_profiles):
            assert draw(findings.comparison, numbers) is not None
        assert draw_curves(numbers, findings.comparison) is not None
        assert draw_episodes(results, numbers) is not None


def test_a_seed_may_be_missing(folders):
    results = make(folders)
    smac = results.envs[0].methods[0]
    del smac.evaluations[1, 2]
    known, scores = arm_scores(smac, (0, 1), 2, "test")
    assert (known, scores.shape) == ([0], (1, 4, 2))
    numbers, findings = found(results)
    value = findings.comparison.envs[0].final["oracle", "smac"]
    assert (value.mean, value.num_seeds) == (1.0, 1)
    assert page(results, numbers, findings, {}, {})


def test_nothing_to_compare_is_said():
    assert draw_iqm(Comparison(), Numbers(CONFIG)) is None
    assert draw_profiles(Comparison(), Numbers(CONFIG)) is None
    text = comparison_section([], Numbers(CONFIG), Findings(Comparison(), [], []), {})
    assert "Nothing was evaluated" in text


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ((2.0, 1.0, 3.0), 0.5, "75 %"),
        ((0.1, 0.05, 0.15), -3.0, "widened, +0.100 → −3.00"),
        ((0.1, -0.05, 0.25), -3.0, "no gap to close, +0.100"),
    ],
)
def test_a_share_of_the_gap_needs_a_gap(before, after, text):
    method = MethodNumbers("e", "m", "M", (0, 1), online=True, rounds=[0, 2])
    method.at = {
        (0, "kl_gap"): Interval(*before, 2, 9),
        (2, "kl_gap"): Interval(after, after - 0.1, after + 0.1, 2, 9),
    }
    assert gap_closed(method) == text


def test_the_page_of_metrics_explains_every_column(folders):
    results = make(folders)
    comparison = compare(results, summarise(results, CONFIG))
    heads = [
        next(rows)
        for rows in (comparison_rows(results, CONFIG), improvement_rows(comparison), cost_rows([]))
    ]
    text = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
    for name, head in zip(("comparison", "improvement", "costs"), heads, strict=True):
        part = text.split(f"## {name}.csv")[1].split("\n## ")[0]
        told = re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (.*?) \|", part, re.MULTILINE)))
        assert told == list(head), name


def test_only_one_oracle_is_held_against_smac(folders):
    found_ = orderings(make(folders), summarise(make(folders), CONFIG))
    assert [it.claim for it in found_ if "≥" in it.claim] == [
        "oracle ≥ SMAC, after the last round of each"
    ]


def test_thirteen_methods_look_different():
    assert len({colour(place) for place in range(13)}) == 13
    assert len({marker(place) for place in range(13)}) == 13
