"""The report, from made-up evaluations whose numbers are known."""

from __future__ import annotations

import ast
import csv
import functools
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline import cli, files, verify
from pipeline import config as cf
from pipeline.intervals import Interval
from pipeline.manifest import read_manifest, write_manifest
from pipeline.report import make_parser, run
from pipeline.report_behaviour import Paths
from pipeline.report_data import load_results, read_metrics
from pipeline.report_numbers import summarise
from pipeline.report_quantities import last_episode, mean
from pipeline.report_tables import table
from pipeline.report_text import moved, number, verdict
from pipeline.store import read_store, write_store
from pipeline.task_list import TaskList, write_tasks
from smac_core.errors import StoreError

NUM_TRAIN, NUM_TEST, REPEATS, LATENT = 3, 4, 2, 2
PRESET = {
    "envs": ["point-robot", "cheetah-vel"],
    "methods": ["smac", "oracle", "meta-bc"],
    "seeds": [0, 1],
    "rounds": 2,
    "evaluate_rounds": 2,
    "settings": {"all": {"report": {"bootstrap_samples": 200, "video_frames": 0}}},
}
ONE = PRESET | {"envs": ["point-robot"]}
MEASURES = {
    "point-robot": {"goal_distance": "m", "distance": "m"},
    "cheetah-vel": {"forward_velocity": "m/s", "velocity_error": "m/s", "distance": "m"},
}
FIELDS = {"point-robot": ("goal_x", "goal_y"), "cheetah-vel": ("target_velocity",)}


def make_arm(
    tasks: range, level: float, *, kl: float = 1.0, episodes: int = 1, measures: int = 2
) -> dict:
    """Returns are `level` plus the task's place: 0, 1, 2 … in the last episode.

    Measures are a tenth of minus `level`, 1, 2 there, and 99 before.
    """
    num, rng = len(tasks), np.random.default_rng(len(tasks))
    returns = np.full((num, REPEATS, episodes), level - 5.0, dtype=np.float32)
    returns[:, :, -1] = level + np.arange(num, dtype=np.float32)[:, None]
    path = np.cumsum(np.full((num, 5, 2), 0.1, dtype=np.float32), axis=1)
    measure = np.full((num, REPEATS, episodes, measures), 99.0, dtype=np.float32)
    measure[:, :, -1] = [-0.1 * level, 1.0, 2.0][:measures]
    paths = {"final_path": path} | ({"first_path": -path} if episodes > 1 else {})
    return {
        "task_id": np.asarray(tasks, dtype=np.int32),
        "episode_return": returns,
        "episode_length": np.full((num, REPEATS, episodes), 20, dtype=np.int32),
        "episode_end": np.full((num, REPEATS, episodes), 1, dtype=np.int8),
        "measure": measure,
        "posterior_mean": np.zeros((num, REPEATS, LATENT), dtype=np.float32),
        "posterior_variance": np.ones((num, REPEATS, LATENT), dtype=np.float32),
        "posterior_kl": (kl + 0.01 * rng.normal(size=(num, REPEATS))).astype(np.float32),
        "decoder_mse": np.full((num, REPEATS), 0.25, dtype=np.float32),
        **paths,
    }


def make_evaluation(
    root: Path, env: str, method: str, seed: int, number_: int, gain: float
) -> None:
    test = range(NUM_TRAIN, NUM_TRAIN + NUM_TEST)
    train = range(NUM_TRAIN)
    level = -20.0 + gain
    units = MEASURES[env]
    make = functools.partial(make_arm, measures=len(units))
    arms = {
        "test_online": make(test, level, episodes=3),
        "test_online_transitions": make(test, level + 2, episodes=4),
        "test_prior": make(test, -25.0, kl=0.0),
        "train_online": make(train, level, episodes=3),
        "train_online_transitions": make(train, level + 2, episodes=4),
        "train_matched": make(train, level, kl=5.0 - gain / 10),
        "train_offline": make(train, level + 1, kl=2.0),
    }
    if number_ == 0:
        arms["test_nothing"] = make(test, -30.0)
        arms["test_random"] = make(test, -35.0)
    folder = root / env / method / f"seed{seed}" / f"round{number_}" / "evaluate"
    out = folder / "returns.zarr"
    started = time.monotonic()
    attributes = {
        "env_id": env,
        "method": method,
        "seed": seed,
        "round": number_,
        "self_supervised_steps": 500 * number_,
        "arms": sorted(arms),
        "count": "episodes",
        "measures": list(units),
        "measure_units": list(units.values()),
    }
    arrays = {f"arms/{arm}/{name}": a for arm, group in arms.items() for name, a in group.items()}
    write_store(out, "evaluation", arrays, attributes)
    write_manifest(
        folder / "manifest.json",
        stage="evaluate",
        config={},
        seed=seed,
        code_digest="",
        inputs={},
        outputs={"returns": out},
        started=started,
        extra={"offline_decoder_mse": 0.125},
    )


