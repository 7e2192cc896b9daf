"""Compiled loops: numba's `njit` with a type that mypy keeps, and what such loops need to reach raw memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LINE_WORDS = 16
LoopT = TypeVar("LoopT", bound=Callable[..., object])


_njit: Any = numba.njit
config: Any = numba.config


# What compiled loops take constants from, or are made with. numba itself looks at the file of the loop alone.
_SOURCES = ("kernel", "wire", "plan", "lookup", "counters", "slots", "dumps")


def kernel(function: LoopT) -> LoopT:
    """Compile `function` at its first call, without the interpreter lock; the machine code is kept on disk.

    What is kept is used again as long as neither the loop nor the layouts it was compiled for have changed. The function
    allocates nothing; without numba's runtime (NRT) it does not count references to its arrays either, which costs more
    than a whole frame does.
    """
    before, config.CACHE_DIR = config.CACHE_DIR, str(_cache_directory())
    try:
        return cast(LoopT, _njit(cache=True, nogil=True, error_model="numpy", _nrt=False)(function))
    finally:
        config.CACHE_DIR = before


def _cache_directory() -> Path:
    folder, digest = Path(__file__).parent, hashlib.blake2b(digest_size=8)
    for name in _SOURCES:
        digest.update((folder / f"{name}.py").read_bytes())
    return Path(config.CACHE_DIR or folder / "__pycache__") / f"loops-{digest.hexdigest()}"


def inner(function: LoopT) -> LoopT:
    """For what a compiled loop calls for every frame: becomes part of the loop."""
    return cast(LoopT, _njit(forceinline=True, error_model="numpy", _nrt=False)(function))


def part(function: LoopT) -> LoopT:
    """For what a compiled loop calls now and then: is called, not copied into it."""
    return cast(LoopT, _njit(error_model="numpy", _nrt=False)(function))


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


def _put_line(typing_context: Any, address: Any, source: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        line = ir.VectorType(ir.IntType(32), LINE_WORDS)
        words = builder.load(builder.inttoptr(values[1], line.as_pointer()))
        words.align = 4
        name = f"llvm.bswap.v{LINE_WORDS}i32"
        swap = builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(line, [line]), name)
        stored = builder.store(builder.call(swap, [words]), builder.inttoptr(values[0], line.as_pointer()))
        stored.align = 4 * LINE_WORDS
        stored.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64), generate


def _load_long(typing_context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load_atomic(_pointer(context, builder, values[0], types.int64), "acquire", 8)

    return types.int64(types.int64), generate


def _store_long(typing_context: Any, address: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.store_atomic(values[1], _pointer(context, builder, values[0], types.int64), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


def _swap_long(typing_context: Any, address: Any, old: Any, new: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = _pointer(context, builder, values[0], types.int64)
        found = builder.cmpxchg(pointer, values[1], values[2], "seq_cst", "seq_cst")
        return builder.zext(builder.extract_value(found, 1), ir.IntType(64))

    return types.int64(types.int64, types.int64, types.int64), generate


def _prefetch(typing_context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        name, kind = "llvm.prefetch.p0", ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        fetch = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        reading, all_levels, data = number(0), number(3), number(1)
        builder.call(fetch, [builder.inttoptr(values[0], byte), reading, all_levels, data])
        return context.get_dummy_value()

    return types.void(types.uint64), generate


def _fence(typing_context: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


# Within compiled loops, on memory by its address, which must stay while the loop runs: word `n` of 32 bits there,
# big-endian as on a network (`sent`) or little-endian (`kept`), and one byte. This package runs on little-endian machines.
sent_word, kept_word = _reading(swapped=True), _reading(swapped=False)
put_sent_word, put_word = _writing(swapped=True), _writing(swapped=False)
put_byte: Any = intrinsic(_put_byte)
# put_line(to, source): `LINE_WORDS` words as sent, to an address that is a multiple of 64 bytes, past the cache: what is
# not read again soon does not push out what is, and its old content is not fetched first. Others see it after a fence.
put_line: Any = intrinsic(_put_line)
# prefetch(address): the line of the cache there will soon be read.
prefetch: Any = intrinsic(_prefetch)
# Whole numbers of 64 bits in memory that other processes use as well, by their address, a multiple of 8:
# load_long(address); store_long(address, value), after what was stored before, lines past the cache excepted;
# swap_long(address, old, new): 1 when it was `old` and now is `new`, in one step.
load_long: Any = intrinsic(_load_long)
store_long: Any = intrinsic(_store_long)
swap_long: Any = intrinsic(_swap_long)
# fence(): what was stored before, lines past the cache included, is seen by other processes before what is stored after.
fence: Any = intrinsic(_fence)
