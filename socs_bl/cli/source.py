"""Which journal a subcommand is about, where it is, and which machine wrote it."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple, TypeVar

from socs_bl.cli.options import RUN_DIR
from socs_bl.core.codec import Codec
from socs_bl.core.driver import restored
from socs_bl.core.errors import Refused
from socs_bl.core.explain import Teller
from socs_bl.core.journal import Journal
from socs_bl.core.machine import Machine
from socs_bl.services.journals import open_journal
from socs_bl.services.redis_url import VARIABLE, from_environment, from_file, reveal
from socs_bl.services.run_dir import read_state

PREFIX = "socs_bl:"
MachineT = TypeVar("MachineT", bound=Machine)


class Kind(NamedTuple):
    """Journals whose names begin alike have the same machine; the teller puts its events into words."""

    begins: str
    machine: str
    teller: str = "socs_bl.core.explain:Teller"


KINDS = (
    Kind("socs_bl:commensal", "socs_bl.commensal.machine:CommensalMachine", "socs_bl.commensal.story:CommensalTeller"),
    Kind("socs_bl:recorder:", "socs_bl.capture.machine:RecorderMachine"),
    Kind("socs_bl:analyzer:", "socs_bl.search.machine:AnalyzerMachine"),
    Kind("socs_bl:node:", "socs_bl.correlator.machine:NodeMachine", "socs_bl.correlator.story:NodeTeller"),
    Kind(
        "socs_bl:observation:",
        "socs_bl.correlator.observation.machine:ObservationMachine",
        "socs_bl.correlator.observation.story:ObservationTeller",
    ),
    Kind("socs_bl:listener:", "socs_bl.correlator.listener.machine:ListenerMachine"),
    Kind("socs_bl:bdf_publisher:", "socs_bl.bdf.machine:PublisherMachine", "socs_bl.bdf.story:PublisherTeller"),
)


def add_source(parser: argparse.ArgumentParser, again: bool = False) -> None:
    """``--run-dir``, ``--url`` and ``--url-file``: where the journals are.

    Parameters
    ----------
    parser : ArgumentParser
    again : bool
        The parser is below one that has them already; they may stand at either place.
    """
    run_dir, nothing = (argparse.SUPPRESS,) * 2 if again else (RUN_DIR, None)
    parser.add_argument(
        "--run-dir",
        type=type(RUN_DIR),
        default=run_dir,
        metavar="DIR",
        help="where an observatory runs, whose Redis holds the journals (default: ./run)",
    )
    parser.add_argument("--url", default=nothing, help=f"a server or file of journals instead, also from ${VARIABLE}")
    parser.add_argument("--url-file", default=nothing, metavar="FILE", help="file that holds the URL, for secrets")


def url_of(args: argparse.Namespace) -> str:
    """Where the journals are.

    Raises
    ------
    Refused
        When nothing says so.
    """
    if args.url_file:
        return from_file(args.url_file)
    if args.url:
        return str(args.url)
    state = read_state(args.run_dir)
    if state is not None and state.redis_url:
        return reveal(state.redis_url)
    if VARIABLE in os.environ:
        return from_environment()
    raise Refused(
        f"no observatory runs in {args.run_dir.resolve()}; give --run-dir, or --url with the Redis or file of the journals"
    )


def full_name(name: str) -> str:
    """A journal's name, also when it was given without ``socs_bl:``."""
    known = any(name.startswith(kind.begins.removeprefix(PREFIX)) for kind in KINDS)
    return PREFIX + name if known else name


@contextmanager
def opened(args: argparse.Namespace, name: str) -> Iterator[Journal]:
    """The journal of a name, closed afterwards."""
    with closing(open_journal(url_of(args), full_name(name))) as journal:
        yield journal


def machine_now(args: argparse.Namespace, name: str, factory: type[MachineT]) -> MachineT:
    """The machine as its journal has it now.

    Raises
    ------
    Refused
        When the journal is empty.
    """
    with opened(args, name) as journal:
        machine = restored(factory, Codec(factory), journal.load())
    if not machine.sequence:
        raise Refused(
            f"journal {name} is empty: no agent has run there, or its journal is elsewhere (--url); look at journal list"
        )
    return machine


def machine_of(name: str) -> type[Machine]:
    """The class of machine that a journal is of.

    Raises
    ------
    Refused
        When it is not one of ours.
    """
    machine: type[Machine] = _load(_kind(name).machine)
    return machine


def teller_of(name: str) -> Teller[Any]:
    """Who puts a journal into words."""
    teller: Teller[Any] = _load(_kind(name).teller)()
    return teller


def _kind(name: str) -> Kind:
    for kind in KINDS:
        if full_name(name).startswith(kind.begins):
            return kind
    names = ", ".join(kind.begins for kind in KINDS)
    raise Refused(f"{name} is not a journal of ours, whose names begin with {names}; see socs-bl journal list")


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
