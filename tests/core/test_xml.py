"""XML from outside: read, or refused in words, whatever it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.core.xml import BadXml, parse

LIMIT = 10_000
BOMB = """<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;">]>
<lolz a="&lol2;">&lol2;</lolz>"""


def kind(data: str | bytes) -> str:
    """What a text is refused as."""
    with pytest.raises(BadXml) as caught:
        parse(data, LIMIT, "a document")
    assert "a document" in str(caught.value) and "\n" not in str(caught.value)
    return caught.value.kind


def test_good_text_is_read() -> None:
    """Attributes, text and the lines things stand in; comments and instructions are left out."""
    root = parse(
        b"<?xml version='1.0' encoding='UTF-16'?>\n<!-- x --><a><?y z?>\n<b c='1'>\xc3\xa9</b></a>", LIMIT, "x"
    )
    (child,) = root
    assert (root.tag, child.tag, child.get("c"), child.text, child.sourceline) == ("a", "b", "1", "é", 3)


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ("<a>" + " " * LIMIT + "</a>", "oversized"),
        ("<a/>".encode("utf-16"), "encoding"),
        (b"<a>\xff</a>", "encoding"),
        (BOMB, "doctype"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "doctype"),
        ("<a>&nobody;</a>", "malformed"),
        ("<a>", "malformed"),
        ("", "malformed"),
        ("<a>" * 3000, "malformed"),
    ],
)
def test_bad_text_is_refused_by_kind(data: str | bytes, wanted: str) -> None:
    """Too large, another encoding, document types and entities, broken or nested without end."""
    assert kind(data) == wanted


def test_the_place_is_said_once() -> None:
    """Line and column, for people who edit the document; no file that nobody knows."""
    with pytest.raises(BadXml, match=r"^c0 is not well-formed XML: .*tag b line 2, line 2, column 4$"):
        parse("<a>\n<b>", LIMIT, "c0")


@given(st.binary(max_size=60) | st.text(st.characters(), max_size=60))
def test_anything_is_read_or_refused(data: str | bytes) -> None:
    """No other exception comes out."""
    try:
        parse(data, LIMIT, "a document")
    except BadXml as refused:
        assert len(str(refused)) < 400
