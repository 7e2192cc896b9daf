"""Carry out the steps of publishing. All calls block; each step can be repeated, also after it was interrupted."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

from socs_bl.bdf.config import SDM, PublisherConfig
from socs_bl.bdf.files import Files, same_file
from socs_bl.bdf.finish import finish
from socs_bl.bdf.growing import read_header
from socs_bl.bdf.header import Header
from socs_bl.bdf.lookout import DONE, PART, SCAN, SENT, SIDE, Lookout, read_scan
from socs_bl.bdf.model import (
    EMPTY,
    Announce,
    Announced,
    CleanUp,
    Damaged,
    Describe,
    Discard,
    Finish,
    Finished,
    Inform,
    Link,
    Looked,
    Measure,
    Measured,
    NameTaken,
    Size,
    Step,
    Unsend,
)
from socs_bl.bdf.reader import BdfReader
from socs_bl.bdf.scan import Scan, file_name
from socs_bl.bdf.sdm import Site, build_sdm
from socs_bl.bdf.sidefile import SideFile, decode_side_file, encode_side_file, fitting, make_side_file, scan_of
from socs_bl.bdf.wire import format_info
from socs_bl.core.effect import Effect
from socs_bl.core.errors import Faulty, Refused, Retry, SocsError
from socs_bl.core.event import Event

_DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}")
SIDE_LIMIT = 1 << 24  # bytes of a side file
NO_SIZE = Size(-1, 0, 0.0)
ADVICE = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "raise the quota there",
    errno.EROFS: "mount it writable again",
    errno.EIO: "the disk reports errors: look at the kernel's log, then check it",
    errno.EXDEV: "creation and publication directory must lie on one file system",
    errno.EPERM: "this file system has no hard links, or the publisher may not make them there",
    errno.EACCES: "let the publisher's user write there",
}


class Performer:
    """Carries out the steps of one publisher.

    Parameters
    ----------
    config : PublisherConfig
    lookout : Lookout
        Told of what the steps leave behind.
    send : callable
        Sends a datagram of BdfInfo; OSError when it cannot.
    files : Files
    """

    def __init__(
        self, config: PublisherConfig, lookout: Lookout, send: Callable[[bytes], None], files: Files | None = None
    ) -> None:
        self._config = config
        self._lookout = lookout
        self._send = send
        self._files = files or Files()
        self._private, self._public = config.private, config.bdfdir
        self._site = Site(config.telescope, config.dish_diameter)
        self._datasets: dict[str, str] = {}  # of published files; the side files have it too

    def perform(self, effect: Effect) -> list[Event]:
        """Carry out one step.

        Returns
        -------
        list of Event
            What it has found out, and what lies under the file's name now.

        Raises
        ------
        Retry
            When the system refused; the text says what to do.
        Refused, Lost
            When it cannot be done as things are.
        """
        if not isinstance(effect, Step):
            raise Refused(f"{type(effect).__name__} is not known here; the journal is newer than the software")
        try:
            events = self._step(effect)
        except OSError as error:
            raise Retry(_sentence(error, effect)) from error
        except SocsError as error:
            if isinstance(error.__cause__, OSError):
                raise Retry(_sentence(error.__cause__, effect)) from error
            raise
        return [*events, Looked(sightings=(self._lookout.see(effect.name),))]

    def side_file(self, target: str) -> SideFile:
        """The side file of a published file.

        Raises
        ------
        Refused
            When it is not published, or the side file cannot be read.
        """
        path = self._public / f"{target}{SIDE}"
        try:
            info = decode_side_file(path.read_bytes(), str(path))
        except FileNotFoundError:
            raise Refused(f"{target} is not published in {self._public}; see list_files") from None
        self._datasets[target] = info.dataset_id
        return info

    def _step(self, step: Step) -> list[Event]:
        match step:
            case Measure(name=name):
                return [Measured(name=name, size=self._measure(name))]
            case Finish(name=name, stop_ns=stop_ns, reason=reason):
                return self._finish(name, stop_ns, reason)
            case Link(name=name, target=target):
                if self._files.link_once(self._part(name), self._public / target):
                    return []
                return [NameTaken(name=name, target=target)]
            case Inform(name=name, target=target, reason=reason):
                return self._inform(name, target, reason)
            case Describe(target=target):
                self._describe(target)
            case Announce(name=name, target=target):
                return [self._announce(name, target)]
            case Unsend(name=name):
                self._files.remove(self._private / f"{name}{SENT}")
            case CleanUp(name=name):
                self._clean_up(name)
            case Discard(name=name, rule=rule):
                self._discard(name, rule)
        return []

    # -- the file itself ------------------------------------------------------------------------------------------

    def _measure(self, name: str) -> Size:
        path, interval = self._part(name), 0.0
        # Opened first: on a network file system only that brings the size and the time of change up to date.
        with contextlib.suppress(Refused, Faulty, OSError), open(path, "rb") as file:
            interval = read_header(file.fileno(), path).interval_ns / 1e9
        try:
            found = path.stat()
        except FileNotFoundError:
            return NO_SIZE
        return Size(found.st_size, found.st_mtime_ns, interval)

    def _finish(self, name: str, stop_ns: int, reason: str) -> list[Event]:
        try:
            finished = finish(self._part(name), stop_ns or None, reason)
        except (Refused, Faulty) as error:
            return _damaged(name, error)
        expected = fitting(finished.header, self._scan(name, finished.header), stop_ns)
        return [Finished(name=name, integrations=finished.integrations, bytes=finished.size, expected=expected)]

    def _inform(self, name: str, target: str, reason: str) -> list[Event]:
        path = self._public / target
        try:
            with BdfReader(path) as reader:
                header, integrations = reader.header, len(reader)
        except (Refused, Faulty) as error:
            return _damaged(name, error)
        seen = self._lookout.peek(name)
        size, scan = path.stat().st_size, self._scan(name, header)
        info = make_side_file(target, str(path), size, integrations, header, scan, seen.markers, reason, seen.end_ns)
        self._files.write_whole(self._public, {f"{target}{SIDE}": encode_side_file(info)})
        return []

    def _scan(self, name: str, header: Header) -> Scan:
        """What was asked for; what the file says of it when that is lost."""
        try:
            return read_scan(self._private, name) or scan_of(header)
        except Refused:
            return scan_of(header)

    # -- those who read it ----------------------------------------------------------------------------------------

    def _describe(self, target: str) -> None:
        """The SDM of the file's execution block, made anew of all side files of the dataset; then the catalogue."""
        info = self.side_file(target)
        if not _DATASET.fullmatch(info.dataset_id):
            raise Refused(f"dataset id {info.dataset_id!r} cannot be the name of a directory: no SDM of it is made")
        directory = self._public / SDM / info.dataset_id
        self._files.make_directory(directory / "ASDMBinary")
        # Before the tables name it; a second copy of the same uid leaves the first one in its place.
        self._files.link_once(self._public / target, directory / "ASDMBinary" / file_name(info.uid))
        self._files.write_whole(directory, build_sdm(self._dataset(info.dataset_id), self._site))
        if self._config.catalogue is not None:
            from socs_bl.bdf.catalogue import Catalogue  # sotodlib takes seconds, and most publishers have no catalogue

            Catalogue(self._config.catalogue).register(info)

    def _dataset(self, dataset_id: str) -> list[SideFile]:
        """The side files of a dataset. Each side file is read once in a process' life to know its dataset."""
        targets = self._lookout.published()
        unknown = {target: self.side_file(target) for target in targets if target not in self._datasets}
        return [
            unknown.get(target) or self.side_file(target) for target in targets if self._datasets[target] == dataset_id
        ]

    def _announce(self, name: str, target: str) -> Announced:
        info = self.side_file(target)
        data = format_info(info)
        self._send(data)
        self._files.write_whole(self._private, {f"{target}{SENT}": data})
        return Announced(name=name, target=target, integrations=info.num_integration, bytes=info.size)

    # -- what is deleted ------------------------------------------------------------------------------------------

    def _clean_up(self, name: str) -> None:
        """The private name goes last: while it is there, it says that the rest is to be cleaned up."""
        sighting = self._lookout.peek(name)
        if not sighting.leftovers:
            return
        if not (sighting.linked and sighting.informed and sighting.sent):
            raise Refused(f"{name} is not published and announced any more; nothing was removed")
        self._remove_beside(name)
        part = self._part(name)
        if part.exists():
            if not same_file(part, self._public / sighting.linked):
                raise Refused(f"{part} is another file than the published one; it was not removed")
            self._files.remove(part)
        self._files.sync(self._private)

    def _discard(self, name: str, rule: str) -> None:
        part = self._part(name)
        if self._lookout.peek(name).linked:
            raise Refused(f"{name} is published; nothing was discarded")
        if rule == EMPTY and part.exists():
            finished = finish(part)
            if finished.integrations:
                raise Refused(f"{part} holds {finished.integrations} integrations; it was not discarded")
        self._files.remove(part)
        self._remove_beside(name)
        self._files.sync(self._private)

    def _remove_beside(self, name: str) -> None:
        """Remove markers and scan."""
        for path in sorted(self._private.glob(f"{name}.*{DONE}")):
            self._files.remove(path)
        self._files.remove(self._private / f"{name}{SCAN}")

    def _part(self, name: str) -> Path:
        return self._private / f"{name}{PART}"


