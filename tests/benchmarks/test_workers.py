"""Both sides of the rows ``sawyer-workers`` take the same steps."""

from __future__ import annotations

import pytest

pytest.importorskip("pybullet", reason="Sawyer Manipulation needs PyBullet")

from benchmarks import workers
from benchmarks.measure import QUICK


def test_one_worker_and_two_take_the_same_number_of_steps() -> None:
    assert workers._batch(1, 2).call() == workers._batch(2, 2).call() == 2 * 50
    assert workers._loop().call() == 50


def test_there_is_a_row_for_one_worker_and_one_for_two() -> None:
    rows = list(workers.rows("sawyer-workers", QUICK))
    assert [(row.threads, row.against) for row in rows] == [(1, workers.LOOP), (2, workers.ONE)]
    assert all(row.ours > 0 and row.ratio > 0 for row in rows)
