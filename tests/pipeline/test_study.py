"""study.csv from made-up evaluations, and the page from a made-up table."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import config as cf
from pipeline import study_page
from pipeline.report_data import EnvResults, Evaluation, MethodResults, Results
from pipeline.sections import ReportConfig
from pipeline.study_figures import draw_study
from pipeline.study_page import blocks, fill
from pipeline.study_rows import ADAPTED, ERRORS, KEYS, LOGGED, SCORES, arm_rows, study_rows
from pipeline.study_table import read_study
from pipeline.study_verdicts import FAILS, HOLDS, UNKNOWN, collapsed, verdicts
from pipeline.task_list import TaskList
from smac_core.envs.point_robot import PointRobot
from smac_core.errors import StoreError
from tests.pipeline.made_up_study import Made, write_study

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = sorted((ROOT / "docs/results").rglob("study.csv"))
SMAC = Made("smac", -250, -170, label="SMAC")
ORACLE = Made("oracle", -250, -150, label="oracle")


def arm_of(value: float, *, judged: bool = True) -> dict[str, np.ndarray]:
    """One arm of a meta-test: two tasks, one repeat, two episodes, the last of which counts."""
    shape = (2, 1)
    episodes = np.array([[[-99.0, value]], [[-99.0, value + 2.0]]], dtype=np.float32)
    critic = {"start_value": np.full(shape, 5.0), "discounted_return": np.full(shape, 3.0)}
    return {
        "task_id": np.arange(2),
        "episode_return": episodes,
        "episode_length": np.full((2, 1, 2), 20, dtype=np.int32),
        "measure": np.stack([episodes * 0 + 0.5, episodes * 0 + 7.0], axis=-1),
        "posterior_kl": np.full(shape, 2.0),
        "decoder_mse": np.full(shape, 0.25),
        **(critic if judged else {}),
    }


def evaluation(number: int, shift: float) -> Evaluation:
    arms = {
        "test_online": arm_of(-20.0 + shift),
        "train_online": arm_of(-18.0 + shift),
        "train_matched": arm_of(-18.0 + shift),
        "train_offline": arm_of(-12.0 + shift / 2),
        "test_prior": arm_of(-30.0, judged=False),
    }
    if number == 0:
        arms |= {"test_nothing": arm_of(-40.0, judged=False)}
    told = {"exploration_decoder_mse": 0.5, "coverage": 0.75}
    return Evaluation(1000 * number, arms, ("goal_distance", "distance"), 0.125, diagnosis=told)


@pytest.fixture
def results(tmp_path):
    """Two seeds of smac, of the oracle, and of an arm that shares its offline phase."""
    arms = {"mean": {"of": "smac", "offline_of": "smac", "label": "mean", "question": "Which z?"}}
    arms["mean"]["settings"] = {"all": {"relabel": {"latent": "mean"}}}
    run = cf.load_run(
        {"envs": ["point-robot"], "methods": ["smac", "oracle"], "arms": arms, "seeds": [0, 1]}
    )
    tasks = TaskList("point-robot", 0, ("x", "y"), np.zeros((3, 2)), (0, 1), (2,))
    env = EnvResults("point-robot", tasks, PointRobot())
    for name, gain in (("smac", 4.0), ("oracle", 8.0), ("mean", 0.0)):
        method = MethodResults(name, name, "smac", [0, 1])
        for seed in run.seeds:
            method.evaluations[seed, 0] = evaluation(0, float(seed))
            method.evaluations[seed, 1] = evaluation(1, seed + gain)
        env.methods.append(method)
    folder = tmp_path / "point-robot/smac/seed0/round1/finetune"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("update,value,advantage\n400,9,9\n901,1,2\n1400,3,4\n")
    return Results(run, tmp_path, [env])


def table_of(results):
    head, *rows = study_rows(results, ReportConfig(bootstrap_samples=100))
    keyed = {}
    for row in rows:
        named = dict(zip(head, row, strict=True))
        keyed[tuple(named[key] for key in ("arm", "seed", "round", "split", "context"))] = named
    assert len(keyed) == len(rows)
    return head, keyed


def test_rows_of_a_seed(results):
    head, rows = table_of(results)
    assert head[: len(KEYS)] == KEYS
    assert len({len(row) for row in rows.values()}) == 1
    own = rows["smac", 1, 1, "test", "own"]
    assert (own["return"], own["num_tasks"], own["num_repeats"]) == (-14.0, 2, 1)
    assert (own["posterior_kl"], own["start_value"], own["discounted_return"]) == (2.0, 5.0, 3.0)
    assert own["self_supervised_steps"] == 1000
    prior = rows["smac", 0, 0, "test", "prior"]
    assert np.isnan(prior["start_value"])
    floor = rows["smac", 0, 0, "test", "nothing"]
    assert floor["return"] == -39.0
    assert np.isnan(floor["posterior_kl"])
    assert ("smac", 0, 1, "test", "nothing") not in rows


def test_the_diagnosis_stands_in_one_row_of_a_checkpoint(results):
    _, rows = table_of(results)
    whole = rows["smac", 0, 1, "train", "own"]
    assert (whole["offline_decoder_mse"], whole["adapted_decoder_mse"]) == (0.125, 0.25)
    assert (whole["exploration_decoder_mse"], whole["coverage"]) == (0.5, 0.75)
    assert np.isnan(whole["novelty"])
    assert (whole["exploration_goal_distance"], whole["exploration_distance"]) == (0.5, 7.0)
    assert whole["exploration_distance_std"] == 0.0
    # Of metrics.csv the rows of the last 500 updates, 900 < update.
    assert (whole["value"], whole["advantage"]) == (2.0, 3.0)
    assert np.isnan(rows["smac", 1, 1, "train", "own"]["value"])
    assert np.isnan(rows["smac", 0, 1, "train", "own-matched"]["offline_decoder_mse"])


def test_changes_and_shares_are_paired(results):
    _, rows = table_of(results)
    change = rows["smac", "all", "change", "test", "own"]
    assert (change["return"], change["low"], change["high"]) == (4.0, 4.0, 4.0)
    share = rows["smac", "all", "share", "test", "own"]
    assert (share["return"], share["low"], share["high"]) == (0.5, 0.5, 0.5)
    assert rows["mean", "all", "share", "test", "own"]["return"] == 0.0
    # The gap before is 6 − seed / 2; after, 6 − (seed + 4) / 2.
    gap = rows["smac", "all", 0, "train", "offline-minus-own"]
    assert gap["return"] == pytest.approx(5.75)
    closed = rows["smac", "all", "share", "train", "offline-minus-own"]
    assert closed["return"] == pytest.approx(2.0 / 5.75, rel=1e-4)
    assert closed["low"] <= closed["return"] <= closed["high"]


def test_a_seed_that_lacks_leaves_no_mean_over_the_seeds(results):
    method = results.envs[0].methods[0]
    del method.evaluations[1, 1]
    _, rows = table_of(results)
    assert ("smac", 0, 1, "test", "own") in rows
    assert ("smac", "all", 1, "test", "own") not in rows
    assert ("smac", "all", "change", "test", "own") not in rows
    assert ("smac", "all", 0, "test", "own") in rows


def test_arms_are_told_with_what_differs(results):
    head, *rows = arm_rows(results)
    by_name = {row[head.index("arm")]: dict(zip(head, row, strict=True)) for row in rows}
    assert by_name["mean"]["settings"] == "{relabel: {latent: mean}}"
    assert (by_name["mean"]["of"], by_name["mean"]["question"]) == ("smac", "Which z?")
    assert by_name["smac"]["of"] == ""
    assert [by_name[name]["rounds"] for name in ("smac", "mean")] == [1, 1]
    del results.envs[0].methods[0].evaluations[1, 1]
    head, *rows = arm_rows(results)
    assert rows[0][head.index("rounds")] == 0  # no further than every seed


def test_the_documentation_names_every_column():
    page = (ROOT / "docs/metrics.md").read_text()
    part = page[page.index("## study.csv") : page.index("## comparison.csv")]
    for column in (*KEYS, *SCORES, *ADAPTED, *ERRORS, *LOGGED, "novelty", "offline_novelty"):
        assert f"`{column}`" in part, column


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (HOLDS, HOLDS, HOLDS, HOLDS)),
        ({"width": 100.0}, (UNKNOWN, UNKNOWN, UNKNOWN, HOLDS)),
        # The gap closes, because the return after offline contexts falls by 70, or by 49.5.
        ({"after": -270}, (FAILS, FAILS, FAILS, FAILS)),
        ({"gap": (60.0, -40.0), "after": -120}, (HOLDS, HOLDS, FAILS, HOLDS)),  # 167 % closed
        ({"gap": (60.0, 55.0)}, (HOLDS, HOLDS, FAILS, HOLDS)),
        ({"gap": (5.0, 1.0)}, (HOLDS, HOLDS, UNKNOWN, HOLDS)),  # no gap that is clear of zero
        ({"after": -170, "floor": -160.0}, (HOLDS, HOLDS, HOLDS, FAILS)),
        ({"after": -249.5, "width": 0.1}, (HOLDS, FAILS, FAILS, HOLDS)),
    ],
)
def test_verdicts(tmp_path, changes, expected):
    study = read_study(write_study(tmp_path, [replace(SMAC, **changes), ORACLE]))
    found = verdicts(study, study.find("cheetah-vel", "smac"))
    assert tuple(it.verdict for it in found) == expected


def test_few_seeds_tell_nothing(tmp_path):
    study = read_study(write_study(tmp_path, [SMAC, ORACLE], seeds=(0, 1)))
    found = verdicts(study, study.arms[0])
    assert {it.verdict for it in found} == {UNKNOWN}
    assert all("2 of 4 seeds" in it.found for it in found)


def test_an_oracle_that_gains_nothing_measures_nothing(tmp_path):
    study = read_study(write_study(tmp_path, [SMAC, replace(ORACLE, after=-249)]))
    assert verdicts(study, study.arms[0])[1].verdict == UNKNOWN
    alone = read_study(write_study(tmp_path, [SMAC]))
    assert verdicts(alone, alone.arms[0])[1].found == "no oracle"


def test_a_seed_collapses_by_more_than_the_spread_of_the_seeds(tmp_path):
    # Seeds are 1.29 apart in standard deviation after the offline phase.
    for loss, down in ((1.2, []), (1.4, [0, 1, 2, 3])):
        study = read_study(write_study(tmp_path, [replace(SMAC, after=SMAC.before - loss)]))
        assert collapsed(study, study.arms[0]) == down


ARMS = (
    SMAC,
    ORACLE,
    Made("meta-bc", -265, -265, label="meta-BC", rounds=0),
    Made("mean", -250, -200, label="mean labels", question="Which z?", of="smac"),
    Made("smac", -260, -200, env="cheetah-vel-20-tasks", label="SMAC"),
    Made("smac", -13, -12, env="point-robot", base="point-robot", label="SMAC", gap=(1, 0.4)),
)
PROSE = """# A page

