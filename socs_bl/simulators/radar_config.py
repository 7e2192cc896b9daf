"""A simulated SuperDARN radar: what it is, what it sees, what goes wrong. The defaults are the demonstration.

A record is an averaging period: some pulse sequences on one beam. Records are numbered from 0 through restarts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from socs_bl.core.clock import unix_of_iso
from socs_bl.core.config import Config
from socs_bl.core.errors import Refused

LETTERS = 26
DAY_S = 86400
SAMPLE_US = 300  # one range gate of 45 km
LONGEST_NAME = 200


class TargetConfig(Config):
    """Something that scatters the radar's waves.

    Attributes
    ----------
    range_km : float
        Of its echo; it falls into the nearest range gate.
    velocity_m_s : float
        Towards the radar.
    power_db : float
        Over the noise, in the main array's beam.
    width_m_s : float
        Spectral width.
    beams : tuple of int
        On which it is seen; empty: all.
    phase_deg : float
        By which its echo differs between the main array and the interferometer.
    """

    range_km: float = Field(gt=0)
    velocity_m_s: float = Field(default=0.0, ge=-2500, le=2500)
    power_db: float = Field(default=15.0, ge=-20, le=60)
    width_m_s: float = Field(default=50.0, ge=0, le=2000)
    beams: tuple[int, ...] = ()
    phase_deg: float = Field(default=0.0, ge=-180, le=180)


class SliceConfig(Config):
    """A slice of the experiment; its data go into files of their own.

    Attributes
    ----------
    number : int
    freq_khz : int
    beams : tuple of int
        One scan, in this order.
    first_range_km : int
    ranges : int
        Range gates, each 45 km.
    delay_s : float
        Its records begin so long after those of a slice without delay, the first one after each start as well.
    """

    number: int = Field(default=0, ge=0, le=999)
    freq_khz: int = Field(default=10600, ge=8000, le=20000)
    beams: tuple[int, ...] = Field(default=tuple(range(16)), min_length=1)
    first_range_km: int = Field(default=180, ge=45, le=3000)
    ranges: int = Field(default=30, ge=1, le=300)
    delay_s: float = Field(default=0.0, ge=0)


class RestartConfig(Config):
    """The radar stops and starts again: new files, whatever the minute.

    Attributes
    ----------
    record : int
        The first one after the pause.
    away_s : float
    incomplete : bool
        It dies while it writes the record before.
    """

    record: int = Field(ge=1)
    away_s: float = Field(default=600.0, gt=0)
    incomplete: bool = False


class WrongClockConfig(Config):
    """The receivers' clock is wrong for a while; the computer's stays right.

    Attributes
    ----------
    record, records : int
        First one, and how many.
    shows : str
        ``1970``: it counts from when the radar was switched on; ``2006``: GPS is 1024 weeks behind (2006 in 2026).
    """

    record: int = Field(default=0, ge=0)
    records: int = Field(default=1, ge=1)
    shows: Literal["1970", "2006"] = "1970"


class RadarFaults(Config):
    """What goes wrong; by default nothing.

    Attributes
    ----------
    restarts : tuple of RestartConfig
    wrong_clock : tuple of WrongClockConfig
    incomplete_records : tuple of int
        Records that are written in part.
    mismatched_records : tuple of int
        Records with one sequence time less than sequences.
    zeroed_antennas : tuple of int
        Receivers that give nothing.
    strange_names : tuple of str
        Files that appear beside the others whenever new ones are begun.
    """

    restarts: tuple[RestartConfig, ...] = ()
    wrong_clock: tuple[WrongClockConfig, ...] = ()
    incomplete_records: tuple[int, ...] = ()
    mismatched_records: tuple[int, ...] = ()
    zeroed_antennas: tuple[int, ...] = ()
    strange_names: tuple[str, ...] = ()

    @field_validator("strange_names")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name in ("", ".", "..") or "/" in name or "\0" in name or len(name) > LONGEST_NAME:
                raise ValueError(
                    f"{name!r:.80} is not the name of a file: no directories, 1 to {LONGEST_NAME} characters"
                )
        return value

    def is_incomplete(self, record: int) -> bool:
        """Whether only a part of a record is written."""
        dying = any(restart.incomplete and restart.record == record + 1 for restart in self.restarts)
        return dying or record in self.incomplete_records

    def clock(self, record: int) -> str:
        """What the receivers' clock shows: ``1970``, ``2006``, or nothing where it is right."""
        return next((wrong.shows for wrong in self.wrong_clock if 0 <= record - wrong.record < wrong.records), "")


