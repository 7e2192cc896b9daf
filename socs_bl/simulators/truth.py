"""What is injected into the F-engines.

Tones are drawn with the schedule's seed, written as one JSON file for people and for `socs_bl.simulators.comparison`,
and go to the F-engines. No room reads them.
"""

from __future__ import annotations

import math
import random
from typing import Literal

import msgspec

from socs_bl.capture.wire import POLARISATIONS
from socs_bl.simulators.config import Schedule, SubarrayConfig, ToneConfig
from socs_bl.simulators.field import Position, boresight, draw_field
from socs_bl.simulators.telescope import Track, tracks


class InjectedTone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tone in the signal of all antennas and both polarisations of a subarray.

    Attributes
    ----------
    subarray : str
    cycle : int
    target : str
        Name of the target that was tracked: the phase centre.
    source : str
        Name of the `Position` it comes from, the target's or another one's of its field.
    ra_deg, dec_deg : float
        That position, ICRS, degrees.
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
        Its power over the noise power of the coarse channel, per antenna and polarisation, as received (what the
        primary beam takes off is off).
    channel_hz, channel_width_hz : float
        Centre and width of its coarse channel.
    antennas : int
        Of its subarray.
    """

    subarray: str
    cycle: int
    target: str
    source: str
    ra_deg: float
    dec_deg: float
    frequency_hz: float
    drift_hz_s: float
    reference: float
    start: float
    stop: float
    snr: float
    power: float
    channel_hz: float
    channel_width_hz: float
    antennas: int

    def frequency_at(self, unix: float) -> float:
        """Sky frequency at a Unix time, Hz."""
        return self.frequency_hz + self.drift_hz_s * (unix - self.reference)


class Field(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The targets in the field of view of one track.

    Attributes
    ----------
    subarray : str
    cycle : int
    targets : tuple of Position
        The phase centre first.
    """

    subarray: str
    cycle: int
    targets: tuple[Position, ...]


class Truth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that was injected in one run of a schedule.

    Attributes
    ----------
    seed : int
    started : float
        Unix time of the schedule's start, seconds.
    scale_factor : dict of str to float
        Per subarray: how many times narrower its channels are than those of the real mode.
    fields : tuple of Field
        Of every track.
    tones : tuple of InjectedTone
    version : int
        Of this format.
    """

    seed: int
    started: float
    scale_factor: dict[str, float]
    fields: tuple[Field, ...]
    tones: tuple[InjectedTone, ...]
    version: Literal[2] = 2

    def field(self, subarray: str, cycle: int) -> tuple[Position, ...]:
        """The targets of a track's field; empty when there is no such track."""
        found = (field.targets for field in self.fields if (field.subarray, field.cycle) == (subarray, cycle))
        return next(found, ())


def power_ratio(snr: float, subarray: SubarrayConfig, config: ToneConfig) -> float:
    """Power of a tone over the noise power of its coarse channel, for a signal-to-noise ratio in a search.

    In a critically sampled channel a steady tone of power ratio ``p`` stands ``p * N`` above the mean power of its fine
    channel, N being fine channels per coarse channel. Power of Gaussian noise has a standard deviation equal to its
    mean, so the incoherent sum over ``M = antennas * polarisations * spectra`` gives ``snr = p * N * sqrt(M)``. A tone
    that drifts or lies between two fine channels is spread over several and loses by it; a beam on it gains.
    """
    fine_channels = subarray.channel_width_hz / config.search_channel_width_hz
    spectra = math.floor(config.search_duration_s * config.search_channel_width_hz)
    return snr / (fine_channels * math.sqrt(len(subarray.antennas) * POLARISATIONS * max(1, spectra)))


def inject(schedule: Schedule, started: float) -> Truth:
    """Draw the tones of a run of `schedule` that starts at the Unix time `started`.

    Frequencies keep clear of the edges and the centre of their coarse channel for as long as the antennas track. A tone
    is there from the request of its target until the request of the next. The first comes from the target itself, the
    others from the targets of its field in turn.
    """
    tones, fields = [], []
    for subarray in schedule.subarrays:
        mine = [track for track in tracks(schedule) if track.subarray == subarray.name]
        stops = [*(track.slew_at for track in mine[1:]), mine[-1].end_at + schedule.timing.gap_s]
        for track, stop in zip(mine, stops, strict=True):
            field = Field(
                subarray=subarray.name,
                cycle=track.cycle,
                targets=draw_field(
                    schedule.site, subarray, boresight(track.target), started + _middle(track), str(schedule.seed)
                ),
            )
            fields.append(field)
            tones += _tones_of_track(schedule, subarray, track, field, stop, started)
    return Truth(
        seed=schedule.seed,
        started=started,
        scale_factor={subarray.name: subarray.scale_factor for subarray in schedule.subarrays},
        fields=tuple(fields),
        tones=tuple(tones),
    )


def _middle(track: Track) -> float:
    """Half-way through a track, seconds after the start of the schedule."""
    return (track.track_at + track.end_at) / 2


def _tones_of_track(
    schedule: Schedule, subarray: SubarrayConfig, track: Track, field: Field, stop: float, started: float
) -> list[InjectedTone]:
    """One tone in each of `per_track` equal strips of the band, each in a coarse channel of its own."""
    config, width, count = schedule.tones, subarray.channel_width_hz, schedule.tones.per_track
    draw = random.Random(f"{schedule.seed}/{subarray.name}/{track.cycle}/tones")
    tones = []
    for strip in range(count):
        channel = draw.randrange(strip * subarray.n_channels // count, (strip + 1) * subarray.n_channels // count)
        drift = draw.choice((-1, 1)) * draw.uniform(config.min_drift_hz_s, config.max_drift_hz_s)
        travel = abs(drift) * (track.end_at - track.track_at) / 2
        offset = draw.uniform(config.edge * width + travel, (0.5 - config.edge) * width - travel)
        snr = draw.uniform(config.min_snr, config.max_snr)
        source = field.targets[strip % len(field.targets)]
        tones.append(
            InjectedTone(
                subarray=subarray.name,
                cycle=track.cycle,
                target=track.target.name,
                source=source.name,
                ra_deg=source.ra_deg,
                dec_deg=source.dec_deg,
                frequency_hz=subarray.channel_centre_hz(channel) + draw.choice((-1, 1)) * offset,
                drift_hz_s=drift,
                reference=started + _middle(track),
                start=started + track.slew_at,
                stop=started + stop,
                snr=snr,
                power=power_ratio(snr, subarray, config),
                channel_hz=subarray.channel_centre_hz(channel),
                channel_width_hz=width,
                antennas=len(subarray.antennas),
            )
        )
    return tones
