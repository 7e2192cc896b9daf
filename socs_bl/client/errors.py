"""An agent that does not answer: which, why, and what to do."""

from __future__ import annotations

from ocs.client_http import ControlClientError

from socs_bl.core.errors import Retry

DEADLINE = 10.0
PATIENCE = 120.0
WAIT_SLICE = 20.0
NO_PROCEDURE = "wamp.error.no_such_procedure"
LEFT = "wamp.error.canceled"
NO_CONNECTION = "client_http.error.connection_error"
NO_REPLY = "client_http.error.timeout"
BAD_REPLY = "client_http.error.request_error"


class NoAnswer(Retry, ControlClientError):  # type: ignore[misc]  # ocs carries no types
    """An agent did not answer; the text says which, why, and what to do.

    It is also OCS's ``ControlClientError`` and has its ``args``, for scripts that look there.
    """

    def __init__(self, text: str, uri: str = NO_PROCEDURE) -> None:
        super().__init__(text)
        self.text = text
        self.args = ([0, 0, 0, 0, uri, [text], {}],)

    def __str__(self) -> str:
        return self.text


def explain(instance_id: str, uri: str, where: str, detail: str = "") -> NoAnswer | ControlClientError:
    """The error for a call that failed with `uri`."""
    texts = {
        NO_PROCEDURE: "no agent has registered under that name; start it, or see which run: ocs-client-cli scan",
        LEFT: "it went away while it was asked, and may have acted or not; look at its status when it is back",
        NO_CONNECTION: f"no router at {where}; start it, or correct wamp_http in the site file",
        NO_REPLY: f"no reply in time through {where}; the agent or the router hangs or is overloaded; see its log",
        BAD_REPLY: f"{where} {detail}; is it the /call address of the router?",
    }
    if uri in texts:
        return NoAnswer(f"agent {instance_id!r} did not answer: {texts[uri]}", uri)
    return ControlClientError([0, 0, 0, 0, uri, [f"agent {instance_id!r} failed to answer: {detail or uri}"], {}])
