"""A document that somebody brings, made ready for a node: read, checked, and its pipelines listed."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from socs_bl.core import xml
from socs_bl.core.errors import Refused
from socs_bl.correlator.document import parse_configuration, write_configuration
from socs_bl.correlator.model import PipeText
from socs_bl.correlator.plan import make_plan
from socs_bl.correlator.ring import ring_bytes
from socs_bl.correlator.vci import is_vci, parse_vci


class Brought(NamedTuple):
    """A configuration's document, and its pipelines that products enter."""

    document: str
    pipes: tuple[PipeText, ...]


def bring(text: str, name: str, limit: int, slots: int) -> Brought:
    """Read a configuration or a VCI document; blocks for a second when it is large.

    Parameters
    ----------
    text : str
    name : str
        Of the configuration.
    limit : int
        Bytes at most.
    slots : int
        Dumps in each ring.

    Raises
    ------
    Refused
        Says what is wrong, and in which line.
    """
    if is_vci(xml.parse(text, limit, f"configuration {name}")):
        configuration = parse_vci(text, name)
        text = write_configuration(configuration)
    else:
        configuration = parse_configuration(text, name)
    pipes = []
    for pipe in configuration.pipes:
        products = configuration.pipe_products(pipe.name)
        if products:
            pipes.append(PipeText(pipe.name, pipe.text, ring_bytes(make_plan(products), slots)))
    return Brought(text, tuple(pipes))


def read_file(path: str, limit: int) -> str:
    """The text of a document in a file.

    Raises
    ------
    Refused
        When the path is not absolute, or the file cannot be read, is larger than `limit` bytes, or is not UTF-8.
    """
    place = Path(path)
    if not place.is_absolute():
        raise Refused(f"path {path!r:.200} is not absolute; write it from / on")
    try:
        if not place.is_file():
            raise Refused(f"{path} is no file; give the path of a configuration document")
        with open(place, "rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise Refused(f"{path} has more than {limit} bytes; divide the configuration")
        return data.decode("utf-8")
    except OSError as error:
        raise Refused(f"{path} cannot be read ({error.strerror}); give a file that this node sees") from error
    except UnicodeDecodeError as error:
        raise Refused(f"{path} is not UTF-8 at byte {error.start}; write it in UTF-8") from error
