"""A pipeline as people write it: stores, patterns of names, stages. Read with `load_pipeline` of `socs_bl.dataflow.pipeline`.

What one value can tell is checked here, what takes two in `socs_bl.dataflow.check`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    InstanceOf,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from socs_bl.core.config import Config
from socs_bl.core.errors import Refused
from socs_bl.dataflow.expression import Expression, parse_expression
from socs_bl.dataflow.naming import Template, check_directory, parse_template
from socs_bl.dataflow.quantities import Duration, Rate, RateOf, Size, Span, SpanOf, Speed

PRIORITIES = {"low": -10, "normal": 0, "high": 10}


def _parsed(parse: Callable[[str], Any], kind: type) -> Callable[[object], Any]:
    """A validator that takes what `parse` accepts, or what has been parsed already."""

    def validate(value: object) -> Any:
        if isinstance(value, kind) and not isinstance(value, str):
            return value
        if not isinstance(value, str):
            raise ValueError("write a text")
        try:
            return parse(value)
        except Refused as refusal:
            raise ValueError(str(refusal)) from refusal

    return validate


def _as_text(instance: Any, kind: type, parse: Callable[[str], Any]) -> Any:
    shown = PlainSerializer(lambda value: value.text)
    return Annotated[instance, BeforeValidator(_parsed(parse, kind)), WithJsonSchema({"type": "string"}), shown]


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str | Template) else value


def _level(value: object) -> object:
    return PRIORITIES.get(value, value) if isinstance(value, str) else value


def _compiles(text: str) -> str:
    try:
        expression = re.compile(text)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    if not expression.groupindex:
        raise ValueError("has no named group; write what varies as (?P<name>...)")
    return text


if TYPE_CHECKING:
    Condition: TypeAlias = Expression
    Directory: TypeAlias = Template
else:
    Condition = _as_text(InstanceOf[Expression], Expression, parse_expression)
    Directory = _as_text(InstanceOf[Template], Template, parse_template)
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
Directories = Annotated[tuple[Directory, ...], BeforeValidator(_one_or_more), Field(min_length=1)]
Level = Annotated[int, BeforeValidator(_level), Field(ge=-100, le=100)]
Below = Annotated[str, BeforeValidator(_parsed(check_directory, str))]
Regular = Annotated[str, Field(max_length=1000), BeforeValidator(_parsed(_compiles, str))]
Algorithm = Literal["xxh3_128", "sha1", "md5"]


def _absolute(path: Path) -> Path:
    if not path.is_absolute() or ".." in path.parts:
        raise ValueError("is not absolute; write the whole path, without '..'")
    return path


Absolute = Annotated[Path, AfterValidator(_absolute)]


class _Store(Config):
    """What all stores have."""

    path: Absolute
    reserve: Size = 0
    quarantine: Below | None = None
    at_once: int = Field(default=1, ge=1, le=64)


class LocalStore(_Store):
    """A directory tree on a disk of this host.

    Attributes
    ----------
    path : Path
    reserve : int
        Bytes that stay free; work that would take them waits.
    quarantine : str or None
        Directory below `path` for files that are bad; None: nothing is put there.
    at_once : int
        Jobs that write into it at the same time.
    scan : float
        Seconds between two looks at all of it; 0: it is only written to.
    inotify : bool
        Look at once when something happens.
    """

    kind: Literal["local"]
    scan: Duration = 60.0
    inotify: bool = True


class NfsStore(_Store):
    """A directory tree that other hosts write too: nothing tells of their changes, so that it is only scanned.

    Attributes
    ----------
    path, reserve, quarantine, at_once
        As of a local store.
    scan : float
        Seconds between two looks at all of it; 0: it is only written to.
    """

    kind: Literal["nfs"]
    scan: Duration = 120.0


class SshStore(_Store):
    """A directory tree on another host; it is only written to, an agent on that host does the rest.

    Attributes
    ----------
    path, reserve, quarantine, at_once
        As of a local store.
    host : str
        ``user@host`` or ``host``.
    port : int
    identity : Path or None
        Key file; None: what ssh finds.
    known_hosts : Path or None
        Host keys that are trusted; None: the user's.
    mux : bool
        All of it goes through one connection.
    max_connections : Rate
        New connections in a time, such as ``20/min``.
    """

    kind: Literal["ssh"]
    host: str = Field(pattern=r"^([A-Za-z_][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9.:-]*$")
    port: int = Field(default=22, ge=1, le=65535)
    identity: Absolute | None = None
    known_hosts: Absolute | None = None
    mux: bool = True
    max_connections: RateOf = Rate(20, 60.0)


Store = Annotated[LocalStore | NfsStore | SshStore, Field(discriminator="kind")]


class Sign(Config):
    """One sign that a file is complete; exactly one is set.

    Attributes
    ----------
    newer_block_of_same : tuple of str
        A file exists whose name has the same values in these fields and a later time.
    quiet_for : float
        It has not changed for so many seconds, as the scans saw it.
    moved_in : bool
        It came under its name by a rename.
    closed : bool
        A writer has closed it; only for writers that open a file once.
    """

    newer_block_of_same: tuple[str, ...] = ()
    quiet_for: Duration = 0.0
    moved_in: bool = False
    closed: bool = False

    @model_validator(mode="after")
    def _one(self) -> Sign:
        if len(self.model_fields_set) != 1 or not any(self.model_dump().values()):
            raise ValueError("set exactly one of newer_block_of_same, quiet_for, moved_in, closed")
        return self


class Completion(Config):
    """When a file is taken to be complete.

    Attributes
    ----------
    any : tuple of Sign
        One of them is enough.
    stable_scans : int
        And its size, time and inode were the same in as many looks, one after the other,
    apart : float
        which were at least so many seconds apart.
    no_writer : bool
        And no process of this host has it open for writing, where that can be known.
    """

    any: tuple[Sign, ...] = Field(min_length=1)
    stable_scans: int = Field(default=2, ge=1, le=100)
    apart: Duration = 5.0
    no_writer: bool = True


class NameTime(Config):
    """Which field says when a file begins (UTC), and how.

    Attributes
    ----------
    field : str
    format : str
        As of `datetime.strptime`.
    """

    field: str
    format: str


class Block(Config):
    """One kind of file.

    Attributes
    ----------
    name : str
        Regular expression that whole names fit; its named groups are the fields of the file.
    time : NameTime or None
    together : tuple of str
        Fields that the files of one manifest have in common; empty: each file has its own.
    complete_when : Completion
    metadata : dict
        What inspections find out, ``text`` or ``number``, by name: conditions may use it.
    """

    name: Regular
    time: NameTime | None = None
    together: tuple[str, ...] = ()
    complete_when: Completion
    metadata: dict[Identifier, Literal["text", "number"]] = {}


class Retrying(Config):
    """How often a job is tried again.

    Attributes
    ----------
    max : int
        Then it is held for a person.
    backoff : Span
        First pause and longest, seconds; each is twice the one before.
    """

    max: int = Field(default=20, ge=0)
    backoff: SpanOf = Span(30.0, 3600.0)


class Limits(Config):
    """What the process of one job may use.

    Attributes
    ----------
    mem : int
        Bytes.
    time : float
        Seconds.
    """

    mem: Size = 2 << 30
    time: Duration = 3600.0


class Choice(Config):
    """One line of a list of which the first that holds counts; the last has no ``if``.

    Attributes
    ----------
    if_ : Expression or None
        ``if`` in the file.
    priority : int
        ``low``, ``normal``, ``high`` or a number from -100 to 100.
    """

    if_: Condition | None = Field(default=None, alias="if")
    priority: Level


class Window(Config):
    """A limit for a time of the day.

    Attributes
    ----------
    between : str
        ``HH:MM-HH:MM``, UTC, the end excluded; may go past midnight. Empty: at all other times.
    limit : int
        Bytes a second; 0 (``none`` in the file) limits nothing.
    """

    between: str = Field(default="", pattern=r"^(([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d)?$")
    limit: Speed

    def holds(self, second: float) -> bool:
        """Whether it is that time, `second` seconds after midnight UTC."""
        if not self.between:
            return True
        first, last = (_second_of(text) for text in self.between.split("-"))
        return first <= second < last if first < last else second >= first or second < last


def _second_of(text: str) -> int:
    clock = time.fromisoformat(text)
    return clock.hour * 3600 + clock.minute * 60


def _windows(value: object) -> object:
    return value if isinstance(value, list | tuple) else ({"limit": value},)


def _choices(value: object) -> object:
    return value if isinstance(value, list | tuple) else ({"priority": value},)


Windows = Annotated[tuple[Window, ...], BeforeValidator(_windows)]
Priorities = Annotated[tuple[Choice, ...], BeforeValidator(_choices)]
