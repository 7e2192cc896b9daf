"""The slots of a ring in shared memory, step by step: what writer and reader do to them, compiled.

A ring is known by its address alone. It begins with a head; a page behind that is the table of slots, then the table of
flushes. A slot's state and the number of its dump in the order of all dumps and flushes are one word, the tag, so that a
step is one store or one compare-and-swap of it, and nothing has to be undone for a process that is killed:

    FREE --writer opens--> OPEN --writer publishes--> READY --reader claims--> CLAIMED --reader releases--> FREE

Both ends can want a READY slot, the reader to work on it and the writer to drop the oldest: one swap succeeds. ``order`` of
the head is advanced when a dump or flush can be seen, so that a reader never takes one before another that comes first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from socs_bl.correlator.kernel import fence, inner, kernel, load_long, put_word, store_long, swap_long

FREE, OPEN, READY, CLAIMED = range(4)
STATES = 3  # bits of a tag that are the state
ORDER_SHIFT = 2  # the others are the order
PAGE = 4096
REASON_BYTES = 48
HEAD = np.dtype(
    [
        (name, np.int64)
        for name in (
            "magic", "version", "slots", "slot_bytes", "layout", "order", "sequence", "dropped", "abandoned",
            "next",  # where the writer looks for a free slot
            "hurried",  # 1: without one it takes the oldest dump at once
            "flushes_at", "data_at", "stride", "state_bytes",
        )
    ]
)  # fmt: skip
SLOT = np.dtype([("tag", np.int64), ("sequence", np.int64), ("time_ns", np.int64)])
FLUSH = np.dtype([("order", np.int64), ("reason", f"S{REASON_BYTES}")])  # order 0: none
NOWHERE = -1
NO_ROOM = -2  # no slot is free, and the writer may wait for one
FIRST_FLUSH = -3  # claimed: flush n is FIRST_FLUSH - n


def _at(name: str) -> int:
    assert HEAD.fields is not None
    return HEAD.fields[name][1]


_SLOTS, _ORDER, _SEQUENCE, _DROPPED = _at("slots"), _at("order"), _at("sequence"), _at("dropped")
_NEXT, _HURRIED, _FLUSHES, _DATA = _at("next"), _at("hurried"), _at("flushes_at"), _at("data_at")
_STRIDE, _STATE_BYTES = _at("stride"), _at("state_bytes")
_SLOT_BYTES, _FLUSH_BYTES = SLOT.itemsize, FLUSH.itemsize
_LATEST = np.iinfo(np.int64).max


@inner
def _tag_at(ring: Any, number: Any) -> Any:
    return ring + PAGE + number * _SLOT_BYTES


@inner
def _count(counter: Any) -> None:
    store_long(counter, load_long(counter) + 1)


@inner
def _oldest_ready(ring: Any, newest: Any) -> tuple[Any, Any]:
    """The oldest dump that waits, up to `newest`: its slot, or `NOWHERE`, and its tag."""
    found, least = NOWHERE, _LATEST
    for number in range(load_long(ring + _SLOTS)):
        tag = load_long(_tag_at(ring, number))
        if tag & STATES == READY and tag < least and tag >> ORDER_SHIFT <= newest:
            found, least = number, tag
    return found, least


@inner
def address_of(ring: Any, number: Any) -> Any:
    """A slot's address."""
    return ring + load_long(ring + _DATA) + number * load_long(ring + _STRIDE)


@inner
def has_room(ring: Any) -> bool:
    """A slot is free, and is the next to be opened, or the writer does not wait for one."""
    slots, number = load_long(ring + _SLOTS), load_long(ring + _NEXT)
    for _ in range(slots):
        if load_long(_tag_at(ring, number)) == FREE:
            store_long(ring + _NEXT, number)
            store_long(ring + _HURRIED, 0)
            return True
        number = number + 1 if number + 1 < slots else 0
    return bool(load_long(ring + _HURRIED))


@inner
def open_slot(ring: Any) -> Any:
    """A slot to fill, its states zero, where there is room; `NOWHERE`: all are being filled or worked on."""
    number = load_long(ring + _NEXT)
    if load_long(_tag_at(ring, number)) == FREE:
        store_long(_tag_at(ring, number), OPEN)
        store_long(ring + _NEXT, number + 1 if number + 1 < load_long(ring + _SLOTS) else 0)
    else:
        while True:
            number, tag = _oldest_ready(ring, _LATEST)
            if number == NOWHERE:
                return number
            if swap_long(_tag_at(ring, number), tag, OPEN):
                _count(ring + _DROPPED)
                break
    states = address_of(ring, number)
    for word in range(load_long(ring + _STATE_BYTES) // 4):
        put_word(states, word, 0)
    return number


@inner
def publish(ring: Any, number: Any, time: Any) -> None:
    """Hand a filled slot to the reader. Dumps come in the order of this call."""
    order, tag_at = load_long(ring + _ORDER) + 1, _tag_at(ring, number)
    _count(ring + _SEQUENCE)
    store_long(tag_at + 8, load_long(ring + _SEQUENCE))
    store_long(tag_at + 16, time)
    fence()
    store_long(tag_at, order << ORDER_SHIFT | READY)
    store_long(ring + _ORDER, order)


@inner
def drop(ring: Any) -> None:
    """Count a dump for which there was no slot."""
    _count(ring + _SEQUENCE)
    _count(ring + _DROPPED)


@kernel
def open_one(ring: int) -> int:
    """`open_slot` for one who is not compiled; `NO_ROOM` where there is none."""
    return int(open_slot(ring)) if has_room(ring) else NO_ROOM


@kernel
def publish_one(ring: int, number: int, time: int) -> None:
    """`publish` for one who is not compiled."""
    publish(ring, number, time)


@kernel
def claim(ring: int) -> int:
    """Claim what comes next: a slot, whose dump is claimed, or a flush, which is as it was; `NOWHERE`: nothing."""
    while True:
        # What has come by now is in the tables; what comes while they are looked at has to wait, whatever is seen of it.
        newest = load_long(ring + _ORDER)
        number, tag = _oldest_ready(ring, newest)
        flush, first = NOWHERE, min(tag >> ORDER_SHIFT, newest + 1)
        for place in range(load_long(ring + _SLOTS) + 2):
            order = load_long(ring + load_long(ring + _FLUSHES) + place * _FLUSH_BYTES)
            if 0 < order < first:
                flush, first = place, order
        if flush != NOWHERE:
            return FIRST_FLUSH - flush
        if number == NOWHERE or swap_long(_tag_at(ring, number), tag, tag | CLAIMED):
            return int(number)


@kernel
def swap(address: int, old: int, new: int) -> int:
    """`swap_long` for one who is not compiled."""
    return int(swap_long(address, old, new))


def warm_up() -> None:
    """Compile what a reader calls, or load it from disk."""
    ring = np.zeros(PAGE, np.uint8)
    claim(ring.ctypes.data)
    swap(ring.ctypes.data, 0, 0)
