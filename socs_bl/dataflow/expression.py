"""The conditions of a pipeline: ``type == rawacf and not ext``, ``cp in (151, 3503)``, ``size > 1GiB``.

::

    either     = both { "or" both }
    both       = negated { "and" negated }
    negated    = "not" negated | "(" either ")" | test
    test       = NAME [ ("==" | "!=" | "<" | "<=" | ">" | ">=") literal | ["not"] "in" list ]
    list       = ("(" | "[") literal { "," literal } [","] (")" | "]")
    literal    = text in quotes | WORD | NUMBER [unit]

A name stands to the left of a comparison and nowhere else; a bare word to the right of one is a text. A name alone asks
whether it is there: a text that is not empty, a number that is not 0. What is not known yet (what an inspection has still
to find) makes a condition neither true nor false, unless the rest decides it, as in three-valued logic (Kleene). Nothing
is ever executed.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping

import msgspec

from socs_bl.core.errors import Refused
from socs_bl.dataflow.quantities import UNITS

Value = str | int | float
LARGEST = 2000  # characters
DEEPEST = 40  # parentheses and nots
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[+-]?\d+(?:\.\d+)?)(?P<unit>[A-Za-z]*)|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"""
    r"""|(?P<text>'[^']*'|"[^"]*")|(?P<sign>==|!=|<=|>=|<|>|[(),\[\]]))"""
)
_COMPARE: dict[str, Callable[[Value, Value], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_CLOSING = {"(": ")", "[": "]"}
_RESERVED = frozenset({"and", "or", "not", "in"})


class Test(msgspec.Struct, frozen=True):
    """A name held against literals.

    Attributes
    ----------
    name : str
    sign : str
        A comparison, ``in``, or empty: the name alone.
    literals : tuple
        One for a comparison, several for ``in``.
    column : int
        Where it stands, from 1.
    """

    name: str
    sign: str
    literals: tuple[Value, ...]
    column: int

    def holds(self, values: Mapping[str, Value]) -> bool | None:
        """Whether it is true; None when the name is not known yet."""
        if self.name not in values:
            return None
        value = values[self.name]
        if not self.sign:
            return bool(value)
        if self.sign == "in":
            return value in self.literals
        if isinstance(value, str) != isinstance(self.literals[0], str):
            return (
                self.sign == "!="
            )  # a text is no number; the order of the two is not asked for by a checked condition
        return _COMPARE[self.sign](value, self.literals[0])


class Not(msgspec.Struct, frozen=True):
    """The contrary."""

    part: Node

    def holds(self, values: Mapping[str, Value]) -> bool | None:
        """Whether it is true; None when it is not known yet."""
        held = self.part.holds(values)
        return None if held is None else not held


class Both(msgspec.Struct, frozen=True):
    """All of the parts (`every`), or one of them."""

    every: bool
    parts: tuple[Node, ...]

    def holds(self, values: Mapping[str, Value]) -> bool | None:
        """Whether it is true; None when it is not known yet."""
        found = [part.holds(values) for part in self.parts]
        if (not self.every) in found:
            return not self.every
        return None if None in found else self.every


Node = Test | Not | Both


class Expression(msgspec.Struct, frozen=True):
    """A condition.

    Attributes
    ----------
    text : str
        As it was written.
    node : Test, Not or Both
    """

    text: str
    node: Node

    def holds(self, values: Mapping[str, Value]) -> bool | None:
        """Whether it is true of `values`; None when something that decides it is not known yet."""
        return self.node.holds(values)

    def tests(self) -> Iterator[Test]:
        """Every comparison in it."""
        return _tests(self.node)

    def unknown(self, values: Mapping[str, Value]) -> tuple[str, ...]:
        """Names in it that `values` does not have, each once."""
        return tuple(dict.fromkeys(test.name for test in self.tests() if test.name not in values))


def _tests(node: Node) -> Iterator[Test]:
    if isinstance(node, Test):
        yield node
    elif isinstance(node, Not):
        yield from _tests(node.part)
    else:
        for part in node.parts:
            yield from _tests(part)


def parse_expression(text: str) -> Expression:
    """Parse a condition.

    Raises
    ------
    Refused
        When it is none; the text names the column and what may stand there.
    """
    if len(text) > LARGEST:
        raise Refused(f"a condition of {len(text)} characters is too long; write at most {LARGEST}, or more stages")
    return Expression(text, _Parser(text).whole())


class _Parser:
    """Recursive descent over the tokens: (kind, value, column)."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._split())
        self._next = 0
        self._depth = 0

    def _split(self) -> Iterator[tuple[str, Value, int]]:
        position, end = 0, len(self._text.rstrip())
        while position < end:
            match = _TOKEN.match(self._text, position)
            if match is None:
                rest = self._text[position:]
                raise self._refusal("is not understood here", position + 1 + len(rest) - len(rest.lstrip()))
            kind = match.lastgroup or ""
            column = match.start("number" if kind == "unit" else kind) + 1
            if kind == "unit":
                yield "literal", self._number(match["number"], match["unit"], column), column
            elif kind == "text":
                yield "literal", match["text"][1:-1], column
            else:
                yield "sign" if kind == "sign" or match[kind] in _RESERVED else "word", match[kind], column
            position = match.end()
        yield "end", "", len(self._text) + 1

    def _number(self, digits: str, unit: str, column: int) -> Value:
        if unit and unit not in UNITS:
            raise self._refusal(
                f"has the unit {unit!r}, which is none of {', '.join(UNITS)}; put a text in quotes", column
            )
        number = float(digits) * UNITS.get(unit, 1)
        return int(number) if number.is_integer() else number

    def _refusal(self, what: str, column: int) -> Refused:
        found = self._text[column - 1 : column + 19] or "the end"
        return Refused(f"condition {self._text!r:.200}, column {column}: {found!r} {what}")

    def whole(self) -> Node:
        node = self._either()
        kind, _, column = self._tokens[self._next]
        if kind != "end":
            raise self._refusal("stands where and, or, or the end should", column)
        return node

    def _take(self, *signs: str) -> str:
        """The next token when it is one of these signs, else empty."""
        kind, value, _ = self._tokens[self._next]
        if kind == "sign" and value in signs:
            self._next += 1
            return str(value)
        return ""

    def _expect(self, sign: str, wanted: str) -> None:
        if not self._take(sign):
            raise self._refusal(f"stands where {wanted} should", self._tokens[self._next][2])

    def _either(self) -> Node:
        return self._joined("or", False, lambda: self._joined("and", True, self._negated))

    def _joined(self, word: str, every: bool, part: Callable[[], Node]) -> Node:
        parts = [part()]
        while self._take(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Both(every, tuple(parts))

    def _negated(self) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._refusal(f"is nested deeper than {DEEPEST}", self._tokens[self._next][2])
        node: Node
        if self._take("not"):
            node = Not(self._negated())
        elif self._take("("):
            node = self._either()
            self._expect(")", "')'")
        else:
            node = self._test()
        self._depth -= 1
        return node

    def _test(self) -> Node:
        kind, name, column = self._tokens[self._next]
        if kind != "word":
            raise self._refusal("stands where a name should", column)
        self._next += 1
        sign = self._take(*_COMPARE)
        if sign:
            return Test(str(name), sign, (self._literal(),), column)
        negated = bool(self._take("not"))
        if negated or self._tokens[self._next][:2] == ("sign", "in"):
            self._expect("in", "'in'")
            test = Test(str(name), "in", self._list(), column)
            return Not(test) if negated else test
        return Test(str(name), "", (), column)

    def _list(self) -> tuple[Value, ...]:
        opening = self._take(*_CLOSING)
        if not opening:
            raise self._refusal("stands where a list should; write (a, b)", self._tokens[self._next][2])
        literals = [self._literal()]
        while self._take(","):
            if self._take(_CLOSING[opening]):
                return tuple(literals)
            literals.append(self._literal())
        self._expect(_CLOSING[opening], f"',' or '{_CLOSING[opening]}'")
        return tuple(literals)

    def _literal(self) -> Value:
        kind, value, column = self._tokens[self._next]
        if kind not in ("literal", "word"):
            raise self._refusal("stands where a word, a number or a text in quotes should", column)
        self._next += 1
        return value