def make_environment(root: Path, env: str) -> None:
    count = NUM_TRAIN + NUM_TEST
    angle = np.linspace(0.1, 3.0, count)
    parameters = np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, : len(FIELDS[env])]
    parameters = parameters if env == "point-robot" else angle[:, None]
    ids = tuple(range(count))
    split = ids[:NUM_TRAIN], ids[NUM_TRAIN:]
    write_tasks(root / env / "tasks.json", TaskList(env, 0, FIELDS[env], parameters, *split))
    collect = root / env / "collect"
    collect.mkdir()
    if env == "point-robot":
        make_offline_data(collect / "transitions.zarr")
    curve = "iteration,environment_steps,update,collected_return,test_return\n"
    curve += "0.0,100.0,0.0,-40.0,-39.0\n1.0,200.0,10.0,-30.0,\n2.0,300.0,20.0,-25.0,-24.0\n"
    (collect / "metrics.csv").write_text(curve if env == "cheetah-vel" else "iteration\n0.0\n")
    source = {"episodes": 5, "transitions": 100, "mean_return": -9.0, "mean_length": 20.0}
    write_manifest(
        collect / "manifest.json",
        stage="collect",
        config={},
        seed=None,
        code_digest="",
        inputs={},
        outputs={"metrics": collect / "metrics.csv"},
        started=time.monotonic(),
        extra={"policy": "scripted", "sources": {"scripted": source}},
    )


def make_offline_data(path: Path) -> None:
    """Two episodes of three steps for each training task; each moves along its own line."""
    num = 2 * NUM_TRAIN
    rows = 3 * num
    task = np.repeat(np.arange(NUM_TRAIN, dtype=np.int32), 2)
    ends = np.arange(3, rows + 1, 3)
    position = np.stack([np.arange(rows), np.repeat(np.arange(num), 3)], axis=1).astype(np.float32)
    arrays = {
        "data/obs": position,
        "data/action": np.zeros((rows, 2), dtype=np.float32),
        "data/position": position,
        "data/reward": np.zeros(rows, dtype=np.float32),
        "data/terminated": np.zeros(rows, dtype=bool),
        "data/truncated": np.isin(np.arange(rows), ends - 1),
        "data/task_id": np.repeat(task, 3),
        "meta/episode_ends": ends.astype(np.int64),
        "meta/final_obs": np.zeros((num, 2), dtype=np.float32),
        "meta/episode_task_id": task,
        "meta/episode_source": np.full(num, 3, dtype=np.int8),
        "meta/episode_iteration": np.zeros(num, dtype=np.int32),
        "meta/episode_ok": np.ones(num, dtype=bool),
    }
    attributes = {"env_id": "point-robot", "env_params": {}, "obs_dim": 2, "action_dim": 2}
    write_store(path, "transitions", arrays, attributes | {"reward_source": "environment"})


def make_metrics(folder: Path, first: int) -> None:
    folder.mkdir(parents=True)
    rows = [f"{first + 10 * k},{1.0 / (k + 1)},2.0,3.0,0.9" for k in range(4)]
    head = "update,reward_loss,posterior_kl,critic_loss,effective_sample_size"
    (folder / "metrics.csv").write_text("\n".join([head, *rows]) + "\n")


def make_results(root: Path) -> None:
    """SMAC rises by 6 in point-robot and falls by 2 in cheetah-vel; the oracle rises by 8."""
    for env in FIELDS:
        make_environment(root, env)
        gains = {"smac": 6.0 if env == "point-robot" else -2.0, "oracle": 8.0}
        for seed in (0, 1):
            make_evaluation(root, env, "meta-bc", seed, 0, -1.0)
            make_metrics(root / env / "meta-bc" / f"seed{seed}" / "meta_train", 0)
            make_evaluation(root, env, "smac", seed, 0, 0.0)
            make_metrics(root / env / "smac" / f"seed{seed}" / "meta_train", 0)
            for method, gain in gains.items():
                # One seed gains half a point more, so that there is something to resample.
                make_evaluation(root, env, method, seed, 2, gain + 0.5 * (seed - 0.5))
                for round_ in (1, 2):
                    folder = root / env / method / f"seed{seed}" / f"round{round_}"
                    make_metrics(folder / "finetune", 40 * round_)


