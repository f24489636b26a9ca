"""Philox against its published answers, and what the streams promise."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.random import _radius, _turn, fill_normal, fill_uniform_index, philox4x32

# Known answers of Random123 1.14, kat_vectors, "philox4x32 10".
KNOWN = [
    ((0,) * 6, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 6, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
KEY = 0xFEDCBA9876543210


def words(key: int, counter: int, purpose: int, num: int) -> np.ndarray:
    """The words of a stream, laid out as the module documents it."""
    low = 0xFFFFFFFF
    blocks = [
        philox4x32(j, purpose, counter & low, counter >> 32, key & low, key >> 32)
        for j in range((num + 3) // 4)
    ]
    return np.array(blocks, dtype=np.uint64).reshape(-1)[:num]


@pytest.mark.parametrize(("arguments", "expected"), KNOWN)
def test_known_answers(arguments, expected):
    assert philox4x32(*arguments) == expected


@given(
    key=st.integers(0, 2**64 - 1),
    counter=st.integers(0, 2**40),
    purpose=st.integers(0, 9),
    num=st.integers(0, 23),
)
@settings(max_examples=60, deadline=None)
def test_normals_follow_the_documented_layout(key, counter, purpose, num):
    out = np.full(num, np.nan, dtype=np.float32)
    fill_normal(key, counter, purpose, out)
    word = words(key, counter, purpose, num + num % 2).astype(np.float64)
    u, v = (word[0::2] + 1) / 2**32, word[1::2] / 2**32
    radius = np.sqrt(-2 * np.log(u))
    pairs = np.stack([radius * np.cos(2 * np.pi * v), radius * np.sin(2 * np.pi * v)], axis=1)
    np.testing.assert_allclose(out, pairs.reshape(-1)[:num], rtol=1e-6, atol=1e-7)


EDGES = [0, 1, 2**24, 2**29 - 1, 2**29, 2**30, 2**31 - 1, 2**31, 0xAAAAAAAA, 0xAAAAAAAB]
EDGES += [2**32 - 2**24, 2**32 - 2**8, 2**32 - 2, 2**32 - 1]


@pytest.mark.parametrize("word", EDGES)
def test_polynomials_hold_at_the_edges_of_their_ranges(word):
    radius = float(_radius(np.uint32(word)))
    assert radius == pytest.approx(math.sqrt(-2 * math.log((word + 1) / 2**32)), rel=4e-7)
    turns = [float(x) for x in _turn(np.uint32(word))]
    angle = 2 * math.pi * word / 2**32
    assert turns == pytest.approx([math.cos(angle), math.sin(angle)], rel=4e-7, abs=1e-15)


def test_long_streams_follow_the_layout_across_chunks():
    num = 1000
    out = np.empty(num, dtype=np.float32)
    fill_normal(KEY, 3, 4, out)
    u, v = words(KEY, 3, 4, num).astype(np.float64).reshape(-1, 2).T
    radius = np.sqrt(-2 * np.log((u + 1) / 2**32))
    np.testing.assert_allclose(out[0::2], radius * np.cos(2 * np.pi * v / 2**32), rtol=1e-6)
    np.testing.assert_allclose(out[1::2], radius * np.sin(2 * np.pi * v / 2**32), rtol=1e-6)


@pytest.mark.parametrize("num", [1, 2, 3, 5, 100])
def test_a_shorter_stream_is_the_start_of_a_longer_one(num):
    long, short = np.empty(101, np.float32), np.empty(num, np.float32)
    fill_normal(KEY, 7, 1, long)
    fill_normal(KEY, 7, 1, short)
    np.testing.assert_array_equal(short, long[:num])


def test_normals_are_normal():
    out = np.empty(200_000, dtype=np.float32)
    fill_normal(KEY, 0, 0, out)
    assert abs(out.mean()) < 0.01
    assert abs(out.std() - 1) < 0.01
    assert abs((np.abs(out) < 1).mean() - 0.6827) < 0.005
    assert abs(np.corrcoef(out[:-1], out[1:])[0, 1]) < 0.01


def test_key_counter_and_purpose_each_select_a_stream():
    streams = []
    for key, counter, purpose in [(1, 1, 1), (1 + 2**32, 1, 1), (1, 1 + 2**32, 1), (1, 1, 2)]:
        out = np.empty(8, dtype=np.float32)
        fill_normal(key, counter, purpose, out)
        streams.append(tuple(out))
    assert len(set(streams)) == len(streams)


@given(count=st.integers(1, 2**32 - 1), num=st.integers(0, 13))
@settings(max_examples=60, deadline=None)
def test_indices(count, num):
    out = np.empty(num, dtype=np.int64)
    fill_uniform_index(KEY, 3, 2, count, out)
    expected = [int(w) * count >> 32 for w in words(KEY, 3, 2, num)]
    assert out.tolist() == expected
    assert all(0 <= i < count for i in expected)


def test_indices_are_uniform():
    out = np.empty(60_000, dtype=np.int64)
    fill_uniform_index(KEY, 0, 0, 6, out)
    assert np.abs(np.bincount(out, minlength=6) - 10_000).max() < 500


@pytest.mark.parametrize("count", [0, -1, 2**32])
def test_count_out_of_range(count):
    with pytest.raises(ValueError, match="count"):
        fill_uniform_index(KEY, 0, 0, count, np.empty(1, dtype=np.int64))


def test_wrong_dtype():
    with pytest.raises(TypeError):
        fill_normal(KEY, 0, 0, np.empty(4, dtype=np.float64))
