"""The dumps of one configuration as a compiled loop has them: opened, found again, emitted in the order of time.

Each dump has an entry, which it keeps after it was emitted until the entry is used again: a row of `entries` with its time,
its state, the frames that have not come, and for each pipe the frames that have not come, the slot and its address. `queues`
holds the open entries by time, and the others in the order in which they will be used: never used, else closed longest ago.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from socs_bl.correlator import lookup as columns
from socs_bl.correlator.counters import Counts, Kind
from socs_bl.correlator.kernel import inner, kernel, part, put_word
from socs_bl.correlator.slots import NOWHERE, address_of, drop, has_room, open_slot, publish

# Registers of the stream: what goes on from configuration to configuration. Times are ns.
(
    ANCHORED,  # 1: time is known
    NEWEST,  # newest timestamp believed
    CUT,  # frames up to this one belong to the configuration before
    CLOSED,  # dumps up to this one have been emitted
    WINDOW,  # how long a dump stays open, in frame time
    FORWARD,  # a timestamp further ahead of the newest is not believed
    BACK,  # nor one further behind; those between it and the window are late, and also count as another time
    OLDEST,  # time of the oldest open dump; NEVER: none
    CANDIDATE,  # newest of the timestamps of another time
    SINCE,  # its first
    SCORE,  # of the candidate: how many frames agree, less those that agree neither with it nor with the time believed
    EPOCH,  # counts the candidates
    AGREEING,  # boards whose last frame agrees with the candidate
    BELIEVED,  # boards whose last frame was believed
    TIME,  # of the frame at which the loop stopped
    STAMP,  # the last time as frames have it, NOWHERE: none,
    STAMPED,  # and what it stands for, while the newest is what the loop makes it
    MESSAGE,  # datagram to go on with
    OFFSET,  # byte of it
    PIPE,  # the one whose ring has no room
    BAD_MESSAGE,  # the last bad piece: its datagram in the batch, -1: none in this batch
    BAD_OFFSET,  # byte of it
    BAD_KIND,
    REGISTERS,
) = range(24)
NEVER = np.iinfo(np.int64).max

# Words of the configuration's own state.
(
    DUMP,  # length of a dump, ns; 0: not known yet
    LEARNING,  # 1: it follows from the timestamps
    FIRST_TIME,  # the first timestamp; NOWHERE: none yet
    OPENED,  # open dumps
    MOST_OPEN,  # how many can be
    FREE_AT,  # where the entries to be used begin in their queue
    LAST,  # entry of the last frame
    EMITTED,  # dumps: all,
    INCOMPLETE,  # those with frames missing,
    FORCED,  # those emitted early for want of slots
    WORDS,
) = range(11)

ENTRY_TIME, ENTRY_STATE, ENTRY_LEFT, FIRST_PIPE = range(4)
PIPE_LEFT, PIPE_SLOT, PIPE_ADDRESS, PIPE_COLUMNS = range(4)
EMPTY, OPEN, CLOSED_ENTRY = range(3)
OPEN_QUEUE, FREE_QUEUE = range(2)

# Why a loop stopped: all is done, or something has to be seen to first.
(
    DONE,
    NO_ROOM,  # in the ring of a pipe
    NEW_LENGTH,  # of dumps, and so another window
    FIRST,  # frames begin to come
    JUMP,  # to the candidate
) = range(5)

_MISSING = int(Kind.MISSING)
_LAGS, _BLOCKS, _RECIRCULATION, _BINS = columns.LAGS, columns.BLOCKS, columns.RECIRCULATION, columns.BINS
_FIRST_CELL, _COUNTS_AT, _LAGS_AT = columns.FIRST_CELL, columns.COUNTS_AT, columns.LAGS_AT
_PIPE_CELLS, _PIPE_FIRST, _PIPE_LAST = columns.PIPE_CELLS, columns.PIPE_FIRST, columns.PIPE_LAST

Array = npt.NDArray[Any]


@inner
def find_entry(time: Any, registers: Counts, own: Counts, entries: Counts, queues: Counts) -> Any:
    """Entry of the dump of this time, open or emitted; `NOWHERE`: there is none."""
    last = own[LAST]
    if entries[last, ENTRY_TIME] == time and entries[last, ENTRY_STATE] != EMPTY:
        return last
    for place in range(own[OPENED] - 1, -1, -1):
        entry = queues[OPEN_QUEUE, place]
        if entries[entry, ENTRY_TIME] <= time:
            if entries[entry, ENTRY_TIME] < time:
                break
            own[LAST] = entry
            return entry
    if time <= registers[CLOSED]:
        for entry in range(entries.shape[0]):
            if entries[entry, ENTRY_TIME] == time and entries[entry, ENTRY_STATE] != EMPTY:
                own[LAST] = entry
                return entry
    return np.int64(NOWHERE)


@inner
def open_dump(
    time: Any, registers: Counts, own: Counts, entries: Counts, queues: Counts, seen: Array, rings: Counts, pipes: Counts,
    products: Array, origin: Array, totals: Counts, boards: Counts, counts: Counts,
) -> Any:  # fmt: skip
    """Open a dump, unless it is older than all and there is no slot for it; it is late then.

    Returns
    -------
    int
        `DONE`, `NO_ROOM` or `NEW_LENGTH`.
    """
    if own[LEARNING] and _learn(time, own, entries):
        return NEW_LENGTH
    if own[OPENED] >= own[MOST_OPEN]:
        if time < entries[queues[OPEN_QUEUE, 0], ENTRY_TIME]:
            registers[CLOSED] = time
            return DONE
        own[FORCED] += 1
        _close_oldest(registers, own, entries, queues, seen, rings, pipes, products, origin, totals, boards, counts)
    for pipe in range(rings.size):
        if not has_room(rings[pipe]):
            registers[PIPE] = pipe
            return NO_ROOM
    entry = queues[FREE_QUEUE, own[FREE_AT]]
    own[FREE_AT] = (own[FREE_AT] + 1) % entries.shape[0]
    place = own[OPENED]
    while place > 0 and entries[queues[OPEN_QUEUE, place - 1], ENTRY_TIME] > time:
        queues[OPEN_QUEUE, place] = queues[OPEN_QUEUE, place - 1]
        place -= 1
    queues[OPEN_QUEUE, place] = entry
    own[OPENED] += 1
    entries[entry, ENTRY_TIME], entries[entry, ENTRY_STATE], entries[entry, ENTRY_LEFT] = time, OPEN, seen.shape[1]
    own[LAST] = entry
    for cell in range(seen.shape[1]):
        seen[entry, cell] = 0
    for pipe in range(rings.size):
        at = FIRST_PIPE + pipe * PIPE_COLUMNS
        slot = open_slot(rings[pipe])
        entries[entry, at + PIPE_LEFT], entries[entry, at + PIPE_SLOT] = pipes[pipe, _PIPE_CELLS], slot
        entries[entry, at + PIPE_ADDRESS] = 0 if slot == NOWHERE else address_of(rings[pipe], slot)
    registers[OLDEST] = entries[queues[OPEN_QUEUE, 0], ENTRY_TIME]
    return DONE


@inner
def emit(
    registers: Counts, own: Counts, entries: Counts, queues: Counts, seen: Array, rings: Counts, pipes: Counts,
    products: Array, origin: Array, totals: Counts, boards: Counts, counts: Counts,
) -> None:  # fmt: skip
    """Emit what has expired, and what is complete and next."""
    while own[OPENED] > 0:
        entry = queues[OPEN_QUEUE, 0]
        time = entries[entry, ENTRY_TIME]
        expired = registers[NEWEST] - time > registers[WINDOW]
        if not expired and (entries[entry, ENTRY_LEFT] > 0 or not _is_next(time, registers, own)):
            return
        _close_oldest(registers, own, entries, queues, seen, rings, pipes, products, origin, totals, boards, counts)


@kernel
def close_all(
    registers: Counts, own: Counts, entries: Counts, queues: Counts, seen: Array, rings: Counts, pipes: Counts,
    products: Array, origin: Array, totals: Counts, boards: Counts, counts: Counts,
) -> None:  # fmt: skip
    """Emit all that is open, oldest first."""
    while own[OPENED] > 0:
        _close_oldest(registers, own, entries, queues, seen, rings, pipes, products, origin, totals, boards, counts)


@inner
def _is_next(time: Any, registers: Counts, own: Counts) -> bool:
    """No dump can come between the last that was emitted and this one."""
    dump = own[DUMP]
    # What has been learned is relied on when dumps that came in disorder have all been seen.
    if dump == 0 or (own[LEARNING] and registers[NEWEST] - own[FIRST_TIME] <= registers[WINDOW]):
        return False
    expired = registers[NEWEST] - (time - dump) > registers[WINDOW]
    return bool(time - registers[CLOSED] < dump + dump // 2 or expired)


@inner
def _learn(time: Any, own: Counts, entries: Counts) -> bool:
    """The smallest difference of two timestamps is taken for the length of a dump; whether it has become another."""
    if own[FIRST_TIME] == NOWHERE:
        own[FIRST_TIME] = time
    before = own[DUMP]
    for entry in range(entries.shape[0]):
        if entries[entry, ENTRY_STATE] != EMPTY:
            difference = abs(entries[entry, ENTRY_TIME] - time)
            own[DUMP] = min(own[DUMP], difference) if own[DUMP] else difference
    return bool(own[DUMP] != before)


@part
def _close_oldest(
    registers: Counts, own: Counts, entries: Counts, queues: Counts, seen: Array, rings: Counts, pipes: Counts,
    products: Array, origin: Array, totals: Counts, boards: Counts, counts: Counts,
) -> None:  # fmt: skip
    """Emit the oldest open dump, zero where frames are missing."""
    entry = queues[OPEN_QUEUE, 0]
    own[OPENED] -= 1
    for place in range(own[OPENED]):
        queues[OPEN_QUEUE, place] = queues[OPEN_QUEUE, place + 1]
    time = entries[entry, ENTRY_TIME]
    own[EMITTED] += 1
    own[INCOMPLETE] += entries[entry, ENTRY_LEFT] > 0
    for pipe in range(rings.size):
        at = FIRST_PIPE + pipe * PIPE_COLUMNS
        if entries[entry, at + PIPE_SLOT] == NOWHERE:
            drop(rings[pipe])
            continue
        if entries[entry, at + PIPE_LEFT] > 0:
            address = entries[entry, at + PIPE_ADDRESS]
            for product in range(pipes[pipe, _PIPE_FIRST], pipes[pipe, _PIPE_LAST]):
                _fill_missing(address, entry, product, products, seen, origin, totals, boards, counts)
        publish(rings[pipe], entries[entry, at + PIPE_SLOT], time)
    entries[entry, ENTRY_STATE] = CLOSED_ENTRY
    size = entries.shape[0]
    queues[FREE_QUEUE, (own[FREE_AT] + size - own[OPENED] - 1) % size] = entry
    registers[CLOSED] = time
    registers[OLDEST] = entries[queues[OPEN_QUEUE, 0], ENTRY_TIME] if own[OPENED] > 0 else NEVER


@inner
def _fill_missing(
    slot: Any, entry: Any, product: Any, products: Array, seen: Array, origin: Array,
    totals: Counts, boards: Counts, counts: Counts,
) -> None:  # fmt: skip
    """Zero the counts and lags of what never came of a product, and count it."""
    row, address = products[product], np.uint64(slot)
    nlags = np.int64(row[_LAGS])
    for cell in range(np.int64(row[_BINS]) * row[_RECIRCULATION] * row[_BLOCKS]):
        place = row[_FIRST_CELL] + cell
        if seen[entry, place]:
            continue
        totals[_MISSING] += 1
        counts[_MISSING, product] += 1
        boards[_MISSING, origin[place]] += 1
        counts_at = address + np.uint64(8 * (np.int64(row[_COUNTS_AT]) + cell))
        lags_at = address + np.uint64(64 * np.int64(row[_LAGS_AT]) + 8 * cell * nlags)
        put_word(counts_at, 0, 0)
        put_word(counts_at, 1, 0)
        for number in range(2 * nlags):
            put_word(lags_at, number, 0)
