"""Reads MeerKAT's telescope state, a Redis server with a layout and an encoding of its own.

Source: katsdptelstate 1.0, documentation and encoding. A key is an immutable string, a hash of immutables, or a sorted
set of all scores 0 whose members are an 8-byte big-endian time and a value. A value is the byte 0xff and msgpack, with
extension types for tuples (1), complex numbers (2), arrays in npy format (3) and numpy scalars (4). A view looks a name up
under several prefixes, first found first taken. Values of before 2019, which are pickles, are not read: unpickling would
run whatever is in them.
"""

from __future__ import annotations

import contextlib
import io
import re
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
import redis

from socs_bl.commensal.calibration import CaptureBlock, Products
from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.services.redis_server import SOCKET_TIMEOUT, make_client

BLOCKS = "sdp_capture_block_id"
LARGEST_PARTS = 64
_MSGPACK = 0xFF
_SCRIPT = ("script_name", b"script_name")
_ENDPOINT = re.compile(r"""\(?\s*['"]?(?P<host>[A-Za-z0-9.-]{1,253})['"]?\s*[,:]\s*(?P<port>[0-9]{1,5})\s*\)?""")
_TIME = struct.Struct(">d")
T = TypeVar("T")


def parse_endpoint(text: str) -> tuple[str, int]:
    """Parse ``('10.98.2.128', 31029)``, as CAM writes it, or ``host:port``.

    Raises
    ------
    Refused
        When it is neither.
    """
    match = _ENDPOINT.fullmatch(text.strip())
    if match is None or not 0 < int(match["port"]) < 65536:
        raise Refused(f"endpoint {text[:80]!r} is not ('host', port); look at the subarray's telstate_sensor")
    return match["host"], int(match["port"])


def decode(data: bytes) -> Any:
    """Decode a value.

    Raises
    ------
    Refused
        When it is a pickle or cannot be read.
    """
    if not data or data[0] != _MSGPACK:
        raise Refused(f"value begins with {data[:1]!r}, not with 0xff; pickled values are not read")
    try:
        return msgspec.msgpack.decode(data[1:], ext_hook=_extension)
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError, struct.error) as error:
        raise Refused(f"value cannot be decoded: {error!s:.200}") from error


def _extension(code: int, data: memoryview) -> Any:
    raw = bytes(data)
    match code:
        case 1:
            return tuple(msgspec.msgpack.decode(raw, type=list[Any], ext_hook=_extension))
        case 2:
            return complex(*struct.unpack(">dd", raw))
        case 3:
            return _array(raw)
        case 4:
            return _scalar(raw)
    raise ValueError(f"extension type {code} is unknown")


def _array(raw: bytes) -> Any:
    """An npy file; its size is compared with its header before anything is allocated."""
    file = io.BytesIO(raw)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"npy version {version} is unknown")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("array of objects")
    values = np.frombuffer(raw, dtype, offset=file.tell())
    return values.reshape(shape, order="F" if fortran else "C").copy()


def _scalar(raw: bytes) -> Any:
    """A dtype descriptor as a short msgpack string, then the bytes of one value."""
    length = raw[0] & 0x1F
    if raw[0] & 0xE0 != 0xA0:
        raise ValueError("scalar of a structured type")
    dtype = np.dtype(raw[1 : 1 + length].decode("ascii"))
    if dtype.hasobject or len(raw) != 1 + length + dtype.itemsize:
        raise ValueError("scalar of the wrong length")
    return np.frombuffer(raw, dtype, 1, 1 + length)[0]