_TARGETS = (
    TargetConfig(range_km=450, velocity_m_s=350, power_db=20, width_m_s=60, phase_deg=40),
    TargetConfig(range_km=900, velocity_m_s=-180, power_db=15, width_m_s=100, phase_deg=-75),
    TargetConfig(range_km=1350, velocity_m_s=20, power_db=12, width_m_s=20, phase_deg=10),
)  # fmt: skip


class Radar(Config):
    """A radar, its experiment and its files.

    Attributes
    ----------
    directory : Path
        Files go into a folder of the day below it, ``YYYYMMDD``.
    truth : Path or None
        Where the list of what was put in is written.
    seed : int
        Everything that is drawn at random comes from it.
    station : str
        Three letters.
    station_id : int
        The same in DMAP: sas 5, pgr 6, inv 64, rkn 65, cly 66.
    location : tuple of float
        Degrees north, degrees east, metres.
    generation : str
        ``v0.7``: ``.hdf5.site``; ``v1.0``: ``.h5``.
    dmap : bool
        v1.0 only: rawacf is written as DMAP.
    kinds : tuple of str
        Files of each slice.
    cpid : int
        Number of the experiment; that of a special one is negative.
    experiment : str
        Its name.
    main_antennas, intf_antennas : int
    noise : float
        Lag-zero power of the noise in the main array, in DMAP's units.
    sequences : int
        Pulse sequences of a record.
    fewer_sequences : int
        So many fewer a record may have.
    period_s : float
        From one record to the next; a real radar takes 3.5 s.
    block_s : int
        Length of a file, counted from midnight UTC.
    slices : tuple of SliceConfig
    targets : tuple of TargetConfig
    start : str
        When the radar is started, ISO 8601; empty: now.
    factor : float
        How much faster than real time it plays; 0: as fast as it can.
    records : int
        After which it stops; 0: it does not.
    faults : RadarFaults
    """

    directory: Path
    truth: Path | None = None
    seed: int = Field(default=2026, ge=0)
    station: str = Field(default="sas", pattern="^[a-z]{3}$")
    station_id: int = Field(default=5, ge=0, le=32767)
    location: tuple[float, float, float] = (52.16, -106.53, 494.0)
    generation: Literal["v0.7", "v1.0"] = "v1.0"
    dmap: bool = False
    kinds: tuple[Literal["rawacf", "antennas_iq", "bfiq"], ...] = Field(default=("rawacf", "antennas_iq"), min_length=1)
    cpid: int = Field(default=151, ge=-32768, le=32767)
    experiment: str = Field(default="NormalScan", pattern="^[A-Za-z0-9_]{1,40}$")
    main_antennas: int = Field(default=16, ge=1, le=16)
    intf_antennas: int = Field(default=4, ge=1, le=4)
    noise: float = Field(default=10.0, gt=0)
    sequences: int = Field(default=12, ge=1, le=100)
    fewer_sequences: int = Field(default=2, ge=0)
    period_s: float = Field(default=120.0, gt=0, le=DAY_S)
    block_s: int = Field(default=7200, ge=1, le=DAY_S)
    slices: tuple[SliceConfig, ...] = Field(default=(SliceConfig(),), min_length=1)
    targets: tuple[TargetConfig, ...] = _TARGETS
    start: str = ""
    factor: float = Field(default=1.0, ge=0)
    records: int = Field(default=0, ge=0)
    faults: RadarFaults = RadarFaults()

    @field_validator("start")
    @classmethod
    def _time(cls, value: str) -> str:
        try:
            if value:
                unix_of_iso(value)
        except Refused as error:
            raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        numbers = [part.number for part in self.slices]
        if len(set(numbers)) != len(numbers):
            raise ValueError(f"slices {numbers} must be distinct")
        if DAY_S % self.block_s:
            raise ValueError(f"block_s {self.block_s} does not divide a day")
        if self.fewer_sequences >= self.sequences:
            raise ValueError(f"fewer_sequences {self.fewer_sequences} leaves none of {self.sequences} sequences")
        if any(part.delay_s >= self.period_s for part in self.slices):
            raise ValueError(f"a slice's delay_s must be less than period_s {self.period_s:g}")
        if self.dmap and (self.generation == "v0.7" or max(numbers) >= LETTERS):
            raise ValueError(
                f"dmap is written from v1.0 on, and only by slices 0 to {LETTERS - 1}, which have a letter"
            )
        antennas = self.main_antennas + self.intf_antennas
        if any(not 0 <= antenna < antennas for antenna in self.faults.zeroed_antennas):
            raise ValueError(
                f"faults.zeroed_antennas {self.faults.zeroed_antennas}: there are antennas 0 to {antennas - 1}"
            )
        return self
