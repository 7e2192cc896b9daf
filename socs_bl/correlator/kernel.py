"""Compiled loops: numba's `njit` with a type that mypy keeps, and what such loops need to reach raw memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba import types
from numba.extending import intrinsic

LoopT = TypeVar("LoopT", bound=Callable[..., object])


_njit: Any = numba.njit


def kernel(function: LoopT) -> LoopT:
    """Compile `function` at its first call, without the interpreter lock; the machine code is kept on disk.

    The function allocates nothing; without numba's runtime (NRT) it does not count references to its arrays either,
    which costs more than a whole frame does.
    """
    return cast(LoopT, _njit(cache=True, nogil=True, error_model="numpy", _nrt=False)(function))


def inner(function: LoopT) -> LoopT:
    """For what a compiled loop calls for every frame: becomes part of the loop."""
    return cast(LoopT, _njit(forceinline=True, error_model="numpy", _nrt=False)(function))


def _pointer(context: Any, builder: Any, address: Any, element: Any) -> Any:
    return builder.inttoptr(address, context.get_value_type(types.CPointer(element)))  # type: ignore[no-untyped-call]


def _reading(swapped: bool) -> Any:
    def read_word(typing_context: Any, address: Any, number: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            words = _pointer(context, builder, values[0], types.uint32)
            word = builder.load(builder.gep(words, [values[1]]))
            return builder.bswap(word) if swapped else word

        return types.uint32(types.uint64, types.int64), generate

    return intrinsic(read_word)


def _writing(swapped: bool) -> Any:
    def write_word(typing_context: Any, address: Any, number: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            word = builder.bswap(values[2]) if swapped else values[2]
            builder.store(word, builder.gep(_pointer(context, builder, values[0], types.uint32), [values[1]]))
            return context.get_dummy_value()

        return types.void(types.uint64, types.int64, types.uint32), generate

    return intrinsic(write_word)


def _put_byte(typing_context: Any, address: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.store(values[1], _pointer(context, builder, values[0], types.uint8))
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint8), generate


# Within compiled loops, on memory by its address, which must stay while the loop runs: word `n` of 32 bits there,
# big-endian as on a network (`sent`) or little-endian (`kept`), and one byte. This package runs on little-endian machines.
sent_word, kept_word = _reading(swapped=True), _reading(swapped=False)
put_sent_word, put_word = _writing(swapped=True), _writing(swapped=False)
put_byte: Any = intrinsic(_put_byte)
