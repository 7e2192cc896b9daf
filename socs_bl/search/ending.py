"""How a search may end badly: exit statuses of ``python -m socs_bl.search`` and what they mean."""

from __future__ import annotations

from collections.abc import Mapping

from socs_bl.core.errors import SocsError
from socs_bl.search.model import Outcome

# 0 is searched, or too short to search; the result says which. A signal has no status.
OUTCOMES: Mapping[int, Outcome] = {
    1: Outcome.CRASHED,
    2: Outcome.SETTINGS,
    3: Outcome.DAMAGED,
    4: Outcome.DISK,
    5: Outcome.MISSING,
    6: Outcome.OVERDUE,
    7: Outcome.KILLED,
    8: Outcome.DECLINED,
    9: Outcome.DEVICE,
    10: Outcome.GARBAGE,
}
STATUSES: Mapping[Outcome, int] = {outcome: status for status, outcome in OUTCOMES.items()}


class SearchFailed(SocsError):
    """A search has ended without a result.

    Parameters
    ----------
    outcome : Outcome
        How.
    text : str
        What happened, for people.
    """

    def __init__(self, outcome: Outcome, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome
