"""The mathematics of the simulated correlator, against sums written straight from the definitions."""

from __future__ import annotations

import cmath
import math

import erfa
import numpy as np
import pytest

from socs_bl.core.clock import unix_to_tai_mjd
from socs_bl.simulators.boards_config import BasebandConfig, Correlation, SourceConfig, SubbandConfig
from socs_bl.simulators.lags import LagMaker, Products, SkyField, bandpasses, make_products, valid_counts

UNIX = 1795233600.25
SOURCES = (
    SourceConfig(flux_jy=20.0, east_arcsec=120.0, north_arcsec=-75.0, q=0.1, u=-0.05),
    SourceConfig(flux_jy=5.0, east_arcsec=-400.0, north_arcsec=310.0),
)
FIELD = SkyField(ra_deg=202.8, dec_deg=30.5, sources=SOURCES)
SHAPES = [
    pytest.param(SubbandConfig(), id="one frame"),
    pytest.param(SubbandConfig(channels=32, half=True), id="half a frame"),
    pytest.param(SubbandConfig(channels=256), id="a chain of four"),
    pytest.param(SubbandConfig(channels=256, recirculation=4), id="recirculated"),
    pytest.param(SubbandConfig(channels=256, recirculation=2, bins=3), id="chain, recirculation and bins"),
]


def config(baseband: BasebandConfig) -> Correlation:
    """Three stations with delays."""
    stations = [
        {"name": f"ea{number:02d}", "station": number, "pad": pad} for number, pad in ((7, "E09"), (3, "N08"), (20, "W06"))
    ]  # fmt: skip
    return Correlation.model_validate({"stations": stations, "basebands": [baseband.model_dump()], "dump_factor": 20})


DELAYS = np.array([0.0, 2.5e-9, -1.5e-9])


def maker(subband: SubbandConfig, sideband: str) -> tuple[Correlation, Products, LagMaker]:
    """A maker, pointed."""
    baseband = BasebandConfig(sideband=sideband, subbands=(subband,))
    made = config(baseband)
    products = make_products(made, baseband, subband)
    lags = LagMaker(made, products, DELAYS, seed=1)
    lags.point(FIELD, UNIX)
    return made, products, lags


def residual(made: Correlation, station: int, source: SourceConfig) -> float:
    """Delay of a station for a source after tracking the phase centre, by rotating the source into Earth's axes."""
    site = made.site
    east, north, up = site.antennas[made.ordered[station].pad]
    lat, lon = math.radians(site.latitude_deg), math.radians(site.longitude_deg)
    place = np.array([
        -math.sin(lon) * east - math.sin(lat) * math.cos(lon) * north + math.cos(lat) * math.cos(lon) * up,
        math.cos(lon) * east - math.sin(lat) * math.sin(lon) * north + math.cos(lat) * math.sin(lon) * up,
        math.cos(lat) * north + math.sin(lat) * up,
    ])  # fmt: skip
    ra, dec = math.radians(FIELD.ra_deg), math.radians(FIELD.dec_deg)
    to_east = np.array([-math.sin(ra), math.cos(ra), 0.0])
    to_north = np.array([-math.sin(dec) * math.cos(ra), -math.sin(dec) * math.sin(ra), math.cos(dec)])
    centre = np.array([math.cos(dec) * math.cos(ra), math.cos(dec) * math.sin(ra), math.sin(dec)])
    l, m = (math.radians(arcsec / 3600) for arcsec in (source.east_arcsec, source.north_arcsec))  # noqa: E741
    difference = l * to_east + m * to_north + (math.sqrt(1 - l * l - m * m) - 1) * centre
    tt = unix_to_tai_mjd(UNIX) + 32.184 / 86400
    utc = UNIX / 86400 + 40587.0
    matrix = erfa.c2t06a(2400000.5, tt, 2400000.5, utc, 0.0, 0.0)
    return float(-(place @ matrix @ difference) / 299792458.0)


def expected(made: Correlation, products: Products, row: int, channel: int) -> complex:
    """One value of a spectrum from the definition, phase bins all alike."""
    baseband, subband = products.baseband, products.subband
    at = subband.offset_hz - subband.bandwidth_hz / 2 + channel * subband.bandwidth_hz / subband.channels
    sky = baseband.edge_hz - at if baseband.sideband == "L" else baseband.edge_hz + at
    x, y = int(products.x[row]), int(products.y[row])
    hands = "".join("RL"[hand] for hand in products.polarisations[row])
    total = 0j
    for source in SOURCES:
        seen = {"RR": 1.0, "LL": 1.0, "RL": source.q + 1j * source.u, "LR": source.q - 1j * source.u}[hands]
        late = DELAYS[y] - DELAYS[x] + residual(made, y, source) - residual(made, x, source)
        total += source.flux_jy * seen * cmath.exp(2j * math.pi * sky * late)
    if x == y and hands in ("RR", "LL"):
        total += made.sefd_jy
    gains = bandpasses(made, subband.channels)
    value = gains[x, channel] * gains[y, channel] * total / (made.sefd_jy + sum(source.flux_jy for source in SOURCES))
    return value.conjugate() if baseband.sideband == "L" else value


