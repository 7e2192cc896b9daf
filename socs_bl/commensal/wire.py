"""Texts and keys of the commensal system that others read or write.

Source: commensal-automator, Redis interface. Channels in: ``alerts``, ``rec_result`` (``<event>:<array>``),
``proc_result`` (``RETURN:<instance>:<code1>:<code2>``); out: the target selector, Slack, and the saved state.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from socs_bl.core.clock import utc
from socs_bl.core.errors import Refused
from socs_bl.core.names import parse_instance, parse_subarray

ALERTS = "alerts"
PROC_RESULT = "proc_result"
REC_RESULT = "rec_result"
CHANNELS = (ALERTS, PROC_RESULT, REC_RESULT)
RESULTS_STREAM = "socs_bl:results"
SLACK = "slack-messages"
POINTINGS = "target-selector:pointings"
PROCESSING = "target-selector:processing"
FREE_INSTANCES = "free_instances"
COMPLETED_RUNS = "automator:n_proc"
# Words without a meaning to either state machine are heard and ignored, as the original does.
WORDS = frozenset(
    {
        "configure",
        "conf_complete",
        "capture-init",
        "capture-start",
        "tracking",
        "not-tracking",
        "capture-stop",
        "capture-done",
        "deconfigure",
        "rec-timeout",
    }
)
_LONGEST_MESSAGE = 256
_CODE = re.compile(r"-?[0-9]{1,9}")


def is_good(code: int) -> bool:
    """Whether the first code of a return says that the work is done: 0 searched, 1 nothing to search."""
    return 0 <= code <= 1


def parse_alert(payload: str) -> tuple[str, str]:
    """Parse ``<word>:<array>`` into word and subarray.

    Raises
    ------
    Refused
        When it is not that; the text says why.
    """
    word, colon, array = payload.partition(":")
    if len(payload) > _LONGEST_MESSAGE or not colon or word not in WORDS:
        raise Refused(f"message {payload[:80]!r} is not one of the known words, ':' and a subarray")
    return word, parse_subarray(array)


def parse_return(payload: str) -> tuple[str, int, int]:
    """Parse ``RETURN:<host>/<n>:<code1>:<code2>`` into instance and codes.

    Raises
    ------
    Refused
        When it is not that.
    """
    parts = payload.split(":")
    if len(payload) > _LONGEST_MESSAGE or len(parts) != 4 or parts[0] != "RETURN":
        raise Refused(f"message {payload[:80]!r} is not RETURN:<host>/<n>:<code1>:<code2>")
    if not (_CODE.fullmatch(parts[2]) and _CODE.fullmatch(parts[3])):
        raise Refused(f"message {payload[:80]!r}: codes are not integers of at most 9 digits")
    return str(parse_instance(parts[1])), int(parts[2]), int(parts[3])


def format_return(instance: str, code: int, code2: int) -> str:
    """The text of a return."""
    return f"RETURN:{instance}:{code}:{code2}"


def format_state(
    recproc: str,
    subscribed: Sequence[str],
    ready: Sequence[str],
    recording: Sequence[str],
    processing: Sequence[str],
    now: float,
) -> str:
    """Value of ``<array>:state``: the original's JSON, with the timestamp its documentation promises."""
    return json.dumps(
        {
            "recproc_state": recproc,
            "subscribed": list(subscribed),
            "ready": list(ready),
            "recording": list(recording),
            "processing": list(processing),
            "timestamp": now,
        }
    )


def format_pointing(fields: Mapping[str, object]) -> str:
    """The request to the target selector."""
    return "POINTING:" + json.dumps(dict(fields))


def format_update(fields: Mapping[str, object]) -> str:
    """The report to the target selector that a recording has been searched."""
    return "UPDATE:" + json.dumps(dict(fields))


def format_slack(channel: str, process: str, text: str, now: float) -> str:
    """A message for the Slack proxy, which splits at the first colon."""
    return f"{channel}:[{utc(now):%Y-%m-%d %H:%M:%S} UTC - {process}] {text}"


def format_number(value: float) -> str:
    """A float with 17 significant digits, as the original publishes FECENTER."""
    return f"{value:.17g}"
