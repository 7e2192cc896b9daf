"""What is put into a simulated correlator's signals: sources and delays, drawn with the configuration's seed.

It is written as one JSON file for people, and for those who compare afterwards; it goes to the baseline boards, and no
room reads it.
"""

from __future__ import annotations

import math
import random

import msgspec

from socs_bl.simulators.boards_config import Correlation, ScanConfig, SourceConfig
from socs_bl.simulators.lags import SkyField

INNER = 0.25  # of the radius within which no target's source is drawn: it must not be where everybody looks first


class InjectedSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A point source in a scan.

    Attributes
    ----------
    flux_jy : float
    east_arcsec, north_arcsec : float
        Of the phase centre.
    coefficient : float
        Correlation coefficient of two stations: its flux over everything a station receives.
    """

    flux_jy: float
    east_arcsec: float
    north_arcsec: float
    coefficient: float


class InjectedScan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A scan.

    Attributes
    ----------
    scan : int
        Its number, from 1.
    source : str
        Name of the phase centre.
    ra_deg, dec_deg : float
    calibrator : bool
    start, stop : float
        Unix seconds.
    sources : tuple of InjectedSource
    """

    scan: int
    source: str
    ra_deg: float
    dec_deg: float
    calibrator: bool
    start: float
    stop: float
    sources: tuple[InjectedSource, ...]


class CorrelatorTruth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that is put into one observation.

    Attributes
    ----------
    seed : int
    dataset_id : str
    sefd_jy : float
    delays_ns : dict of str to float
        By name of the station, in order of the stations' ids.
    scans : tuple of InjectedScan
    version : int
        Of this format.
    """

    seed: int
    dataset_id: str
    sefd_jy: float
    delays_ns: dict[str, float]
    scans: tuple[InjectedScan, ...]
    version: int = 1


def delays_ns(config: Correlation) -> dict[str, float]:
    """Delay of every station, in order of their ids: what the configuration says, else drawn."""
    most = config.draw.delay_ns
    return {
        station.name: station.delay_ns
        if station.delay_ns is not None
        else random.Random(f"{config.seed}/{station.name}/delay").uniform(-most, most)
        for station in config.ordered
    }


def sky_of(config: Correlation, number: int, seed: int | None = None) -> SkyField:
    """The field of scan `number` (from 0): the configuration's sources, or one drawn with `seed` or the configuration's."""
    scan = config.scans[number]
    drawn = _drawn(config, scan, f"{config.seed if seed is None else seed}/{number}/{scan.source}")
    return SkyField(ra_deg=scan.ra_deg, dec_deg=scan.dec_deg, sources=scan.sky or (drawn,))


def _drawn(config: Correlation, scan: ScanConfig, seed: str) -> SourceConfig:
    """One source, unpolarised; a calibrator's stands in the phase centre."""
    draw, limits = random.Random(seed), config.draw
    flux = draw.uniform(limits.min_flux_jy, limits.max_flux_jy)
    radius = 0.0 if scan.calibrator else limits.radius_arcsec * math.sqrt(draw.uniform(INNER**2, 1.0))
    angle = draw.uniform(0.0, 2 * math.pi)
    return SourceConfig(flux_jy=flux, east_arcsec=radius * math.sin(angle), north_arcsec=radius * math.cos(angle))


def inject(config: Correlation, dataset_id: str, start: float, seed: int | None = None) -> CorrelatorTruth:
    """What is put into an observation whose first scan begins at `start` (Unix seconds), each following the last.

    `seed` is that of the sources; the stations' delays are the boards' own and come from the configuration's.
    """
    scans = []
    for number, scan in enumerate(config.scans):
        sources = sky_of(config, number, seed).sources
        power = config.sefd_jy + sum(source.flux_jy for source in sources)
        injected = tuple(
            InjectedSource(
                flux_jy=source.flux_jy,
                east_arcsec=source.east_arcsec,
                north_arcsec=source.north_arcsec,
                coefficient=source.flux_jy / power,
            )
            for source in sources
        )
        scans.append(
            InjectedScan(
                scan=number + 1,
                source=scan.source,
                ra_deg=scan.ra_deg,
                dec_deg=scan.dec_deg,
                calibrator=scan.calibrator,
                start=start,
                stop=start + scan.seconds,
                sources=injected,
            )
        )
        start += scan.seconds
    return CorrelatorTruth(
        seed=config.seed if seed is None else seed,
        dataset_id=dataset_id,
        sefd_jy=config.sefd_jy,
        delays_ns=delays_ns(config),
        scans=tuple(scans),
    )
