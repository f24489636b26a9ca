"""The inner loop of a dense layer, written in LLVM's vectors: sums stay in registers.

A tile is R rows by V vectors of sixteen columns. Its shape decides on speed alone: every output is
one chain of fused multiply-adds over the inputs in order, started from the bias.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types

from kernels._jit import intrinsic
from kernels._simd import LANES, VECTOR, fma_of, load_masked, mask_of, relu_of, splat

_INT = ir.IntType(64)
# Rows of a tile of 1, 2, 3, 4 vectors. With 32 registers of 512 bits 24 sums leave room for the
# weights; with 16 of 256 bits 6 sums take 12. Two multiply-add units of latency 4 want 8 at work.
_WIDE = bool(llvmlite.binding.get_host_cpu_features().get("avx512f"))
ROWS = (8, 8, 8, 6) if _WIDE else (6, 3, 2, 1)
VECTORS = 4 if _WIDE else 2  # of the tile that most columns go through


class _Builder:
    """Emits one tile.

    Args:
        builder: Of LLVM code.
        pointers: To the first elements of params, x and y.
        rows: R.
        vectors: V.
        left: How many columns of the last vector exist; None: all.
    """

    def __init__(
        self, builder: Any, pointers: tuple[Any, Any, Any], rows: int, vectors: int, left: Any
    ) -> None:
        self.builder = builder
        self.params, self.x, self.y = pointers
        self.places = list(product(range(rows), range(vectors)))
        self.rows, self.vectors = rows, vectors
        self.mask = None if left is None else mask_of(builder, left)

    def vector_at(self, base: Any, index: Any) -> Any:
        """Address a vector from an element on."""
        return self.builder.bitcast(self.builder.gep(base, [index]), VECTOR.as_pointer())

    def load_params(self, index: Any) -> list[Any]:
        """Read the tile's columns of a row of weights, or of the bias."""
        found = []
        for v in range(self.vectors):
            place = self.vector_at(self.params, self.builder.add(index, _INT(v * LANES)))
            whole = self.mask is None or v < self.vectors - 1
            found.append(
                self.builder.load(place, align=4)
                if whole
                else load_masked(self.builder, place, self.mask)
            )
        return found

    def multiply(self, weight: Any, bias: Any, ins: Any, stride: Any, row_at: list[Any]) -> Any:
        """Emit the loop over the inputs and return the sums by place."""
        builder = self.builder
        start = self.load_params(bias)
        before = builder.block
        loop, after = builder.append_basic_block("inputs"), builder.append_basic_block("sums")
        builder.branch(loop)
        builder.position_at_end(loop)
        k, at = builder.phi(_INT), builder.phi(_INT)
        sums = {place: builder.phi(VECTOR) for place in self.places}
        weights = self.load_params(at)
        inputs = [
            splat(builder, builder.load(builder.gep(self.x, [builder.add(r, k)])), VECTOR)
            for r in row_at
        ]
        new = {(i, v): fma_of(builder, inputs[i], weights[v], sums[i, v]) for i, v in self.places}
        next_k = builder.add(k, _INT(1))
        for phi, first, then in (
            (k, _INT(0), next_k),
            (at, weight, builder.add(at, stride)),
            *((sums[i, v], start[v], new[i, v]) for i, v in self.places),
        ):
            phi.add_incoming(first, before)
            phi.add_incoming(then, loop)
        builder.cbranch(builder.icmp_signed("<", next_k, ins), loop, after)
        builder.position_at_end(after)
        return new


def make_tile(rows: int, vectors: int, *, masked: bool) -> Any:
    """Make a tile that kernels can call.

    Args:
        rows: R.
        vectors: V.
        masked: Whether the last vector may have fewer than sixteen columns.

    Returns:
        ``tile(params, weight, bias, ins, outs, x, y, column, row, last, width, rectify)``, which
        fills rows ``row`` … of the panel y from those of x, and the columns from ``column`` on;
        weight and bias are the offsets of the layer's, rows beyond ``last`` repeat it, at least one
        input. All lanes of the last vector are written.
    """

    @intrinsic
    def tile(
        typingctx: Any, params: Any, weight: Any, bias: Any, ins: Any, outs: Any, x: Any, y: Any,
        column: Any, row: Any, last: Any, width: Any, rectify: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> None:
            arrays = [
                context.make_array(signature.args[n])(context, builder, args[n]) for n in (0, 5, 6)
            ]
            _, weight, bias, ins, outs, _, _, column, row, last, width, rectify = args
            left = None
            if masked:
                left = builder.sub(builder.sub(outs, column), _INT((vectors - 1) * LANES))
            emit = _Builder(builder, tuple(a.data for a in arrays), rows, vectors, left)
            row_at = []
            for i in range(rows):
                own = builder.add(row, _INT(i))
                inside = builder.icmp_signed("<", own, last)
                row_at.append(builder.mul(builder.select(inside, own, last), width))
            sums = emit.multiply(
                builder.add(weight, column), builder.add(bias, column), ins, outs, row_at
            )
            for i, v in emit.places:
                value = builder.select(rectify, relu_of(builder, sums[i, v]), sums[i, v])
                at = builder.add(builder.add(row_at[i], column), _INT(v * LANES))
                builder.store(value, emit.vector_at(emit.y, at), align=4)

        integer = types.int64
        signature = types.void(
            params, integer, integer, integer, integer, x, y, integer, integer, integer, integer,
            types.boolean,
        )  # fmt: skip
        return signature, codegen

    return tile
