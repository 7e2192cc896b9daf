"""How an analyzer tells the coordinator what came out: a stream first, the original's message second.

The stream ``socs_bl:results`` keeps every result, so that a coordinator that was down reads it later; the message
``RETURN:<host>/<n>:<code1>:<code2>`` on ``proc_result`` is what existing tools listen for and carries no run.

Source: commensal-automator, ``bluse_analyzer`` and the handling of RETURN (code2 is -1 since its second stage was
removed in August 2024).
"""

from __future__ import annotations

RESULTS_STREAM = "socs_bl:results"
RESULTS_KEPT = 10_000
PROC_RESULT = "proc_result"
NO_SECOND_STAGE = -1
_LONGEST_REASON = 500


def result_commands(
    instance: str, run: str, code: int, reason: str, hits: int, obsid: str
) -> tuple[tuple[str, ...], ...]:
    """The Redis commands that report one result, in their order.

    Parameters
    ----------
    instance : str
        ``host/number``.
    run : str
        The run that was asked for; the receiver drops a second result of the same run and instance.
    code : int
        First result code.
    reason : str
        The code in words.
    hits : int
        Hits found.
    obsid : str
        Observation id from the recorded header; empty when nothing was read.
    """
    fields = {
        "run": run, "instance": instance, "code1": str(code), "code2": str(NO_SECOND_STAGE),
        "reason": reason[:_LONGEST_REASON], "hits": str(hits), "obsid": obsid,
    }  # fmt: skip
    pairs = [word for pair in fields.items() for word in pair]
    return (
        ("XADD", RESULTS_STREAM, "MAXLEN", "~", str(RESULTS_KEPT), "*", *pairs),
        ("PUBLISH", PROC_RESULT, f"RETURN:{instance}:{code}:{NO_SECOND_STAGE}"),
    )
