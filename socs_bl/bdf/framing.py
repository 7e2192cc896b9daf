"""The bytes of a file around its numbers: the main header, and what stands between the binary parts of a block.

Every block has the same length and its parts the same places, although the number of the integration stands in it many
times and its digits grow: an ``X-pad`` line before each part takes up what is left. That is what lets several writers
put their pieces into one file, and readers jump to any integration. The first ``X-pad`` also keeps room for an
``abortedObservation``. Parts start at multiples of 64 bytes of the file.

Source: EVLA/ALMA Binary Data Format, MIME structure and ``sdmDataSubsetHeader``, as EVLA writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import escape

from socs_bl.bdf.header import CROSS_AND_AUTO, CROSS_ONLY, SDM_BINARY, XLINK, XSI, Header, header_xml
from socs_bl.core.errors import Refused

BOUNDARY_1, BOUNDARY_2 = "MIME_boundary-1", "MIME_boundary-2"
BLOCK_START = f"--{BOUNDARY_1}\n".encode()
CLOSING = f"--{BOUNDARY_1}--\n".encode()
_BLOCK_END = f"\n--{BOUNDARY_2}--\n".encode()
INTERVAL_FIELD = "X-interval-ns"
ALIGNMENT = 64
MAX_INDEX = 999_999_999
REASON_BYTES = 200
_LARGEST_NS = (1 << 63) - 1
_SUBSETS = {CROSS_AND_AUTO: "BinaryCrossAndAutoDataFXF", CROSS_ONLY: "BinaryCrossDataFXF"}


class Framing:
    """The bytes around the parts.

    Parameters
    ----------
    header : Header
    sizes : mapping of str to (int, str)
        As for `header_xml`.
    nbytes : mapping of str to int
        Bytes of each part, in the order of the file.

    Attributes
    ----------
    head : bytes
        Everything before the first block.
    block_bytes : int
    offsets : dict of str to int
        Where each part's numbers start in a block.
    """

    def __init__(self, header: Header, sizes: Mapping[str, tuple[int, str]], nbytes: Mapping[str, int]) -> None:
        self._header = header
        self._nbytes = dict(nbytes)
        self._names = tuple(nbytes)
        longest = self._texts(MAX_INDEX, _LARGEST_NS, _LARGEST_NS, "x" * REASON_BYTES, _LARGEST_NS)
        spans: list[int] = []
        self.offsets: dict[str, int] = {}
        position = 0
        for name, text in zip(self._names, longest, strict=True):
            # The first part sets the grid; each further one starts a multiple of ALIGNMENT later.
            length = len(text)
            if self.offsets:
                first = next(iter(self.offsets.values()))
                length += (first - position - length) % ALIGNMENT
            spans.append(length)
            self.offsets[name] = position + length
            position += length + self._nbytes[name]
        position += len(_BLOCK_END)
        spans[0] += (grow := -position % ALIGNMENT)
        self._spans = tuple(spans)
        self.offsets = {name: offset + grow for name, offset in self.offsets.items()}
        self.block_bytes = position + grow
        self.head = self._head(header_xml(header, dict(sizes)))

    def _head(self, xml: str) -> bytes:
        header = self._header
        before = (
            "MIME-Version: 1.0\n"
            f"Content-Type: multipart/mixed; boundary={BOUNDARY_1}\n"
            f"Content-Description: {header.description}\n"
            f"Content-Location: {header.location}/{header.uid.removeprefix('uid://').lstrip('/')}\n"
            "\n"
            f"--{BOUNDARY_1}\n"
            "Content-Type: text/xml; charset=utf-8\n"
            "Content-Location: sdmDataHeader.xml\n"
            f"{INTERVAL_FIELD}: {header.interval_ns}\n"
        ).encode()
        after = f"\n{xml}\n".encode()
        first = next(iter(self.offsets.values()))
        length = len(before) + len(_pad(0)) + len(after)
        return _padded(before, after, length + (-(length + first)) % ALIGNMENT)

    def _texts(self, index: int, time_ns: int, interval_ns: int, reason: str, stop_ns: int) -> list[bytes]:
        """What stands before each part, with the shortest pads."""
        return [
            before + _pad(0) + after for before, after in self._fields(index, time_ns, interval_ns, reason, stop_ns)
        ]

    def _fields(
        self, index: int, time_ns: int, interval_ns: int, reason: str, stop_ns: int
    ) -> list[tuple[bytes, bytes]]:
        """What stands before each part: before and after the pad."""
        path = f"{self._header.project_path}{index + 1}/"
        fields: list[tuple[bytes, bytes]] = []
        before = (
            f"--{BOUNDARY_1}\n"
            f"Content-Type: multipart/related; boundary={BOUNDARY_2}\n"
            "Content-Description: data and metadata subset\n"
            "\n"
            f"--{BOUNDARY_2}\n"
            "Content-Type: text/xml; charset=utf-8\n"
            f"Content-Location: {path}desc.xml\n"
        ).encode()
        after = f"\n{self._subset_xml(path, time_ns, interval_ns, reason, stop_ns)}\n".encode()
        for name in self._names:
            part = (
                f"--{BOUNDARY_2}\nContent-Type: application/octet-stream\nContent-Location: {path}{name}.bin\n"
            ).encode()
            fields.append((before, after + part + b"\n") if not fields else (b"\n" + part, b"\n"))
        return fields

    def _subset_xml(self, path: str, time_ns: int, interval_ns: int, reason: str, stop_ns: int) -> str:
        mode = self._header.correlation_mode
        aborted = (
            f"<abortedObservation><stopTime>{stop_ns}</stopTime><reason>{reason}</reason></abortedObservation>"
            if reason
            else ""
        )
        kind = {"crossData": ' type="FLOAT32_TYPE"'}
        parts = "".join(f'<{name} xl:href="{path}{name}.bin"{kind.get(name, "")}/>' for name in self._names)
        return (
            f'<sdmDataSubsetHeader xmlns:xsi="{XSI}" xmlns:xl="{XLINK}" xmlns="{SDM_BINARY}"'
            f' xsi:type="{_SUBSETS.get(mode, "BinaryAutoDataFXF")}" projectPath="{path}">'
            f"<schedulePeriodTime><time>{time_ns}</time><interval>{interval_ns}</interval></schedulePeriodTime>"
            f'<dataStruct ref="sdmDataHeader"/>{aborted}{parts}</sdmDataSubsetHeader>'
        )

    def pieces(self, index: int, time_ns: int, reason: str = "", stop_ns: int = 0) -> list[tuple[int, bytes]]:
        """The bytes around the parts of a block.

        Parameters
        ----------
        index : int
            Integration, from 0; its number in the file's texts is one more.
        time_ns : int
            Middle of the integration, ns since MJD 0.
        reason : str
            Why the observation was aborted in this integration; empty: it was not. Cut to what there is room for.
        stop_ns : int
            When, ns since MJD 0.

        Returns
        -------
        list of (int, bytes)
            Offset in the block and the bytes there, in order. The first begins with `BLOCK_START`.

        Raises
        ------
        Refused
            When the number is too large for a block.
        """
        if not 0 <= index <= MAX_INDEX or not 0 <= time_ns <= _LARGEST_NS:
            raise Refused(f"integration {index} at {time_ns} ns: a file has {MAX_INDEX + 1} at most, in 64-bit times")
        fields = self._fields(index, time_ns, self._header.interval_ns, _xml_reason(reason), stop_ns)
        found = []
        for (before, after), span, offset in zip(fields, self._spans, self.offsets.values(), strict=True):
            found.append((offset - span, _padded(before, after, span)))
        found.append((self.block_bytes - len(_BLOCK_END), _BLOCK_END))
        return found


def _pad(count: int) -> bytes:
    return b"X-pad: *" + b"*" * count + b"\n"


def _padded(before: bytes, after: bytes, length: int) -> bytes:
    """`before` and `after` with a pad between them, `length` bytes together."""
    return before + _pad(length - len(before) - len(after) - len(_pad(0))) + after


def _xml_reason(reason: str) -> str:
    """A reason as ASCII text for XML, short enough for the room that is kept."""
    plain = "".join(mark if mark.isprintable() else " " for mark in reason).encode("ascii", "replace").decode()
    while len(text := escape(plain.strip())) > REASON_BYTES:
        plain = plain[: REASON_BYTES if len(plain) > REASON_BYTES else -1]
    return text
