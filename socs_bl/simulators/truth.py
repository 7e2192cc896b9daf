"""What is injected into the F-engines.

Tones are drawn with the schedule's seed, written as one JSON file for people and for `socs_bl.simulators.comparison`,
and go to the F-engines. No room reads them.
"""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Literal

import msgspec

from socs_bl.core.errors import Refused
from socs_bl.core.whole_file import write_whole
from socs_bl.simulators.config import Schedule, SubarrayConfig, ToneConfig
from socs_bl.simulators.telescope import Track, tracks

POLARISATIONS = 2


class InjectedTone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tone in the signal of all antennas and both polarisations of a subarray.

    Attributes
    ----------
    subarray : str
    cycle : int
    target : str
        Name of the target it belongs to.
    frequency_hz : float
        Sky frequency at `reference`.
    drift_hz_s : float
        Constant.
    reference : float
        Unix time, seconds.
    start, stop : float
        It is there between these Unix times, seconds.
    snr : float
        Nominal, see `power_ratio`.
    power : float
        Its power over the noise power of the coarse channel, per antenna and polarisation.
    """

    subarray: str
    cycle: int
    target: str
    frequency_hz: float
    drift_hz_s: float
    reference: float
    start: float
    stop: float
    snr: float
    power: float

    def frequency_at(self, unix: float) -> float:
        """Sky frequency at a Unix time, Hz."""
        return self.frequency_hz + self.drift_hz_s * (unix - self.reference)


class Truth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that was injected in one run of a schedule.

    Attributes
    ----------
    seed : int
    started : float
        Unix time of the schedule's start, seconds.
    scale_factor : dict of str to float
        Per subarray: how many times narrower its channels are than those of the real mode.
    tones : tuple of InjectedTone
    version : int
        Of this format.
    """

    seed: int
    started: float
    scale_factor: dict[str, float]
    tones: tuple[InjectedTone, ...]
    version: Literal[1] = 1


def power_ratio(snr: float, subarray: SubarrayConfig, config: ToneConfig) -> float:
    """Power of a tone over the noise power of its coarse channel, for a signal-to-noise ratio in a search.

    In a critically sampled channel a steady tone of power ratio ``p`` stands ``p * N`` above the mean power of its fine
    channel, N being fine channels per coarse channel. Power of Gaussian noise has a standard deviation equal to its
    mean, so the sum over ``M = antennas * polarisations * spectra`` gives ``snr = p * N * sqrt(M)``. A tone that drifts
    or lies between two fine channels is spread over several and loses by it.
    """
    fine_channels = subarray.channel_width_hz / config.search_channel_width_hz
    spectra = math.floor(config.search_duration_s * config.search_channel_width_hz)
    return snr / (fine_channels * math.sqrt(len(subarray.antennas) * POLARISATIONS * max(1, spectra)))


def inject(schedule: Schedule, started: float) -> Truth:
    """Draw the tones of a run of `schedule` that starts at the Unix time `started`.

    Frequencies keep clear of the edges and the centre of their coarse channel for as long as the antennas track. A tone
    is there from the request of its target until the request of the next.
    """
    tones = []
    for subarray in schedule.subarrays:
        mine = [track for track in tracks(schedule) if track.subarray == subarray.name]
        stops = [*(track.slew_at for track in mine[1:]), mine[-1].end_at + schedule.timing.gap_s]
        for track, stop in zip(mine, stops, strict=True):
            tones += _tones_of_track(schedule, subarray, track, stop, started)
    return Truth(
        seed=schedule.seed,
        started=started,
        scale_factor={subarray.name: subarray.scale_factor for subarray in schedule.subarrays},
        tones=tuple(tones),
    )


def _tones_of_track(
    schedule: Schedule, subarray: SubarrayConfig, track: Track, stop: float, started: float
) -> list[InjectedTone]:
    """One tone in each of `per_track` equal strips of the band, each in a coarse channel of its own."""
    config, width, count = schedule.tones, subarray.channel_width_hz, schedule.tones.per_track
    draw = random.Random(f"{schedule.seed}/{subarray.name}/{track.cycle}/tones")
    reference = (track.track_at + track.end_at) / 2
    tones = []
    for strip in range(count):
        channel = draw.randrange(strip * subarray.n_channels // count, (strip + 1) * subarray.n_channels // count)
        drift = draw.choice((-1, 1)) * draw.uniform(config.min_drift_hz_s, config.max_drift_hz_s)
        travel = abs(drift) * (track.end_at - track.track_at) / 2
        offset = draw.uniform(config.edge * width + travel, (0.5 - config.edge) * width - travel)
        snr = draw.uniform(config.min_snr, config.max_snr)
        tones.append(
            InjectedTone(
                subarray=subarray.name,
                cycle=track.cycle,
                target=track.target.name,
                frequency_hz=subarray.channel_centre_hz(channel) + draw.choice((-1, 1)) * offset,
                drift_hz_s=drift,
                reference=started + reference,
                start=started + track.slew_at,
                stop=started + stop,
                snr=snr,
                power=power_ratio(snr, subarray, config),
            )
        )
    return tones


def write_truth(path: Path, truth: Truth) -> None:
    """Write the truth as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, msgspec.json.format(msgspec.json.encode(truth), indent=1))


def read_truth(path: Path) -> Truth:
    """Read what `write_truth` wrote.

    Raises
    ------
    Refused
        When there is no such file or it holds something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Truth)
    except OSError as error:
        raise Refused(
            f"{path}: cannot be read ({error.strerror}); was the telescope's schedule ever started?"
        ) from error
    except msgspec.DecodeError as error:
        raise Refused(
            f"{path}: is not a list of injected tones ({error}); give the file the telescope wrote"
        ) from error