Written by hand.

<!-- begin bars -->
out of date
<!-- end bars -->

More by hand.

<!-- begin arms -->
<!-- end arms -->

<!-- begin figures -->
<!-- end figures -->
"""


def test_the_page_and_its_figures(tmp_path):
    path = write_study(tmp_path, ARMS)
    out = tmp_path / "page"
    out.mkdir()
    (out / "study.md").write_text(PROSE)
    words = ["--csv", str(path), "--out", str(out)]
    study_page.run(study_page.make_parser().parse_args(words))
    text = (out / "study.md").read_text()
    assert text.startswith("# A page\n\nWritten by hand.\n")
    assert "\nMore by hand.\n" in text
    assert "out of date" not in text
    assert "SMAC, 20-tasks" in text
    assert text.index("*Which z?*") < text.index("mean labels")
    assert (
        "| cheetah-vel | no seed collapses | by seed −172, −170, −170, −168 | **holds** |" in text
    )
    assert "−250 [−260, −240] | −170 [−180, −160] | +80.0 [+70.0, +90.0] | 80 %" in text
    pictures = {p.name for p in out.glob("*.png")}
    names = {"gain", "gap", "kl", "decoder", "decoder-rounds", "critic"}
    names |= {"curves-cheetah-vel", "curves-point-robot"}
    assert pictures == {f"study-{name}.png" for name in names}
    made = text
    study_page.run(study_page.make_parser().parse_args(words))
    assert (out / "study.md").read_text() == made


def test_a_page_may_show_some_figures_alone(tmp_path):
    path = write_study(tmp_path, ARMS)
    (tmp_path / "study.md").write_text("<!-- begin study-gap -->\n<!-- end study-gap -->\n")
    study_page.run(
        study_page.make_parser().parse_args(["--csv", str(path), "--out", str(tmp_path)])
    )
    assert [p.name for p in tmp_path.glob("*.png")] == ["study-gap.png"]
    assert "(study-gap.png)" in (tmp_path / "study.md").read_text()


def test_a_new_page_has_every_part(tmp_path):
    study = read_study(write_study(tmp_path, ARMS))
    made = blocks(study, {"study-gain.png": "Gains"})
    text = fill(study_page._SKELETON, made, "here")
    assert re.findall("<!-- begin ([a-z]+) -->", text) == ["figures", "bars", "arms", "run"]
    assert "![Gains](study-gain.png)" in text
    assert "Seeds 0, 1, 2, 3; python 3.11.7" in text
    with pytest.raises(StoreError, match=r"nothing makes this part.*found nonsense"):
        fill("<!-- begin nonsense -->\n<!-- end nonsense -->", made, "here")


def test_a_table_of_something_else(tmp_path):
    with pytest.raises(StoreError, match="snakemake study"):
        read_study(tmp_path / "study.csv")
    path = write_study(tmp_path, ARMS)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(StoreError, match="not a table of a study"):
        read_study(path)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_the_committed_page_is_what_its_table_gives(path, tmp_path):
    study = read_study(path)
    page = path.with_name("study.md")
    figures = draw_study(study, tmp_path, study_page.wanted(page.read_text()))
    assert set(figures) == {p.name for p in path.parent.glob("study-*.png")}
    assert fill(page.read_text(), blocks(study, figures), page) == page.read_text()
    for name in re.findall(r"\((study-[a-z0-9-]+\.png)\)", page.read_text()):
        assert size_of(path.with_name(name)) == size_of(tmp_path / name), name


def size_of(picture: Path) -> tuple[int, int]:
    """Width and height that the head of a PNG file tells."""
    return struct.unpack(">II", picture.read_bytes()[16:24])


def test_every_table_of_a_study_is_committed_with_its_arms():
    assert ROOT / "docs/results/study.csv" in COMMITTED
    assert all(path.with_name("study-arms.csv").exists() for path in COMMITTED)
