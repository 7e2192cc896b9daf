"""What is done where files arrive: look, verify by hash, give files their final names, delete. Many files a call.

This file stands alone: it is imported here for local stores, and its text is sent to a Python on the other host for the rest
(`socs_bl.dataflow.hand`), which needs nothing but Python 3.9 or newer. Files arrive in a directory of their own below the
store's root, hidden from everybody, and get their final name when every byte of them has been read back, compared and put
on disk. A name that is taken stays as it is unless the request says otherwise.

Every system call on a file goes through one `Disk`, so that a test can stop the world before and after each of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO

try:
    import xxhash
except ImportError:  # on another host; see `hashers`
    xxhash = None  # type: ignore[assignment]

INCOMING = ".socs-bl-incoming"
BLOCK = 1 << 22  # bytes read at once
FEW = 32  # so many files are put on disk one by one; for more the whole file system is asked once

_C = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1  # linux/fcntl.h, linux/fs.h
# What a file system says that cannot do RENAME_NOREPLACE, such as NFS.
_NOT_THIS_WAY = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)

Answer = dict[str, Any]


class Disk:
    """The system calls that read, copy, verify, rename and delete. Paths are bytes."""

    def lstat(self, path: bytes) -> os.stat_result:
        """`os.lstat`."""
        return os.lstat(path)

    def open(self, path: bytes, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
        """`os.open`; the descriptor is not inherited."""
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def read(self, descriptor: int, buffer: memoryview) -> int:
        """Fill `buffer` from the file; 0 at its end."""
        return os.readv(descriptor, [buffer])

    def write(self, descriptor: int, data: memoryview) -> int:
        """`os.write`."""
        return os.write(descriptor, data)

    def copy_range(self, source: int, target: int, count: int) -> int:
        """`os.copy_file_range`: the kernel copies, and shares blocks where the file system can."""
        return os.copy_file_range(source, target, count)

    def fsync(self, descriptor: int) -> None:
        """`os.fsync`."""
        os.fsync(descriptor)

    def sync_file_system(self, descriptor: int) -> None:
        """syncfs(2): everything that was written to the file system this descriptor is on."""
        if _C.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def set_times(self, descriptor: int, mode: int, mtime_ns: int) -> None:
        """Mode and time of change."""
        os.fchmod(descriptor, mode)
        os.utime(descriptor, ns=(mtime_ns, mtime_ns))

    def rename(self, source: bytes, target: bytes) -> None:
        """renameat2(2) with RENAME_NOREPLACE: fails when `target` is there."""
        if _C.renameat2(_AT_FDCWD, source, _AT_FDCWD, target, _RENAME_NOREPLACE) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), target)

    def link(self, source: bytes, target: bytes) -> None:
        """`os.link`: fails when `target` is there."""
        os.link(source, target, follow_symlinks=False)

    def replace(self, source: bytes, target: bytes) -> None:
        """`os.replace`."""
        os.replace(source, target)

    def unlink(self, path: bytes) -> None:
        """`os.unlink`."""
        os.unlink(path)

    def mkdir(self, path: bytes, mode: int = 0o777) -> None:
        """`os.mkdir`."""
        os.mkdir(path, mode)

    def rmdir(self, path: bytes) -> None:
        """`os.rmdir`."""
        os.rmdir(path)


def raw(path: str) -> bytes:
    """A path as it is in a request, which is JSON, as the bytes it stands for, in any locale."""
    return path.encode("utf-8", "surrogateescape")


def text(path: bytes) -> str:
    """The reverse of `raw`."""
    return path.decode("utf-8", "surrogateescape")


def hashers() -> dict[str, Callable[[], Any]]:
    """What can be hashed here: algorithm to a maker of objects with `update` and `hexdigest`."""
    found: dict[str, Callable[[], Any]] = {"sha1": hashlib.sha1, "md5": hashlib.md5}
    if xxhash is not None:
        found["xxh3_128"] = xxhash.xxh3_128
    elif any(os.access(os.path.join(folder, "xxhsum"), os.X_OK) for folder in os.get_exec_path()):
        found["xxh3_128"] = _Xxhsum
    return found


class _Xxhsum:
    """XXH3, 128 bits, by the program xxhsum, where Python has no xxhash."""

    def __init__(self) -> None:
        import subprocess  # takes as long to load as all the rest, and is hardly ever wanted

        self._process = subprocess.Popen(["xxhsum", "-H2", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def update(self, data: memoryview) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)

    def hexdigest(self) -> str:
        return self._process.communicate()[0].split()[0].decode("ascii")


def hash_file(
    disk: Disk,
    path: bytes,
    algorithms: Sequence[str],
    buffer: bytearray | None = None,
    size: int | None = None,
) -> tuple[os.stat_result, dict[str, str]]:
    """Read a file once.

    Parameters
    ----------
    buffer : bytearray, optional
        To read into; with many files one saves time.
    size : int, optional
        Bytes it has to have, or it is not read.

    Returns
    -------
    os.stat_result, dict
        Its state when it was opened, and algorithm to lower-case hexadecimal digits; none when its size is not `size`.

    Raises
    ------
    OSError
        When it cannot be read; ELOOP for a symbolic link, EISDIR for a directory, ESTALE for what else is no regular
        file or has changed meanwhile.
    """
    makers = hashers()
    sums = {algorithm: makers[algorithm]() for algorithm in algorithms}
    view = memoryview(buffer if buffer is not None else bytearray(BLOCK))
    descriptor = disk.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            number = errno.EISDIR if stat.S_ISDIR(before.st_mode) else errno.ESTALE
            raise OSError(number, "not a regular file", path)
        if size not in (None, before.st_size):
            return before, {}
        while count := disk.read(descriptor, view):
            for one in sums.values():
                one.update(view[:count])
        if identity(os.fstat(descriptor)) != identity(before):
            raise OSError(errno.ESTALE, "changed while it was read", path)
    finally:
        os.close(descriptor)
    return before, {algorithm: one.hexdigest() for algorithm, one in sums.items()}


def identity(status: os.stat_result) -> tuple[int, int, int]:
    """Size, time of change (ns) and inode."""
    return status.st_size, status.st_mtime_ns, status.st_ino


def verify(disk: Disk, root: bytes, items: Iterable[Answer]) -> list[Answer]:
    """Read files and compare.

    Parameters
    ----------
    items : iterable of dict
        ``path`` below the root, ``algorithm``, ``hex``, ``size`` in bytes.

    Returns
    -------
    list of dict
        For each: ``state`` ``ok``, ``corrupt`` (with the ``hex`` found), ``missing`` or ``error`` (with ``errno``, ``text``).
    """
    buffer = bytearray(BLOCK)
    return [_compared(disk, os.path.join(root, raw(item["path"])), item, buffer) for item in items]


def _compared(disk: Disk, path: bytes, item: Answer, buffer: bytearray) -> Answer:
    try:
        found = hash_file(disk, path, [item["algorithm"]], buffer, item["size"])[1]
    except FileNotFoundError:
        return {"state": "missing"}
    except OSError as error:
        return _error(error)
    hex_digits = found.get(item["algorithm"], "")
    return {"state": "ok"} if hex_digits == item["hex"] else {"state": "corrupt", "hex": hex_digits}


def _error(error: OSError) -> Answer:
    return {"state": "error", "errno": error.errno or errno.EIO, "text": error.strerror or str(error)}


def open_root(disk: Disk, root: bytes) -> int:
    """Open a store's root; it is never made here, since a root that is missing is one that is not mounted."""
    return disk.open(root, os.O_RDONLY | os.O_DIRECTORY)


