"""Returns within what a phase sees, and the draws of meta-batches."""

from __future__ import annotations

import numpy as np
import pytest

from smac_core.errors import StoreError
from smac_core.maml.data import Columns, MamlSampler, Rows, episode_columns


def episodes(lengths, *, terminated=(), seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    num = sum(lengths)
    ends = np.cumsum(lengths)
    over, dead = np.zeros(num, dtype=bool), np.zeros(num, dtype=bool)
    over[ends - 1] = True
    dead[ends[list(terminated)] - 1] = True
    return Rows(
        obs=rng.normal(size=(num, 2)).astype(np.float32),
        action=rng.uniform(-1, 1, (num, 2)).astype(np.float32),
        reward=rng.normal(size=num).astype(np.float32),
        next_obs=rng.normal(size=(num, 2)).astype(np.float32),
        terminated=dead,
        episode=np.repeat(np.arange(len(lengths)), lengths),
        t=np.concatenate([np.arange(length) for length in lengths]),
        ended=over,
    )


def test_returns_by_hand():
    rows = episodes([3, 2], terminated=[1])
    rows.reward[:] = [1, 2, 4, 8, 16]
    found = episode_columns(rows, 0.5, 10.0)
    np.testing.assert_allclose(found.discounted_return, [30, 40, 40, 160, 160])
    np.testing.assert_allclose(found.tail_discount, [0.125, 0.25, 0.5, 0, 0])
    np.testing.assert_array_equal(found.last_obs, rows.next_obs[[2, 2, 2, 4, 4]])
    np.testing.assert_array_equal(found.cut, np.zeros(5))
    released = episode_columns(rows, 0.5, bootstrap_terminal=True)
    np.testing.assert_allclose(released.tail_discount, [0.125, 0.25, 0.5, 0.25, 0.5])


@pytest.mark.parametrize("kept", [[1, 2, 3, 4, 5], [0, 1, 4, 5], [3, 4, 5, 6], [2], [0, 2, 3, 6]])
def test_returns_of_a_slice_use_what_it_holds_and_no_more(kept):
    rows = episodes([4, 3], terminated=[1])
    found = episode_columns(rows.take(np.array(kept)), 0.9)
    for place, row in enumerate(kept):
        piece = [row]
        while piece[-1] + 1 in kept and rows.episode[piece[-1] + 1] == rows.episode[row]:
            piece.append(piece[-1] + 1)
        last = piece[-1]
        expected = sum(0.9**k * float(rows.reward[at]) for k, at in enumerate(piece))
        assert found.discounted_return[place] == pytest.approx(expected, rel=1e-5)
        assert found.cut[place] == (not rows.ended[last])
        alive = 0.0 if rows.terminated[last] else 0.9 ** len(piece)
        assert found.tail_discount[place] == pytest.approx(alive)
        np.testing.assert_array_equal(found.last_obs[place], rows.next_obs[last])


def tasks(counts=(12, 9, 20)) -> list[Columns]:
    parts = []
    for number, count in enumerate(counts):
        columns = episode_columns(episodes([count]), 0.9)
        columns.obs[:, 0], columns.obs[:, 1] = number, np.arange(count)
        parts.append(columns)
    return parts


def test_a_batch_is_one_window_of_each_of_different_tasks():
    parts = tasks()
    sampler = MamlSampler(parts, parts, (2, 5, 7), seed=3)
    starts: dict[int, set[int]] = {0: set(), 1: set(), 2: set()}
    for update in range(300):
        inner, outer = sampler.draw(update)
        assert inner.obs.shape == (2, 5, 2)
        assert outer.discounted_return.shape == (2, 7)
        chosen = inner.obs[:, 0, 0].astype(int)
        assert len(set(chosen)) == 2
        np.testing.assert_array_equal(np.diff(inner.obs[:, :, 1], axis=1), 1)
        np.testing.assert_array_equal(outer.obs[:, :, 0], np.repeat(chosen[:, None], 7, axis=1))
        for task, start in zip(chosen, inner.obs[:, 0, 1], strict=True):
            starts[task].add(int(start))
    assert starts == {0: set(range(8)), 1: set(range(5)), 2: set(range(16))}


def test_a_draw_depends_on_seed_and_number_alone():
    parts = tasks()
    first = MamlSampler(parts, parts, (2, 5, 7), seed=3)
    first.draw(0)
    again = MamlSampler(parts, parts, (2, 5, 7), seed=3)
    other = MamlSampler(parts, parts, (2, 5, 7), seed=4)
    np.testing.assert_array_equal(first.draw(9)[1].obs, again.draw(9)[1].obs)
    assert not np.array_equal(first.draw(9)[1].obs, other.draw(9)[1].obs)


def test_too_little_data_is_told():
    parts = tasks()
    with pytest.raises(
        StoreError, match=r"expected 10 consecutive rows, found 9 rows; .*inner_rows"
    ):
        MamlSampler(parts, parts, (2, 10, 7), seed=0)
    with pytest.raises(StoreError, match=r"fewer tasks.*expected 4, found 3"):
        MamlSampler(parts, parts, (4, 5, 7), seed=0)
