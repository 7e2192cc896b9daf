"""The tree as a plain class: look up, list, read, write, create and remove by path. It needs no FUSE.

Paths are as below the mount point, ``/01/flow``. What is wrong with a path is an OSError with its number; what is wrong
with a request is Refused, Retry or Faulty, which `number_of` turns into one.
"""

from __future__ import annotations

import errno
import re
import threading
from dataclasses import dataclass
from typing import Literal

import msgspec

from socs_bl.core.errors import Refused, Retry, SocsError
from socs_bl.correlator.pipelinefs.entries import Place
from socs_bl.correlator.pipelinefs.nodes import Instances, absent
from socs_bl.correlator.pipelinefs.table import Branch, Row, grow

LINE_LIMIT = 4096  # bytes written to an entry
CONTENT_LIMIT = 64 << 20  # bytes of a new file: documents have several MB
_FIRST = re.compile(rb"(?:\xef\xbb\xbf)?\s*(\S)")
_ROOT = re.compile(rb"<([A-Za-z_][\w.-]{0,63})")


@dataclass(frozen=True)
class Entry:
    """What a path leads to.

    Attributes
    ----------
    kind : {"file", "directory", "link"}
    readable, writable : bool
        Of a directory: whether entries can be made and removed in it.
    size : int
        Bytes, as far as they are known without asking.
    """

    kind: Literal["file", "directory", "link"]
    readable: bool = True
    writable: bool = False
    size: int = 0


class Draft:
    """A new file that is being written: what it says is done once it is complete, at the latest when it is closed.

    A program that writes in parts sees the error at its last write or at close, a shell's ``echo`` at its only write.
    """

    def __init__(self, tree: Tree, path: str, row: Row, place: Place, name: str) -> None:
        self.path = path
        self._tree = tree
        self._row = row
        self._place = place
        self._name = name
        self._content = bytearray()
        self._taken = False

    def write(self, data: bytes) -> None:
        """Add a part.

        Raises
        ------
        Refused, Retry, Faulty
            When it was the last part, and the content was refused or could not be carried out.
        """
        if self._taken:
            if data.strip():
                raise Refused(f"{self.path}: what was written before was complete; write again to a new file")
            return
        if len(self._content) + len(data) > CONTENT_LIMIT:
            raise Refused(f"{self.path}: more than {CONTENT_LIMIT >> 20} MB; nothing of this kind is as long")
        self._content += data
        if _complete(self._content):
            self._take()

    def finish(self) -> None:
        """The last part was written.

        Raises
        ------
        Refused, Retry, Faulty
            When the content was refused or could not be carried out.
        """
        if self._content and not self._taken:
            self._take()

    def close(self) -> None:
        """Nobody writes any more; the draft is gone from the tree.

        Raises
        ------
        Refused, Retry, Faulty
            See `finish`.
        """
        try:
            self.finish()
        finally:
            self._tree.forget(self)

    def _take(self) -> None:
        assert self._row.create is not None
        self._taken = True
        self._row.create(self._place, self._name, bytes(self._content))
        self._tree.forget(self)


