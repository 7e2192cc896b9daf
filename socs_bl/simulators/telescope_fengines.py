"""The F-engine processes of a simulated telescope: one for each subarray, started and ended together.

They run through a whole schedule. Each gets all tones of its subarray at its start; every tone knows when it is there.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from socs_bl.core.errors import Faulty
from socs_bl.services.process import Child
from socs_bl.simulators import geometry
from socs_bl.simulators.config import Schedule, SubarrayConfig
from socs_bl.simulators.faults import Faults
from socs_bl.simulators.field import boresight
from socs_bl.simulators.truth import InjectedTone

PROGRAM = (sys.executable, "-m", "socs_bl.simulators.fengine")
STOP_GRACE = 3.0  # seconds


class FEngines:
    """The F-engines of all subarrays of a schedule.

    Parameters
    ----------
    schedule : Schedule
    directory : Path
        Their configurations and logs go there.
    interface : str
        Address of the interface that multicast leaves by.
    """

    def __init__(self, schedule: Schedule, directory: Path, interface: str) -> None:
        self._schedule = schedule
        self._directory = directory
        self._interface = interface
        self._children: dict[str, Child] = {}
        self._faults = schedule.faults
        self.sync_time = 0.0

    @property
    def started(self) -> bool:
        """True from `start` to `stop`, whatever became of the processes meanwhile."""
        return bool(self._children)

    def start(
        self, sync_time: float, seed: int, tones: Sequence[InjectedTone] = (), faults: Faults | None = None
    ) -> None:
        """Start all of them; only in the main thread, with which they die.

        Parameters
        ----------
        sync_time : float
            Unix time of ADC sample 0, whole seconds.
        seed : int
            Of the noise.
        tones : sequence of InjectedTone
            Each subarray gets its own.
        faults : Faults or None
            What goes wrong; None: what the schedule says.

        Raises
        ------
        Faulty
            When they have been started already.
        """
        if self._children:
            raise Faulty("the F-engines run already; stop them first", "F-engines")
        self._directory.mkdir(parents=True, exist_ok=True)
        self.sync_time = sync_time
        self._faults = faults or self._schedule.faults
        try:
            for subarray in self._schedule.subarrays:
                self._children[subarray.name] = self._launch(subarray, seed, tones)
        except BaseException:  # an interrupted start, too, leaves no F-engine behind
            self.kill()
            raise

    def check(self) -> None:
        """Make sure that all of them run.

        Raises
        ------
        Faulty
            When one has ended; the text holds the end of its log.
        """
        for name, child in self._children.items():
            if not child.running():
                raise Faulty(
                    f"the F-engines of {name} have ended; their log {child.log} ends:\n{child.log_tail()}", name
                )

    def report(self) -> dict[str, dict[str, object]]:
        """Per subarray: pid, and whether it runs."""
        return {name: {"pid": child.pid, "running": child.running()} for name, child in self._children.items()}

    def stop(self) -> dict[str, dict[str, int]]:
        """End all of them; blocks up to some seconds.

        Returns
        -------
        dict of str to dict
            Per subarray: heaps `sent`, `lost` on purpose, packet indices `skipped` because the machine was too slow.
            Empty for one that did not end in order.
        """
        children, self._children = self._children, {}
        for child in children.values():
            child.stop(STOP_GRACE)
        return {name: _summary(child) for name, child in children.items()}

    def kill(self) -> None:
        """End all of them at once."""
        children, self._children = self._children, {}
        for child in children.values():
            child.kill()

    def _launch(self, subarray: SubarrayConfig, seed: int, tones: Sequence[InjectedTone]) -> Child:
        """Write the configuration of one subarray's F-engines and start them."""
        path = self._directory / f"{subarray.name}.json"
        config = {
            "name": subarray.name,
            "seed": _noise_seed(seed, subarray.name),
            "sync_time": self.sync_time,
            "interface": self._interface,
            "first_group": subarray.first_group,
            "n_groups": subarray.n_groups,
            "port": subarray.port,
            "n_antennas": len(subarray.antennas),
            "n_channels": subarray.n_channels,
            "spectra_per_heap": subarray.spectra_per_heap,
            "adc_sample_rate_hz": subarray.adc_sample_rate_hz,
            "centre_frequency_hz": subarray.centre_frequency_hz,
            "ripple": subarray.ripple,
            "faults": self._faults.model_dump(mode="json"),
            "tones": [self._tone(tone, subarray) for tone in tones if tone.subarray == subarray.name],
        }
        path.write_text(json.dumps(config, indent=1), encoding="utf-8")
        return Child(f"F-engines of {subarray.name}", [*PROGRAM, "--config", str(path)], path.with_suffix(".log"))

    def _tone(self, tone: InjectedTone, subarray: SubarrayConfig) -> dict[str, object]:
        """A tone with the delays that tracking the target leaves of it."""
        places = geometry.positions(self._schedule.site, subarray.antennas)
        centre = boresight(self._schedule.target(tone.target)).radians()
        direction = np.radians([[tone.ra_deg, tone.dec_deg]])
        delays, rates = geometry.residual_delays(places, direction, centre, tone.reference)
        kept = {
            name: getattr(tone, name) for name in ("frequency_hz", "drift_hz_s", "power", "reference", "start", "stop")
        }
        return {**kept, "delays": delays[0].tolist(), "delay_rates": rates[0].tolist()}


def _noise_seed(seed: int, name: str) -> int:
    """A seed for the noise of one subarray, far from those of the others."""
    return random.Random(f"{seed}/{name}/noise").getrandbits(62)


def _summary(child: Child) -> dict[str, int]:
    """The counters F-engines print at their end; empty when they were killed."""
    try:
        return msgspec.json.decode(child.log_tail().rpartition("\n")[2], type=dict[str, int])
    except msgspec.DecodeError:
        return {}
