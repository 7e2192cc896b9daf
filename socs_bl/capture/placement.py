"""Where a heap goes in its block: the compiled function that spead2 calls for each heap, and what it counts.

One chunk of spead2 is one block. Its heaps lie in the order [packet index][antenna][stream]; `present` has one flag
for each. The function runs in spead2's threads, without the interpreter.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numba
import numpy as np
import scipy
import spead2
from numba import types
from spead2 import numba as spead2_numba
from spead2.recv.numba import chunk_place_data

from socs_bl.capture import wire
from socs_bl.capture.model import Geometry

ITEMS = [wire.TIMESTAMP_ID, wire.FENG_ID, wire.FREQUENCY_ID, spead2.HEAP_LENGTH_ID]
# Blocks a heap may be ahead of the newest one before its timestamp is doubted, and how many heaps in a row must agree
# on a new place in time before it is believed. One corrupt timestamp must not make every later heap "too late".
FORWARD_BLOCKS = 16
CONFIRM_HEAPS = 4
# Blocks for which the heaps already seen are remembered.
MEMORY_BLOCKS = 8


class Kind(IntEnum):
    """What is counted about heaps that are not taken, in the order of the stream's own statistics."""

    METADATA = 0
    BAD_TIMESTAMP = 1
    BAD_ANTENNA = 2
    BAD_FREQUENCY = 3
    UNCONFIRMED = 4
    DUPLICATE = 5


_KINDS = len(Kind)
# What numba and spead2 give without types.
_array: Any = numba.carray  # type: ignore[attr-defined]
_pointer: Any = spead2_numba.intp_to_voidptr
_c_pointer: Any = types.CPointer
STATISTICS = [f"socs_bl.{kind.name.lower()}" for kind in Kind]

_STATE = np.dtype(
    [
        ("statistics", np.int64),  # index of the first of our statistics
        ("nants", np.int64),
        ("nstrm", np.int64),
        ("hnchan", np.int64),
        ("hclocks", np.int64),
        ("piperblk", np.int64),
        ("schan", np.int64),
        ("stream", np.int64),
        ("heap_bytes", np.int64),
        ("seen", np.int64),  # address of the memory of heaps seen
        ("seen_size", np.int64),
        ("newest_block", np.int64),
        ("newest_packet", np.int64),
        ("candidate", np.int64),
        ("candidate_heaps", np.int64),
    ],
    align=True,
)
_STATE_TYPE = numba.from_dtype(_STATE)


def _compiled(function: Callable[[Any, Any, Any], None]) -> Any:
    """Compile to a C function; kept on disk where there is a place for it, since that takes more than a second."""
    signature = types.void(_c_pointer(chunk_place_data), types.uintp, _c_pointer(_STATE_TYPE))
    try:
        return numba.cfunc(signature, cache=True)(function)
    except RuntimeError:  # neither beside the source nor in the user's cache may be written
        return numba.cfunc(signature)(function)


@_compiled
def _place(data_pointer: Any, data_size: Any, state_pointer: Any) -> None:  # pragma: no cover - compiled
    """Fill in chunk, heap index and offset, or count why not (the chunk stays -1: the heap is dropped)."""
    data = _array(data_pointer, 1)
    state = _array(state_pointer, 1)
    items = _array(_pointer(data[0].items), 4, dtype=np.int64)
    first = state[0].statistics
    counts = _array(_pointer(data[0].batch_stats), first + _KINDS, dtype=np.uint64)
    timestamp, antenna, frequency = items[0], items[1], items[2]
    if items[3] != state[0].heap_bytes or timestamp < 0 or antenna < 0 or frequency < 0:
        counts[first + Kind.METADATA] += np.uint64(1)
        return
    if timestamp % state[0].hclocks != 0:
        counts[first + Kind.BAD_TIMESTAMP] += np.uint64(1)
        return
    if antenna >= state[0].nants:
        counts[first + Kind.BAD_ANTENNA] += np.uint64(1)
        return
    if frequency != state[0].schan + state[0].stream * state[0].hnchan:
        counts[first + Kind.BAD_FREQUENCY] += np.uint64(1)
        return
    packet = timestamp // state[0].hclocks
    block = packet // state[0].piperblk
    newest = state[0].newest_block
    if newest < 0 or block > newest + FORWARD_BLOCKS:
        if abs(block - state[0].candidate) > FORWARD_BLOCKS:
            state[0].candidate_heaps = 0
        state[0].candidate = block
        state[0].candidate_heaps += 1
        if state[0].candidate_heaps < CONFIRM_HEAPS:
            counts[first + Kind.UNCONFIRMED] += np.uint64(1)
            return
    state[0].newest_block = max(newest, block)
    state[0].newest_packet = max(state[0].newest_packet, packet)
    seen = _array(_pointer(state[0].seen), state[0].seen_size, dtype=np.int64)
    slot = (packet * state[0].nants + antenna) % state[0].seen_size
    if seen[slot] == packet:
        counts[first + Kind.DUPLICATE] += np.uint64(1)
        return
    seen[slot] = packet
    data[0].chunk_id = block
    index = ((packet % state[0].piperblk) * state[0].nants + antenna) * state[0].nstrm + state[0].stream
    data[0].heap_index = index
    data[0].heap_offset = index * state[0].heap_bytes


class Placement:
    """The placement function of one stream (multicast group) of an instance, and its state.

    Parameters
    ----------
    geometry : Geometry
        Of the instance.
    piperblk : int
        Packet indices per block.
    stream : int
        Which of the groups, from 0.
    statistics : int
        Index of the first of `STATISTICS` among those of the stream.
    """

    def __init__(self, geometry: Geometry, piperblk: int, stream: int, statistics: int) -> None:
        self._seen = np.full(MEMORY_BLOCKS * piperblk * geometry.nants, -1, np.int64)
        self._state = np.zeros(1, _STATE)
        for name, value in (
            ("statistics", statistics),
            ("nants", geometry.nants),
            ("nstrm", geometry.nstrm),
            ("hnchan", geometry.hnchan),
            ("hclocks", geometry.hclocks),
            ("piperblk", piperblk),
            ("schan", geometry.schan),
            ("stream", stream),
            ("heap_bytes", geometry.heap_bytes),
            ("seen", self._seen.ctypes.data),
            ("seen_size", self._seen.size),
            ("newest_block", -1),
            ("newest_packet", -1),
            ("candidate", -1),
        ):
            self._state[name] = value

    @property
    def newest_packet(self) -> int:
        """Highest believable packet index seen, -1 before the first."""
        return int(self._state["newest_packet"][0])

    def callback(self) -> Any:
        """What spead2 takes as ``place``; this object must outlive the stream."""
        return scipy.LowLevelCallable(
            _place.ctypes,
            user_data=self._state.ctypes.data_as(ctypes.c_void_p),
            signature="void (void *, size_t, void *)",
        )
