"""Philox4x32-10 for sixteen blocks at once, in LLVM's vectors.

Loops over the scalar code became vector code or not by luck; this does not depend on it.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from kernels._jit import intrinsic
from kernels._simd import LANES, splat

# Multipliers and Weyl increments of Philox4x32 (Salmon et al., section 3.2).
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
INCREMENTS = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10
LOW = 0xFFFFFFFF

_INT = ir.IntType(64)
_WIDE = ir.VectorType(_INT, LANES)  # a 32-bit word in each 64-bit lane: products fit
_WORDS = ir.VectorType(ir.IntType(32), LANES)


def _all(value: int) -> Any:
    """Make a vector of one constant."""
    return ir.Constant(_WIDE, [value] * LANES)


def _rounds(builder: Any, counter: list[Any], key: list[Any]) -> list[Any]:
    """Mix a counter, four vectors, with a key, two scalars."""
    c0, c1, c2, c3 = counter
    for _ in range(ROUNDS):
        products = [
            builder.mul(c, _all(factor)) for c, factor in zip((c0, c2), MULTIPLIERS, strict=True)
        ]
        high0, high1 = (builder.lshr(product, _all(32)) for product in products)
        key0, key1 = (splat(builder, word, _WIDE) for word in key)
        c0 = builder.xor(builder.xor(high1, c1), key0)
        c2 = builder.xor(builder.xor(high0, c3), key1)
        c3, c1 = (builder.and_(product, _all(LOW)) for product in products)
        key = [
            builder.and_(builder.add(word, _INT(step)), _INT(LOW))
            for word, step in zip(key, INCREMENTS, strict=True)
        ]
    return [c0, c1, c2, c3]


@intrinsic
def philox_lanes(
    typingctx: Any, c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any, out: Any, at: Any
) -> Any:
    """Write the words of blocks c0 … c0 + 15 into columns ``at`` … of ``out``, ``[4, n]`` uint32.

    All words of counter and key are uint64 below 2^32.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = ir.Constant(_WIDE, list(range(LANES)))
        first = builder.add(splat(builder, args[0], _WIDE), lanes)
        counter = [builder.and_(first, _all(LOW))]
        counter += [splat(builder, word, _WIDE) for word in args[1:4]]
        array = context.make_array(signature.args[6])(context, builder, args[6])
        width = builder.extract_value(array.shape, 1)
        for row, words in enumerate(_rounds(builder, counter, list(args[4:6]))):
            index = builder.add(builder.mul(width, _INT(row)), args[7])
            pointer = builder.bitcast(builder.gep(array.data, [index]), _WORDS.as_pointer())
            builder.store(builder.trunc(words, _WORDS), pointer, align=4)

    words = [types.uint64] * 6
    return types.void(*words, out, types.int64), codegen
