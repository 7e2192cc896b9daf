"""Frames of a batch, one after the other: checked, looked up, put into their dump. The compiled loop and what it needs.

The loop stops where something is needed that it cannot do (a slot where none is free, another window, time that begins or
jumps), says why, and is called again to go on with the very same frame. What it does depends on the frames and their order
alone, not on how they were divided into batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from socs_bl.correlator import lookup as columns
from socs_bl.correlator import wire
from socs_bl.correlator.counters import Counts, Kind
from socs_bl.correlator.dumps import (
    AGREEING,
    ANCHORED,
    BACK,
    BAD_KIND,
    BAD_MESSAGE,
    BAD_OFFSET,
    BELIEVED,
    CANDIDATE,
    CLOSED,
    CLOSED_ENTRY,
    CUT,
    DONE,
    ENTRY_LEFT,
    ENTRY_STATE,
    EPOCH,
    FIRST,
    FIRST_PIPE,
    FORWARD,
    JUMP,
    LAST,
    MESSAGE,
    NEWEST,
    OFFSET,
    OLDEST,
    PIPE_ADDRESS,
    PIPE_COLUMNS,
    PIPE_LEFT,
    SCORE,
    SINCE,
    STAMP,
    STAMPED,
    TIME,
    WINDOW,
    emit,
    find_entry,
    open_dump,
)
from socs_bl.correlator.kernel import LINE_WORDS, inner, kernel, prefetch, put_byte, put_line, put_word, sent_word
from socs_bl.correlator.plan import GOOD, SUSPECT

AGREE = 16  # frames before another time is believed
MOST_SCORE = 4 * AGREE
STUBBORN = 4  # windows for which most boards must be late before time is what they say: no leap second is so long

SECOND = 1_000_000_000
MASK = 0xFFFFFFFF

_HEADER_BYTES = wire.frame_bytes(0)
_SYNC = wire.SYNC
_FAULTY = wire.OVERFLOW | wire.TRUNCATED | wire.SUSPECT


def _field(name: str) -> tuple[int, int, int]:
    field = wire.FIELD[name]
    return field.word, field.low, field.maximum


_NLAGS_WORD, _NLAGS_LOW, _NLAGS_MASK = _field("nlags")
_BLOCK_WORD, _BLOCK_LOW, _BLOCK_MASK = _field("start_block")
_BLOCKS_WORD, _BLOCKS_LOW, _BLOCKS_MASK = _field("nblocks")
_CHIP_WORD, _CHIP_LOW, _CHIP_MASK = _field("chip")
_CELL_WORD, _CELL_LOW, _CELL_MASK = _field("cell")
_STATUS_WORD, _STATUS_LOW, _STATUS_MASK = _field("status")
_X_WORD, _X_LOW, _X_MASK = _field("recirculation_x")
_Y_WORD, _Y_LOW, _Y_MASK = _field("recirculation_y")
_SECONDS_WORD = wire.FIELD["seconds"].word
_NANOSECONDS_WORD = wire.FIELD["nanoseconds"].word
_CENTRE_WORD = wire.FIELD["dv_centre"].word
_EDGE_WORD = wire.FIELD["dv_edge"].word
_BOARD_WORD, _BOARD_LOW, _BOARD_MASK = _field("board")
_BIN_WORD, _BIN_LOW, _BIN_MASK = _field("bin")
_LONG_FRAME, _SHORT_FRAME = wire.LAG_COUNTS
_HEADER_WORDS = wire.HEADER_WORDS
_CELLS = wire.CELLS

_SHORT, _LONG, _BAD_SYNC, _BAD_LAGS = int(Kind.SHORT), int(Kind.LONG), int(Kind.SYNC), int(Kind.LAGS)
_CHECKSUM, _CLOCK, _SHAPE = int(Kind.CHECKSUM), int(Kind.CLOCK), int(Kind.SHAPE)
_GOOD, _DUPLICATE, _LATE, _STALE = int(Kind.GOOD), int(Kind.DUPLICATE), int(Kind.LATE), int(Kind.STALE)
_UNKNOWN, _IMPLAUSIBLE, _OVERRUN = int(Kind.UNKNOWN), int(Kind.IMPLAUSIBLE), int(Kind.OVERRUN)
_SUSPECT = int(Kind.SUSPECT)

_FACTOR, _ROW_BYTES = columns.HASH_FACTOR, columns.ROW_BYTES
_PLACE, _LAGS, _BLOCKS, _RECIRCULATION = columns.PLACE, columns.LAGS, columns.BLOCKS, columns.RECIRCULATION
_BINS, _PIPE, _FIRST_CELL, _NEXT = columns.BINS, columns.PIPE, columns.FIRST_CELL, columns.NEXT
_STATE_AT, _COUNTS_AT, _LAGS_AT = columns.STATE_AT, columns.COUNTS_AT, columns.LAGS_AT

Array = npt.NDArray[Any]


@inner
def _bits(frame: Any, word: int, low: int, mask: int) -> Any:
    return (np.int64(sent_word(frame, word)) >> low) & mask


@inner
def _sum_is_right(frame: Any, count: Any) -> bool:
    total = np.uint32(0)
    for number in range(count - 1):
        total = np.uint32(total + sent_word(frame, number))
    return bool(total == sent_word(frame, count - 1))


@inner
def _frame_time(frame: Any, registers: Counts) -> int:
    """Timestamp of a frame; the 32-bit seconds are those nearest to the newest timestamp. -1: no time."""
    seconds = np.int64(sent_word(frame, _SECONDS_WORD))
    nanoseconds = np.int64(sent_word(frame, _NANOSECONDS_WORD))
    if nanoseconds >= SECOND:
        return -1
    stamp = seconds * SECOND + nanoseconds
    if stamp == registers[STAMP]:  # as that of the frame before, nearly always: dividing costs more than the sum
        return int(registers[STAMPED])
    if registers[NEWEST] >= 0:
        reference = registers[NEWEST] // SECOND
        difference = (seconds - reference) & MASK
        if difference > MASK >> 1 and reference + difference - MASK - 1 >= 0:
            difference -= MASK + 1
        seconds = reference + difference
    registers[STAMP], registers[STAMPED] = stamp, seconds * SECOND + nanoseconds
    return int(registers[STAMPED])


@inner
def _believed(time: Any, board: Any, registers: Counts, votes: Array) -> bool:
    """Whether a time can be; the board's vote is taken down."""
    ahead = time - registers[NEWEST]
    if -registers[WINDOW] <= ahead <= registers[FORWARD]:
        if votes[board] != -1:
            if votes[board] == registers[EPOCH]:  # it was wrong for a moment
                registers[AGREEING] -= 1
                registers[SCORE] = max(registers[SCORE] - AGREE, 0)
            votes[board] = -1
            registers[BELIEVED] += 1
        return True
    late = -registers[BACK] <= ahead < 0
    if registers[SCORE] > 0 and abs(time - registers[CANDIDATE]) <= registers[FORWARD]:
        registers[SCORE] = min(registers[SCORE] + 1, MOST_SCORE)
        registers[CANDIDATE] = max(registers[CANDIDATE], time)
    elif registers[SCORE] > 0:
        registers[SCORE] -= 1
        return bool(late)
    else:
        registers[CANDIDATE] = registers[SINCE] = time
        registers[SCORE] = 1
        registers[EPOCH] += 1
        registers[AGREEING] = 0
    if votes[board] != registers[EPOCH]:
        if votes[board] == -1:
            registers[BELIEVED] -= 1
        votes[board] = registers[EPOCH]
        registers[AGREEING] += 1
    return bool(late)


