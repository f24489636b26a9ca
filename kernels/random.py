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
  √(-2 ln u) · sin(2πv), computed in float32 to a relative 4e-7 by polynomials of our own: no
  library's logarithm decides on the bits, and loops over them become vector code.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import types

from kernels._jit import OUT_F4_1, OUT_I8_1, helper, jit
from kernels._philox import INCREMENTS, LOW, MULTIPLIERS, ROUNDS, philox_lanes
from kernels._simd import LANES, bits_of, fma_value, value_of

# A 32-bit word in 64 bits, where products fit.
Word: TypeAlias = np.uint64
Words: TypeAlias = tuple[np.uint64, np.uint64, np.uint64, np.uint64]
WordArray: TypeAlias = npt.NDArray[np.uint32]
Floats: TypeAlias = npt.NDArray[np.float32]

_M0, _M1 = (np.uint64(factor) for factor in MULTIPLIERS)
_W0, _W1 = (np.uint64(step) for step in INCREMENTS)
_LOW, _32 = np.uint64(LOW), np.uint64(32)

# Blocks that are drawn together; their words stay in the first-level cache.
CHUNK = 128

_F = np.float32
# Chebyshev fits: (ln(1 + g) - g + g²/2) / g³ for |g| <= 1/3, highest power first; then, for x² up
# to (π/4)², (sin(x)/x - 1) / x² and (cos(x) - 1 + x²/2) / x⁴.
LOG8, LOG7, LOG6 = _F(0.11619528), _F(-0.12429866), _F(0.10851657)
LOG5, LOG4, LOG3 = _F(-0.12287237), _F(0.14296292), _F(-0.16673398)
LOG2, LOG1, LOG0 = _F(0.19999851), _F(-0.24999943), _F(0.33333334)
SIN2, SIN1, SIN0 = _F(-0.00019588), _F(0.00833271), _F(-0.16666664)
COS2, COS1, COS0 = _F(2.4702114e-05), _F(-1.3889405e-03), _F(4.1666683e-02)
_LN2, _TURN, _UNIT = _F(math.log(2.0)), _F(2.0 * math.pi / 2.0**32), _F(2.0**-32)
_ONE, _ZERO, _HALF, _TWO = _F(1.0), _F(0.0), _F(0.5), _F(2.0)
_TWO_THIRDS = np.int32(0x3F2AAAAB)  # the float32's bits: mantissas are cut at [2/3, 4/3)
_NEAR_ONE = np.uint32(0xAAAAAAAA)  # words above it give u > 2/3
_MANTISSA, _WORD_BITS = np.int32(23), np.int32(32)
_TOP, _QUARTER, _EIGHTH = np.uint32(30), np.uint32(1 << 30), np.uint32(1 << 29)
_ODD, _SIGN = np.uint32(1), np.uint32(2)


@helper
def _philox(c0: Word, c1: Word, c2: Word, c3: Word, k0: Word, k1: Word) -> Words:
    """Mix one counter with one key."""
    for _ in range(ROUNDS):
        product0, product1 = _M0 * c0, _M1 * c2
        c0, c2 = (product1 >> _32) ^ c1 ^ k0, (product0 >> _32) ^ c3 ^ k1
        c1, c3 = product1 & _LOW, product0 & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
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
        np.uint64(c0), np.uint64(c1), np.uint64(c2), np.uint64(c3), np.uint64(k0), np.uint64(k1)
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
    low, high = np.uint64(key) & _LOW, np.uint64(key) >> _32
    counters = np.uint64(index) & _LOW, np.uint64(purpose) & _LOW
    return _philox(*counters, wide & _LOW, wide >> _32, low, high)


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


@helper
def fill_chunk(key: np.uint64, counter: int, purpose: int, first: int, out: WordArray) -> None:
    """Compute blocks in a row, for a tenth of what they cost one by one.

    Args:
        key: Key of the generator.
        counter: Such as the number of the update.
        purpose: Tells the streams of one (key, counter) apart.
        first: Which block comes first; all of them are below 2^32.
        out: ``[4, n]`` word by block, written; n is a multiple of 16.
    """
    wide = np.uint64(counter)
    words = np.uint64(purpose) & _LOW, wide & _LOW, wide >> _32, key & _LOW, key >> _32
    for at in range(0, out.shape[1], LANES):
        philox_lanes(np.uint64(first + at), *words, out, at)


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


