"""A document that somebody brings, made ready for a node: read, checked, and its pipelines listed."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from socs_bl.core import xml
from socs_bl.core.errors import Refused
from socs_bl.correlator.config import NodeConfig
from socs_bl.correlator.document import parse_configuration, write_configuration
from socs_bl.correlator.model import PipeText
from socs_bl.correlator.plan import make_plan
from socs_bl.correlator.ring import choose_slots, ring_bytes
from socs_bl.correlator.vci import is_vci, parse_vci

PATIENCE_NS = 500_000_000  # a dump stays open for so long at least
SHARE = 4  # of the memory for rings, the part that one configuration may keep for pipelines that are behind


class Brought(NamedTuple):
    """A configuration's document, its pipelines that products enter, and how many dumps their rings hold."""

    document: str
    pipes: tuple[PipeText, ...]
    slots: int


def bring(text: str, name: str, config: NodeConfig) -> Brought:
    """Read a configuration or a VCI document; blocks for a second when it is large.

    Parameters
    ----------
    text : str
    name : str
        Of the configuration.
    config : NodeConfig

    Raises
    ------
    Refused
        Says what is wrong, and in which line; also when its rings do not fit into the memory of the node.
    """
    if is_vci(xml.parse(text, config.document_bytes, f"configuration {name}")):
        configuration = parse_vci(text, name)
        text = write_configuration(configuration)
    else:
        configuration = parse_configuration(text, name)
    plans = {pipe: make_plan(configuration.pipe_products(pipe.name)) for pipe in configuration.pipes}
    plans = {pipe: plan for pipe, plan in plans.items() if plan.products}
    dump = configuration.dump_ns
    window, spare = max(3 * dump, PATIENCE_NS), config.ring_bytes // (SHARE * max(1, len(plans)))
    slots = config.slots or min(
        (choose_slots(plan, window, dump, config.ring_bytes, spare) for plan in plans.values()), default=0
    )
    pipes = [PipeText(pipe.name, pipe.text, ring_bytes(plan, slots)) for pipe, plan in plans.items()]
    return Brought(text, tuple(pipes), slots)


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
