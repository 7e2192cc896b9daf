"""Reads what the original coordinator has left in Redis, and leaves there what it can read. All calls block."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import redis

from socs_bl.commensal import metadata
from socs_bl.commensal.config import CommensalConfig
from socs_bl.commensal.migration import export_state
from socs_bl.commensal.wire import COMPLETED_RUNS, FREE_INSTANCES, PROC_RESULT
from socs_bl.core.errors import Refused, Retry


class SavedState:
    """The original's keys in one Redis.

    Parameters
    ----------
    client : redis.Redis
    config : CommensalConfig

    Notes
    -----
    Every method raises `Retry` when Redis does not answer.
    """

    def __init__(self, client: redis.Redis, config: CommensalConfig) -> None:
        self._client = client
        self._config = config

    def read(self) -> dict[str, str]:
        """What `migration.import_state` wants to know, as far as it is there; plain text, fit for an event."""
        names = [FREE_INSTANCES, COMPLETED_RUNS]
        for array in self._config.arrays:
            names += [f"{array}:{key}" for key in ("state", "freesub_state", "datadir", "target")]
            names += metadata.first_keys(array)
        names += [f"{instance}:last-datadir" for instance in self._config.hashpipe_instances]
        found = self._strings(names)
        more = []
        for array in self._config.arrays:
            datadir = found.get(f"{array}:datadir")
            more += [f"metadata:{datadir}", f"rec_end:{datadir}"] if datadir else []
            more += self._cam_keys(array, found)
        return found | self._strings(more) | self._antennas(found)

    def hand_back(self) -> list[str]:
        """Write what the original needs to go on. Returns what it will not do by itself.

        Raises
        ------
        Refused
            While somebody listens to results: a coordinator that runs would write its own again.
        """
        ((_, listeners),) = self._ask(lambda: self._client.pubsub_numsub(PROC_RESULT))
        if listeners:
            raise Refused(f"somebody listens to {PROC_RESULT}; stop the coordinator first. Nothing was written")
        keys, findings = export_state(self.read(), self._config)
        if keys:
            self._ask(lambda: self._client.mset({**keys}))
        return findings

    def exported(self) -> tuple[dict[str, str], list[str]]:
        """The saved state as the original can go on with it, and what it will not do by itself."""
        keys = self.read()
        changed, findings = export_state(keys, self._config)
        names = {FREE_INSTANCES, COMPLETED_RUNS}
        states = {key: text for key, text in keys.items() if key in names or key.endswith((":state", ":freesub_state"))}
        return {**states, **changed}, findings

    def keep(self, key: str, text: str) -> None:
        """Keep a text beside the saved state."""
        self._ask(lambda: self._client.set(key, text))

    def kept(self, key: str) -> dict[str, str]:
        """The saved state in a text that was kept.

        Raises
        ------
        Refused
            When there is none, or it is not one.
        """
        text = self._strings([key]).get(key)
        if text is None:
            raise Refused(f"nothing is kept as {key}; save_state keeps what is to be loaded")
        try:
            keys = json.loads(text)["keys"]
        except (ValueError, KeyError, TypeError) as error:
            raise Refused(f"{key} holds no saved state") from error
        if not isinstance(keys, dict) or not all(isinstance(value, str) for value in keys.values()):
            raise Refused(f"{key} holds no saved state")
        return keys

    def _cam_keys(self, array: str, found: dict[str, str]) -> list[str]:
        try:
            keys = metadata.keys_of(array, *(found.get(key, "") for key in metadata.first_keys(array)))
        except Refused:
            return []  # what is missing is told by the import
        return [key for short, key in keys.items() if short != "antennas"]

    def _antennas(self, found: dict[str, str]) -> dict[str, str]:
        counts = {}
        for array in self._config.arrays:
            if found.get(f"{array}:cbf_name"):
                key = f"{array}:antennas"
                counts[key] = str(self._ask(lambda key=key: self._client.llen(key)))  # type: ignore[misc]
        return counts

    def _strings(self, names: list[str]) -> dict[str, str]:
        values = self._ask(lambda: self._client.mget(names)) if names else []
        return {
            name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            for name, value in zip(names, values, strict=True)
            if value is not None
        }

    @staticmethod
    def _ask(question: Callable[[], Any]) -> Any:
        try:
            return question()
        except redis.RedisError as error:
            raise Retry(f"the saved state cannot be read ({error}); look at Redis") from error
