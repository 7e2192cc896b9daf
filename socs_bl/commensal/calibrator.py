"""Fetches calibration solutions and keeps them where the recipe generator looks for them. All calls block."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import redis

from socs_bl.commensal.calibration import (
    Calibration,
    antenna_order,
    calibrate,
    hash_fields,
    index_key,
    phaseup_time,
    solutions_key,
)
from socs_bl.commensal.calibration_model import CalibrationFetched, FetchCalibration, PhaseupRead, ReadPhaseup
from socs_bl.commensal.config import CalibrationConfig
from socs_bl.commensal.telstate import TelescopeState, parse_endpoint
from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.core.event import Event

MARGIN = 5.0  # seconds before an effect's deadline at which the telescope state is given up


class Calibrator:
    """Carries out what the machine asks of the telescope state.

    Parameters
    ----------
    client : redis.Redis
        Where CAM's keys are, and where solutions are kept.
    config : CalibrationConfig
    """

    def __init__(self, client: redis.Redis, config: CalibrationConfig) -> None:
        self._client = client
        self._config = config

    def phaseup(self, effect: ReadPhaseup) -> Sequence[Event]:
        """Carry out `ReadPhaseup`.

        Raises
        ------
        Retry, Faulty
            When Redis or the telescope state does not answer, or what it says cannot be read.
        """
        array = effect.array
        with self._telescope_state(array, effect.deadline - MARGIN) as state:
            phaseup = phaseup_time(state.capture_blocks(), self._config.scripts, self._config.settle)
        config, stored = self._read(lambda: self._client.mget([f"{array}:last-config", f"{array}:last-cal"]))
        return [
            PhaseupRead(
                array=array,
                phaseup=phaseup,
                last_config=_seconds(array, "last-config", config),
                last_stored=_seconds(array, "last-cal", stored),
            )
        ]

    def fetch(self, effect: FetchCalibration) -> Sequence[Event]:
        """Carry out `FetchCalibration`.

        Raises
        ------
        Retry, Faulty
            As `phaseup`; also when no input has a valid gain.
        """
        array = effect.array
        listed = self._read(lambda: self._client.lrange(f"{array}:antennas", 0, -1))
        channels = _text(self._read(lambda: self._client.get(f"{array}:n_channels")))
        with self._telescope_state(array, effect.deadline - MARGIN) as state:
            products = state.products(effect.phaseup)
            try:
                antennas = antenna_order([_text(name) for name in listed])
                found = calibrate(products, antennas, self._config.average, self._config.flatten)
            except Refused as refused:
                raise Faulty(f"{array}: {refused}", array) from refused
        notes = []
        if channels and channels != str(len(found.bandpass)):
            notes.append(f"the solutions have {len(found.bandpass)} channels, CAM says {channels}")
        strangers = sorted(set(products.antennas) - set(found.antennas))
        if strangers:
            notes.append(f"{', '.join(strangers)} have solutions and are not in the subarray")
        key = self._store(array, effect.phaseup, found)
        return [
            CalibrationFetched(
                array=array,
                phaseup=effect.phaseup,
                key=key,
                antennas=len(found.antennas),
                zeroed=found.zeroed,
                clipped=found.clipped,
                notes=tuple(notes),
            )
        ]

    def expire(self, array: str, keep: float | None = None) -> int:
        """Take out of a subarray's index what is too old, with its hash, or whose hash is gone; returns how many.

        Parameters
        ----------
        array : str
        keep : float, optional
            What is older is too old, seconds; by default as configured.

        Raises
        ------
        Retry
            When Redis does not answer.
        """
        index = index_key(array)
        members = self._read(lambda: self._client.zrange(index, 0, -1, withscores=True))
        pipeline = self._client.pipeline(transaction=False)
        for key, _ in members:
            pipeline.exists(key)
        there = self._read(pipeline.execute)
        oldest = time.time() - (self._config.keep if keep is None else keep)
        gone = [key for (key, score), exists in zip(members, there, strict=True) if not exists or score < oldest]
        if gone:
            self._read(lambda: self._client.delete(*gone))
            self._read(lambda: self._client.zrem(index, *gone))
        return len(gone)

    def _store(self, array: str, phaseup: float, found: Calibration) -> str:
        """The hash, its place in the index and the time of the phase-up, together or not at all."""
        now = time.time()
        key = solutions_key(array, phaseup)
        pipeline = self._client.pipeline(transaction=True)
        fields = [part for field in hash_fields(found, phaseup, now).items() for part in field]
        pipeline.hset(key, items=fields)
        pipeline.expire(key, int(self._config.keep))
        pipeline.zadd(index_key(array), {key: int(now)})
        pipeline.set(f"{array}:last-cal", repr(phaseup))
        self._read(pipeline.execute)
        self.expire(array)
        return key

    def _telescope_state(self, array: str, patience: float) -> TelescopeState:
        """The server CAM names: one key holds the name of the key that holds the endpoint."""
        name = _text(self._read(lambda: self._client.get(f"{array}:telstate_sensor")))
        endpoint = _text(self._read(lambda: self._client.get(name))) if name else ""
        if not endpoint:
            where = name or f"{array}:telstate_sensor"
            raise Faulty(f"{array}: CAM names no telescope state ({where} is missing)", array)
        try:
            return TelescopeState(*parse_endpoint(endpoint), patience)
        except Refused as refused:
            raise Faulty(f"{array}: {refused}", array) from refused

    @staticmethod
    def _read(question: Any) -> Any:
        try:
            return question()
        except redis.RedisError as error:
            raise Retry(f"Redis does not answer ({error}); look at its server") from error


def _text(value: object) -> str:
    if value is None:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _seconds(array: str, name: str, value: object) -> float:
    text = _text(value).strip().strip("'\"")
    try:
        seconds = float(text or 0)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e11:
        raise Faulty(f"{array}:{name} is {text[:40]!r}, not a time in seconds", array)
    return seconds