def report(root: Path, preset: dict = PRESET) -> int:
    out = str(root / "report.html")
    argv = ["--config", json.dumps(preset), "--results", str(root), "--out", out]
    return cli.run(run, make_parser(), argv)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_sync", lambda path: None)  # a thousand small files, not under test
        make_results(root)
        assert report(root) == 0
    return root


@pytest.fixture
def copy(results: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(results, tmp_path / "results"))


@pytest.fixture(scope="module")
def html(results: Path) -> str:
    return (results / "report.html").read_text()


def rows_of(root: Path) -> dict[tuple[str, ...], dict[str, str]]:
    with (root / "summary.csv").open() as stream:
        keys = ("environment", "method", "round", "quantity")
        return {tuple(row[k] for k in keys): row for row in csv.DictReader(stream)}


def test_the_summary_holds_the_known_numbers(results):
    rows = rows_of(results)
    offline = rows["point-robot", "smac", "0", "test_return"]
    assert float(offline["mean"]) == -18.5  # -20 plus the mean of 0, 1, 2, 3
    assert (offline["num_seeds"], offline["num_tasks"]) == ("2", "4")
    change = rows["point-robot", "smac", "change", "test_return"]
    assert float(change["mean"]) == pytest.approx(6.0)
    assert float(change["low"]) == pytest.approx(5.75)
    assert float(change["high"]) == pytest.approx(6.25)
    last = rows["cheetah-vel", "oracle", "2", "test_return"]
    assert float(last["mean"]) == pytest.approx(-10.5)
    assert float(last["self_supervised_steps"]) == 1000
    assert float(rows["cheetah-vel", "smac", "2", "kl_gap"]["mean"]) == pytest.approx(3.2, abs=0.02)
    assert float(rows["cheetah-vel", "smac", "0", "offline_decoder_mse"]["mean"]) == 0.125


def test_the_summary_says_what_returns_are_physically(results):
    rows = rows_of(results)

    def mean_of(*key):
        return float(rows[key]["mean"])

    assert mean_of("point-robot", "smac", "0", "test_goal_distance") == pytest.approx(2.0)
    assert mean_of("point-robot", "smac", "2", "test_goal_distance") == pytest.approx(1.4)
    assert mean_of("point-robot", "smac", "change", "test_goal_distance") == pytest.approx(-0.6)
    assert mean_of("cheetah-vel", "smac", "0", "test_velocity_error") == 1.0
    assert mean_of("cheetah-vel", "smac", "0", "nothing_forward_velocity") == pytest.approx(3.0)
    assert mean_of("cheetah-vel", "smac", "0", "random_distance") == 2.0
    # Neither environment has a terminal state, so there is no fall rate to tell.
    assert not any(key[3].endswith("fall_rate") for key in rows)


def test_both_counts_are_in_the_summary_and_one_is_the_headline(copy):
    def means():
        rows = rows_of(copy)
        names = ("test_return", "test_episodes_return", "test_transitions_return")
        return [float(rows["point-robot", "smac", "0", name]["mean"]) for name in names]

    assert means() == [-18.5, -18.5, -16.5]
    for path in copy.glob("*/*/seed*/round*/evaluate/returns.zarr"):
        found = read_store(path, "evaluation")
        write_store(path, "evaluation", found.arrays, found.attributes | {"count": "transitions"})
    assert report(copy) == 0
    assert means() == [-16.5, -18.5, -16.5]


def test_offline_paths_are_the_last_of_each_task(results):
    env = load_results(cf.load_run(PRESET), results).envs[0]
    assert [path[:, 1].tolist() for path in env.offline_paths] == [[1.0] * 3, [3.0] * 3, [5.0] * 3]


def test_the_page_says_what_the_numbers_say(html):
    assert "SMAC rose by 6.00 [5.75, 6.25]: from −18.5" in html
    assert "SMAC fell by 2.00 [1.75, 2.25]: from −18.5" in html
    assert "oracle (true rewards) rose by 8.00 [7.75, 8.25]" in html
    assert "(by seed: +5.75, +6.25)" in html
    assert "meta-BC: −19.5" in html
    assert "has no self-supervised phase" in html
    assert "Floors: do nothing −28.5, random actions −33.5." in html
    assert "above it after the offline phase (+10.0 [+10.0, +10.0])" in html
    assert "2 seeds say little" in html
    assert "20 % of the gap was closed" in html
    assert "the gap widened by 0.20" in html
    assert "widened, +3.00 → +3.20" in html
    assert "went from −39.0 to −24.0 (best −24.0) in 2 points" in html
    assert "SMAC: goal distance 2.00 m → 1.40 m, distance 1.00 m → 1.00 m." in html
    assert "forward velocity 2.00 m/s → 2.20 m/s, velocity error 1.00 m/s" in html
    assert "Missing from this run" not in html


