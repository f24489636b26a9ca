"""Coverage and novelty on point clouds that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from smac_core.coverage import CELLS, REACH, coverage


def square(low: float, high: float, rows: int = 100) -> np.ndarray:
    """Points at equal distances in a square."""
    line = np.linspace(low, high, rows)
    return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2).astype(np.float32)


def test_the_same_rows_cover_the_same_cells():
    cloud = np.random.default_rng(0).uniform(size=(1000, 2)).astype(np.float32)
    found = coverage(cloud, cloud)
    assert found.coverage == 1.0
    assert found.novelty == found.offline_novelty
    assert 0.0 < found.offline_novelty < 0.05  # 1 % in either dimension


def test_one_place_is_one_cell():
    offline = square(-1, 1)
    found = coverage(offline, np.zeros((len(offline), 2), np.float32))
    cell = 2 * REACH / CELLS  # in standard deviations of a uniform square, 1 / sqrt(3)
    across = 2 * np.sqrt(3) / cell
    assert 1 / (across + 2) ** 2 <= found.coverage <= 1 / across**2
    assert found.novelty == 0.0


def test_half_of_the_square_is_half_of_the_cells():
    half = square(-1, 1)
    half[:, 0] = (half[:, 0] - 1) / 2
    assert coverage(square(-1, 1), half).coverage == pytest.approx(0.5, abs=0.06)


def test_more_rows_do_not_cover_more():
    offline = square(-1, 1, 40)
    assert coverage(offline, np.repeat(offline, 3, axis=0)).coverage == pytest.approx(1.0, abs=0.02)
    assert coverage(np.repeat(offline, 3, axis=0), offline).coverage == pytest.approx(1.0, abs=0.02)


def test_what_lies_outside_is_new():
    visited = square(-1, 1)
    visited[:2500] += 10.0
    assert coverage(square(-1, 1), visited).novelty == pytest.approx(0.25 + 0.75 * 0.02, abs=0.03)


def test_scale_and_constant_dimensions_do_not_matter():
    rng = np.random.default_rng(0)
    offline, visited = rng.normal(size=(2, 500, 3)).astype(np.float32)
    offline[:, 2] = visited[:, 2] = 4.0
    factor, offset = np.float32([1000.0, 0.25, 2.0]), np.float32(5.0)
    plain = coverage(offline, visited)
    scaled = coverage(offline * factor + offset, visited * factor + offset)
    assert scaled.coverage == pytest.approx(plain.coverage, rel=0.05)
    assert scaled.novelty == pytest.approx(plain.novelty, abs=0.01)


def test_one_dimension_is_enough():
    line = np.linspace(-1, 1, 300, dtype=np.float32)[:, None]
    assert coverage(line, line[:150]).coverage == pytest.approx(0.5, abs=0.05)
