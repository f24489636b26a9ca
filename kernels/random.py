"""Counter-based random numbers: Philox4x32-10, one stream a (key, counter, purpose).

A block of four 32-bit words depends on nothing but its place, so that numbers do not depend on
threads, on batch splits, or on what was drawn before. The layout, which a twin on another device
must follow:

- key = (low 32 bits of ``key``, high 32 bits of ``key``);
- counter = (block, purpose, low 32 bits of ``counter``, high 32 bits of ``counter``);
- number j of a stream takes word j mod 4 of block j div 4;
- an index below ``count`` is (word · count) >> 32, in 64-bit arithmetic;
- normals come in pairs from words (0, 1) and (2, 3) of a block: with u = (first + 1) / 2^32 in
  (0, 1] and v = second / 2^32 in [0, 1), the even one is √(-2 ln u) · cos(2πv), the odd one
  √(-2 ln u) · sin(2πv), computed in float64 and rounded to float32.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import types

from kernels._jit import OUT_F4_1, OUT_I8_1, helper, jit

Word: TypeAlias = np.uint32
Words: TypeAlias = tuple[np.uint32, np.uint32, np.uint32, np.uint32]

# Multipliers and Weyl increments of Philox4x32 (Salmon et al., section 3.2).
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_UNIT = 2.0**-32


@helper
def _philox(c0: Word, c1: Word, c2: Word, c3: Word, k0: Word, k1: Word) -> Words:
    """Mix one counter with one key."""
    for _ in range(_ROUNDS):
        product0 = _M0 * np.uint64(c0)
        product1 = _M1 * np.uint64(c2)
        c0 = np.uint32((product1 >> _32) ^ np.uint64(c1) ^ np.uint64(k0))
        c2 = np.uint32((product0 >> _32) ^ np.uint64(c3) ^ np.uint64(k1))
        c1 = np.uint32(product1 & _LOW)
        c3 = np.uint32(product0 & _LOW)
        k0 = np.uint32(k0 + _W0)
        k1 = np.uint32(k1 + _W1)
    return c0, c1, c2, c3


_WORD = types.uint32


@jit(types.UniTuple(_WORD, 4)(_WORD, _WORD, _WORD, _WORD, _WORD, _WORD))  # type: ignore[no-untyped-call]
def philox4x32(c0: int, c1: int, c2: int, c3: int, k0: int, k1: int) -> Words:
    """Compute one block of Philox4x32-10.

    Args:
        c0: First word of the counter.
        c1: Second word of the counter.
        c2: Third word of the counter.
        c3: Fourth word of the counter.
        k0: First word of the key.
        k1: Second word of the key.

    Returns:
        Four uniform 32-bit words.
    """
    return _philox(
        np.uint32(c0), np.uint32(c1), np.uint32(c2), np.uint32(c3), np.uint32(k0), np.uint32(k1)
    )


@helper
def block(key: np.uint64, counter: int, purpose: int, index: int) -> Words:
    """Compute one block of a stream.

    Args:
        key: Key of the generator.
        counter: Such as the number of the update.
        purpose: Tells the streams of one (key, counter) apart.
        index: Which block.

    Returns:
        Four uniform 32-bit words.
    """
    wide = np.uint64(counter)
    return _philox(
        np.uint32(index),
        np.uint32(purpose),
        np.uint32(wide & _LOW),
        np.uint32(wide >> _32),
        np.uint32(key & _LOW),
        np.uint32(key >> _32),
    )


@helper
def index_below(word: Word, count: int) -> int:
    """Map a word to 0 … count - 1 without a division.

    Args:
        word: Uniform 32-bit word.
        count: Above 0 and below 2^32.

    Returns:
        The index.
    """
    return int((np.uint64(word) * np.uint64(count)) >> _32)


@jit(types.void(types.uint64, types.int64, types.int64, types.int64, OUT_I8_1))
def fill_uniform_index(
    key: int, counter: int, purpose: int, count: int, out: npt.NDArray[np.int64]
) -> None:
    """Draw indices uniformly, with replacement.

    Args:
        key: Key of the generator, 64 bits.
        counter: Such as the number of the update.
        purpose: Tells the streams of one (key, counter) apart.
        count: Indices lie in 0 … count - 1; below 2^32.
        out: ``[N]``, written; value j depends on nothing but (key, counter, purpose, count, j).

    Raises:
        ValueError: count is out of range.
    """
    if count < 1 or count > 0xFFFFFFFF:
        raise ValueError("count: expected 1 … 2^32 - 1")
    for start in range(0, out.size, 4):
        words = block(np.uint64(key), counter, purpose, start // 4)
        for j in range(min(4, out.size - start)):
            out[start + j] = index_below(words[j], count)


@jit(types.void(types.uint64, types.int64, types.int64, OUT_F4_1))
def fill_normal(key: int, counter: int, purpose: int, out: npt.NDArray[np.float32]) -> None:
    """Draw standard normal numbers.

    Args:
        key: Key of the generator, 64 bits.
        counter: Such as the number of the episode or step.
        purpose: Tells the streams of one (key, counter) apart.
        out: ``[N]``, written; value j depends on nothing but (key, counter, purpose, j).
    """
    for start in range(0, out.size, 4):
        words = block(np.uint64(key), counter, purpose, start // 4)
        for pair in range(0, min(4, out.size - start), 2):
            u, v = (words[pair] + 1.0) * _UNIT, words[pair + 1] * _UNIT
            radius = math.sqrt(-2.0 * math.log(u))
            out[start + pair] = radius * math.cos(2.0 * math.pi * v)
            if start + pair + 1 < out.size:
                out[start + pair + 1] = radius * math.sin(2.0 * math.pi * v)
