"""Made-up evaluations of several methods, whose numbers are known."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from pipeline import config as cf
from pipeline.report_comparison import compare
from pipeline.report_comparison_page import Findings, comparison_section
from pipeline.report_comparison_tables import csv_text
from pipeline.report_costs import costs
from pipeline.report_data import EnvResults, Evaluation, MethodResults, Results
from pipeline.report_numbers import Numbers, summarise
from pipeline.report_orderings import orderings
from pipeline.sections import ReportConfig
from pipeline.task_list import TaskList
from smac_core.envs.point_robot import PointRobot

CONFIG = ReportConfig(bootstrap_samples=200, video_frames=0)
LENGTH = 10
FOLDERS = {
    "smac": "SMAC",
    "oracle": "oracle",
    "meta-bc": "meta-BC",
    "smac-sac": "SAC actor",
    "macaw": "MACAW",
}


def write_methods(folder: Path) -> tuple[str, ...]:
    """Write files of every method that the tests name, whatever the package ships."""
    (folder / "method").mkdir()
    for name, label in FOLDERS.items():
        online = name in {"smac", "oracle"}
        text = f"label: {label}\nrounds: {'online' if online else 'none'}\n"
        if name == "oracle":
            text += "offline_of: smac\nrelabel: {rewards: environment}\n"
            text += "rollout: {record_rewards: true}\n"
        (folder / "method" / f"{name}.yaml").write_text(text)
    return (str(folder),)


def arm(level: float, tasks: tuple[int, ...], episodes: int = 3, kl: float = 1.0) -> dict:
    """Two repeats: `level` plus the task's place in the last episode, 2 and 1 less before."""
    returns = np.full((len(tasks), 2, episodes), level, dtype=np.float32)
    returns += np.arange(len(tasks), dtype=np.float32)[:, None, None]
    returns -= np.arange(episodes - 1, -1, -1, dtype=np.float32)
    shape = (len(tasks), 2)
    return {
        "task_id": np.array(tasks, dtype=np.int32),
        "episode_return": returns,
        "episode_length": np.full((*shape, episodes), LENGTH, dtype=np.int32),
        "episode_end": np.full((*shape, episodes), 1, dtype=np.int8),
        "measure": np.ones((*shape, episodes, 2), dtype=np.float32),
        "posterior_kl": np.full(shape, kl, dtype=np.float32),
        "decoder_mse": np.full(shape, 0.25, dtype=np.float32),
    }


def evaluation(level: float, number: int, kl: float = 1.0) -> Evaluation:
    arms = {
        "test_online": arm(level, (2, 3, 4, 5), kl=kl),
        "test_prior": arm(level - 4.0, (2, 3, 4, 5), 1),
        "train_online": arm(level, (0, 1), kl=kl),
        "train_matched": arm(level, (0, 1), 1, kl=kl),
        "train_offline": arm(level + 1.0, (0, 1), 1, kl=kl / 2),
    }
    if number == 0:
        arms["test_nothing"] = arm(-30.0, (2, 3, 4, 5), 1)
        arms["test_random"] = arm(-40.0, (2, 3, 4, 5), 1)
    return Evaluation(500 * number, arms, ("goal_distance", "distance"), 0.1)


LEVELS = {  # of round 0 and of round 2, plus a tenth with the second seed
    "smac": (-20.0, -14.0),
    "oracle": (-20.0, -10.0),
    "meta-bc": (-20.5, None),
    "smac-sac": (-28.0, None),
    "macaw": (-24.0, None),
}

SAC_CURVES = {
    "own_action_value": np.array([0.0, 5.0]),
    "largest_own_action_value": np.array([900.0, 70.0]),
}


def make(folders: tuple[str, ...], methods: tuple[str, ...] = tuple(LEVELS)) -> Results:
    run = cf.load_run(
        {
            "envs": ["point-robot"],
            "methods": list(methods),
            "seeds": [0, 1],
            "rounds": 2,
            "evaluate_rounds": 2,
            "config_folders": list(folders),
            "settings": {"all": {"meta_train": {"learner": {"discount": 0.9}}}},
        },
        "test",
    )
    definition = PointRobot()
    tasks = TaskList(
        *("point-robot", 0, definition.task_fields, definition.sample_tasks(0, 2, 4)),
        *((0, 1), (2, 3, 4, 5)),
    )
    env = EnvResults("point-robot", tasks, definition)
    env.collection = {
        "sources": {
            name: {"episodes": 1, "transitions": rows, "mean_return": 0.0, "mean_length": 1.0}
            for name, rows in (("init", 300), ("prior", 100))
        }
    }
    env.collection_metrics = {"update": np.array([0.0, 50.0])}
    for name in methods:
        rounds = [0, 2] if LEVELS[name][1] is not None else [0]
        owner = "smac" if name == "oracle" else name
        method = MethodResults(name, FOLDERS[name], owner, rounds)
        for seed in run.seeds:
            for number in rounds:
                level = LEVELS[name][number // 2] + 0.1 * seed
                method.evaluations[seed, number] = evaluation(level, number, 3.0 - number)
            if owner == name:
                method.offline_metrics[seed] = {
                    "update": np.array([10.0, 20.0]),
                    "value": np.array([0.0, -200.0]),
                    "effective_sample_size": np.array([0.97, 0.95]),
                } | (SAC_CURVES if name == "smac-sac" else {})
        env.methods.append(method)
    return Results(run, Path(), [env])


def without_posterior(results: Results, name: str) -> None:
    """As a method that has no posterior and no decoder writes its arms: nan throughout."""
    for method in results.envs[0].methods:
        for it in method.evaluations.values() if method.name == name else ():
            for arrays in it.arms.values():
                for field in ("posterior_kl", "decoder_mse"):
                    arrays[field] = np.full_like(arrays[field], np.nan)


def table(rows) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(rows))))


def found(results: Results) -> tuple[Numbers, Findings]:
    numbers = summarise(results, CONFIG)
    comparison = compare(results, numbers)
    return numbers, Findings(comparison, orderings(results, numbers), costs(results))


def section(results: Results) -> str:
    numbers, findings = found(results)
    return comparison_section(results.envs, numbers, findings, {})
