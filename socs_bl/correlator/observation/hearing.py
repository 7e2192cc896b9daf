"""Datagrams of a multicast group, in the reactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, MulticastJoinError
from twisted.internet.protocol import DatagramProtocol

from socs_bl.core.errors import Retry

LARGEST = 1 << 16  # bytes of a datagram


class Group(DatagramProtocol):
    """One multicast group, joined on one interface.

    Parameters
    ----------
    group, interface : str
        Addresses.
    port : int
    heard : callable
        Called with each datagram and the address of its sender.
    """

    def __init__(self, group: str, port: int, interface: str, heard: Callable[[bytes, str], None]) -> None:
        self.group = group
        self.port = port
        self.interface = interface
        self._heard = heard
        self._listening: Any = None

    async def join(self, reactor: Any) -> None:
        """Join the group, unless it is joined.

        Raises
        ------
        Retry
            When the interface or the port cannot be had.
        """
        if self._listening is not None:
            return
        try:
            # Bound to the group itself, so that other groups of the same port are not heard.
            self._listening = reactor.listenMulticast(
                self.port, self, interface=self.group, maxPacketSize=LARGEST, listenMultiple=True
            )
            joined: Deferred[object] = self.transport.joinGroup(self.group, self.interface)  # type: ignore[union-attr]
            await joined
        except (CannotListenError, MulticastJoinError, OSError) as error:
            await self.leave()
            raise Retry(f"{self.group}:{self.port} cannot be joined on {self.interface}: {error}") from error

    async def leave(self) -> None:
        """Hear nothing any more."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await listening.stopListening()

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Hand one on."""
        self._heard(datagram, f"{addr[0]}:{addr[1]}")
