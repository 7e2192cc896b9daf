"""XML from outside: read with lxml, without document types, entities, network or surprises of size."""

from __future__ import annotations

import re

from lxml import etree

from socs_bl.core.errors import Refused

_DECLARATION = re.compile(r"<!(DOCTYPE|ENTITY)")


class BadXml(Refused):
    """A text that is not read.

    Parameters
    ----------
    kind : str
        ``oversized``, ``encoding``, ``doctype`` or ``malformed``; what such texts are counted by.
    text : str
        What is wrong, where, and what would be right.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def parse(data: str | bytes, limit: int, what: str) -> etree._Element:
    """The root element of an XML text.

    Parameters
    ----------
    data : str or bytes
        UTF-8, whatever its declaration says.
    limit : int
        Bytes it may have.
    what : str
        What it is, for the errors, such as ``configuration document``.

    Returns
    -------
    lxml.etree._Element
        Without comments and processing instructions; ``sourceline`` says where an element stands.

    Raises
    ------
    BadXml
        When it is larger, not UTF-8, declares a document type or entities, or is not well formed.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if len(raw) > limit:
        raise BadXml("oversized", f"{what} has {len(raw)} bytes; at most {limit} are read")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadXml("encoding", f"{what} is not UTF-8 at byte {error.start}; write it in UTF-8") from error
    # Before any parser sees it: libxml2 expands entities in attributes whatever it is told.
    declared = _DECLARATION.search(text)
    if declared is not None:
        line = text.count("\n", 0, declared.start()) + 1
        raise BadXml("doctype", f"{what} declares a document type or entities in line {line}; leave that out")
    parser = etree.XMLParser(
        encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True,
        huge_tree=False,
    )  # fmt: skip
    try:
        return etree.fromstring(raw, parser)
    except etree.XMLSyntaxError as error:
        # msg has line and column; str() adds the name of a file that there is none of.
        raise BadXml("malformed", f"{what} is not well-formed XML: {' '.join(str(error.msg).split())[:200]}") from error