def survey(disk: Disk, root: bytes, hop: str, items: Sequence[Answer]) -> Answer:
    """What is there before files are sent: room, and which final names are taken by what.

    Returns
    -------
    dict
        ``free_bytes``, ``free_inodes`` (-1: no fixed number), ``items``: for each ``state`` as `verify` gives it. What an earlier
        attempt left in the incoming directory for those that are ``ok`` already is removed. That directory is there now.
    """
    incoming = incoming_directory(root, hop)
    make_directories(disk, root, os.path.relpath(incoming, root), 0o700)
    room = os.statvfs(root)
    answers = verify(disk, root, items)
    done = [items[index] for index, answer in enumerate(answers) if answer["state"] == "ok"]
    # They may have been named by somebody who was killed before they were on disk.
    named = [os.path.join(root, raw(item["path"])) for item in done]
    _to_disk(disk, root, named)
    _to_disk(disk, root, sorted({os.path.dirname(path) for path in named}))
    discard(disk, root, hop, (item["staged"] for item in done))
    return {
        "free_bytes": room.f_bavail * room.f_frsize,
        "free_inodes": room.f_favail if room.f_files else -1,
        "items": answers,
    }


def incoming_directory(root: bytes, hop: str) -> bytes:
    """Where the files of one hop arrive."""
    return os.path.join(root, raw(INCOMING), raw(hop))