@pytest.mark.parametrize("sideband", ["U", "L"])
@pytest.mark.parametrize("subband", SHAPES)
def test_lags_are_the_sum_over_channels(subband: SubbandConfig, sideband: str) -> None:
    """Every lag, divided by its valid count, is the sum over the band of the spectrum that sky and delays make."""
    made, products, lags = maker(subband, sideband)
    found = lags.lags(noise=False)
    assert found.shape == (len(products.x), subband.bins, subband.lags, 2) and found.dtype == np.int32
    length, centre = subband.lags, subband.lags // 2
    counts = valid_counts(made, subband)
    for row in (0, 1, 2, len(products.x) - 3, len(products.x) - 1):
        spectrum = [expected(made, products, row, channel) for channel in range(subband.channels)]
        for k in (0, 1, centre - 1, centre, centre + 1, length - 1):
            wanted = sum(v * cmath.exp(2j * math.pi * m * (k - centre) / length) for m, v in enumerate(spectrum))
            frame = k // subband.lags_per_frame
            first = frame * subband.lags_per_frame
            near, far = float(counts[frame, 0]), float(counts[frame, 1])
            if len(counts) == 1:
                share = abs(k - centre) / centre
            elif first >= centre:
                share = (k - first) / subband.lags_per_frame
            else:
                share = (first + subband.lags_per_frame - k) / subband.lags_per_frame
            pair = found[row, subband.bins - 1, k]
            assert abs(complex(*pair) / (near + (far - near) * share) - wanted) < 3e-6, (row, k)


def test_own_product_has_its_valid_count_at_lag_zero() -> None:
    """A station's own power, over all channels, is one: lag zero holds the count, and no lag can overflow."""
    made, products, lags = maker(SubbandConfig(), "U")
    found = lags.lags(noise=False)
    own = (products.x == products.y) & (products.polarisations[:, 0] == products.polarisations[:, 1])
    most = valid_counts(made, products.subband)[0, 0]
    assert most == 2 * 64e6 * 0.01
    assert np.all(np.abs(found[own, 0, 64, 0] - most) <= most * 1e-5)
    assert np.abs(found.astype(np.int64)).max() <= most


def test_noise_is_that_of_the_radiometer() -> None:
    """Spectra of many dumps scatter by one over the square root of bandwidth times time, autos in the real part only."""
    subband = SubbandConfig(channels=32, half=True)
    made, products, lags = maker(subband, "U")
    counts = valid_counts(made, subband)[0]
    centre = subband.lags // 2
    valid = counts[0] + (counts[1] - counts[0]) * np.abs(np.arange(subband.lags) - centre) / centre
    spectra = []
    for _ in range(400):
        r = lags.lags().astype(np.float64) @ np.array([1, 1j]) / valid
        spectra.append(np.fft.fft(np.roll(r, -centre, axis=-1), axis=-1)[..., : subband.channels] / subband.lags)
    difference = np.array(spectra) - lags.spectra()
    gains = bandpasses(made, subband.channels)
    unit = gains[products.x] * gains[products.y] / math.sqrt(subband.channel_width_hz * 0.01)
    own = (products.x == products.y) & (products.polarisations[:, 0] == products.polarisations[:, 1])
    scatter = np.sqrt((np.abs(difference) ** 2).mean(axis=(0, 2))) / unit
    assert np.abs(scatter.mean(axis=1) - 1).max() < 0.03
    assert np.abs(difference[:, own].imag).max() < 1e-5 < np.abs(difference[:, ~own].imag).max()


def test_bins_have_their_own_flux() -> None:
    """A pulsar is in the phase bins its profile says."""
    subband = SubbandConfig(bins=4)
    made, products, lags = maker(subband, "U")
    pulsar = SourceConfig(flux_jy=10.0, profile=(0.0, 1.0, 2.0, 0.0))
    lags.point(SkyField(ra_deg=202.8, dec_deg=30.5, sources=(pulsar,)), UNIX)
    amplitude = np.abs(lags.spectra()[0]).sum(axis=-1)
    assert amplitude[0] == amplitude[3] == 0
    assert amplitude[2] / amplitude[1] == pytest.approx(2.0 * (made.sefd_jy + 10) / (made.sefd_jy + 20), rel=1e-5)