class Tree:
    """All entries, for the instances that are connected now.

    Parameters
    ----------
    instances : Instances
    """

    def __init__(self, instances: Instances) -> None:
        self.instances = instances
        self._root = grow()
        self._drafts: dict[str, Draft] = {}
        self._drafting = threading.Lock()

    def lookup(self, path: str) -> Entry:
        """What a path leads to.

        Raises
        ------
        OSError
            ENOENT: when there is nothing.
        """
        if path in self._drafts:
            return Entry("file", readable=False, writable=True)
        branch, place = self._find(path)
        row = branch.row
        if row.kind == "directory":
            return Entry("directory", writable=any(child.row.create or child.row.remove for child in branch.below()))
        if row.kind == "link":
            return Entry("link", size=len(self.readlink(path)))
        writable = row.write is not None and row.writable(place)
        return Entry("file", row.read is not None, writable, _size(row, place))

    def list(self, path: str) -> list[str]:
        """The names in a directory. What an instance that is away does not tell is left out.

        Raises
        ------
        OSError
            ENOENT or ENOTDIR: when it is none.
        """
        branch, place = self._find(path)
        if branch.row.kind != "directory":
            raise OSError(errno.ENOTDIR, f"{path} is no directory")
        names = [name for name, child in branch.literal.items() if _known(child.row, place)]
        for child in branch.named:
            assert child.row.members is not None
            try:
                names += child.row.members(place)
            except (Retry, FileNotFoundError):
                continue
        prefix = path.rstrip("/") + "/"
        with self._drafting:
            names += [draft[len(prefix) :] for draft in self._drafts if draft.rpartition("/")[0] + "/" == prefix]
        return sorted(set(names))

    def read(self, path: str) -> bytes:
        """The content of a file, as it is now.

        Raises
        ------
        OSError
            ENOENT, EISDIR or EACCES: when it cannot be read.
        Retry
            When the instance does not answer.
        """
        branch, place = self._find(path)
        if branch.row.kind == "directory":
            raise OSError(errno.EISDIR, f"{path} is a directory")
        if branch.row.read is None:
            raise OSError(errno.EACCES, f"{path} is only written to")
        return branch.row.read(place).encode()

    def write(self, path: str, data: bytes) -> None:
        """Write a line to a file: every write is a request of its own, whatever the position.

        Raises
        ------
        OSError
            ENOENT, EISDIR or EACCES: when it cannot be written.
        Refused, Retry, Faulty
            When the request was refused or could not be carried out.
        """
        branch, place = self._find(path)
        row = branch.row
        if row.kind == "directory":
            raise OSError(errno.EISDIR, f"{path} is a directory")
        if row.write is None or not row.writable(place):
            raise OSError(errno.EACCES, f"{path} is only read")
        try:
            text = data.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise Refused(f"{path}: {data!r:.60} is not UTF-8") from error
        if len(data) > LINE_LIMIT or not text.isprintable():
            raise Refused(f"{path}: {text!r:.60} is not one line of at most {LINE_LIMIT} bytes")
        row.write(place, text)

    def create(self, path: str) -> Draft:
        """Begin a new file.

        Raises
        ------
        OSError
            EEXIST, ENOENT or EPERM: when there can be none of that name; EBUSY while another one is written.
        """
        parent, _, name = path.rpartition("/")
        branch, place = self._find(parent or "/")
        makers = [child.row for child in branch.named if child.row.create]
        if not makers:
            raise OSError(errno.EPERM, f"{parent or '/'} takes no new files; its README tells what it has")
        try:
            self._find(path)
        except FileNotFoundError:
            pass
        else:
            raise OSError(errno.EEXIST, f"{path} is there already")
        with self._drafting:
            if path in self._drafts:
                raise OSError(errno.EBUSY, f"{path} is being written by somebody else")
            draft = self._drafts[path] = Draft(self, path, makers[0], place, name)
        return draft

    def forget(self, draft: Draft) -> None:
        """A draft is done; the entry it has made, if any, takes its place."""
        with self._drafting:
            if self._drafts.get(draft.path) is draft:
                del self._drafts[draft.path]

    def mkdir(self, path: str) -> None:
        """Directories appear when what they show does.

        Raises
        ------
        OSError
            EPERM: always.
        """
        raise OSError(errno.EPERM, f"{path}: directories are not made by mkdir; write a new file, as the README tells")

    def rmdir(self, path: str) -> None:
        """End what a directory shows; it need not be empty.

        Raises
        ------
        OSError
            ENOENT, ENOTDIR or EPERM: when it cannot be removed.
        Refused, Retry, Faulty
            When the request was refused or could not be carried out.
        """
        self._remove(path, "directory")

    def unlink(self, path: str) -> None:
        """End what a file shows.

        Raises
        ------
        OSError
            ENOENT, EISDIR or EPERM: when it cannot be removed.
        Refused, Retry, Faulty
            When the request was refused or could not be carried out.
        """
        self._remove(path, "file")

    def readlink(self, path: str) -> str:
        """The target of a link.

        Raises
        ------
        OSError
            ENOENT or EINVAL: when it is none.
        """
        branch, place = self._find(path)
        if branch.row.kind != "link" or branch.row.read is None:
            raise OSError(errno.EINVAL, f"{path} is no link")
        return branch.row.read(place)

    def _remove(self, path: str, kind: str) -> None:
        branch, place = self._find(path)
        if branch.row.kind != kind:
            raise OSError(
                errno.EISDIR if kind == "file" else errno.ENOTDIR,
                f"{path} is {'a' if kind == 'file' else 'no'} directory",
            )
        if branch.row.remove is None:
            raise OSError(errno.EPERM, f"{path} is not removed by hand; the README of its directory tells what is")
        branch.row.remove(place)

    def _find(self, path: str) -> tuple[Branch, Place]:
        branch = self._root
        names: dict[str, str] = {}
        place = Place(self.instances, names)
        for segment in [part for part in path.split("/") if part]:
            if segment in branch.literal:
                branch = branch.literal[segment]
                if not branch.row.present(place):
                    raise absent(f"{path} is there only while {branch.row.when}")
                continue
            for child in branch.named:
                assert child.row.members is not None
                if segment in child.row.members(place):
                    names[child.row.name] = segment
                    branch = child
                    break
            else:
                raise absent(f"there is no {path}")
        return branch, place


def number_of(error: Exception) -> int:
    """The errno for what went wrong."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    if isinstance(error, Refused):
        return errno.EINVAL
    return errno.ETIMEDOUT if isinstance(error, Retry) else errno.EIO


def sentence_of(error: Exception) -> str:
    """What went wrong, without the number."""
    return str(error.strerror) if isinstance(error, OSError) and error.strerror else str(error)


def _known(row: Row, place: Place) -> bool:
    """Whether an entry is there; of an instance that is away nobody knows."""
    try:
        return row.present(place)
    except (Retry, FileNotFoundError):
        return False


def _size(row: Row, place: Place) -> int:
    if row.read is None or row.slow:
        return 0
    try:
        return len(row.read(place).encode())
    except (SocsError, OSError):
        return 0  # reading will say why


def _complete(content: bytearray) -> bool:
    """Whether a new file's content needs no further part: a line, a JSON object, or XML to the end tag of its root."""
    first = _FIRST.match(content)
    if first is None:
        return False
    if first[1] == b"{":
        try:
            msgspec.json.decode(content)
        except msgspec.DecodeError:
            return False
        return True
    if first[1] == b"<":
        root = _ROOT.search(content)
        return root is not None and re.search(rb"</%s\s*>\s*\Z" % re.escape(root[1]), content[-LINE_LIMIT:]) is not None
    return b"\n" in content
