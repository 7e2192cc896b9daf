"""What a file holds and whether it is whole, as plain numbers and texts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from socs_bl.bdf.integration import Integration
from socs_bl.bdf.reader import BdfReader
from socs_bl.bdf.scan import unix_ns
from socs_bl.core.clock import iso_utc

Arrays = tuple[npt.NDArray[Any], ...] | None


def info(path: Path) -> dict[str, Any]:
    """Header, integrity and statistics of a file, as JSON has them.

    Parameters
    ----------
    path : Path
        Also one that is still written, or cut off: what is whole is described, and ``damage`` says what is not.

    Returns
    -------
    dict
        ``file``, ``bytes``, ``uid``, ``exec_block``, ``project_path``, ``mode``, ``antennas``, ``baselines``, ``start``
        (UTC), ``start_ns`` (since MJD 0), ``interval_ns``, ``integrations``, ``first`` and ``last`` (their numbers, 0:
        none), ``missing`` (how many numbers between are not there), ``parts``, ``damage`` (empty: none), ``aborted``
        (``time_ns`` and ``reason``, or None) and ``windows``: ``baseband``, ``number``, ``channels``, ``bins``, ``cross``,
        ``auto``, ``cross_shape``, ``auto_shape``, and the fractions ``cross_flagged``, ``auto_flagged``,
        ``cross_integrated`` and ``auto_integrated`` (of the interval; all None where the file does not say).

    Raises
    ------
    Refused
        When it is no binary data file.
    Faulty
        When the main header or an integration's is damaged.
    """
    with BdfReader(path, partial=True) as reader:
        header = reader.header
        sums = [_Fractions() for _ in header.windows]
        numbers: list[int] = []
        parts: set[str] = set()
        aborted = None
        for integration in reader:
            numbers.append(integration.number)
            parts.update(integration.parts)
            aborted = integration.aborted or aborted
            for number, one in enumerate(sums):
                one.add(integration, number)
        return {
            "file": str(path),
            "bytes": path.stat().st_size,
            "uid": header.uid,
            "exec_block": header.exec_block,
            "project_path": header.project_path,
            "mode": header.correlation_mode,
            "antennas": header.antennas,
            "baselines": header.baselines,
            "start": iso_utc(unix_ns(header.start_ns) * 1e-9),
            "start_ns": header.start_ns,
            "interval_ns": header.interval_ns,
            "integrations": len(numbers),
            "first": min(numbers, default=0),
            "last": max(numbers, default=0),
            "missing": max(numbers) - min(numbers) + 1 - len(set(numbers)) if numbers else 0,
            "parts": sorted(parts),
            "damage": reader.damage,
            "aborted": None if aborted is None else {"time_ns": aborted[0], "reason": aborted[1]},
            "windows": [
                {
                    "baseband": window.baseband,
                    "number": window.number,
                    "channels": window.channels,
                    "bins": window.bins,
                    "cross": list(window.cross),
                    "auto": list(window.auto),
                    "cross_shape": [header.baselines, window.bins, window.channels, len(window.cross)],
                    "auto_shape": [header.antennas, window.bins, window.channels, window.auto_values],
                    **one.found(header.interval_ns),
                }
                for window, one in zip(header.windows, sums, strict=True)
            ],
        }


class _Fractions:
    """Flags and durations of a window, added up."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[int, float]] = {}

    def add(self, integration: Integration, window: int) -> None:
        """One integration more."""
        self._add("cross_flagged", integration.cross_flags, window)
        self._add("auto_flagged", integration.auto_flags, window)
        self._add("cross_integrated", integration.cross_durations, window)
        self._add("auto_integrated", integration.auto_durations, window)

    def _add(self, name: str, arrays: Arrays, window: int) -> None:
        if arrays is not None and arrays[window].size:
            values = arrays[window]
            count, total = self._sums.get(name, (0, 0.0))
            more = np.count_nonzero(values) if name.endswith("_flagged") else float(values.sum(dtype=np.float64))
            self._sums[name] = count + values.size, total + more

    def found(self, interval_ns: int) -> dict[str, float | None]:
        """The four fractions."""
        names: Iterable[str] = ("cross_flagged", "auto_flagged", "cross_integrated", "auto_integrated")
        fractions: dict[str, float | None] = {}
        for name in names:
            count, total = self._sums.get(name, (0, 0.0))
            unit = 1 if name.endswith("_flagged") else max(interval_ns, 1)
            fractions[name] = total / count / unit if count else None
        return fractions
