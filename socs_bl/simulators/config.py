"""What the simulated telescope observes, with what, and when. The defaults are the demonstration.

The sample rate is scaled down so that one small machine can carry it; the packet index advances in real time. The
factor is `SubarrayConfig.scale_factor` and is written with the truth.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Self

from pydantic import Field, field_validator, model_validator

from socs_bl.core.config import Config
from socs_bl.core.errors import Refused
from socs_bl.core.names import parse_schedule_block, parse_subarray
from socs_bl.simulators.faults import Faults
from socs_bl.simulators.site import Site
from socs_bl.simulators.target import CATALOGUE, Target, parse_target

L_BAND_1K_CHANNEL_WIDTH_HZ = 856e6 / 1024  # MeerKAT L band, 1k mode
_ANTENNA = re.compile(r"[ms][0-9]{3}")


def _parsed(parse: Callable[[str], str], value: str) -> str:
    """Run a strict parser inside a validator, which reports only ValueErrors with the key."""
    try:
        return parse(value)
    except Refused as error:
        raise ValueError(str(error)) from error


class FieldConfig(Config):
    """What else than its target a subarray has in its field of view.

    Attributes
    ----------
    targets : int
        Targets the selector offers, the phase centre among them: so many beams has a recipe.
    radius_deg : float
        They lie within this distance of the phase centre. The default is inside the primary beam (half power of a 13.5 m
        dish at 1.4 GHz: 0.55 degrees from its centre).
    max_response : float
        Power with which the beam on one may hear another, 0 to 1.
    """

    targets: int = Field(default=4, ge=1, le=64)
    radius_deg: float = Field(default=0.5, gt=0, le=2)
    max_response: float = Field(default=0.4, gt=0, le=1)


class SubarrayConfig(Config):
    """One subarray: antennas, band and the streams of its F-engines.

    Attributes
    ----------
    name : str
        Its last character is CAM's subarray number.
    antennas : tuple of str
        In CAM's order.
    band : str
        Receiver band, ``l``, ``u`` or ``s``.
    centre_frequency_hz, adc_sample_rate_hz : float
        The channelised band is ``adc_sample_rate_hz / 2`` wide.
    n_channels : int
        Coarse channels.
    spectra_per_heap : int
    real_channel_width_hz : float
        Channel width of the mode that is scaled down.
    first_group : str
        First of `n_groups` consecutive multicast groups; each carries ``n_channels / n_groups`` channels.
    port : int
    proposal_id, schedule_blocks :
        What CAM says is being observed; the running schedule block first.
    telstate : tuple of (str, int)
        Where CAM says telescope state is to be had. Nothing answers there.
    ripple : float
        How much the passbands of antennas differ from each other: the largest deviation of a voltage gain, seeded.
    field : FieldConfig
    """

    name: str = "array_1"
    antennas: tuple[str, ...] = Field(default=("m000", "m001", "m002", "m003"), min_length=1, max_length=64)
    band: str = Field(default="l", pattern="^[lus]$")
    centre_frequency_hz: float = Field(default=1420.4e6, gt=0)
    adc_sample_rate_hz: float = Field(default=1.024e6, gt=0)
    n_channels: int = Field(default=128, ge=1)
    spectra_per_heap: int = Field(default=256, ge=1)
    real_channel_width_hz: float = Field(default=L_BAND_1K_CHANNEL_WIDTH_HZ, gt=0)
    first_group: str = "239.192.1.0"
    n_groups: int = Field(default=8, ge=1)
    port: int = Field(default=7148, ge=1024, le=65535)
    proposal_id: str = Field(default="SCI-20261121-SB-01", pattern="^[A-Z]{3}-[0-9]{8}-[A-Z]{2}-[0-9]{2}$")
    schedule_blocks: tuple[str, ...] = Field(default=("20261121-0001", "20261121-0002"), min_length=1)
    telstate: tuple[str, int] = ("127.0.0.1", 31029)
    ripple: float = Field(default=0.05, ge=0, le=0.5)
    field: FieldConfig = FieldConfig()

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return _parsed(parse_subarray, value)

    @field_validator("antennas")
    @classmethod
    def _antennas(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value) or not all(_ANTENNA.fullmatch(antenna) for antenna in value):
            raise ValueError("antenna names are m or s and three digits, each once")
        return value

    @field_validator("schedule_blocks")
    @classmethod
    def _schedule_blocks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_parsed(parse_schedule_block, block) for block in value)

    @model_validator(mode="after")
    def _streams(self) -> Self:
        if self.n_channels % self.n_groups:
            raise ValueError(f"n_channels {self.n_channels} is not a multiple of n_groups {self.n_groups}")
        first = ipaddress.IPv4Address(self.first_group)
        if not (first.is_multicast and (first + self.n_groups - 1).is_multicast):
            raise ValueError(f"{self.first_group} and the {self.n_groups - 1} addresses after it are not all multicast")
        return self

    @property
    def channel_width_hz(self) -> float:
        """Width of a coarse channel, Hz."""
        return self.adc_sample_rate_hz / 2 / self.n_channels

    @property
    def bandwidth_hz(self) -> float:
        """Width of the channelised band, Hz."""
        return self.adc_sample_rate_hz / 2

    @property
    def channels_per_group(self) -> int:
        """Coarse channels in one stream (HNCHAN)."""
        return self.n_channels // self.n_groups

    @property
    def samples_between_spectra(self) -> int:
        """ADC samples per spectrum of a critically sampled channeliser."""
        return 2 * self.n_channels

    @property
    def samples_per_heap(self) -> int:
        """ADC samples per packet index (HCLOCKS)."""
        return self.samples_between_spectra * self.spectra_per_heap

    @property
    def packet_rate_hz(self) -> float:
        """Packet indices per second."""
        return self.adc_sample_rate_hz / self.samples_per_heap

    @property
    def scale_factor(self) -> float:
        """How much narrower the simulated channels are than the real ones."""
        return self.real_channel_width_hz / self.channel_width_hz

    @property
    def stream_url(self) -> str:
        """The F-engine streams as CAM writes them: ``spead://<ip>+<N>:<port>``, N + 1 groups."""
        return f"spead://{self.first_group}+{self.n_groups - 1}:{self.port}"

    def channel_centre_hz(self, channel: float) -> float:
        """Frequency of the centre of a coarse channel: ``centre + (channel - n_channels / 2) * width``."""
        return self.centre_frequency_hz + (channel - self.n_channels / 2) * self.channel_width_hz


