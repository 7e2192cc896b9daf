"""Manifests and acknowledgements: what a hop has sent, in its own words, and what the other side found there.

A manifest lies beside the files of one block, written last, whole or not at all. It can be published again at any time:
files are added to it and never taken out. The receiver answers with the hashes it found itself; only those prove a copy.
Both are JSON, so that the catalogue can be made again from them, here and there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from socs_bl.core.errors import Refused
from socs_bl.core.whole_file import write_whole
from socs_bl.dataflow.model import Digest
from socs_bl.dataflow.naming import check_directory, check_name

SCHEMA = 1
LARGEST = 16 << 20  # bytes of a manifest that is read
MANIFEST, ACK = ".manifest.json", ".ack.json"


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file that one was made of, and the stage that did."""

    name: str
    bytes: int
    digests: tuple[Digest, ...]
    made_by: str


class Sent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A file of a manifest.

    Attributes
    ----------
    name : str
    bytes : int
    digests : tuple of Digest
        As hashed at the source.
    places : tuple of str
        Where its copies are below the store's root.
    origin : Origin or None
    metadata : dict
        What is known of it (``cp``, ``records``...).
    verdict : str
    """

    name: str
    bytes: int
    digests: tuple[Digest, ...]
    places: tuple[str, ...]
    origin: Origin | None = None
    metadata: dict[str, str | int | float] = {}
    verdict: Literal["ok", "suspect"] = "ok"


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one stage has brought to one store of one block.

    Attributes
    ----------
    schema : int
    pipeline, stage : str
        Who sent it,
    host : str
        and where from.
    block : str
    files : tuple of Sent
        By name.
    closed : bool
        No more files of this block are expected; a late one may come all the same.
    """

    schema: int = SCHEMA
    pipeline: str
    stage: str
    host: str
    block: str
    files: tuple[Sent, ...]
    closed: bool = False


class Found(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the receiver found of one file; no digest: it is not there."""

    name: str
    digest: Digest | None


class Ack(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the receiver found of a manifest.

    Attributes
    ----------
    schema : int
    host : str
        Who looked,
    at_ns : int
        and when, Unix ns.
    stage, block : str
        Of the manifest.
    files : tuple of Found
    """

    schema: int = SCHEMA
    host: str
    at_ns: int
    stage: str
    block: str
    files: tuple[Found, ...]


PaperT = TypeVar("PaperT", Manifest, Ack)


def file_name(paper: Manifest | Ack) -> str:
    """Under which name it lies: ``<block>.<stage>.manifest.json``, ``<block>.<stage>.ack.json``."""
    return check_name(f"{paper.block}.{paper.stage}{MANIFEST if isinstance(paper, Manifest) else ACK}")


def publish(directory: Path, manifest: Manifest) -> Manifest:
    """Write a manifest, together with what an earlier one of the same block and stage says; nothing when that says it all.

    Returns
    -------
    Manifest
        As it lies there now.

    Raises
    ------
    Refused
        When the earlier one cannot be read, or says something else of a file.
    OSError
        When it cannot be written. The earlier one is as it was.
    """
    path = directory / file_name(manifest)
    files = {sent.name: sent for sent in manifest.files}
    earlier = read_manifest(path) if path.exists() else None
    for sent in earlier.files if earlier else ():
        other = files.get(sent.name)
        if other is not None and _contradict(sent.digests, other.digests):
            raise Refused(f"{path}: {sent.name} was sent with other bytes before; find out which are right")
        files[sent.name] = other or sent
    closed = manifest.closed or (earlier is not None and earlier.closed)
    whole = msgspec.structs.replace(manifest, files=tuple(files[name] for name in sorted(files)), closed=closed)
    if whole != earlier:
        write_whole(path, encode(whole))
    return whole


def publish_ack(directory: Path, ack: Ack) -> None:
    """Write an acknowledgement over an earlier one.

    Raises
    ------
    OSError
        When it cannot be written. The earlier one is as it was.
    """
    write_whole(directory / file_name(ack), encode(ack))


def answer(manifest: Manifest, found: Mapping[str, Digest | None], host: str, at_ns: int) -> Ack:
    """The acknowledgement of a manifest.

    Parameters
    ----------
    manifest : Manifest
    found : mapping
        What the receiver hashed, by name; a file that was not looked at is left out.
    host : str
    at_ns : int
        Unix ns.
    """
    files = tuple(Found(sent.name, found[sent.name]) for sent in manifest.files if sent.name in found)
    return Ack(host=host, at_ns=at_ns, stage=manifest.stage, block=manifest.block, files=files)


def proven(manifest: Manifest, ack: Ack) -> frozenset[str]:
    """The files of which the receiver found the bytes that were sent. An acknowledgement of an earlier manifest counts too."""
    if (manifest.stage, manifest.block) != (ack.stage, ack.block):
        return frozenset()
    found = {item.name: item.digest for item in ack.files}
    return frozenset(sent.name for sent in manifest.files if found.get(sent.name) in sent.digests)


def encode(paper: Manifest | Ack) -> bytes:
    """As it is written: the same content gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(paper, order="deterministic"), indent=1) + b"\n"


def read_manifest(path: Path) -> Manifest:
    """Read a manifest that anybody may have written.

    Raises
    ------
    Refused
        When it is none, is too large, or names a place outside of its store.
    """
    manifest = _read(path, Manifest)
    for sent in manifest.files:
        try:
            check_name(sent.name)
            for place in sent.places:
                check_directory(place)
        except Refused as refusal:
            raise Refused(f"{path}: {refusal}") from refusal
        if sent.bytes < 0 or not sent.digests:
            raise Refused(f"{path}: {sent.name} has no digest or a size below 0; publish it again")
    names = [sent.name for sent in manifest.files]
    if len(set(names)) < len(names):
        raise Refused(f"{path}: a file is in it twice; publish it again")
    return manifest


def read_ack(path: Path) -> Ack:
    """Read an acknowledgement that anybody may have written.

    Raises
    ------
    Refused
        When it is none or is too large.
    """
    return _read(path, Ack)


def _read(path: Path, kind: type[PaperT]) -> PaperT:
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise Refused(f"{path} cannot be read ({error.strerror})") from error
    if len(data) > LARGEST:
        raise Refused(
            f"{path} is larger than {LARGEST} bytes, which no {kind.__name__.lower()} is; look at who wrote it"
        )
    try:
        paper = msgspec.json.decode(data, type=kind)
        wanted = file_name(paper)
    except (msgspec.DecodeError, ValueError, Refused) as error:
        raise Refused(f"{path} is no {kind.__name__.lower()}: {error}; have its sender publish it again") from error
    if paper.schema != SCHEMA:
        raise Refused(f"{path} has schema {paper.schema}, this software knows {SCHEMA}; update the software")
    if wanted != path.name:
        raise Refused(f"{path} is that of {wanted}; put it back under its own name")
    return paper


def papers(directory: Path) -> tuple[list[Path], list[Path]]:
    """The manifests and the acknowledgements in a directory, by name; what is only being written is not among them."""
    names = sorted(name for name in os.listdir(directory) if not name.startswith("."))
    return [directory / n for n in names if n.endswith(MANIFEST)], [directory / n for n in names if n.endswith(ACK)]


def _contradict(first: Iterable[Digest], second: Iterable[Digest]) -> bool:
    known = {digest.algorithm: digest.hex for digest in first}
    return any(known.get(digest.algorithm, digest.hex) != digest.hex for digest in second)
