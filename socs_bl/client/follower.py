"""The state of a session, kept from what is read and what is heard. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from socs_bl.core.errors import Lost

SessionData = dict[str, Any]


class Follower:
    """Merges what is read (``status``) and heard (feed ``operations``) into the present state of a session.

    Parameters
    ----------
    instance_id, op : str
        Whose session, for the errors.
    forever : bool
        Go on with the next run.

    Attributes
    ----------
    gap : bool
        A message was missed: read again.
    finished : bool
        The run has ended and its last state was taken.
    """

    def __init__(self, instance_id: str, op: str, forever: bool = False) -> None:
        self.instance_id = instance_id
        self.op = op
        self.forever = forever
        self.gap = True
        self.finished = False
        self._session: SessionData = {}
        self._fresh = False

    def read(self, session: Mapping[str, Any]) -> None:
        """Take a session as ``status`` answers it.

        Raises
        ------
        Lost
            When it is another run than the one followed and that one was not seen to end.
        """
        self.gap = False
        if not session:
            if self._session and self._session["status"] != "done":
                self._lost()
            return
        if self._session and run_of(session) == run_of(self._session):
            # Agents of other packages have no sequence in their data.
            known = "sequence" in session["data"] and _order(session) <= _order(self._session)
            if known or session == self._session:
                return
        elif self._session and self._session["status"] != "done" and not self.forever:
            self._lost()
        self._session = dict(session)
        self._fresh = True

    def hear(self, message: Mapping[str, Any]) -> None:
        """Take a message of the feed; an old one is dropped, a gap noted."""
        if message["op"] != self.op:
            return
        same = bool(self._session) and run_of(message) == run_of(self._session)
        mine = self._session["data"].get("sequence", -1) if same else -1
        if same and (message["sequence"], message["final"]) <= (mine, self._session["status"] == "done"):
            return
        if not message["full"] and (not same or message["since"] != mine):
            self.gap = True
            return
        if self._session and not same and self._session["status"] != "done" and not self.forever:
            self.gap = True  # what is read next tells whether that run is lost
            return
        data = (
            {} if message["full"] else {k: v for k, v in self._session["data"].items() if k not in message["removed"]}
        )
        state = {key: message[key] for key in _STATE}
        self._session = {
            "messages": [], **self._session, **state, "op_name": self.op,
            "data": {**data, **message["changes"], "sequence": message["sequence"]},
        }  # fmt: skip
        self.gap = False
        self._fresh = True

    @property
    def fresh(self) -> bool:
        """There is something to take."""
        return self._fresh

    def take(self) -> SessionData | None:
        """The newest state, or None when it was taken before."""
        if not self._fresh:
            return None
        self._fresh = False
        self.finished = self._session["status"] == "done" and not self.forever
        return dict(self._session)

    def _lost(self) -> None:
        raise Lost(
            f"{self.instance_id} was restarted while {self.op} ran (session {self._session.get('session_id')}); "
            f"how that run ended is in its log"
        )


_STATE = ("session_id", "start_time", "end_time", "status", "op_code", "degraded", "success")
_STATUSES = ("starting", "running", "stopping", "done")


def run_of(session: Mapping[str, Any]) -> tuple[Any, Any]:
    """What tells one run of an operation from all others."""
    return session.get("session_id"), session.get("start_time")


def _order(session: Mapping[str, Any]) -> tuple[int, int, int]:
    """Later states of a run are larger; the messages count too, since they do not count as changes of the data."""
    return (
        _STATUSES.index(session["status"]), session["data"].get("sequence", -1), len(session.get("messages", ())),
    )  # fmt: skip