def discard(disk: Disk, root: bytes, hop: str, staged: Iterable[str]) -> None:
    """Remove what has arrived and is not wanted."""
    incoming = incoming_directory(root, hop)
    paths = [os.path.join(incoming, raw(path)) for path in staged]
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(path)
    _prune(disk, incoming, {os.path.dirname(path) for path in paths})


def make_directories(disk: Disk, root: bytes, below: bytes, mode: int = 0o777) -> None:
    """Make `below` and what is missing above it, down from the root, which must be there."""
    path = root
    for part in below.split(b"/"):
        path = os.path.join(path, part)
        with contextlib.suppress(FileExistsError):
            disk.mkdir(path, mode)


def publish(disk: Disk, root: bytes, hop: str, items: Sequence[Answer]) -> list[Answer]:
    """Verify files that have arrived and give those that are whole their final names, together.

    Parameters
    ----------
    items : sequence of dict
        As for `verify`; besides ``staged``, the path below the incoming directory, and ``replace``: whether a file that has
        the final name already, with other bytes, may go.

    Returns
    -------
    list of dict
        For each ``state``: ``ok``; ``corrupt`` (what arrived is removed); ``missing`` (nothing arrived); ``conflict`` (the name
        is taken by other bytes); ``error``. All that is ``ok`` is on disk, names included.
    """
    incoming = incoming_directory(root, hop)
    buffer = bytearray(BLOCK)
    staged = [os.path.join(incoming, raw(item["staged"])) for item in items]
    answers = [_compared(disk, staged[index], item, buffer) for index, item in enumerate(items)]
    whole = [index for index, answer in enumerate(answers) if answer["state"] == "ok"]
    _to_disk(disk, root, [staged[index] for index in whole])
    folders: set[bytes] = set()
    for index in whole:
        target = os.path.join(root, raw(items[index]["path"]))
        try:
            _make_folder(disk, root, os.path.dirname(target), folders)
            _name(disk, staged[index], target, items[index], buffer)
        except FileExistsError:
            answers[index] = {"state": "conflict"}
        except OSError as error:
            answers[index] = _error(error)
    _to_disk(disk, root, sorted(folders))
    ended = [index for index, answer in enumerate(answers) if answer["state"] in ("ok", "corrupt", "conflict")]
    discard(disk, root, hop, [items[index]["staged"] for index in ended])
    return answers


def _make_folder(disk: Disk, root: bytes, folder: bytes, changed: set[bytes]) -> None:
    """Make a directory for final names, and note it, and those above it that are new, as to be put on disk."""
    if folder in changed:
        return
    if not os.path.isdir(folder):
        make_directories(disk, root, os.path.relpath(folder, root))
        above = folder
        while above != root:
            above = os.path.dirname(above)
            changed.add(above)
    changed.add(folder)


def _name(disk: Disk, staged: bytes, target: bytes, item: Answer, buffer: bytearray) -> None:
    """Give a verified file its final name; FileExistsError when that is taken by other bytes."""
    if item["replace"]:
        disk.replace(staged, target)
        return
    try:
        disk.rename(staged, target)
    except FileExistsError:
        if _compared(disk, target, item, buffer)["state"] != "ok":
            raise
    except OSError as error:
        if error.errno not in _NOT_THIS_WAY:
            raise
        disk.link(staged, target)


