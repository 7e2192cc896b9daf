"""Lags of all products of a simulated correlator: the mathematics between a sky and what baseline boards send.

Station signals X(t) and Y(t) = X(t - tau) have the cross spectrum ``V = <X Y*> = |X|^2 exp(+2 pi i f tau)``. A lag set of
``L`` complex lags with lag zero at ``c = L / 2`` is ``r_k = sum_m V_m exp(+2 pi i m (k - c) / L)`` over the ``L / 2``
channels of a single-sideband band, channel ``m`` lying ``m`` channel widths above the lower edge of the subband in the
baseband. A baseband of lower sideband holds the conjugate of the sky, its frequency falling with ``m``. Spectra are
scaled so that a station's own power adds up to 1 over its channels; lag 0 of its own product is then the valid count.

Point sources are unpolarised but for Q and U. They reach a station with the delay that tracking the phase centre
leaves (`socs_bl.simulators.geometry`), and with the station's own. Noise is that of the radiometer equation, independent
in every channel, product and dump.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

from socs_bl.core.config import Config
from socs_bl.simulators import geometry
from socs_bl.simulators.boards_config import BasebandConfig, Correlation, SourceConfig, SubbandConfig
from socs_bl.simulators.signal import gains

COUNTS_MAX = 1 << 30  # valid counts saturate, as a register would
Complex = npt.NDArray[np.complex64]
Float = npt.NDArray[np.float64]


class SkyField(Config):
    """What is observed for a while.

    Attributes
    ----------
    ra_deg, dec_deg : float
        Phase centre.
    sources : tuple of SourceConfig
    """

    ra_deg: float = 0.0
    dec_deg: float = 0.0
    sources: tuple[SourceConfig, ...] = ()

    @property
    def centre(self) -> Float:
        """Right ascension and declination of the phase centre, radians: (2,)."""
        return np.radians([self.ra_deg, self.dec_deg])

    def directions(self) -> Float:
        """ICRS directions of the sources, radians: (sources, 2)."""
        offsets = [np.radians([source.east_arcsec / 3600, source.north_arcsec / 3600]) for source in self.sources]
        return np.array([geometry.offset(self.centre, east, north) for east, north in offsets]).reshape(-1, 2)


@dataclass(frozen=True)
class Products:
    """The products of one subband, in the order of their arrays: baselines by baseline, then the stations' own.

    Attributes
    ----------
    baseband : BasebandConfig
    subband : SubbandConfig
    x, y : numpy.ndarray
        int (products,): numbers of the stations in `Correlation.ordered`.
    polarisations : numpy.ndarray
        int (products, 2): 0 right, 1 left, of x and of y.
    """

    baseband: BasebandConfig
    subband: SubbandConfig
    x: npt.NDArray[np.intp]
    y: npt.NDArray[np.intp]
    polarisations: npt.NDArray[np.intp]

    def frequencies(self) -> Float:
        """Sky frequency of each channel of the baseband, ascending there: (channels,), Hz."""
        subband = self.subband
        at = subband.offset_hz - subband.bandwidth_hz / 2 + np.arange(subband.channels) * subband.channel_width_hz
        return np.asarray(self.baseband.edge_hz + (-at if self.baseband.lower else at))


def make_products(config: Correlation, baseband: BasebandConfig, subband: SubbandConfig) -> Products:
    """All products of a subband: baselines (0,1), (0,2), (1,2), ... with all polarisation products, then autos."""
    count = len(config.stations)
    pairs = [(one, other) for other in range(count) for one in range(other)]
    rows = [(one, other, product) for one, other in pairs for product in config.products]
    if config.autos:
        # LR of a station is the conjugate of its RL.
        own = [product for product in config.products if product != "LR"]
        rows += [(station, station, product) for station in range(count) for product in own]
    hands = np.array([["RL".index(hand) for hand in product] for _, _, product in rows], np.intp).reshape(-1, 2)
    x, y = (np.array([row[side] for row in rows], np.intp) for side in (0, 1))
    return Products(baseband, subband, x, y, hands)


class LagMaker:
    """Makes the lags of one subband, dump after dump.

    Parameters
    ----------
    config : Correlation
    products : Products
    delays_s : numpy.ndarray
        (stations,): what each is late by.
    seed : int
        Of the noise; the bandpasses come from the configuration's.
    """

    def __init__(self, config: Correlation, products: Products, delays_s: Float, seed: int) -> None:
        self.products = products
        self._config, self._delays = config, delays_s
        self._random = np.random.Generator(np.random.SFC64(seed))
        self._places = geometry.positions(config.site, [station.pad for station in config.ordered])
        subband = products.subband
        self._gains = bandpasses(config, subband.channels)
        self.counts = valid_counts(config, subband)
        self._scale = counts_of_lags(self.counts, subband).astype(np.float32)
        shape = (len(products.x), subband.bins, subband.channels)
        self._template = np.zeros(shape, np.complex64)
        self._deviation = np.zeros(shape, np.float32)
        self._real = (products.x == products.y) & (products.polarisations[:, 0] == products.polarisations[:, 1])

    def point(self, field: SkyField, unix: float) -> None:
        """Compute the spectra for a field at a time (Unix seconds)."""
        self._template, self._deviation = self._spectra(field, unix)

    def spectra(self) -> Complex:
        """The spectra without noise, in the baseband's order of channels: (products, bins, channels)."""
        return self._template

    def lags(self, noise: bool = True) -> npt.NDArray[np.int32]:
        """Lags of one dump, times valid counts: int32 (products, bins, lags, 2)."""
        spectra = self._template
        if noise:
            drawn = self._random.standard_normal((*spectra.shape, 2), dtype=np.float32)
            drawn[self._real] *= np.array([math.sqrt(2.0), 0.0], np.float32)  # a real product has a real noise
            drawn *= (self._deviation * np.float32(math.sqrt(0.5)))[..., None]
            spectra = spectra + drawn.view(np.complex64)[..., 0]
        length = self.products.subband.lags
        lags = scipy.fft.ifft(spectra, n=length, norm="forward", overwrite_x=noise)
        # ifft puts lag zero first; ours is in the middle.
        lags = np.roll(lags, length // 2, axis=-1) * self._scale
        return np.rint(lags.view(np.float32)).astype(np.int32).reshape(*lags.shape, 2)

    def _spectra(self, field: SkyField, unix: float) -> tuple[Complex, npt.NDArray[np.float32]]:
        products, subband, sefd = self.products, self.products.subband, self._config.sefd_jy
        profiles = np.array([source.profile or (1.0,) * subband.bins for source in field.sources]).reshape(
            -1, subband.bins
        )
        fluxes = np.array([source.flux_jy for source in field.sources])[:, None] * profiles
        delays = np.broadcast_to(self._delays, (len(field.sources), len(self._delays)))
        if field.sources:
            delays = delays + geometry.residual_delays(self._places, field.directions(), field.centre, unix)[0]
        spectra = np.zeros((len(products.x), subband.bins, subband.channels), np.complex128)
        for source, flux, delay in zip(field.sources, fluxes, delays, strict=True):
            late = delay[products.y] - delay[products.x]
            fringe = np.exp(2j * np.pi * late[:, None] * products.frequencies())
            spectra += (coherency(source, products)[:, None] * flux)[..., None] * fringe[:, None, :]
        spectra[self._real] += sefd
        if products.baseband.lower:
            spectra = spectra.conj()
        gains = (self._gains[products.x] * self._gains[products.y])[:, None, :]
        spectra *= gains / (sefd + fluxes.sum(axis=0))[:, None]
        samples = subband.channel_width_hz * self._config.dump_ns * 1e-9 / subband.bins
        deviation = np.broadcast_to(gains / math.sqrt(samples), spectra.shape)
        return spectra.astype(np.complex64), deviation.astype(np.float32)


def coherency(source: SourceConfig, products: Products) -> npt.NDArray[np.complex128]:
    """What each product sees of a source of flux 1, at lag zero: complex (products,)."""
    table = np.array([[1.0, source.q + 1j * source.u], [source.q - 1j * source.u, 1.0]])
    return np.asarray(table[products.polarisations[:, 0], products.polarisations[:, 1]])


def bandpasses(config: Correlation, channels: int) -> Float:
    """Voltage gain of each station in each channel, its squares adding up to 1: (stations, channels)."""
    found = gains(len(config.stations), channels, config.draw.ripple, config.seed)
    return np.asarray(found / np.sqrt((found**2).sum(axis=1, keepdims=True)))


def valid_counts(config: Correlation, subband: SubbandConfig) -> npt.NDArray[np.int64]:
    """Valid counts of each frame of a set: at the end nearer to lag zero, and at the other: (frames, 2).

    A frame that is the whole set has lag zero in its middle, and both of its ends are the far one.
    """
    frames, per_frame, centre = subband.blocks * subband.recirculation, subband.lags_per_frame, subband.lags // 2
    ends = np.abs(np.arange(frames)[:, None] * per_frame + np.array([0, per_frame]) - centre)
    distances = np.array([[0, centre]]) if frames == 1 else np.sort(ends, axis=1)
    most = min(2 * subband.bandwidth_hz * config.dump_ns * 1e-9 / subband.bins, COUNTS_MAX)
    return np.rint(most * (1.0 - (1.0 - config.valid_edge) * distances / centre)).astype(np.int64)


def counts_of_lags(counts: npt.NDArray[np.int64], subband: SubbandConfig) -> Float:
    """Valid counts of every lag, a straight line within each frame: (lags,)."""
    centre, per_frame = subband.lags // 2, subband.lags_per_frame
    distance = np.abs(np.arange(subband.lags) - centre)
    frame = np.arange(subband.lags) // per_frame
    length = centre if len(counts) == 1 else per_frame
    near = np.zeros(1, np.int64) if len(counts) == 1 else np.abs(np.arange(len(counts)) * per_frame - centre)
    if len(counts) > 1:
        near = np.minimum(near, np.abs((np.arange(len(counts)) + 1) * per_frame - centre))
    share = (distance - near[frame]) / length
    return np.asarray(counts[frame, 0] + (counts[frame, 1] - counts[frame, 0]) * share)