@helper
def _radius(word: np.uint32) -> np.float32:
    """Compute √(-2 ln u) for u = (word + 1) / 2^32."""
    # u = 2^exponent · (1 + g). Near 1 the difference g is taken before it is rounded.
    bits = bits_of(_F(word) + _ONE)
    exponent = np.int32((bits - _TWO_THIRDS) >> _MANTISSA)
    g = value_of(np.int32(bits - (exponent << _MANTISSA))) - _ONE
    power = _F(np.int32(exponent - _WORD_BITS))
    if word > _NEAR_ONE:
        g, power = -(_F(np.uint32(~word)) * _UNIT), _ZERO
    p = fma_value(fma_value(LOG8, g, LOG7), g, LOG6)
    p = fma_value(fma_value(p, g, LOG5), g, LOG4)
    p = fma_value(fma_value(p, g, LOG3), g, LOG2)
    p = fma_value(fma_value(p, g, LOG1), g, LOG0)
    log = fma_value(p * g, g * g, -_HALF * (g * g)) + g
    return _F(math.sqrt(-_TWO * fma_value(power, _LN2, log)))


@helper
def _turn(word: np.uint32) -> tuple[np.float32, np.float32]:
    """Compute cos(2πv) and sin(2πv) for v = word / 2^32."""
    # The nearest quarter turn is taken off as an integer, so that the rest loses nothing.
    quarter = np.uint32(np.uint32(word + _EIGHTH) >> _TOP)
    x = _F(np.int32(np.uint32(word - np.uint32(quarter << _TOP)))) * _TURN
    xx = x * x
    sine = fma_value(fma_value(fma_value(SIN2, xx, SIN1), xx, SIN0) * xx, x, x)
    cosine = fma_value(fma_value(COS2, xx, COS1), xx, COS0)
    cosine = fma_value(cosine * xx, xx, fma_value(-_HALF, xx, _ONE))
    odd = (quarter & _ODD) != 0
    minus_a = np.int32(np.uint32((quarter + _ODD) & _SIGN) << _TOP)
    minus_b = np.int32(np.uint32(quarter & _SIGN) << _TOP)
    a, b = sine if odd else cosine, cosine if odd else sine
    return value_of(bits_of(a) ^ minus_a), value_of(bits_of(b) ^ minus_b)


@helper
def _fill_pairs(first: WordArray, second: WordArray, out_even: Floats, out_odd: Floats) -> None:
    """Turn pairs of words into pairs of normals."""
    for i in range(first.size):
        radius = _radius(first[i])
        cosine, sine = _turn(second[i])
        out_even[i] = radius * cosine
        out_odd[i] = radius * sine


@jit(types.void(types.uint64, types.int64, types.int64, OUT_F4_1))
def fill_normal(key: int, counter: int, purpose: int, out: npt.NDArray[np.float32]) -> None:
    """Draw standard normal numbers.

    Args:
        key: Key of the generator, 64 bits.
        counter: Such as the number of the episode or step.
        purpose: Tells the streams of one (key, counter) apart.
        out: ``[N]``, written; value j depends on nothing but (key, counter, purpose, j).
    """
    words, normals = np.empty((4, CHUNK), np.uint32), np.empty((4, CHUNK), np.float32)
    n0, n1, n2, n3 = normals[0], normals[1], normals[2], normals[3]
    for start in range(0, out.size, 4 * CHUNK):
        fill_chunk(np.uint64(key), counter, purpose, start // 4, words)
        _fill_pairs(words[0], words[1], n0, n1)
        _fill_pairs(words[2], words[3], n2, n3)
        whole = min(out.size - start, 4 * CHUNK) // 4
        for i in range(whole):
            at = start + 4 * i
            out[at], out[at + 1], out[at + 2], out[at + 3] = n0[i], n1[i], n2[i], n3[i]
        for at in range(start + 4 * whole, min(out.size, start + 4 * CHUNK)):
            out[at] = normals[at % 4, whole]