class TelescopeState:
    """One telescope-state server. All calls block; use it in a ``with`` statement.

    Parameters
    ----------
    host : str
    port : int
    patience : float
        Time for everything that is asked of it, seconds.

    Notes
    -----
    Every method raises `Retry` when the server does not answer (in time), and `Faulty` when a value is missing or
    unreadable.
    """

    def __init__(self, host: str, port: int, patience: float) -> None:
        self.place = f"telescope state at {host}:{port}"
        self._client = make_client(f"redis://{host}:{port}/0", min(patience, SOCKET_TIMEOUT))
        self._patience = patience
        self._deadline = time.monotonic() + patience

    def __enter__(self) -> TelescopeState:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def capture_blocks(self) -> list[CaptureBlock]:
        """All capture blocks in order that have an observation script and gains."""
        blocks = []
        for identity, _ in self._series(BLOCKS):
            script = self._script(_word(identity))
            times = self._times(f"{_word(identity)}_cal_product_G")
            if script and times:
                blocks.append(CaptureBlock(script, times))
        return blocks

    def products(self, phaseup: float) -> Products:
        """What the calibration pipeline had for a phase-up that was done at that time, Unix seconds."""
        before = self._latest([BLOCKS], phaseup)
        if before is None:
            raise Faulty(f"{self.place} has no capture block before the phase-up", self.place)
        block, start = _word(before[0]), before[1]
        view = (f"{block}_cal_", "cal_")

        def product(name: str, parts: int = 0) -> Any:
            return self._product([f"{prefix}product_{name}" for prefix in view], start, phaseup, parts)

        def value(name: str, kind: Callable[[Any], T]) -> T:
            return self._value([prefix + name for prefix in view], kind)

        parts = value("product_B_parts", int)
        if not 0 <= parts <= LARGEST_PARTS:
            raise Faulty(f"{self.place}: product_B_parts is {parts}", self.place)
        try:
            cross_phases = product("BCROSS_DIODE_SKY", parts)
        except Faulty:
            cross_phases = product("BCROSS_DIODE", parts)
        with self._readable("the calibration products"):
            return Products(
                antennas=value("antlist", _words),
                polarisations=value("pol_ordering", _words),
                delays=np.array(product("K"), np.float64),
                cross_delays=np.array(product("KCROSS_DIODE"), np.float64),
                gains=np.array(product("G"), np.complex128),
                bandpass=np.array(product("B", parts), np.complex128),
                cross_phases=np.array(cross_phases, np.complex128),
                centre=value("center_freq", float),
                bandwidth=value("bandwidth", float),
                reference=self._reference(view),
            )

    # -- the views ------------------------------------------------------------------------------------------------

    def _reference(self, view: Sequence[str]) -> str:
        try:
            return self._value([f"{prefix}refant" for prefix in view], _word)
        except Faulty:
            return "unknown"

    def _script(self, block: str) -> str:
        """The script of a block, from its observation parameters: a hash, or the last value of one key."""
        key = f"{block}_obs_params"
        match self._ask(self._client.type, key):
            case b"hash":
                raw = self._ask(self._client.hgetall, key)
                with self._readable(key):
                    found = [decode(value) for name, value in raw.items() if decode(name) in _SCRIPT]
            case b"none":
                return ""
            case _:
                found = [value for name, value in self._value([key], dict).items() if name in _SCRIPT]
        return _word(found[0]) if found and isinstance(found[0], str | bytes) else ""

    def _value(self, keys: Sequence[str], kind: Callable[[Any], T]) -> T:
        """The value, or latest value, of the first key that exists, as a `kind`."""
        for key in keys:
            stored = self._ask(self._client.type, key)
            if stored == b"none":
                continue
            with self._readable(key):
                if stored == b"zset":
                    latest = self._latest([key], float("inf"))
                    return kind(latest[0] if latest else None)
                return kind(decode(self._ask(self._client.get, key) or b""))
        raise Faulty(f"{self.place} has no {keys[0]}; is the calibration pipeline running?", self.place)

    def _product(self, keys: Sequence[str], start: float, end: float, parts: int) -> Any:
        """The last solution in [start, end); of a split one, its parts together, NaN for those missing."""
        if parts:
            found = [self._solution([f"{key}{part}" for key in keys], start, end) for part in range(parts)]
        else:
            found = [self._solution(keys, start, end)]
        known = [part for part in found if part is not None]
        if not known:
            raise Faulty(f"{self.place} has no {keys[0]} of this phase-up", self.place)
        if not parts:
            return known[0]
        with self._readable(keys[0]):
            return np.concatenate([np.full_like(known[0], np.nan) if part is None else part for part in found])

    def _solution(self, keys: Sequence[str], start: float, end: float) -> Any:
        latest = self._latest(keys, end)
        if latest is None or latest[1] < start:
            return None
        return latest[0]

    def _latest(self, keys: Sequence[str], end: float) -> tuple[Any, float] | None:
        """Last value before `end` and its time, of the first key that exists."""
        edge = "+" if end == float("inf") else b"(" + _TIME.pack(end)
        for key in keys:
            found = self._ask(self._client.zrevrangebylex, key, edge, "-", start=0, num=1)
            if found:
                return self._split(key, found[0])
            if self._ask(self._client.exists, key):
                return None
        return None

    def _series(self, key: str) -> list[tuple[Any, float]]:
        return [self._split(key, member) for member in self._ask(self._client.zrange, key, 0, -1)]

    def _times(self, key: str) -> tuple[float, ...]:
        members = self._ask(self._client.zrange, key, 0, -1)
        with self._readable(key):
            return tuple(_TIME.unpack(member[: _TIME.size])[0] for member in members)

    def _split(self, key: str, member: bytes) -> tuple[Any, float]:
        with self._readable(key):
            return decode(member[_TIME.size :]), _TIME.unpack(member[: _TIME.size])[0]

    # -- the server -----------------------------------------------------------------------------------------------

    def _ask(self, question: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if time.monotonic() > self._deadline:
            raise Retry(f"{self.place} takes longer than {self._patience:g} s; look at its load")
        try:
            return question(*arguments, **options)
        except redis.ResponseError as error:
            raise Faulty(f"{self.place}: {error}", self.place) from error
        except redis.RedisError as error:
            raise Retry(f"{self.place} does not answer ({error}); is the subarray still configured?") from error

    @contextlib.contextmanager
    def _readable(self, what: str) -> Iterator[None]:
        try:
            yield
        except (Refused, ValueError, TypeError, struct.error) as error:
            raise Faulty(f"{self.place}: {what} cannot be read: {error!s:.200}", self.place) from error


def _word(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.60} is not text")
    return value


def _words(value: Any) -> tuple[str, ...]:
    if isinstance(value, str | bytes):
        raise TypeError(f"{value!r:.60} is not a list")
    return tuple(_word(item) for item in value)
