"""What the simulated correlator observes: stations, basebands, a sky for each scan. The defaults are the demonstration.

Stations stand where the arms of the VLA do (azimuths of its three arms, D configuration's extent). A baseband is a pair
of data paths, right and left circular polarisation; its subbands are the windows that the correlator makes.
"""

from __future__ import annotations

import ipaddress
import math
from typing import Literal, Self

from pydantic import Field, model_validator

from socs_bl.core.config import Config
from socs_bl.simulators.boards_faults import BoardFaults
from socs_bl.simulators.site import Site

LAGS, HALF_LAGS = 128, 64  # of one frame
MOST_FRAMES = 16  # of one recirculation block: the cells of a chip
# Azimuth of the arm in degrees, distance of the pad in metres.
_PADS = {
    "N03": (355.0, 95.0),
    "E05": (114.9, 193.0),
    "W06": (236.1, 268.0),
    "N08": (355.0, 437.0),
    "E09": (114.9, 547.0),
}


def _vla() -> Site:
    """The reference point of the VLA and a few of its pads, by name."""
    pads = {
        name: (distance * math.sin(math.radians(azimuth)), distance * math.cos(math.radians(azimuth)), 0.0)
        for name, (azimuth, distance) in _PADS.items()
    }
    return Site(
        telescope="EVLA", latitude_deg=34.078749, longitude_deg=-107.617728, altitude_m=2124.0, diameter_m=25.0, antennas=pads
    )  # fmt: skip


class StationConfig(Config):
    """One antenna at the correlator's input.

    Attributes
    ----------
    name : str
    station : int
        Its id at the correlator (widarID), 1-255.
    pad : str
        Where it stands: a name of the site.
    delay_ns : float or None
        What its signal is late by, apart from geometry, alike in all basebands; None: drawn.
    """

    name: str = Field(pattern="^[A-Za-z0-9]{1,16}$")
    station: int = Field(ge=1, le=255)
    pad: str
    delay_ns: float | None = Field(default=None, ge=-1000, le=1000)


class SubbandConfig(Config):
    """A subband, which becomes one spectral window.

    Attributes
    ----------
    number : int
        swIndex: from 1, consecutive in its baseband.
    subband : int
        Subband id of the frames, 0-17.
    offset_hz : float
        Its centre within the baseband.
    bandwidth_hz : float
    channels : int
        Spectral channels; the lags are twice as many, a power of two.
    recirculation : int
        A power of two, 1-256.
    bins : int
        Phase bins.
    half : bool
        64 lags a frame.
    """

    number: int = Field(default=1, ge=1)
    subband: int = Field(default=0, ge=0, le=17)
    offset_hz: float = Field(default=512e6, gt=0)
    bandwidth_hz: float = Field(default=64e6, gt=0)
    channels: int = Field(default=64, ge=32, le=262144)
    recirculation: int = Field(default=1, ge=1, le=256)
    bins: int = Field(default=1, ge=1, le=65536)
    half: bool = False

    @model_validator(mode="after")
    def _chain(self) -> Self:
        powers = all(number & (number - 1) == 0 for number in (self.channels, self.recirculation))
        blocks = 2 * self.channels / (self.lags_per_frame * self.recirculation)
        if not powers or not 1 <= blocks <= MOST_FRAMES:
            raise ValueError(
                f"{self.channels} channels with recirculation {self.recirculation} are {blocks:g} frames of"
                f" {self.lags_per_frame} lags a block; powers of two and 1 to {MOST_FRAMES} frames are possible"
            )
        return self

    @property
    def lags_per_frame(self) -> int:
        """Complex lags of a frame."""
        return HALF_LAGS if self.half else LAGS

    @property
    def lags(self) -> int:
        """Complex lags of a set."""
        return 2 * self.channels

    @property
    def blocks(self) -> int:
        """Frames of one recirculation block (the lag chain)."""
        return self.lags // (self.lags_per_frame * self.recirculation)

    @property
    def channel_width_hz(self) -> float:
        """Hz."""
        return self.bandwidth_hz / self.channels


