"""Calls to agents over the router's HTTP caller, as an operator makes them, with a time-out on every one.

OCS's own `OCSClient` waits without limit for an agent that does not answer, which those who start, stop and diagnose
an observatory cannot afford. The protocol is the same.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from socs_bl.core.errors import Faulty, Retry

TIMEOUT = 5.0  # seconds for one answer


class Operator:
    """Calls agents of one observatory.

    Parameters
    ----------
    http_url : str
        The router's caller, ``http://host:port/call``.
    address_root : str
        First part of every agent's address.
    timeout : float
        Seconds for every answer.
    """

    def __init__(self, http_url: str, address_root: str, timeout: float = TIMEOUT) -> None:
        self.http_url = http_url
        self.address_root = address_root
        self.timeout = timeout

    def call(self, procedure: str, *arguments: object) -> Any:
        """Call a procedure.

        Raises
        ------
        Retry
            When the router or the agent does not answer; the text says which.
        Faulty
            When the agent answers with an error.
        """
        body = json.dumps({"procedure": procedure, "args": arguments, "kwargs": {}}).encode()
        request = urllib.request.Request(self.http_url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as reply:
                answer = json.load(reply)
        except urllib.error.HTTPError as error:
            raise Retry(
                f"{self.http_url} refused the call of {procedure} with {error.code}; is it the router?"
            ) from error
        except TimeoutError as error:
            raise Retry(f"{procedure} did not answer within {self.timeout:.0f} s") from error
        except (OSError, ValueError) as error:
            raise Retry(f"no router answers at {self.http_url} ({error})") from error
        if "error" not in answer:
            return answer["args"][0]
        if answer["error"] == "wamp.error.no_such_procedure":
            raise Retry(f"no agent has registered {procedure}; it is down or still starting")
        raise Faulty(f"{procedure} answered with an error: {answer['error']} {answer.get('args')}", procedure)

    def api(self, instance_id: str) -> dict[str, Any]:
        """What an agent offers and how its operations stand (OCS's ``get_api``)."""
        api: dict[str, Any] = self.call(f"{self.address_root}.{instance_id}", "get_api")
        return api

    def request(
        self, instance_id: str, action: str, operation: str, **parameters: object
    ) -> tuple[int, str, dict[str, Any]]:
        """Ask for ``start``, ``stop``, ``abort`` or ``status`` of an operation.

        Returns
        -------
        status, text, session
            As OCS gives them: status 0 when the request was taken.
        """
        status, text, session = self.call(f"{self.address_root}.{instance_id}.ops", action, operation, parameters)
        return int(status), str(text), dict(session or {})

    def answers(self, instance_id: str) -> bool:
        """True when the agent is there and answers."""
        try:
            self.api(instance_id)
        except (Retry, Faulty):
            return False
        return True
