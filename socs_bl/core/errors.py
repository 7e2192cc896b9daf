"""What can go wrong, as types that say what to do about it.

Every text says what happened, where, and what to do next.
"""

from __future__ import annotations


class SocsError(Exception):
    """Base of the errors this package raises on purpose."""


class Retry(SocsError):
    """Transient: the same request may succeed later.

    Parameters
    ----------
    text : str
        What happened, where, what to do next.
    after : float
        Seconds to wait before the next try.
    """

    def __init__(self, text: str, after: float = 1.0) -> None:
        super().__init__(text)
        self.after = after


class Refused(SocsError):
    """The request is wrong; nothing has changed."""


class Faulty(SocsError):
    """A part is broken: quarantine it and go on without it.

    Parameters
    ----------
    text : str
        What happened, where, what to do next.
    part : str
        Name of the part, such as an instance.
    """

    def __init__(self, text: str, part: str = "") -> None:
        super().__init__(text)
        self.part = part


class Lost(SocsError):
    """Data is lost; the text says how much and where.

    Parameters
    ----------
    text : str
        What was lost and where.
    count : int
        How many units (heaps, frames, files) are gone.
    """

    def __init__(self, text: str, count: int = 1) -> None:
        super().__init__(text)
        self.count = count