@inner
def _time_is_another(board: Any, registers: Counts, votes: Array) -> bool:
    """Whether most boards, this one among them, agree on another time. When they are only late, for a good while."""
    if votes[board] != registers[EPOCH] or registers[SCORE] < AGREE or registers[AGREEING] <= registers[BELIEVED]:
        return False
    behind = registers[NEWEST] - registers[CANDIDATE]
    if 0 <= behind <= registers[BACK]:
        return bool(registers[CANDIDATE] - registers[SINCE] > STUBBORN * registers[WINDOW])
    return True


@inner
def _hash(frame: Any, shift: int) -> Any:
    return ((np.int64(sent_word(frame, 1)) * _FACTOR) & MASK) >> shift


@inner
def _find_product(frame: Any, products: Array, table: Array, shift: int) -> Any:
    word = np.int64(sent_word(frame, 1))
    at = _hash(frame, shift)
    while table[at, 1] > 0 and np.int64(table[at, 0]) != word:
        at = (at + 1) & (table.shape[0] - 1)
    product = np.int64(table[at, 1]) - 1
    block = _bits(frame, _BLOCK_WORD, _BLOCK_LOW, _BLOCK_MASK)
    place = (
        _bits(frame, _CHIP_WORD, _CHIP_LOW, _CHIP_MASK) * _CELLS
        + _bits(frame, _CELL_WORD, _CELL_LOW, _CELL_MASK)
        - block
    )
    while product >= 0 and products[product, _PLACE] >= 0 and products[product, _PLACE] != place:
        product = np.int64(products[product, _NEXT])
    return product