def _damaged(name: str, error: SocsError) -> list[Event]:
    """A file that cannot be read. When it is the system that refuses, the file may be well: raises the error again."""
    if isinstance(error.__cause__, OSError):
        raise error
    return [Damaged(name=name, reason=str(error))]


def _sentence(error: OSError, step: Step) -> str:
    """What failed, where, and what to do."""
    advice = ADVICE.get(error.errno or 0, "see to it")
    where = error.filename or error.filename2 or "the directories"
    again = "" if isinstance(step, Describe) else ". It is tried again"
    return f"{type(step).__name__} failed at {where}: {error.strerror or error}; {advice}{again}"


class Announcer:
    """Sends datagrams to a multicast group.

    Parameters
    ----------
    group, port : IPv4Address, int
    interface : IPv4Address
        Address of the network interface that sends.
    hops : int
        Time to live.
    """

    def __init__(self, group: IPv4Address, port: int, interface: IPv4Address, hops: int) -> None:
        self._target = (str(group), port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, hops)
        # Without it a group on loopback is sent to by the default route, where nobody hears it.
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface.packed)

    def send(self, data: bytes) -> None:
        """Send one datagram."""
        self._socket.sendto(data, self._target)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()


def make_directories(config: PublisherConfig) -> None:
    """The directories of a publisher, when they are not there yet.

    Raises
    ------
    Retry
        When they cannot be made, or the creation directory cannot be written.
    """
    try:
        config.private.mkdir(parents=True, exist_ok=True)
        if not os.access(config.private, os.W_OK):
            raise OSError(errno.EACCES, "is not writable", str(config.private))
    except OSError as error:
        raise Retry(f"{error.filename}: {error.strerror}; {ADVICE.get(error.errno or 0, 'see to it')}") from error


def free_bytes(directory: Path) -> int:
    """Bytes that may still be used on the file system of a directory; 0 when it cannot be read."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize
