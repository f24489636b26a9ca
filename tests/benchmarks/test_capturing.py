"""What is counted, and that the GPU's rows run without one."""

from __future__ import annotations

import pytest
import torch

from benchmarks.capturing import SEEDS, count_operations, graph_rows, make_chunks, operation_rows
from benchmarks.learning import ONLINE
from benchmarks.measure import QUICK
from smac_core import networks

CPU = torch.device("cpu")


def test_views_are_not_counted() -> None:
    x = torch.ones(3, 4)
    assert count_operations(lambda: x.view(12).unsqueeze(0).transpose(0, 1)) == 0
    assert count_operations(lambda: torch.relu(x.t() + 1.0)) == 2


def test_an_update_asks_less_than_the_published_one() -> None:
    run = networks.run_network
    rows = list(operation_rows("learner-operations", QUICK))
    assert [row.size for row in rows] == ["300x3, offline", "300x3, online"]
    assert all(row.ratio > 2.0 for row in rows)
    assert networks.run_network is run


def test_the_rows_of_a_gpu_run_on_the_cpu_too() -> None:
    rows = list(graph_rows("learner-graph-online", QUICK, CPU))
    assert len(rows) == 2
    assert all(row.ours > 0 and row.unit == "seed-updates/s" for row in rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_nothing_is_claimed() -> None:
    assert list(graph_rows("learner-graph-online", QUICK)) == []


def test_stacked_seeds_advance_together() -> None:
    engine = make_chunks(ONLINE, SEEDS[1], CPU, 2, capture=False)
    engine.advance(2)
    assert engine.learner.num_updates == 2
    assert engine.source.fill().reward.shape[:2] == (2, SEEDS[1])