@inner
def _cell(frame: Any, nlags: Any, row: Array) -> int:
    """Number of the frame within a dump of its product: bin, recirculation, block. -1: the product has no such frame."""
    block = _bits(frame, _BLOCK_WORD, _BLOCK_LOW, _BLOCK_MASK)
    index = _bits(frame, _X_WORD, _X_LOW, _X_MASK) - _bits(frame, _Y_WORD, _Y_LOW, _Y_MASK) + row[_RECIRCULATION] // 2
    phase_bin = _bits(frame, _BIN_WORD, _BIN_LOW, _BIN_MASK)
    if (
        nlags != row[_LAGS]
        or _bits(frame, _BLOCKS_WORD, _BLOCKS_LOW, _BLOCKS_MASK) != row[_BLOCKS]
        or block >= row[_BLOCKS]
        or index < 0
        or index >= row[_RECIRCULATION]
        or phase_bin >= row[_BINS]
    ):
        return -1
    return int((phase_bin * row[_RECIRCULATION] + index) * row[_BLOCKS] + block)


@inner
def _place(frame: Any, cell: int, nlags: Any, row: Array, address: np.uint64, suspect: bool) -> None:
    """Copy a frame into its slot, in native byte order."""
    put_byte(address + np.uint64(np.int64(row[_STATE_AT]) + cell), SUSPECT if suspect else GOOD)
    counts = address + np.uint64(8 * (np.int64(row[_COUNTS_AT]) + cell))
    put_word(counts, 0, sent_word(frame, _CENTRE_WORD))
    put_word(counts, 1, sent_word(frame, _EDGE_WORD))
    lags = address + np.uint64(64 * np.int64(row[_LAGS_AT]) + 8 * cell * nlags)
    for number in range(0, 2 * nlags, LINE_WORDS):
        put_line(lags + np.uint64(4 * number), frame + np.uint64(4 * (_HEADER_WORDS + number)))


