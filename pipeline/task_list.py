"""``tasks.json``: all tasks of an environment, drawn once, with their split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from pipeline.files import read_json, write_json
from smac_core.envs.definition import Environment
from smac_core.errors import TaskError

SCHEMA_VERSION = 1
FIX = "make it again with `python -m pipeline.tasks` (or `snakemake tasks --cores 1 --force`)"


@dataclass(frozen=True)
class TaskList:
    """The tasks of an environment.

    Args:
        env_id: Which environment.
        seed: Seed of the draw.
        fields: Names of the task parameters.
        parameters: ``[T, len(fields)]`` float64.
        train: Ids of the training tasks.
        test: Ids of the held-out tasks.
        validation: Ids of training tasks set aside for choosing hyperparameters.
        unused: Ids of training tasks that were drawn, and that nothing uses.
    """

    env_id: str
    seed: int
    fields: tuple[str, ...]
    parameters: np.ndarray
    train: tuple[int, ...]
    test: tuple[int, ...]
    validation: tuple[int, ...] = ()
    unused: tuple[int, ...] = ()


def for_selection(tasks: TaskList) -> TaskList:
    """Put the validation tasks in the place of the test tasks, which are dropped.

    Args:
        tasks: With validation tasks.

    Returns:
        Training tasks that are not for validation, and the validation tasks as held-out ones.
    """
    train = tuple(i for i in tasks.train if i not in tasks.validation)
    kept = tasks.parameters[: len(train) + len(tasks.validation)]
    return replace(tasks, parameters=kept, train=train, test=tasks.validation, validation=())


def only_first(tasks: TaskList, num: int) -> TaskList:
    """Leave out training tasks; all ids stay, so that the held-out tasks are met as ever.

    Args:
        tasks: All tasks.
        num: How many training tasks are left, the first ones.

    Returns:
        The same list, with the others as unused.
    """
    train, unused = tasks.train[:num], tasks.train[num:]
    validation = tuple(i for i in tasks.validation if i in train)
    return replace(tasks, train=train, validation=validation, unused=unused)


def write_tasks(path: Path, tasks: TaskList) -> None:
    """Write a task list.

    Args:
        path: Where.
        tasks: What.
    """
    document: dict[str, object] = {
        "schema_version": SCHEMA_VERSION,
        "env_id": tasks.env_id,
        "seed": tasks.seed,
        "fields": list(tasks.fields),
        "parameters": tasks.parameters.tolist(),
        "train": list(tasks.train),
        "test": list(tasks.test),
        "validation": list(tasks.validation),
    }
    if tasks.unused:
        document["unused"] = list(tasks.unused)
    write_json(path, document)


def _check_origin(path: Path, document: Mapping[str, object], env: Environment) -> None:
    """Refuse the tasks of another schema or environment."""
    for key, expected in (("schema_version", SCHEMA_VERSION), ("env_id", env.env_id)):
        if document[key] != expected:
            raise TaskError(
                f"task list with another {key}",
                where=path,
                expected=expected,
                found=document[key],
                fix=FIX,
            )
    if document["fields"] != list(env.task_fields):
        found = cast("list[object]", document["fields"])
        lacking = [f for f in env.task_fields if not isinstance(found, list) or f not in found]
        raise TaskError(
            "task records with other fields",
            where=path,
            expected=", ".join(env.task_fields),
            found=f"no {', '.join(lacking)}" if lacking else found,
            fix=FIX,
        )


def read_tasks(path: Path, env: Environment) -> TaskList:
    """Read and check a task list.

    Args:
        path: Where.
        env: The environment that it must belong to.

    Returns:
        The tasks.

    Raises:
        TaskError: Missing, unreadable, of another environment, or parameters out of range.
    """
    raw = read_json(path, TaskError)
    keys = {"schema_version", "env_id", "seed", "fields", "parameters", "train", "test"}
    if not isinstance(raw, dict) or not keys <= raw.keys():
        missing = sorted(keys - raw.keys()) if isinstance(raw, dict) else "not an object"
        raise TaskError(
            "not a task list", where=path, expected=sorted(keys), found=missing, fix=FIX
        )
    document = cast("dict[str, object]", raw)
    _check_origin(path, document, env)
    try:
        parameters = np.array(document["parameters"], dtype=np.float64)
        train, test, validation, unused = (
            tuple(int(i) for i in cast("list[int]", document.get(k, [])))
            for k in ("train", "test", "validation", "unused")
        )
    except (TypeError, ValueError) as error:
        raise TaskError("unreadable task list", where=path, found=error, fix=FIX) from error
    env.check_tasks(parameters)
    ids = [*train, *unused, *test]
    if sorted(ids) != list(range(len(parameters))):
        raise TaskError(
            "train and test do not split the tasks",
            where=path,
            expected=f"each of 0 to {len(parameters) - 1} once",
            found=f"{len(ids)} ids",
            fix=FIX,
        )
    fields = tuple(str(name) for name in cast("list[str]", document["fields"]))
    seed = int(cast("int", document["seed"]))
    return TaskList(env.env_id, seed, fields, parameters, train, test, validation, unused)
