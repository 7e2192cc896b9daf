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
    return cast(LoopT, _njit(cache=True, nogil=True, _nrt=False)(function))


def inner(function: LoopT) -> LoopT:
    """For what a compiled loop calls for every frame: becomes part of the loop."""
    return cast(LoopT, _njit(forceinline=True, _nrt=False)(function))


def _pointer(context: Any, builder: Any, address: Any, element: Any) -> Any:
    return builder.inttoptr(address, context.get_value_type(types.CPointer(element)))  # type: ignore[no-untyped-call]


def _sent_word(typing_context: Any, address: Any, number: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        words = _pointer(context, builder, values[0], types.uint32)
        return builder.bswap(builder.load(builder.gep(words, [values[1]])))

    return types.uint32(types.uint64, types.int64), generate


def _put_word(typing_context: Any, address: Any, number: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.store(values[2], builder.gep(_pointer(context, builder, values[0], types.uint32), [values[1]]))
        return context.get_dummy_value()

    return types.void(types.uint64, types.int64, types.uint32), generate


def _put_byte(typing_context: Any, address: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.store(values[1], _pointer(context, builder, values[0], types.uint8))
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint8), generate


# Within compiled loops, on memory by its address, which must stay while the loop runs:
# sent_word(address, n) is the n-th 32-bit word there, big-endian as on a network, as a number;
# put_word(address, n, value) stores one in native order; put_byte(address, value) stores a byte.
sent_word: Any = intrinsic(_sent_word)
put_word: Any = intrinsic(_put_word)
put_byte: Any = intrinsic(_put_byte)