class BasebandConfig(Config):
    """A pair of data paths of all stations.

    Attributes
    ----------
    name : str
        swbbName.
    right, left : int
        Baseband ids of the two polarisations, 0-7.
    edge_hz : float
        Sky frequency at baseband frequency 0 (the sum of the LOs).
    sideband : str
        ``U``: the sky frequency grows with the baseband's; ``L``: it falls.
    subbands : tuple of SubbandConfig
    """

    name: Literal["AC_8BIT", "BD_8BIT", "A1C1_3BIT", "A2C2_3BIT", "B1D1_3BIT", "B2D2_3BIT"] = "AC_8BIT"
    right: int = Field(default=0, ge=0, le=7)
    left: int = Field(default=1, ge=0, le=7)
    edge_hz: float = Field(default=1000e6, gt=0)
    sideband: Literal["U", "L"] = "U"
    subbands: tuple[SubbandConfig, ...] = Field(default=(SubbandConfig(),), min_length=1, max_length=16)

    @property
    def lower(self) -> bool:
        """Whether the sky is reversed."""
        return self.sideband == "L"

    def centre_hz(self, subband: SubbandConfig) -> float:
        """Sky frequency of the centre of a subband."""
        return self.edge_hz + (-1 if self.lower else 1) * subband.offset_hz


class SourceConfig(Config):
    """A point source.

    Attributes
    ----------
    flux_jy : float
    east_arcsec, north_arcsec : float
        Of the phase centre, in the plane of the sky (direction cosines l and m).
    q, u : float
        Linear polarisation as fractions of the flux: ``RL = flux (q + i u)``, ``LR = flux (q - i u)``.
    profile : tuple of float
        Flux in each phase bin, relative; empty: the same in all.
    """

    flux_jy: float = Field(gt=0)
    east_arcsec: float = Field(default=0.0, ge=-3600, le=3600)
    north_arcsec: float = Field(default=0.0, ge=-3600, le=3600)
    q: float = Field(default=0.0, ge=-1, le=1)
    u: float = Field(default=0.0, ge=-1, le=1)
    profile: tuple[float, ...] = ()


class ScanConfig(Config):
    """A scan.

    Attributes
    ----------
    source : str
        Name in the documents.
    ra_deg, dec_deg : float
        Phase centre, ICRS.
    seconds : float
    intents : tuple of str
        Values of ScanIntent.
    sky : tuple of SourceConfig
        What is in the field; empty: one source is drawn, in the phase centre for a calibrator.
    calibrator : bool
    """

    source: str = Field(pattern="^[A-Za-z0-9_+-]{1,32}$")
    ra_deg: float = Field(ge=0, lt=360)
    dec_deg: float = Field(ge=-90, le=90)
    seconds: float = Field(gt=0, le=86400)
    intents: tuple[str, ...] = ("OBSERVE_TARGET",)
    sky: tuple[SourceConfig, ...] = ()
    calibrator: bool = False


class DrawConfig(Config):
    """From what the unknowns of an observation are drawn.

    Attributes
    ----------
    min_flux_jy, max_flux_jy : float
        Of a source.
    radius_arcsec : float
        A target's source lies within this of the phase centre, and not within a quarter of it.
    delay_ns : float
        Largest delay of a station.
    ripple : float
        Largest deviation of a station's bandpass.
    """

    min_flux_jy: float = Field(default=8.0, gt=0)
    max_flux_jy: float = Field(default=25.0, gt=0)
    radius_arcsec: float = Field(default=180.0, gt=0, le=3600)
    delay_ns: float = Field(default=4.0, ge=0, le=1000)
    ripple: float = Field(default=0.1, ge=0, le=0.5)


class Network(Config):
    """Where everything is sent.

    Attributes
    ----------
    lag_group, lag_port :
        Of the lag frames; a unicast address is possible.
    observation_group, observation_port, antenna_group, antenna_port :
        Of the Executor's documents.
    interface : str
        Address of the interface that multicast leaves by.
    mode : str
        ``gso``: segmentation in the kernel, ``mmsg``: a datagram a frame, ``plain``: a call a frame.
    """

    lag_group: ipaddress.IPv4Address = ipaddress.IPv4Address("239.192.4.1")
    lag_port: int = Field(default=53500, ge=1024, le=65535)
    observation_group: ipaddress.IPv4Address = ipaddress.IPv4Address("239.192.3.2")
    observation_port: int = Field(default=53001, ge=1024, le=65535)
    antenna_group: ipaddress.IPv4Address = ipaddress.IPv4Address("239.192.3.1")
    antenna_port: int = Field(default=53000, ge=1024, le=65535)
    interface: ipaddress.IPv4Address = ipaddress.IPv4Address("127.0.0.1")
    mode: Literal["gso", "mmsg", "plain"] = "gso"