def test_the_page_stands_alone(html):
    assert "<script" not in html
    assert "http://" not in html
    assert "https://" not in html
    assert html.count("data:image/svg+xml;base64,") == 16
    assert "@import" not in html
    assert "url(" not in html


def test_every_figure_is_there_twice(results):
    names = sorted(path.name for path in (results / "figures").iterdir())
    stems = {Path(name).stem for name in names}
    assert names == sorted(f"{stem}.{end}" for stem in stems for end in ("svg", "png"))
    assert {"return_against_steps", "return_by_episode", "tasks"} <= stems
    assert {"collection_cheetah-vel", "tracking_cheetah-vel", "context_paths_point-robot"} <= stems
    for env in FIELDS:
        assert {f"context_shift_{env}", f"behaviour_{env}", f"training_{env}"} <= stems
    # A scripted collector learns nothing, so there is no curve to draw.
    assert "collection_point-robot" not in stems
    # The cheetah is seen from the side; the point is not asked for a velocity.
    assert not {"context_paths_cheetah-vel", "tracking_point-robot"} & stems


def test_the_manifest_names_inputs_and_outputs(results):
    manifest = read_manifest(results / "manifest.json")
    assert sorted(manifest["outputs"]) == [
        *("comparison", "costs", "figures", "improvement", "report", "summary"),
    ]
    assert "point-robot/oracle/seed1/round2/evaluate/returns.zarr" in manifest["inputs"]
    assert manifest["missing"] == []
    assert verify.find_faults(results)[1] == []


def test_the_same_results_give_the_same_page(copy, html):
    assert report(copy) == 0
    assert (copy / "report.html").read_text() == html


def test_the_oracle_starts_from_the_offline_phase_of_smac(results):
    rows = rows_of(results)
    key = ("0", "test_return")
    smac, oracle = (rows["point-robot", m, *key]["mean"] for m in ("smac", "oracle"))
    assert smac == oracle


def test_what_is_missing_is_named(copy):
    shutil.rmtree(copy / "point-robot" / "oracle" / "seed1" / "round2" / "evaluate")
    shutil.rmtree(copy / "point-robot" / "meta-bc")
    assert report(copy, ONE) == 0
    text = (copy / "report.html").read_text()
    assert "point-robot, oracle (true rewards): not evaluated (seed 1: round 2)" in text
    assert "point-robot, meta-BC: not evaluated (seed 0: round 0; seed 1: round 0)" in text
    assert "meta-BC: not evaluated after the offline phase" in text


def test_a_run_that_has_only_begun_gives_a_page(tmp_path):
    assert report(tmp_path) == 0
    text = (tmp_path / "report.html").read_text()
    assert "Nothing was evaluated yet" in text
    assert "point-robot: no task list" in text


def test_only_the_offline_phase_gives_a_page(copy):
    for path in copy.glob("*/*/seed*/round2"):
        shutil.rmtree(path)
    assert report(copy, ONE) == 0
    assert "no round was evaluated" in (copy / "report.html").read_text()


@pytest.mark.parametrize("damage", ["chunk", "attributes", "manifest", "metrics", "tasks"])
def test_damage_is_one_line_and_exit_code_2(copy, capsys, damage):
    folder = copy / "point-robot" / "smac" / "seed0" / "round0" / "evaluate"
    paths = {
        "chunk": next((folder / "returns.zarr/arms/test_online/episode_return/c").rglob("0")),
        "attributes": folder / "returns.zarr" / "zarr.json",
        "manifest": folder / "manifest.json",
        "metrics": copy / "point-robot" / "smac" / "seed0" / "meta_train" / "metrics.csv",
        "tasks": copy / "point-robot" / "tasks.json",
    }
    path = paths[damage]
    if not path.is_file():
        path = next(p for p in path.rglob("*") if p.is_file())
    path.write_bytes(path.read_bytes()[:-20] + b"x")
    before = (copy / "report.html").read_bytes()
    assert report(copy) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert (copy / "report.html").read_bytes() == before


