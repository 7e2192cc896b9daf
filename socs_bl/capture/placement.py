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
import numpy.typing as npt
import scipy
import spead2
from numba import types
from spead2 import numba as spead2_numba
from spead2.recv.numba import chunk_place_data

from socs_bl.capture import wire
from socs_bl.capture.model import Geometry

ITEMS = [wire.TIMESTAMP_ID, wire.FENG_ID, wire.FREQUENCY_ID, spead2.HEAP_LENGTH_ID]
# Blocks a heap may be ahead of the newest one before its timestamp is doubted, and how many heaps in a row must agree
# on a new place in time before it is believed. Corrupt timestamps must not make every later heap "too late", so a heap
# in its place between them starts the count anew.
FORWARD_BLOCKS = 16
CONFIRM_HEAPS = 4
# Blocks for which the heaps already seen are remembered, at least; never fewer than are filled at the same time.
MEMORY_BLOCKS = 8


class Kind(IntEnum):
    """What is counted about heaps that are not taken, in the order of the stream's own statistics."""

    METADATA = 0
    BAD_TIMESTAMP = 1
    BAD_ANTENNA = 2
    BAD_FREQUENCY = 3
    UNCONFIRMED = 4
    DUPLICATE = 5


class Blame(IntEnum):
    """What is counted for each antenna by itself."""

    WRONG_TIMESTAMP = 0  # misaligned, far in the future, or long past
    DUPLICATE = 1


_KINDS, _BLAMES = len(Kind), len(Blame)
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
        ("memory", np.int64),  # blocks that `seen` holds
        ("blame", np.int64),  # address of the counts by antenna and `Blame`
        ("wrong_timestamp", np.int64),  # the last wrong one, and whose
        ("wrong_antenna", np.int64),
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


@numba.njit(cache=True)
def _wrong(state: Any, blame: Any, timestamp: Any, antenna: Any) -> None:  # pragma: no cover - compiled
    """Note whose timestamp is wrong."""
    blame[antenna, Blame.WRONG_TIMESTAMP] += 1
    state[0].wrong_timestamp = timestamp
    state[0].wrong_antenna = antenna


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
    if antenna >= state[0].nants:
        counts[first + Kind.BAD_ANTENNA] += np.uint64(1)
        return
    blame = _array(_pointer(state[0].blame), (state[0].nants, _BLAMES), dtype=np.int64)
    if timestamp % state[0].hclocks != 0:
        counts[first + Kind.BAD_TIMESTAMP] += np.uint64(1)
        _wrong(state, blame, timestamp, antenna)
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
            if newest >= 0:  # before the first block nothing is known to be wrong
                _wrong(state, blame, timestamp, antenna)
            return
    elif block <= newest - state[0].memory:
        # Long past: spead2 drops it and counts it as too old. What was seen in its slot since then stays remembered.
        _wrong(state, blame, timestamp, antenna)
        data[0].chunk_id = block
        data[0].heap_index = 0
        data[0].heap_offset = 0
        return
    state[0].candidate_heaps = 0
    state[0].newest_block = max(newest, block)
    state[0].newest_packet = max(state[0].newest_packet, packet)
    seen = _array(_pointer(state[0].seen), state[0].seen_size, dtype=np.int64)
    slot = (packet * state[0].nants + antenna) % state[0].seen_size
    if seen[slot] == packet:
        counts[first + Kind.DUPLICATE] += np.uint64(1)
        blame[antenna, Blame.DUPLICATE] += 1
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
    window_blocks : int
        Blocks that are filled at the same time.
    """

    def __init__(self, geometry: Geometry, piperblk: int, stream: int, statistics: int, window_blocks: int) -> None:
        memory = max(MEMORY_BLOCKS, window_blocks + 1)
        self._seen = np.full(memory * piperblk * geometry.nants, -1, np.int64)
        self._blame = np.zeros((geometry.nants, _BLAMES), np.int64)
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
            ("memory", memory),
            ("blame", self._blame.ctypes.data),
            ("wrong_timestamp", -1),
            ("wrong_antenna", -1),
            ("newest_block", -1),
            ("newest_packet", -1),
            ("candidate", -1),
        ):
            self._state[name] = value

    @property
    def newest_packet(self) -> int:
        """Highest believable packet index seen, -1 before the first."""
        return int(self._state["newest_packet"][0])

    def blame(self, kind: Blame) -> npt.NDArray[np.int64]:
        """How many heaps of each antenna were of that kind."""
        return self._blame[:, kind].copy()

    @property
    def last_wrong(self) -> tuple[int, int] | None:
        """Timestamp (digitiser samples) and antenna of the last heap with a wrong timestamp; None before the first."""
        timestamp, antenna = int(self._state["wrong_timestamp"][0]), int(self._state["wrong_antenna"][0])
        return None if antenna < 0 else (timestamp, antenna)

    def callback(self) -> Any:
        """What spead2 takes as ``place``; this object must outlive the stream."""
        return scipy.LowLevelCallable(
            _place.ctypes,
            user_data=self._state.ctypes.data_as(ctypes.c_void_p),
            signature="void (void *, size_t, void *)",
        )
