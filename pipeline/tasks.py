"""Stage ``tasks``: draw all tasks of an environment once, and split them."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.cli import stage_main, stage_parser
from pipeline.sections import TasksConfig
from pipeline.stage import begin, lock
from pipeline.task_list import TaskList, for_selection, only_first, write_tasks


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    return stage_parser("tasks", "Draw all tasks of an environment once.", ("env",))


def run(args: argparse.Namespace) -> None:
    """Write ``tasks.json``.

    Args:
        args: Parsed arguments.
    """
    stage = begin("tasks", args)
    config: TasksConfig = stage.section
    train, test = config.num_train, config.num_test
    parameters = stage.env.sample_tasks(config.seed, train, test)
    stage.env.check_tasks(parameters)
    ids = tuple(range(train + test))
    first = train - config.num_validation
    split = TaskList(
        env_id=stage.env.env_id,
        seed=config.seed,
        fields=stage.env.task_fields,
        parameters=parameters,
        train=ids[:train],
        test=ids[train:],
        validation=ids[first:train],
    )
    # Nothing downstream can look at a test task that is not in the file.
    tasks = for_selection(split) if config.held_out == "validation" else split
    tasks = only_first(tasks, config.used) if config.used else tasks
    out: Path = args.out
    with lock(out.parent):
        write_tasks(out, tasks)
        stage.finish({}, {"tasks": out}, manifest=out.with_name("tasks.manifest.json"))


if __name__ == "__main__":
    stage_main(run, make_parser())
