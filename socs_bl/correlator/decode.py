"""Frames of a batch, one after the other: checked, looked up, put into their dump. The compiled loop and what it needs.

The loop stops where a decision is needed that is not about a frame (a dump is to be opened, dumps have expired, time has
begun or jumped), says why, and is called again to go on with the very same frame. What it does depends on the frames and
their order alone, not on how they were divided into batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from socs_bl.correlator import lookup as columns
from socs_bl.correlator import wire
from socs_bl.correlator.counters import Counts, Kind
from socs_bl.correlator.kernel import LINE_WORDS, inner, kernel, put_byte, put_line, put_word, sent_word
from socs_bl.correlator.plan import GOOD, SUSPECT

# Why the loop stopped.
DONE, FIRST, JUMP, EXPIRED, NEW_DUMP = range(5)

# Registers: what the loop keeps between calls. Times are ns.
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
    MESSAGE,  # datagram to go on with
    OFFSET,  # byte of it
    LAST,  # entry of the last frame
    COMPLETED,  # pipes of dumps completed since it was last set to 0
    BAD_MESSAGE,  # the last bad piece: its datagram in the batch, -1: none in this batch
    BAD_OFFSET,  # byte of it
    BAD_KIND,
    REGISTERS,
) = range(23)
NEVER = np.iinfo(np.int64).max
AGREE = 16  # frames before another time is believed
MOST_SCORE = 4 * AGREE
STUBBORN = 4  # windows for which most boards must be late before time is what they say: no leap second is so long

EMPTY, OPEN, CLOSED_ENTRY = 0, 1, 2
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
_SUSPECT, _MISSING = int(Kind.SUSPECT), int(Kind.MISSING)

_FACTOR = columns.HASH_FACTOR
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
    if registers[NEWEST] >= 0:
        reference = registers[NEWEST] // SECOND
        difference = (seconds - reference) & MASK
        if difference > MASK >> 1 and reference + difference - MASK - 1 >= 0:
            difference -= MASK + 1
        seconds = reference + difference
    return int(seconds * SECOND + nanoseconds)


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
        return late
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
    return late


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
def _find_product(frame: Any, products: Array, table: Array, shift: int) -> Any:
    word = np.int64(sent_word(frame, 1))
    at = ((word * _FACTOR) & MASK) >> shift
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
def _find_entry(time: int, times: Counts, states: Array, registers: Counts) -> int:
    last = registers[LAST]
    if times[last] == time and states[last] != EMPTY:
        return int(last)
    for entry in range(times.size):
        if times[entry] == time and states[entry] != EMPTY:
            registers[LAST] = entry
            return entry
    return -1


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
    product: Any, products: Array,
    times: Counts, states: Array, seen: Array, addresses: Array, left: Counts, origin: Array,
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
        entry = _find_entry(time, times, states, registers)
        place = row[_FIRST_CELL] + cell
        if entry < 0:
            if time > registers[CLOSED] and registers[NEWEST] - time <= registers[WINDOW]:
                return -1
            kind = _LATE
        elif seen[entry, place]:
            kind = _DUPLICATE
        else:
            seen[entry, place] = 1
            pipe = row[_PIPE]
            if states[entry] == CLOSED_ENTRY:
                kind = _LATE
            elif addresses[entry, pipe] == 0:
                kind = _OVERRUN
            else:
                kind = _GOOD
                origin[place] = board
                suspect = _bits(frame, _STATUS_WORD, _STATUS_LOW, _STATUS_MASK) & _FAULTY != 0
                counts[_SUSPECT, product] += suspect
                totals[_SUSPECT] += suspect
                boards[_SUSPECT, board] += suspect
                _place(frame, cell, nlags, row, addresses[entry, pipe], suspect)
                left[entry, pipe] -= 1
                registers[COMPLETED] += left[entry, pipe] == 0
    counts[kind, product] += 1
    return kind


@kernel
def decode(
    base: np.uint64, starts: Counts, lengths: Counts, segments: Counts, messages: int,
    registers: Counts, votes: Array, totals: Counts, boards: Counts, known: Array, counts: Counts,
    products: Array, table: Array, shift: int,
    times: Counts, states: Array, seen: Array, addresses: Array, left: Counts, origin: Array,
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
    products, table, shift
        Of `Lookup`.
    times, states : numpy.ndarray
        int64, uint8 (entries,): dumps that are open or closed.
    seen : numpy.ndarray
        uint8 (entries, cells): frames that have come.
    addresses : numpy.ndarray
        uint64 (entries, pipes): of the slots; 0: none.
    left : numpy.ndarray
        int64 (entries, pipes): frames that have not come.
    origin : numpy.ndarray
        uint16 (cells,): the board that last sent each.

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
            bad = -1
            nlags = np.int64(0)
            product = np.int64(-1)
            size = end - at
            if size < _HEADER_BYTES:
                bad = _SHORT if whole else _LONG
            elif sent_word(frame, 0) != _SYNC:
                bad = _BAD_SYNC if whole else _LONG
            else:
                nlags = np.int64(_bits(frame, _NLAGS_WORD, _NLAGS_LOW, _NLAGS_MASK))
                if nlags != _LONG_FRAME and nlags != _SHORT_FRAME:
                    bad = _BAD_LAGS
                elif size < _HEADER_BYTES + 8 * nlags:
                    bad = _SHORT
                else:
                    size = _HEADER_BYTES + 8 * nlags
                    # Looked up before the sum, so that the memory's answer comes meanwhile.
                    product = _find_product(frame, products, table, shift)
                    if not _sum_is_right(frame, size // 4):
                        bad = _CHECKSUM
            board = np.int64(0)
            if bad < 0 or bad == _CHECKSUM:
                board = np.int64(_bits(frame, _BOARD_WORD, _BOARD_LOW, _BOARD_MASK))
            if bad < 0:
                known[board] = 1
                registers[TIME] = _frame_time(frame, registers)
                if registers[TIME] < 0:
                    bad = _CLOCK
            if bad >= 0:
                registers[BAD_MESSAGE], registers[BAD_OFFSET], registers[BAD_KIND] = message, at, bad
                kind = bad
            else:
                registers[MESSAGE], registers[OFFSET] = message, at
                if registers[ANCHORED] == 0:
                    return FIRST
                believed = _believed(registers[TIME], board, registers, votes)
                if _time_is_another(board, registers, votes):
                    return JUMP
                if not believed:
                    kind = _IMPLAUSIBLE
                else:
                    if registers[TIME] > registers[NEWEST]:
                        registers[NEWEST] = registers[TIME]
                    if registers[NEWEST] - registers[OLDEST] > registers[WINDOW]:
                        return EXPIRED
                    kind = _outcome(
                        frame, nlags, registers, board, totals, boards, counts, product, products,
                        times, states, seen, addresses, left, origin,
                    )  # fmt: skip
                    if kind < 0:
                        return NEW_DUMP
            totals[kind] += 1
            if kind <= _OVERRUN or (kind >= _CHECKSUM and known[board]):
                boards[kind, board] += 1
            at += size
            whole = False
        at = 0
    registers[MESSAGE], registers[OFFSET] = messages, 0
    return DONE


@kernel
def fill_missing(
    entry: int, first: int, last: int, address: np.uint64, products: Array, seen: Array, origin: Array,
    totals: Counts, boards: Counts, counts: Counts,
) -> None:  # fmt: skip
    """Zero the counts and lags of what never came for products `first` to `last` (not included), and count it."""
    for product in range(first, last):
        row = products[product]
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
