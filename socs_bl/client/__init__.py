"""Talk to agents: `MatchedClient` for scripts, `AsyncClient` for programs in the Twisted reactor.

OCS 0.12 dropped ``MatchedClient``; scripts are written with it::

    from socs_bl.client import MatchedClient

    coordinator = MatchedClient("coordinator")
    coordinator.send_event(array="array_1", event="configure")
    for session in coordinator.watch("coordinate"):
        print(session["data"]["arrays"])
"""

from socs_bl.client.errors import NoAnswer
from socs_bl.client.follower import Follower
from socs_bl.client.matched import MatchedClient
from socs_bl.client.wamp import AsyncClient, connect

__all__ = ["AsyncClient", "Follower", "MatchedClient", "NoAnswer", "connect"]
