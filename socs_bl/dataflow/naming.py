"""Names from outside and the places made of them: nothing becomes a path before one of these functions has accepted it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from socs_bl.core.errors import Refused
from socs_bl.dataflow.model import FileName

LONGEST = 255  # bytes, of one name
DATES = {"year": "%Y", "month": "%m", "day": "%d", "hour": "%H"}  # what a template has of the time in a name
_VALUE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")
_PLACE = re.compile(r"\{([^{}]*)\}")
_LITERAL = re.compile(r"[A-Za-z0-9_.+ /-]*")
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_name(text: str) -> str:
    """Accept a file name: one component of a path, printable, not hidden, not like an option.

    Raises
    ------
    Refused
        When the text is anything else.
    """
    try:
        length = len(text.encode())
    except UnicodeEncodeError as error:
        raise Refused(f"name {text!r:.300} is not UTF-8; rename the file") from error
    if "/" in text or not text.isprintable():
        raise Refused(f"name {text!r:.300} has a slash or a character that cannot be printed; rename the file")
    if not text or text[0] in ".-" or length > LONGEST:
        raise Refused(
            f"name {text!r:.300} is empty, longer than {LONGEST} bytes, or begins with '.' or '-'; rename the file"
        )
    return text


def check_directory(text: str) -> str:
    """Accept a directory below a store's root, the root itself (empty) included.

    Raises
    ------
    Refused
        When it is absolute, leads out of the root or has a component that is no name.
    """
    for part in text.split("/") if text else ():
        check_name(part)
    return text


class Template(msgspec.Struct, frozen=True):
    """A directory with places for fields of a name, such as ``{radar}_data/{year}/{month}``.

    Attributes
    ----------
    text : str
    """

    text: str

    @property
    def names(self) -> tuple[str, ...]:
        """The fields it wants."""
        return tuple(_PLACE.findall(self.text))

    def fill(self, values: Mapping[str, str]) -> str:
        """The directory for one file.

        Raises
        ------
        Refused
            When a field is missing, or its value cannot be part of a path.
        """
        return check_directory(_PLACE.sub(lambda match: self._value(match[1], values), self.text))

    def _value(self, name: str, values: Mapping[str, str]) -> str:
        value = values.get(name, "")
        if not _VALUE.fullmatch(value):
            raise Refused(
                f"directory {self.text!r}: field {name} is {value!r:.120}, which cannot be part of a path; "
                "it must be letters, digits and '_.+-', and not begin with '.', '+' or '-'"
            )
        return value


def parse_template(text: str) -> Template:
    """Parse a directory with places.

    Raises
    ------
    Refused
        When it is absolute, leads out of the root, or has a place that is no name in braces.
    """
    for name in _PLACE.findall(text):
        if not _FIELD.fullmatch(name):
            raise Refused(f"directory {text!r:.200}: {{{name}}} is no field; write a name in braces, such as {{radar}}")
    if not _LITERAL.fullmatch(_PLACE.sub("", text)):
        raise Refused(
            f"directory {text!r:.200}: apart from {{field}} only letters, digits, space and '_.+-/' may stand there"
        )
    check_directory(_PLACE.sub("x", text))
    return Template(text)


class Pattern(msgspec.Struct, frozen=True):
    """What the names of one kind of file look like.

    Attributes
    ----------
    expression : re.Pattern
        Whole names fit it; its named groups are the fields.
    time_field, time_format : str
        The field that says when the file begins (UTC), and how (`datetime.strptime`); both empty when none does.
    """

    expression: re.Pattern[str]
    time_field: str = ""
    time_format: str = ""

    def parse(self, text: str) -> FileName | None:
        """The name with its fields, or None when it does not fit or its time is none.

        Raises
        ------
        Refused
            When it fits and is no safe name.
        """
        match = self.expression.fullmatch(text)
        if match is None:
            return None
        name = FileName(check_name(text), {field: value or "" for field, value in match.groupdict().items()})
        return name if not self.time_field or self._time(name) else None

    def _time(self, name: FileName) -> datetime | None:
        try:
            return datetime.strptime(name.fields[self.time_field], self.time_format).replace(tzinfo=UTC)
        except (ValueError, KeyError):
            return None

    def time_ns(self, name: FileName) -> int | None:
        """When the file begins, by its name, Unix ns; None when the name does not say."""
        time = self._time(name) if self.time_field else None
        return None if time is None else round(time.timestamp()) * 10**9

    def places(self, name: FileName) -> dict[str, str]:
        """What a template is filled with: the fields, and ``year``, ``month``, ``day``, ``hour`` of its time."""
        time = self._time(name) if self.time_field else None
        dates = {} if time is None else {word: time.strftime(form) for word, form in DATES.items()}
        return {**dates, **name.fields}

    @property
    def groups(self) -> dict[str, Group]:
        """The fields, as the expression says them."""
        return dict(_groups(self.expression.pattern))

    def admits(self, field: str, value: str) -> bool:
        """Whether a field can have this value, by its own part of the expression alone."""
        group = self.groups[field]
        if value == "":
            return group.optional or re.fullmatch(group.inner, "", self.expression.flags) is not None
        return group.refers or re.fullmatch(group.inner, value, self.expression.flags) is not None


class Group(NamedTuple):
    """A named group of a regular expression.

    Attributes
    ----------
    inner : str
        What stands in it.
    optional : bool
        A name can fit without it.
    """

    inner: str
    optional: bool

    @property
    def refers(self) -> bool:
        """It refers to another group, so that it means nothing by itself."""
        return re.search(r"\\[1-9]|\(\?P=", self.inner) is not None

    @property
    def words(self) -> tuple[str, ...]:
        """All values it can have when it is a list of plain words, else nothing."""
        words = tuple(re.sub(r"\\(\W)", r"\1", word) for word in self.inner.split("|"))
        return (
            words
            if all(re.escape(word) == plain for word, plain in zip(words, self.inner.split("|"), strict=True))
            else ()
        )


def _groups(pattern: str) -> Iterator[tuple[str, Group]]:
    """The named groups; one is optional when it, or a group around it, may be left out or stands beside a ``|``."""
    open_at: list[tuple[int, str]] = []
    spans: list[tuple[int, int, str, bool]] = []
    bars: list[int] = []
    position, in_set = 0, False
    while position < len(pattern):
        character = pattern[position]
        if character == "\\":
            position += 1
        elif in_set:
            in_set = character != "]"
        elif character == "[":
            in_set = True
            position += len(re.match(r"\^?\]?", pattern[position + 1 :])[0])  # type: ignore[index]
        elif character == "(":
            name = re.match(r"\(\?P<(\w+)>", pattern[position:])
            open_at.append((position, name[1] if name else ""))
        elif character == ")":
            start, name_of = open_at.pop()
            left_out = re.match(r"[?*]|\{0|\{,", pattern[position + 1 :]) is not None
            spans.append((start, position, name_of, left_out))
        elif character == "|":
            bars.append(open_at[-1][0] if open_at else -1)
        position += 1
    for start, end, name_of, left_out in spans:
        if name_of:
            around = [span for span in spans if span[0] < start and span[1] > end]
            optional = left_out or any(span[3] or span[0] in bars for span in around) or -1 in bars
            yield name_of, Group(pattern[start + len(f"(?P<{name_of}>") : end], optional)
