"""Whether the world is as a pipeline wants it: directories, groups, programs, hosts. Looks, and changes nothing."""

from __future__ import annotations

import grp
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from socs_bl.core.errors import Refused
from socs_bl.dataflow.config import SshStore
from socs_bl.dataflow.outcome import Failure
from socs_bl.dataflow.pipeline import Pipeline
from socs_bl.dataflow.ssh import Link
from socs_bl.dataflow.stages import Distribute, Move

NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph", "glusterfs", "lustre"})
PATIENCE = 15.0  # seconds a host has to answer


class Finding(msgspec.Struct, frozen=True):
    """What was looked at.

    Attributes
    ----------
    place : str
        Key of the pipeline, such as ``stores.nas``.
    good : bool
    text : str
        What was found, and what to do when it is not good.
    """

    place: str
    good: bool
    text: str


def look(pipeline: Pipeline, hosts: bool = True) -> Iterator[Finding]:
    """Look at everything a pipeline needs; one after the other, as each is found. Blocks.

    Parameters
    ----------
    pipeline : Pipeline
    hosts : bool
        Also connect to other hosts.
    """
    yield _catalogue(pipeline.config.catalogue)
    for name, store in pipeline.config.stores.items():
        place = f"stores.{name}"
        if isinstance(store, SshStore):
            if hosts:
                yield _host(place, store)
            continue
        yield _directory(place, store.path)
        if store.quarantine is not None:
            yield _directory(f"{place}.quarantine", store.path / store.quarantine)
    yield from _programs(pipeline)
    yield from _groups(pipeline)


def _catalogue(path: Path) -> Finding:
    """Its directory, and that it is on a local disk."""
    directory = next(parent for parent in path.parents if parent.exists())
    kind = _file_system(directory)
    if kind in NETWORK:
        return Finding(
            "catalogue", False, f"{path} is on a network file system ({kind}), where it breaks; put it on a local disk"
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        return Finding("catalogue", False, f"{directory} cannot be written by this user; change its owner or the path")
    return Finding("catalogue", True, str(path))


def _file_system(path: Path) -> str:
    """The kind of file system a path is on, by the longest mount above it (proc(5), "/proc/pid/mounts")."""
    best, found = -1, ""
    real = path.resolve()
    for line in Path("/proc/self/mounts").read_text(errors="replace").splitlines():
        _, point, kind, *_ = line.split(" ")
        mount = Path(point.replace("\\040", " "))
        if (mount == real or mount in real.parents) and len(mount.parts) >= best:
            best, found = len(mount.parts), kind
    return found


def _directory(place: str, path: Path) -> Finding:
    if not path.is_dir():
        what = "is no directory" if path.exists() else "is not there"
        return Finding(place, False, f"{path} {what}; make the directory, or mount what belongs there")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return Finding(place, False, f"{path} cannot be read and written by this user; change its owner or mode")
    return Finding(place, True, str(path))


def _host(place: str, store: SshStore) -> Finding:
    """That the host lets us in, and that the root is there and can be written."""
    where = f"{store.host}:{store.path}"
    try:
        with closing(
            Link(store.host, store.port, store.identity, store.known_hosts, mux=False, timeout=PATIENCE)
        ) as link:
            done = link.run(["test", "-d", str(store.path), "-a", "-w", str(store.path)], timeout=2 * PATIENCE)
            if done.status != 0:
                return Finding(place, False, f"{where} is no directory that this user may write; make it there")
            if link.run(["rsync", "--version"], timeout=2 * PATIENCE).status != 0:
                return Finding(place, False, f"{store.host} has no rsync that runs; install it there")
    except Failure as failure:
        return Finding(place, False, f"{where}: {failure.outcome.cause}: {failure.outcome.text}")
    except Refused as refusal:
        return Finding(place, False, str(refusal))
    return Finding(place, True, where)


def _programs(pipeline: Pipeline) -> Iterator[Finding]:
    """What is called by name."""
    if any(isinstance(store, SshStore) for store in pipeline.config.stores.values()):
        for name in ("rsync", "ssh"):
            found = shutil.which(name)
            yield Finding(
                "stores", found is not None, found or f"{name} is not installed; install it (apt-get install {name})"
            )


def _groups(pipeline: Pipeline) -> Iterator[Finding]:
    """Groups that copies on this host are given."""
    config = pipeline.config
    wanted = [(f"stages ({s.id}).group", s.to, s.group) for s in config.stages if isinstance(s, Move)]
    used = {name for s in config.stages if isinstance(s, Distribute) for name in s.targets}
    wanted += [
        (f"targets.{name}.group", config.targets[name].store, config.targets[name].group) for name in sorted(used)
    ]
    for place, store, group in wanted:
        if group is None or isinstance(config.stores[store], SshStore):
            continue
        try:
            members = grp.getgrnam(group)
        except KeyError:
            yield Finding(place, False, f"there is no group {group!r} on this host; make it (groupadd {group})")
            continue
        mine = members.gr_gid in (*os.getgroups(), os.getegid()) or os.geteuid() == 0
        yield Finding(
            place, mine, group if mine else f"this user is not in group {group!r}; add it (usermod -aG {group} USER)"
        )