def _to_disk(disk: Disk, root: bytes, paths: Sequence[bytes]) -> None:
    """Files or directories, from the page cache to the disk."""
    if not paths:
        return
    for path in paths if len(paths) <= FEW else [root]:
        descriptor = disk.open(path)
        try:
            if len(paths) <= FEW:
                disk.fsync(descriptor)
            else:
                disk.sync_file_system(descriptor)
        finally:
            os.close(descriptor)


def _prune(disk: Disk, incoming: bytes, folders: set[bytes]) -> None:
    """Remove directories below `incoming` that have become empty."""
    for folder in sorted(folders, key=len, reverse=True):
        while len(folder) > len(incoming):
            try:
                disk.rmdir(folder)
            except OSError:
                break  # other files are on their way through it, or it is gone already
            folder = os.path.dirname(folder)


def delete(disk: Disk, root: bytes, items: Iterable[Answer]) -> list[Answer]:
    """Delete files that are still the ones that were meant.

    Parameters
    ----------
    items : iterable of dict
        ``path``, ``size``, ``mtime_ns``, ``inode`` (0: any) as they were when the decision was made.

    Returns
    -------
    list of dict
        ``state``: ``ok``, ``missing`` (gone already), ``changed`` (another file by now; it stays) or ``error``.
    """
    answers: list[Answer] = []
    folders = set()
    for item in items:
        path = os.path.join(root, raw(item["path"]))
        try:
            size, mtime_ns, inode = identity(disk.lstat(path))
            if (size, mtime_ns) != (item["size"], item["mtime_ns"]) or item["inode"] not in (0, inode):
                answers.append({"state": "changed"})
                continue
            disk.unlink(path)
        except FileNotFoundError:
            answers.append({"state": "missing"})
        except OSError as error:
            answers.append(_error(error))
        else:
            folders.add(os.path.dirname(path))
            answers.append({"state": "ok"})
    _to_disk(disk, root, sorted(folders))
    return answers


def sweep(disk: Disk, root: bytes, before_ns: int) -> list[str]:
    """Remove what arrived long ago and nobody has asked for since.

    Parameters
    ----------
    before_ns : int
        Unix ns; what changed later stays. rsync gives files the time of their source, so the inode's own time counts.

    Returns
    -------
    list of str
        Paths below the root that are gone.
    """
    gone = []
    top = os.path.join(root, raw(INCOMING))
    for folder, _, names in os.walk(top, topdown=False):
        for name in names:
            path = os.path.join(folder, name)
            with contextlib.suppress(FileNotFoundError):
                if disk.lstat(path).st_ctime_ns < before_ns:
                    disk.unlink(path)
                    gone.append(text(os.path.relpath(path, root)))
        if folder != top and os.lstat(folder).st_ctime_ns < before_ns:
            with contextlib.suppress(OSError):  # not empty
                disk.rmdir(folder)
    return gone


def serve(request: Answer, disk: Disk | None = None) -> Answer:
    """Answer one request: ``do`` says which of the functions above, ``root`` the store, the rest are their arguments.

    Returns
    -------
    dict
        ``answer``, or ``errno`` and ``text`` when nothing could be done at all.
    """
    disk = disk or Disk()
    root, do = raw(request["root"]), request["do"]
    try:
        os.close(open_root(disk, root))
        if do == "algorithms":
            return {"answer": sorted(hashers())}
        if do in ("survey", "publish"):
            return {"answer": {"survey": survey, "publish": publish}[do](disk, root, request["hop"], request["items"])}
        if do == "discard":
            discard(disk, root, request["hop"], request["items"])
            return {"answer": None}
        if do == "sweep":
            return {"answer": sweep(disk, root, request["before_ns"])}
        return {"answer": {"verify": verify, "delete": delete}[do](disk, root, request["items"])}
    except OSError as error:
        place = error.filename or root
        return {
            "errno": error.errno or errno.EIO,
            "text": f"{error.strerror}: {text(os.fsencode(place))}",
            "root": place == root,
        }


def main(source: BinaryIO = sys.stdin.buffer) -> None:
    """Read one request as JSON and print its answer: what the text of this file does on another host."""
    json.dump(serve(json.loads(source.read().decode("ascii"))), sys.stdout)
    sys.stdout.flush()