_STATIONS = tuple(
    StationConfig(name=f"ea{station:02d}", station=station, pad=pad) for station, pad in zip((3, 7, 12, 19, 24), _PADS, strict=True)
)  # fmt: skip
_BASEBANDS = (
    BasebandConfig(),
    BasebandConfig(
        name="BD_8BIT",
        right=2,
        left=3,
        edge_hz=2100e6,
        sideband="L",
        subbands=(SubbandConfig(channels=128, recirculation=2),),
    ),  # fmt: skip
)
_SCANS = (
    ScanConfig(
        source="J1331+3030", ra_deg=202.784533, dec_deg=30.509155, seconds=4.0, calibrator=True,
        intents=("CALIBRATE_DELAY", "CALIBRATE_PHASE"),
    ),
    ScanConfig(source="J1347+1217", ra_deg=206.889, dec_deg=12.29, seconds=4.0),
    ScanConfig(source="J1407+2827", ra_deg=211.752, dec_deg=28.454, seconds=4.0),
)  # fmt: skip


class Correlation(Config):
    """Everything the simulated correlator boards and the simulated Executor need.

    Attributes
    ----------
    seed : int
        Everything that is drawn at random comes from it.
    project : str
        First part of the dataset's id.
    site : Site
    stations : tuple of StationConfig
    basebands : tuple of BasebandConfig
    products : tuple of str
        Polarisation products of baselines; ``RR``, ``RL``, ``LR``, ``LL``.
    autos : bool
        Whether each station's own products are made as well.
    sefd_jy : float
        System equivalent flux density of a station in one polarisation.
    hardware_us, dump_factor, integrations : int
        The hardware's shortest integration in microseconds, how many make a dump, and how many dumps the back end is
        asked to integrate.
    boards : int
        Baseline boards; baselines are dealt out among them.
    valid_edge : float
        Valid counts at the longest lag over those at lag zero.
    sky_dumps : int
        The sky is computed anew after so many dumps, and at every scan.
    scans : tuple of ScanConfig
    lead_s : float
        From an Observation document to the start it names.
    draw : DrawConfig
    network : Network
    faults : BoardFaults
    """

    seed: int = Field(default=2026, ge=0)
    project: str = Field(default="TSIM26", pattern="^[A-Za-z0-9_-]{1,32}$")
    site: Site = Field(default_factory=_vla)
    stations: tuple[StationConfig, ...] = Field(default=_STATIONS, min_length=1, max_length=255)
    basebands: tuple[BasebandConfig, ...] = Field(default=_BASEBANDS, min_length=1, max_length=4)
    products: tuple[Literal["RR", "RL", "LR", "LL"], ...] = Field(default=("RR", "RL", "LR", "LL"), min_length=1)
    autos: bool = True
    sefd_jy: float = Field(default=370.0, gt=0)
    hardware_us: int = Field(default=500, ge=1)
    dump_factor: int = Field(default=200, ge=1)
    integrations: int = Field(default=5, ge=1)
    boards: int = Field(default=4, ge=1, le=65535)
    valid_edge: float = Field(default=0.98, gt=0, le=1)
    sky_dumps: int = Field(default=2, ge=1)
    scans: tuple[ScanConfig, ...] = Field(default=_SCANS, min_length=1)
    lead_s: float = Field(default=1.5, ge=0)
    draw: DrawConfig = DrawConfig()
    network: Network = Network()
    faults: BoardFaults = BoardFaults()

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for what, found in (
            ("stations", [station.station for station in self.stations]),
            ("names of stations", [station.name for station in self.stations]),
            ("names of basebands", [baseband.name for baseband in self.basebands]),
            ("baseband ids", [number for baseband in self.basebands for number in (baseband.right, baseband.left)]),
            ("products", list(self.products)),
        ):
            if len(set(found)) != len(found):
                raise ValueError(f"{what} {found} must be distinct")
        for baseband in self.basebands:
            if len({subband.subband for subband in baseband.subbands}) != len(baseband.subbands):
                raise ValueError(f"subbands of {baseband.name} must be distinct")
            if [subband.number for subband in baseband.subbands] != list(range(1, len(baseband.subbands) + 1)):
                raise ValueError(f"numbers of the subbands of {baseband.name} must be 1, 2, ...")
        unknown = [station.pad for station in self.stations if station.pad not in self.site.antennas]
        if unknown:
            raise ValueError(f"site.antennas has no pad {', '.join(unknown)}")
        return self

    def on_port(self, port: int) -> Correlation:
        """The same with lag frames to another UDP port."""
        return self.model_copy(update={"network": self.network.model_copy(update={"lag_port": port})})

    @property
    def dump_ns(self) -> int:
        """Length of a dump."""
        return self.hardware_us * self.dump_factor * 1000

    @property
    def ordered(self) -> tuple[StationConfig, ...]:
        """The stations by id."""
        return tuple(sorted(self.stations, key=lambda station: station.station))
