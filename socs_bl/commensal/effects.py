"""Carries out what the commensal machine asks of Redis, and turns what is heard there into events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import redis

from socs_bl.commensal import metadata, wire
from socs_bl.commensal.model import (
    BadMessage,
    LegacyReturn,
    MetadataRead,
    ReadMetadata,
    ReadStatus,
    ResultRead,
    StatusRead,
    TelescopeEvent,
)
from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.core.event import Event
from socs_bl.core.names import parse_instance
from socs_bl.hashpipe.wire import status_key

_LONGEST_REASON = 500


class Reader:
    """Reads CAM's keys and status hashes. All calls block.

    Parameters
    ----------
    client : redis.Redis
    domain : str
        Hashpipe gateway domain.
    """

    def __init__(self, client: redis.Redis, domain: str) -> None:
        self._client = client
        self._domain = domain

    def metadata(self, effect: ReadMetadata) -> Sequence[Event]:
        """Carry out `ReadMetadata`.

        Raises
        ------
        Retry, Faulty
            When Redis does not answer, or the keys that name the others are missing.
        """
        try:
            name, prefix = (_text(value) for value in self._client.mget(metadata.first_keys(effect.array)))
            keys = metadata.keys_of(effect.array, name, prefix)
            antennas = keys.pop("antennas")
            pipeline = self._client.pipeline(transaction=False)
            pipeline.llen(antennas)
            pipeline.mget(list(keys.values()))
            count, texts = pipeline.execute()
        except redis.RedisError as error:
            raise Retry(f"CAM's keys of {effect.array} could not be read from Redis: {error}") from error
        except Refused as refused:
            raise Faulty(str(refused), effect.array) from refused
        values = {short: _text(text) for short, text in zip(keys, texts, strict=True) if text is not None}
        values["antennas"] = str(count)
        return [MetadataRead(array=effect.array, purpose=effect.purpose, prefix=prefix, values=values)]

    def status(self, effect: ReadStatus) -> Sequence[Event]:
        """Carry out `ReadStatus`.

        Raises
        ------
        Retry
            When Redis does not answer.
        """
        statuses = self.statuses(effect.instances)
        return [StatusRead(array=effect.array, purpose=effect.purpose, run=effect.run, statuses=statuses)]

    def lives(self, instances: Sequence[str]) -> dict[str, float | None]:
        """For how much longer the status hash of each instance lives, seconds; None where there is none."""
        answers = self._of_statuses("PTTL", instances)
        return {name: left / 1000 if left >= 0 else None for name, left in zip(instances, answers, strict=True)}

    def traces(self, arrays: Sequence[str]) -> dict[str, dict[str, str]]:
        """What CAM leaves of what it has said, by subarray and short name; what is missing is left out.

        Raises
        ------
        Retry
            When Redis does not answer.
        """
        keys = {array: metadata.trace_keys(array) for array in arrays}
        names = [key for of_array in keys.values() for key in of_array.values()]
        try:
            found = dict(zip(names, self._client.mget(names), strict=True))
        except redis.RedisError as error:
            raise Retry(f"CAM's keys could not be read from Redis: {error}") from error
        return {
            array: {short: _text(found[key]) for short, key in of_array.items() if found[key] is not None}
            for array, of_array in keys.items()
        }

    def statuses(self, instances: Sequence[str]) -> dict[str, Mapping[str, str] | None]:
        """Status hashes of instances in one round trip; None for a missing one."""
        answers = self._of_statuses("HGETALL", instances)
        return {
            name: {_text(key): _text(value) for key, value in fields.items()} or None
            for name, fields in zip(instances, answers, strict=True)
        }

    def _of_statuses(self, command: str, instances: Sequence[str]) -> list[Any]:
        """What a command says of the status hash of each instance."""
        pipeline: Any = self._client.pipeline(transaction=False)  # its execute_command carries no types
        for name in instances:
            pipeline.execute_command(command, status_key(parse_instance(name), self._domain))
        try:
            return list(pipeline.execute())
        except redis.RedisError as error:
            raise Retry(f"status hashes could not be read from Redis: {error}") from error


def heard(channel: str, payload: str) -> Event:
    """A pub/sub message as an event; one that cannot be read as `BadMessage`."""
    try:
        if channel == wire.PROC_RESULT:
            instance, code, code2 = wire.parse_return(payload)
            return LegacyReturn(instance=instance, code=code, code2=code2)
        word, array = wire.parse_alert(payload)
        return TelescopeEvent(word=word, array=array)
    except Refused as refused:
        return BadMessage(channel=channel, reason=str(refused))


def result(cursor: str, fields: Mapping[str, str]) -> Event:
    """An entry of the results stream as an event; one that cannot be read as `BadMessage`."""
    try:
        return ResultRead(
            cursor=cursor,
            instance=str(parse_instance(fields["instance"])),
            run=fields["run"],
            code=int(fields["code1"]),
            code2=int(fields.get("code2", "-1")),
            hits=int(fields.get("hits", "0")),
            reason=fields.get("reason", "")[:_LONGEST_REASON],
        )
    except (Refused, KeyError, ValueError) as error:
        return BadMessage(channel=wire.RESULTS_STREAM, reason=f"entry {cursor}: {error!r:.200}")


def _text(value: object) -> str:
    if value is None:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
