"""Which of the files that wait for a way go next, together."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

FILES = 1000  # of one batch
BYTES = 4 << 30  # of one batch, unless its first file alone is larger


class Waiting(msgspec.Struct, frozen=True):
    """A job that waits for its turn.

    Attributes
    ----------
    job : int
    priority : int
        Higher goes first.
    since : float
        When it became ready, seconds.
    size : int
        Bytes.
    """

    job: int
    priority: int
    since: float
    size: int


def next_batch(
    waiting: Iterable[Waiting], now: float, files: int = FILES, bytes: int = BYTES, aging: float = 0.0
) -> tuple[Waiting, ...]:
    """The jobs that go next: those of the highest priority, the oldest first.

    A batch has one priority, so that what is urgent waits for one batch at most and never in the middle of many plots.

    Parameters
    ----------
    now : float
        Seconds.
    files, bytes : int
        Where a batch ends.
    aging : float
        Seconds of waiting that count as one more of priority; 0: however long something waits, what is more urgent goes first.
    """

    def urgency(one: Waiting) -> int:
        return one.priority + (int(max(0.0, now - one.since) // aging) if aging else 0)

    ranked = sorted(((urgency(one), one) for one in waiting), key=lambda pair: (-pair[0], pair[1].since, pair[1].job))
    batch: list[Waiting] = []
    left = bytes
    for level, one in ranked:
        if level != ranked[0][0] or len(batch) == files or (batch and one.size > left):
            break
        batch.append(one)
        left -= one.size
    return tuple(batch)
