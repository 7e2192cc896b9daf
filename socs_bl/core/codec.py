"""How events, effects and state become bytes, and how old bytes are read by newer code.

JSON, one object a journal entry::

    {"schema": 1, "sequence": 7, "epoch": 2, "cause": "6.0", "wall": 1.7e9, "monotonic": 12.5,
     "event": {"type": "TrackingStarted", ...}, "effects": [{"type": "ReadPacketIndex", "id": "7.0", ...}]}

An upcaster turns the plain data of one schema version into that of the next; reading applies them in turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Union

import msgspec

from socs_bl.core.clock import Instant
from socs_bl.core.effect import CORE_EFFECTS, Effect
from socs_bl.core.errors import Refused
from socs_bl.core.event import CORE_EVENTS, Envelope, Event
from socs_bl.core.machine import Cell, Machine, Outstanding, Timer, Upcaster

Part = Cell | Timer | Outstanding


class Entry(msgspec.Struct, frozen=True):
    """One journal entry: the envelope of an event and the effects the machine answered with."""

    envelope: Envelope
    effects: tuple[Effect, ...] = ()


class Codec:
    """Bytes to records and back for one machine class.

    Parameters
    ----------
    machine : type of Machine
        Names the schema version, the types and the upcasters.
    """

    def __init__(self, machine: type[Machine]) -> None:
        self.schema = machine.schema
        self._entry_upcasters = machine.entry_upcasters
        self._part_upcasters = machine.part_upcasters
        self._event_type: Any = Union[(*CORE_EVENTS, *machine.event_types)]
        self._effect_type: Any = Union[(*CORE_EFFECTS, *machine.effect_types)]
        self._effects_type: Any = list[self._effect_type]  # type: ignore[name-defined]
        self._cell_type: Any = Union[machine.cell_types] if machine.cell_types else None  # noqa: UP007 - likewise

    def encode(self, entry: Entry) -> bytes:
        """Encode a journal entry."""
        envelope = entry.envelope
        event = msgspec.to_builtins(envelope.event)
        event.pop("at")
        record = {
            "schema": envelope.schema,
            "sequence": envelope.sequence,
            "epoch": envelope.epoch,
            "cause": envelope.cause,
            "wall": envelope.event.at.wall,
            "monotonic": envelope.event.at.monotonic,
            "event": event,
            "effects": entry.effects,
        }
        return msgspec.json.encode(record)

    def decode(self, data: bytes) -> Entry:
        """Decode a journal entry, upcasting it to today's schema.

        Raises
        ------
        Refused
            When the entry is not readable; the text says why.
        """
        record = self._upcast(_plain(data), self._entry_upcasters)
        try:
            record["event"]["at"] = [record["wall"], record["monotonic"]]
            event: Event = msgspec.convert(record["event"], self._event_type)
            effects: tuple[Effect, ...] = tuple(msgspec.convert(record["effects"], self._effects_type))
            envelope = Envelope(
                schema=record["schema"],
                sequence=record["sequence"],
                epoch=record["epoch"],
                cause=record["cause"],
                event=event,
            )
        except (msgspec.ValidationError, KeyError, TypeError) as error:
            raise Refused(
                f"journal entry {record.get('sequence')}: {error}; is the code older than the journal?"
            ) from error
        return Entry(envelope, effects)

    def encode_part(self, part: Part) -> bytes:
        """Encode one part of the state: a cell, a timer or an outstanding effect."""
        return msgspec.json.encode({"schema": self.schema, "part": part})

    def decode_part(self, table: str, data: bytes) -> Part:
        """Decode one part of the state; `table` is ``cell``, ``timer`` or ``effect``."""
        record = _plain(data)
        record["table"] = table
        plain = self._upcast(record, self._part_upcasters)["part"]
        try:
            if table == "timer":
                return msgspec.convert(plain, Timer)
            if table == "effect":
                return Outstanding(msgspec.convert(plain["effect"], self._effect_type), bool(plain["attempted"]))
            cell: Cell = msgspec.convert(plain, self._cell_type)
        except (msgspec.ValidationError, KeyError, TypeError) as error:
            raise Refused(f"stored {table}: {error}; is the code older than the journal?") from error
        return cell

    def _upcast(self, record: dict[str, Any], upcasters: Mapping[int, Upcaster]) -> dict[str, Any]:
        version = record.get("schema")
        if not isinstance(version, int) or version > self.schema:
            raise Refused(f"record of schema {version!r} cannot be read by schema {self.schema}; update the software")
        while version < self.schema:
            upcaster = upcasters.get(version)
            if upcaster is None:
                raise Refused(
                    f"no upcaster from schema {version} to {version + 1}; restore the software that wrote the journal"
                )
            version += 1
            record = {**upcaster(record), "schema": version}
        return record


def split_key(field: str) -> tuple[str, str]:
    """A stored field name as (table, key)."""
    table, _, key = field.partition(":")
    return table, key


def join_key(table: str, key: str) -> str:
    """The field name under which a part is stored."""
    return f"{table}:{key}"


def stamp(event: Event, at: Instant) -> Event:
    """The event with the time at which it was taken in."""
    return msgspec.structs.replace(event, at=at)


def _plain(data: bytes) -> dict[str, Any]:
    try:
        record: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Refused(f"journal record is not JSON ({error}); restore it from the backup") from error
    return record