class Timing(Config):
    """Seconds between the events of an observation.

    Attributes
    ----------
    stagger_s : float
        Between the subarrays' beginnings.
    metadata_s : float
        From the configure request until CAM's sensors have been read.
    subscribe_s : float
        From there until the observation begins.
    slew_s : float
        From a new target until the antennas track it.
    track_s : float
        On source.
    gap_s : float
        From the end of one track to the next target.
    """

    stagger_s: float = Field(default=1.0, ge=0)
    metadata_s: float = Field(default=1.0, ge=0)
    subscribe_s: float = Field(default=10.0, ge=0)
    slew_s: float = Field(default=3.0, ge=0)
    track_s: float = Field(default=30.0, gt=0)
    gap_s: float = Field(default=30.0, ge=0)


class ToneConfig(Config):
    """What is injected into the F-engines' noise.

    Attributes
    ----------
    per_track : int
        Tones per subarray and target, spread over its band.
    min_drift_hz_s, max_drift_hz_s : float
        Smallest and largest magnitude of the drift rate.
    min_snr, max_snr : float
        Signal-to-noise ratio in a search as `search_channel_width_hz`, `search_duration_s` say, before losses.
    edge : float
        Kept free at either edge of a coarse channel and on either side of its centre, as a fraction of its width.
    search_channel_width_hz, search_duration_s : float
        Resolution and length the signal-to-noise ratio is defined for.
    """

    per_track: int = Field(default=4, ge=0)
    min_drift_hz_s: float = Field(default=0.3, ge=0)
    max_drift_hz_s: float = Field(default=3.0, gt=0)
    min_snr: float = Field(default=80.0, gt=0)
    max_snr: float = Field(default=200.0, gt=0)
    edge: float = Field(default=0.1, ge=0, lt=0.2)
    search_channel_width_hz: float = Field(default=0.9765625, gt=0)
    search_duration_s: float = Field(default=20.0, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_drift_hz_s > self.max_drift_hz_s or self.min_snr > self.max_snr:
            raise ValueError("each min_ must not exceed its max_")
        return self


_SUBARRAYS = (
    SubarrayConfig(),
    SubarrayConfig(
        name="array_2",
        antennas=("m010", "m011", "m012", "m013"),
        centre_frequency_hz=1284e6,
        first_group="239.192.2.0",
        proposal_id="SCI-20261121-SB-02",
        schedule_blocks=("20261121-0003",),
    ),
)


class Schedule(Config):
    """An observing session; `socs_bl.simulators.telescope.plan` turns it into timed steps.

    Attributes
    ----------
    seed : int
        Everything that is drawn at random comes from it.
    cycles : int
        Targets per subarray.
    site : Site
        Where the antennas stand.
    subarrays : tuple of SubarrayConfig
    faults : Faults
        What the F-engines do wrong.
    catalogue : tuple of Target
        Targets are drawn from it.
    timing : Timing
    tones : ToneConfig
    """

    seed: int = Field(default=2026, ge=0)
    cycles: int = Field(default=2, ge=1, le=1000)
    site: Site = Site()
    subarrays: tuple[SubarrayConfig, ...] = Field(default=_SUBARRAYS, min_length=1)
    faults: Faults = Faults()
    catalogue: tuple[Target, ...] = Field(default=CATALOGUE, min_length=1)
    timing: Timing = Timing()
    tones: ToneConfig = ToneConfig()

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        used: dict[tuple[str, int], str] = {}
        names = [subarray.name for subarray in self.subarrays]
        if len({name[-1] for name in names}) != len(names):
            raise ValueError(f"subarray names {names} must differ in their last character, CAM's subarray number")
        for subarray in self.subarrays:
            first = ipaddress.IPv4Address(subarray.first_group)
            for group in range(subarray.n_groups):
                other = used.setdefault((str(first + group), subarray.port), subarray.name)
                if other != subarray.name:
                    raise ValueError(f"{subarray.name} and {other} both use {first + group}:{subarray.port}")
        antennas = [antenna for subarray in self.subarrays for antenna in subarray.antennas]
        if len(set(antennas)) != len(antennas):
            raise ValueError("an antenna belongs to one subarray only")
        unknown = [antenna for antenna in antennas if antenna not in self.site.antennas]
        if unknown:
            raise ValueError(f"site.antennas has no position of {', '.join(unknown)}")
        return self

    @model_validator(mode="after")
    def _tones_fit(self) -> Self:
        travel = self.tones.max_drift_hz_s * self.timing.track_s / 2
        for subarray in self.subarrays:
            if self.tones.per_track > subarray.n_channels:
                raise ValueError(f"tones.per_track {self.tones.per_track} is more than the channels of {subarray.name}")
            if travel >= (0.25 - self.tones.edge) * subarray.channel_width_hz:
                raise ValueError(
                    f"a tone with tones.max_drift_hz_s {self.tones.max_drift_hz_s:g} would not stay clear of the edges and the"
                    f" centre of a channel of {subarray.name} for timing.track_s {self.timing.track_s:g}"
                )
        return self

    def on_port(self, port: int) -> Schedule:
        """The same with all streams on another UDP port."""
        moved = tuple(subarray.model_copy(update={"port": port}) for subarray in self.subarrays)
        return self.model_copy(update={"subarrays": moved})

    def subarray(self, name: str) -> SubarrayConfig:
        """The subarray of that name.

        Raises
        ------
        Refused
            When the schedule has none.
        """
        for subarray in self.subarrays:
            if subarray.name == name:
                return subarray
        known = ", ".join(subarray.name for subarray in self.subarrays)
        raise Refused(f"no subarray {name!r} in the schedule; it has {known}")

    def target(self, text: str) -> Target:
        """A target of the catalogue by any of its names, or one described as ``name, radec, RA, DEC``.

        Raises
        ------
        Refused
            When the text is neither.
        """
        for target in self.catalogue:
            if text in (target.name, *target.aliases):
                return target
        return parse_target(text)