@inner
def _outcome(
    frame: Any, nlags: Any, registers: Counts, board: Any, totals: Counts, boards: Counts, counts: Counts,
    product: Any, products: Array, own: Counts, entries: Counts, queues: Counts, seen: Array, origin: Array,
) -> int:  # fmt: skip
    """What becomes of a good frame at the time in the registers: a kind, or -1 when its dump is to be opened first."""
    if product < 0:
        return _UNKNOWN
    time = registers[TIME]
    row = products[product]
    cell = _cell(frame, nlags, row)
    if cell < 0:
        kind = _SHAPE
    elif time <= registers[CUT]:
        kind = _STALE
    else:
        entry = find_entry(time, registers, own, entries, queues)
        place = row[_FIRST_CELL] + cell
        if entry < 0:
            if time > registers[CLOSED] and registers[NEWEST] - time <= registers[WINDOW]:
                return -1
            kind = _LATE
        elif seen[entry, place]:
            kind = _DUPLICATE
        else:
            seen[entry, place] = 1
            pipe = FIRST_PIPE + row[_PIPE] * PIPE_COLUMNS
            address = entries[entry, pipe + PIPE_ADDRESS]
            if entries[entry, ENTRY_STATE] == CLOSED_ENTRY:
                kind = _LATE
            else:
                kind = _OVERRUN
                origin[place] = board
                entries[entry, ENTRY_LEFT] -= 1
                if address != 0:
                    kind = _GOOD
                    entries[entry, pipe + PIPE_LEFT] -= 1
                    suspect = _bits(frame, _STATUS_WORD, _STATUS_LOW, _STATUS_MASK) & _FAULTY != 0
                    if suspect:
                        counts[_SUSPECT, product] += 1
                        totals[_SUSPECT] += 1
                        boards[_SUSPECT, board] += 1
                    _place(frame, cell, nlags, row, np.uint64(address), suspect)
    counts[kind, product] += 1
    return kind


@inner
def _look(frame: Any, size: Any, whole: bool) -> tuple[Any, Any]:
    """What is wrong with what begins here, of at most `size` bytes, -1: nothing but perhaps the sum; and its lags.

    In the middle of a datagram, what is no frame is something behind one.
    """
    if size < _HEADER_BYTES:
        return np.int64(_SHORT if whole else _LONG), np.int64(0)
    if sent_word(frame, 0) != _SYNC:
        return np.int64(_BAD_SYNC if whole else _LONG), np.int64(0)
    nlags = np.int64(_bits(frame, _NLAGS_WORD, _NLAGS_LOW, _NLAGS_MASK))
    if nlags != _LONG_FRAME and nlags != _SHORT_FRAME:
        return np.int64(_BAD_LAGS), np.int64(0)
    return np.int64(-1 if size >= _HEADER_BYTES + 8 * nlags else _SHORT), nlags


@inner
def _take(
    frame: Any, nlags: Any, board: Any, registers: Counts, votes: Array, totals: Counts, boards: Counts, counts: Counts,
    product: Any, products: Array,
    own: Counts, entries: Counts, queues: Counts, seen: Array, origin: Array, rings: Counts, pipes: Counts,
) -> tuple[Any, Any]:  # fmt: skip
    """Take in a frame that is well, of the time in the registers: why the loop has to stop, or `DONE` and its kind."""
    if registers[ANCHORED] == 0:
        return FIRST, -1
    believed = _believed(registers[TIME], board, registers, votes)
    if _time_is_another(board, registers, votes):
        return JUMP, -1
    if not believed:
        return DONE, _IMPLAUSIBLE
    if registers[TIME] > registers[NEWEST]:
        registers[NEWEST] = registers[TIME]
    complete = registers[NEWEST] - registers[OLDEST] > registers[WINDOW]
    kind = -1
    while True:
        if complete:
            emit(registers, own, entries, queues, seen, rings, pipes, products, origin, totals, boards, counts)
        if kind >= 0:
            return DONE, kind
        kind = _outcome(
            frame,
            nlags,
            registers,
            board,
            totals,
            boards,
            counts,
            product,
            products,
            own,
            entries,
            queues,
            seen,
            origin,
        )
        if kind < 0:
            why = open_dump(
                registers[TIME], registers, own, entries, queues, seen, rings, pipes,
                products, origin, totals, boards, counts,
            )  # fmt: skip
            if why != DONE:
                return why, -1
        complete = kind in (_GOOD, _OVERRUN) and entries[own[LAST], ENTRY_LEFT] == 0


