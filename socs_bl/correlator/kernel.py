"""Compiled loops: numba's `njit` with a type that mypy keeps, and what such loops need to reach raw memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba import types
from numba.extending import intrinsic

LoopT = TypeVar("LoopT", bound=Callable[..., object])


def kernel(function: LoopT) -> LoopT:
    """Compile `function` at its first call, without the interpreter lock; the machine code is kept on disk."""
    return cast(LoopT, numba.njit(cache=True, nogil=True)(function))


def _swap(typing_context: Any, word: Any) -> Any:
    return types.uint32(types.uint32), lambda context, builder, signature, values: builder.bswap(values[0])


# A 32-bit word in the other byte order; within compiled loops.
byte_swapped: Any = intrinsic(_swap)


def _pointer_to(element: Any) -> Any:
    """What casts an address to a pointer."""
    pointer: Any = types.CPointer(element)  # type: ignore[no-untyped-call]

    def cast_address(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.inttoptr(values[0], context.get_value_type(pointer))

        return pointer(types.uint64), generate

    return intrinsic(cast_address)


_word_pointer = _pointer_to(types.uint32)
_byte_pointer = _pointer_to(types.uint8)
_array: Any = numba.carray  # type: ignore[attr-defined]


@numba.njit(inline="always")
def words_at(address: Any, count: Any) -> Any:
    """Memory as uint32; within compiled loops. The memory must stay while the loop runs."""
    return _array(_word_pointer(address), (count,))


@numba.njit(inline="always")
def bytes_at(address: Any, count: Any) -> Any:
    """Memory as uint8; as `words_at`."""
    return _array(_byte_pointer(address), (count,))
