"""One agent has another carry out a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ocs
from ocs.client_http import ControlClientError

from socs_bl.client.errors import WAIT_SLICE
from socs_bl.client.wamp import AsyncClient
from socs_bl.core.errors import Refused, Retry


async def command(client: AsyncClient, instance_id: str, op: str, **params: Any) -> Mapping[str, Any]:
    """Start a task of an agent and wait for its end, however long that takes.

    Returns
    -------
    mapping
        The task's session data.

    Raises
    ------
    Retry
        When the agent does not answer, or runs that task for somebody else. It may have acted all the same.
    Refused
        When the agent does not start the task or the task fails; in its own words.
    """
    try:
        begun = await client.start(instance_id, op, **params)
        if begun.status != ocs.OK:
            if begun.session:
                raise Retry(f"{instance_id} runs {op} for somebody else; it is asked again")
            raise Refused(f"{instance_id}: {begun.msg}")
        while True:
            reply = await client.request(instance_id, "wait", op, timeout=WAIT_SLICE)
            if reply.status != ocs.TIMEOUT:
                break
    except ControlClientError as error:  # NoAnswer is one, too
        raise Retry(str(error)) from error
    session = reply.session
    if session.get("session_id") != begun.session["session_id"]:
        raise Retry(f"{instance_id} has begun {op} anew before its end was seen; it is asked again")
    if not session.get("success"):
        raise Refused(f"{instance_id}: {why_failed(session.get('messages') or [])}")
    data: Mapping[str, Any] = session.get("data") or {}
    return data


def why_failed(messages: list[Any]) -> str:
    """What a failed task has said last, before OCS's own lines about its status."""
    texts = [str(text) for _, text in messages if not str(text).startswith("Status is now")]
    return texts[-1] if texts else "it does not say why"