def test_the_evaluation_of_another_seed_is_refused(copy, capsys):
    root = copy / "point-robot" / "smac"
    shutil.rmtree(root / "seed0" / "round2")
    shutil.copytree(root / "seed1" / "round2", root / "seed0" / "round2")
    assert report(copy) == 2
    assert "the evaluation of another seed: expected 0, found 1" in _flat(capsys.readouterr().err)


def _flat(text: str) -> str:
    """Keeps what, expected and found of an error, whatever stands between."""
    what, _, rest = text.removeprefix("error: ").partition(":")
    start = rest.find("expected")
    return f"{what.split(' (')[0]}: {rest[start:]}" if start >= 0 else text


def test_tasks_that_the_list_does_not_know_are_refused(copy):
    path = copy / "point-robot" / "tasks.json"
    tasks = json.loads(path.read_text())
    tasks |= {"parameters": tasks["parameters"][:4], "test": [3]}
    path.write_text(json.dumps(tasks))
    with pytest.raises(StoreError, match="the task list does not"):
        load_results(cf.load_run(PRESET), copy)


def test_seeds_on_different_tasks_are_refused(copy):
    loaded = load_results(cf.load_run(PRESET), copy)
    arm = loaded.envs[0].methods[0].evaluations[0, 0].arms["test_online"]
    arm["episode_return"], arm["episode_length"] = (
        arm[name][:2] for name in ("episode_return", "episode_length")
    )
    with pytest.raises(StoreError, match="different tasks"):
        summarise(loaded, cf.ReportConfig())


def test_metrics_may_have_gaps_but_not_words(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("update,loss\n1,\n2,0.5\n")
    columns = read_metrics(path)
    np.testing.assert_array_equal(columns["loss"], [np.nan, 0.5])
    path.write_text("update,loss\n1,low\n")
    with pytest.raises(StoreError, match="damaged"):
        read_metrics(path)


def test_the_last_episode_is_the_last_that_was_played():
    returns = np.array(
        [[[1.0, 2.0, np.nan], [1.0, 2.0, 3.0]], [[np.nan] * 3, [7.0, np.nan, np.nan]]]
    )
    played = np.isfinite(returns)
    np.testing.assert_array_equal(last_episode(returns, played), [[2.0, 3.0], [np.nan, 7.0]])


def test_means_leave_out_what_is_missing():
    np.testing.assert_array_equal(mean(np.array([[1.0, np.nan], [np.nan] * 2]), 1), [1.0, np.nan])


def test_velocity_is_displacement_over_time():
    path = np.zeros((2, 4, 2), dtype=np.float32)
    path[0, :, 0] = [0.0, 0.1, 0.2, 0.3]  # 0.3 m in 3 steps of 0.05 s
    path[1, :, 0] = [0.0, -0.1, np.nan, np.nan]
    paths = Paths("", 0, 0, np.array([[2.5], [1.0]]), path)
    np.testing.assert_allclose(paths.velocity(0.05), [2.0, -2.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "word", "text"),
    [
        (Interval(3.0, 1.0, 5.0, 2, 9), "rose", "rose by 3.00 [1.00, 5.00]"),
        (Interval(-3.0, -5.0, -1.0, 2, 9), "fell", "fell by 3.00 [1.00, 5.00]"),
        (
            Interval(3.0, -1.0, 7.0, 2, 9),
            "unclear",
            "changed by +3.00 [−1.00, +7.00]; the interval includes zero",
        ),
        (
            Interval(3.0, np.nan, np.nan, 1, 1),
            "unclear",
            "changed by +3.00; a single value has no interval",
        ),
    ],
)
def test_a_change_is_told_by_its_interval(change, word, text):
    assert verdict(change) == word
    assert moved(change) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-317.4, "−317"),
        (12.34, "12.3"),
        (1.0, "1.00"),
        (0.1234, "0.123"),
        (0.0, "0.000"),
        (1e-5, "1.0e−05"),
        (-12345.6, "−12,346"),
        (np.nan, "–"),
    ],
)
def test_numbers_are_short_and_have_a_true_minus(value, text):
    assert number(value) == text


def test_tables_escape_what_they_are_given():
    assert "<b>" not in table(("<b>",), [("<b>&",)])


def test_only_what_draws_figures_imports_matplotlib():
    root = Path(cf.__file__).parents[1]
    packages = ("pipeline", "smac_core", "kernels")
    for path in (p for package in packages for p in (root / package).rglob("*.py")):
        if path.name.startswith(("report", "study")) or path.name == "gmps_figures.py":
            continue
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.startswith("matplotlib") for name in names), path