@kernel
def decode(
    base: np.uint64, starts: Counts, lengths: Counts, segments: Counts, messages: int,
    registers: Counts, votes: Array, totals: Counts, boards: Counts, known: Array, counts: Counts,
    products: Array, table: Array, shift: int,
    own: Counts, entries: Counts, queues: Counts, seen: Array, origin: Array, rings: Counts, pipes: Counts,
) -> int:  # fmt: skip
    """Go on with a batch from the datagram and byte in the registers.

    Parameters
    ----------
    base : int
        Address of the batch's bytes.
    starts, lengths, segments : numpy.ndarray
        int64 (messages,): where each message begins, its bytes, and the length of the datagrams in it (the last may be
        shorter).
    messages : int
    registers : numpy.ndarray
        int64 (`REGISTERS`,).
    votes : numpy.ndarray
        int32 (boards,): -1: the board's last frame was believed; otherwise the candidate it agrees with.
    totals, boards, known
        Of `Counters`.
    counts : numpy.ndarray
        int64 (kinds, products).
    products, table, shift, pipes
        Of `Lookup`.
    own, entries, queues : numpy.ndarray
        int64 (`WORDS`,), (entries, `FIRST_PIPE` + pipes * `PIPE_COLUMNS`), (2, entries): the dumps.
    seen : numpy.ndarray
        uint8 (entries, cells): frames that have come.
    origin : numpy.ndarray
        uint16 (cells,): the board that last sent each.
    rings : numpy.ndarray
        int64 (pipes,): their addresses.

    Returns
    -------
    int
        `DONE`, or why the loop stopped.
    """
    at = registers[OFFSET]
    for message in range(registers[MESSAGE], messages):
        length = lengths[message]
        segment = segments[message]
        if length == 0:
            totals[_SHORT] += 1
        end = min(at - at % max(1, segment) + segment, length) if at > 0 else 0
        whole = False  # nothing of the datagram has been taken yet
        while at < length:
            if at >= end:
                end = min(end + segment, length)
                whole = True
            frame = base + np.uint64(starts[message] + at)
            size = end - at
            product, board = np.int64(-1), np.int64(0)
            bad, nlags = _look(frame, size, whole)
            if bad < 0:
                size = _HEADER_BYTES + 8 * nlags
                if at + 2 * size <= length:  # ask for what the next frame needs, so that memory has answered by then
                    following = _hash(frame + np.uint64(size), shift) * _ROW_BYTES
                    prefetch(np.uint64(table.ctypes.data + following))
                # Looked up before the sum, so that the memory's answer comes meanwhile.
                product = _find_product(frame, products, table, shift)
                board = np.int64(_bits(frame, _BOARD_WORD, _BOARD_LOW, _BOARD_MASK))
                if not _sum_is_right(frame, size // 4):
                    bad = _CHECKSUM
                else:
                    known[board] = 1
                    registers[TIME] = _frame_time(frame, registers)
                    if registers[TIME] < 0:
                        bad = _CLOCK
            if bad >= 0:
                registers[BAD_MESSAGE], registers[BAD_OFFSET], registers[BAD_KIND] = message, at, bad
                kind = bad
            else:
                registers[MESSAGE], registers[OFFSET] = message, at
                why, kind = _take(
                    frame, nlags, board, registers, votes, totals, boards, counts, product, products,
                    own, entries, queues, seen, origin, rings, pipes,
                )  # fmt: skip
                if why != DONE:
                    return int(why)
            totals[kind] += 1
            if kind <= _OVERRUN or (kind >= _CHECKSUM and known[board]):
                boards[kind, board] += 1
            at += size
            whole = False
        at = 0
    registers[MESSAGE], registers[OFFSET] = messages, 0
    return DONE
