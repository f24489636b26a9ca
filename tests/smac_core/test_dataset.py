"""The dataset in memory: slices in collection order, packed rows, refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from smac_core.config import SliceConfig
from smac_core.dataset import (
    Transitions,
    build_dataset,
    context_features,
    group_rows,
    join,
    slice_rows,
    take_rows,
)
from smac_core.errors import StoreError

INIT, PRIOR, POSTERIOR = 0, 1, 2


def make_transitions(num: int = 12, seed: int = 0) -> Transitions:
    """Tasks 4 and 7 alternate; sources come as init, init, prior, prior, posterior, …"""
    rng = np.random.default_rng(seed)
    return Transitions(
        obs=rng.normal(size=(num, 2)).astype(np.float32),
        action=rng.uniform(-1, 1, (num, 1)).astype(np.float32),
        reward=rng.normal(size=num).astype(np.float32),
        next_obs=rng.normal(size=(num, 2)).astype(np.float32),
        terminated=np.zeros(num, dtype=np.float32),
        task_id=np.where(np.arange(num) % 2 == 0, 4, 7),
        source=(np.arange(num) // 2) % 3,
    )


@pytest.mark.parametrize(
    ("selection", "codes", "expected"),
    [
        (SliceConfig(), (), [1, 3, 5, 7, 9, 11]),
        (SliceConfig("first", 2), (), [1, 3]),
        (SliceConfig("last", 2), (), [9, 11]),
        (SliceConfig("first", 99), (), [1, 3, 5, 7, 9, 11]),
        (SliceConfig("last", 99), (), [1, 3, 5, 7, 9, 11]),
        (SliceConfig(), (INIT,), [1, 7]),
        (SliceConfig(), (INIT, PRIOR), [1, 3, 7, 9]),
        # The sources are chosen first, then the slice is taken of what is left.
        (SliceConfig("last", 1), (INIT, PRIOR), [9]),
        (SliceConfig("first", 1), (POSTERIOR,), [5]),
    ],
)
def test_slices_follow_the_order_of_collection(
    selection: SliceConfig, codes: tuple[int, ...], expected: list[int]
) -> None:
    rows = slice_rows(make_transitions(), 7, selection, codes)
    assert rows.dtype == np.int64
    assert rows.tolist() == expected


def test_a_slice_of_no_rows_is_empty() -> None:
    for take in ("first", "last"):
        assert len(slice_rows(make_transitions(), 7, SliceConfig(take, 0), ())) == 0
    assert len(slice_rows(make_transitions(), 5, SliceConfig(), ())) == 0


def test_context_features_lie_in_the_order_of_the_paper() -> None:
    t = make_transitions(3)
    short = context_features(t.obs, t.action, t.reward, None)
    np.testing.assert_array_equal(short, np.column_stack([t.obs, t.action, t.reward]))
    long = context_features(t.obs, t.action, t.reward, t.next_obs)
    np.testing.assert_array_equal(long[:, :4], short)
    np.testing.assert_array_equal(long[:, 4:], t.next_obs)
    assert long.dtype == np.float32
    assert long.flags.c_contiguous


def test_rows_are_packed_by_slot() -> None:
    rows = group_rows([np.array([5, 1]), np.array([], dtype=np.int64), np.array([2])])
    assert rows.starts.tolist() == [0, 2, 2, 3]
    assert rows.counts.tolist() == [2, 0, 1]
    assert rows.of(0).tolist() == [5, 1]
    assert rows.of(2).tolist() == [2]
    assert group_rows([]).starts.tolist() == [0]


def test_stores_are_joined_oldest_first() -> None:
    one, two = make_transitions(4, seed=1), make_transitions(6, seed=2)
    both = join([one, two])
    assert len(both) == 10
    for field in dataclasses.fields(Transitions):
        expected = np.concatenate([getattr(one, field.name), getattr(two, field.name)])
        np.testing.assert_array_equal(getattr(both, field.name), expected)
    assert join([one]) is one


def test_the_dataset_keeps_replay_and_context_apart() -> None:
    t = make_transitions()
    data = build_dataset(
        t, [4, 7], [np.array([0, 2]), np.array([1])], [np.array([4]), np.array([3, 5, 7])]
    )
    assert data.task_ids == (4, 7)
    assert data.replay.of(0).tolist() == [0, 2]
    assert data.context.of(1).tolist() == [3, 5, 7]
    assert data.features.shape == (12, 4)
    wide = build_dataset(t, [4], [np.array([0])], [np.array([0])], context_next_obs=True)
    assert wide.features.shape == (12, 6)


def test_a_task_without_rows_is_named() -> None:
    some, none = np.array([0]), np.array([], dtype=np.int64)
    with pytest.raises(StoreError, match=r"no replay transitions for 1 task\(s\): in task 7"):
        build_dataset(make_transitions(), [4, 7], [some, none], [some, some])
    with pytest.raises(StoreError, match=r"no context transitions for 2 task\(s\): in task 4"):
        build_dataset(make_transitions(), [4, 7], [some, some], [none, none])


@pytest.mark.parametrize("field", ["obs", "action", "reward", "next_obs"])
def test_numbers_that_are_not_finite_are_refused_where_they_are_used(field: str) -> None:
    t = make_transitions()
    getattr(t, field)[5] = np.nan
    rows = [np.array([0, 2]), np.array([1, 3])]
    build_dataset(t, [4, 7], rows, rows)
    with pytest.raises(StoreError, match=f"{field} is not finite"):
        build_dataset(t, [4, 7], rows, [rows[0], np.array([5])])


@pytest.mark.parametrize("first", [SliceConfig(), SliceConfig("first", 3), SliceConfig("last", 3)])
@pytest.mark.parametrize("second", [SliceConfig("last", 2), SliceConfig("first", 1)])
def test_slices_take_the_same_rows_of_what_was_kept(
    first: SliceConfig, second: SliceConfig
) -> None:
    """A stage keeps the rows of its slices alone, then takes the slices of what it kept."""
    t = make_transitions(40)
    wanted = [(task, s, codes) for task in (4, 7) for s, codes in ((first, ()), (second, (PRIOR,)))]
    rows = [slice_rows(t, task, selection, codes) for task, selection, codes in wanted]
    kept = take_rows(t, np.unique(np.concatenate(rows)))
    for before, (task, selection, codes) in zip(rows, wanted, strict=True):
        after = slice_rows(kept, task, selection, codes)
        for name in Transitions.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(kept, name)[after], getattr(t, name)[before])
