"""The timeline of an observation, from the coordinator's journal.

Everything is read from the entries themselves: what CAM said, what people were told, what the results were, and when
the recording was to begin. No machine is needed, so that a timeline of old entries stays what it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from socs_bl.commensal.model import Notify, Requested, ResultRead, TelescopeEvent
from socs_bl.core.codec import Entry
from socs_bl.core.effect import Answer, Effect, StoreWrites
from socs_bl.core.event import Restarted

# Code of a notification: its word in the timeline. The others that matter stand under their own code.
WORDS = {
    "subscribed": "subscribed",
    "recording": "record",
    "ended": "end",
    "processing": "process",
    "processed": "ready",
    "failed": "error",
    "nobody-records": "error",
    "primary": "waiting",
    "waiting": "waiting",
    "parked": "waiting",
    "unsubscribed": "unsubscribed",
}
OTHERS = frozenset(
    {
        "not-recorded",
        "skipped",
        "too-short",
        "nothing-free",
        "short",
        "metadata",
        "missed",
        "reset",
        "quarantined",
        "released",
        "returned",
        "drained",
        "undrained",
        "imported",
    }
)
PKTSTART = "PKTSTART"
_EMOJI = re.compile(r"^:[a-z_]+: ")
_FACTS = "metadata:"  # key under which a recording's facts are written, ``metadata:<directory>``


class Row(NamedTuple):
    """One line of a timeline.

    Attributes
    ----------
    time : float
        Unix time, seconds.
    array : str
        Empty for what concerns all.
    what : str
        ``configure``, ``conf_complete``, ``subscribed``, ``tracking``, ``record``, ``PKTSTART``, ``not-tracking``,
        ``end``, ``process``, ``result``, ``ready`` and so on.
    detail : str
    """

    time: float
    array: str
    what: str
    detail: str


def timeline(entries: Iterable[Entry]) -> list[Row]:
    """What happened to each subarray, in order of time.

    Parameters
    ----------
    entries : iterable of Entry
        Of the coordinator's journal, in order.

    Returns
    -------
    list of Row
        PKTSTART stands at its own time, which lies after that of the decision.
    """
    rows: list[Row] = []
    for entry in entries:
        rows.extend(_rows(entry))
    return sorted(rows, key=lambda row: row.time)


def _rows(entry: Entry) -> Iterator[Row]:
    event, effects = entry.envelope.event, entry.effects
    time = event.at.wall
    refused = any(isinstance(effect, Answer) and effect.refusal for effect in effects)
    if isinstance(event, TelescopeEvent) and not refused:
        yield Row(time, event.array, event.word, "")
    elif isinstance(event, Requested) and not refused:
        yield Row(time, "", event.what, " ".join(filter(None, (event.name, event.reason))))
    elif isinstance(event, Restarted):
        yield Row(time, "", "start", f"writer epoch {event.epoch}")
    elif isinstance(event, ResultRead):
        yield Row(time, _array_of(event.run), "result", _result(event))
    for effect in effects:
        if isinstance(effect, Notify) and (effect.code in WORDS or effect.code in OTHERS):
            yield Row(time, effect.array, WORDS.get(effect.code, effect.code), plain(effect.text))
    started = _started(effects)
    if started is not None:
        yield started


def _started(effects: Iterable[Effect]) -> Row | None:
    """PKTSTART, when these effects start a recording: its facts are written for whoever searches it."""
    for effect in effects:
        for command in effect.commands if isinstance(effect, StoreWrites) else ():
            if command[0] == "SET" and command[1].startswith(_FACTS):
                facts = json.loads(command[2])
                return Row(float(facts["start_ts"]), _array_of(facts["obsid"]), PKTSTART, facts["obsid"])
    return None


def plain(text: str) -> str:
    """A notification without the picture in front that Slack shows."""
    return _EMOJI.sub("", text)


def _array_of(run: str) -> str:
    """The subarray in an OBSID, ``<telescope>:<array>:<time>``."""
    return run.split(":")[1] if run.count(":") >= 2 else ""


def _result(event: ResultRead) -> str:
    code = f"code {event.code}" + (f": {event.reason}" if event.reason else "")
    return f"{event.instance} {code}, {event.hits} hits"
