"""How the tables of an SDM are written: XML documents with rows, arrays as text, references by uid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from socs_bl.core.clock import DAY_NS

Value = int | float | str
Row = Mapping[str, Value]
SCHEMA_VERSION = 3
UID_OF_BLOCK = "uid:///evla/sdm/"


class Markup(str):
    """Text that is XML already."""

    __slots__ = ()


def array(values: Sequence[Any]) -> str:
    """An array: number of axes, their lengths, then all values, the last axis fastest."""
    items = np.array(values, dtype=object)
    return " ".join([str(items.ndim), *map(str, items.shape), *(_text(item) for item in items.flat)])


def reference(uid: str, kind: str) -> Markup:
    """A reference to something with a uid of its own."""
    return Markup(
        f'<EntityRef entityId={quoteattr(uid)} partId="X00000000" entityTypeName="{kind}" documentVersion="1"/>'
    )


def table(name: str, rows: Sequence[Row], block: str, number: int) -> bytes:
    """The document of a table.

    Parameters
    ----------
    name : str
        Such as ``SpectralWindow``.
    rows : sequence of Row
        Elements in the order of the schema.
    block : str
        Uid of the execution block.
    number : int
        Of this table in the SDM, from 1.
    """
    body = "\n".join(f"<row>{''.join(_element(key, value) for key, value in row.items())}</row>" for row in rows)
    text = (
        f"{_entity('Entity', _uid(block, number), f'{name}Table')}\n"
        f"{_entity('ContainerEntity', _uid(block, 0), 'ASDM')}\n{body}\n"
    )
    return _document(f"{name}Table", text)


def table_of_contents(counts: Mapping[str, int], block: str, created: int) -> bytes:
    """``ASDM.xml``: the tables there are and their numbers of rows.

    Parameters
    ----------
    counts : mapping of str to int
        In the order of their numbers.
    block : str
        Uid of the execution block.
    created : int
        Time of creation, ns since MJD 0.
    """
    entries = "\n".join(
        f"<Table><Name>{name}</Name><NumberRows>{count}</NumberRows>"
        f"{_entity('Entity', _uid(block, number), f'{name}Table')}</Table>"
        for number, (name, count) in enumerate(counts.items(), 1)
    )
    head = _entity("Entity", _uid(block, 0), "ASDM")
    return _document("ASDM", f"{head}\n<TimeOfCreation>{_iso(created)}</TimeOfCreation>\n{entries}\n")


def _document(root: str, body: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}>\n{body}</{root}>\n'.encode()


def _entity(tag: str, uid: str, kind: str) -> str:
    return (
        f'<{tag} entityId="{uid}" entityIdEncrypted="na" entityTypeName="{kind}"'
        f' schemaVersion="{SCHEMA_VERSION}" documentVersion="1"/>'
    )


def _uid(block: str, number: int) -> str:
    """Uid of table `number` in the SDM of a block; 0: of the SDM itself."""
    return f"{UID_OF_BLOCK}{block.rpartition('/')[2]}/{number:x}"


def _element(name: str, value: Value) -> str:
    return f"<{name}>{value if isinstance(value, Markup) else escape(_text(value))}</{name}>"


def _text(value: Any) -> str:
    """Numbers as they are read back exactly."""
    return repr(float(value)) if isinstance(value, float) else str(value)


def _iso(mjd_ns: int) -> str:
    moment = np.datetime64("1858-11-17T00:00:00", "s") + np.timedelta64(mjd_ns // DAY_NS * 86400, "s")
    return f"{moment + np.timedelta64(mjd_ns % DAY_NS // 10**9, 's')}.000000000"
