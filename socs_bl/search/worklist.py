"""Reads the lists and notes a coordinator keeps for an instance in Redis; nothing is taken off them here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

from socs_bl.core.errors import Retry
from socs_bl.search.model import Listed, ListRead
from socs_bl.search.wire import (
    UNKNOWN_DIRECTORY,
    end_key,
    last_key,
    metadata_key,
    parse_metadata,
    parse_seconds,
    preserved_key,
    unprocessed_key,
)


class WorkList:
    """One instance's lists. All methods block.

    Parameters
    ----------
    client : redis.Redis
    instance : str
        ``host/number``.

    Raises
    ------
    Retry
        By every method, when Redis does not answer or a key is not what it should be.
    """

    def __init__(self, client: redis.Redis, instance: str) -> None:
        self._client = client
        self._instance = instance

    def preserved(self) -> list[str]:
        """The directories that must stay."""
        return list(dict.fromkeys(self._list(preserved_key(self._instance))))

    def read(self) -> ListRead:
        """What is to be processed, the oldest first."""
        # The coordinator adds on the left.
        directories = dict.fromkeys(reversed(self._list(unprocessed_key(self._instance))))
        last = self._text(self._ask(lambda: self._client.get(last_key(self._instance))))
        return ListRead(
            listed=tuple(self.noted(datadir) for datadir in directories),
            preserved=tuple(self.preserved()),
            last=None if last in ("", UNKNOWN_DIRECTORY) else self.noted(last),
        )

    def noted(self, datadir: str) -> Listed:
        """A directory with what the coordinator has noted about it; what is missing is left at its default."""
        texts: list[Any] = self._ask(lambda: self._client.mget([metadata_key(datadir), end_key(datadir)]))
        facts = parse_metadata(self._text(texts[0]))
        start, end = parse_seconds(facts.get("start_ts")), parse_seconds(self._text(texts[1]))
        duration = end - start if start is not None and end is not None and end > start else 0.0
        return Listed(
            run=str(facts.get("obsid", "")) or f"list:{datadir}",
            datadir=datadir,
            duration=duration,
            band=str(facts.get("band", "")),
            antennas=int(facts.get("nants", 0)),
        )

    def _list(self, key: str) -> list[str]:
        items: list[Any] = self._ask(lambda: self._client.lrange(key, 0, -1))
        return [text for item in items if (text := self._text(item))]

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except redis.RedisError as error:
            raise Retry(
                f"the lists of {self._instance} cannot be read: {error}; ask again when Redis answers"
            ) from error

    @staticmethod
    def _text(value: Any) -> str:
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
