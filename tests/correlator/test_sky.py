"""A simulated sky through the whole mathematics of the back end: frames, lag sets, elements, windows of a file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from socs_bl.bdf.writer import Piece
from socs_bl.correlator import wire
from socs_bl.correlator.configuration import Configuration
from socs_bl.correlator.output import WindowOutput
from socs_bl.correlator.pipeline import make_recipe, parse_pipeline
from socs_bl.correlator.plan import GOOD, Group, make_plan
from socs_bl.correlator.stage import Integration, Stage
from socs_bl.correlator.vci import parse_vci
from socs_bl.simulators.boards import Boards, BoardsConfig, Command, TimedField
from socs_bl.simulators.boards_config import BasebandConfig, Correlation, SourceConfig, SubbandConfig
from socs_bl.simulators.lags import LagMaker, SkyField, make_products
from socs_bl.simulators.widar_config import vci_document

NUMBER = 17_952_336_005  # of a dump of 100 ms, the first of an integration of five
SOURCES = (
    SourceConfig(flux_jy=200.0, east_arcsec=90.0, north_arcsec=-60.0, q=0.3, u=-0.2, profile=(1.0, 0.2)),
    SourceConfig(flux_jy=60.0, east_arcsec=-200.0, north_arcsec=150.0, profile=(0.5, 1.5)),
)
FIELD = SkyField(ra_deg=202.8, dec_deg=30.5, sources=SOURCES)
DELAYS = (0.5, -2.0, 3.0)
STATIONS = [{"name": f"ea{n:02d}", "station": n, "pad": pad} for n, pad in ((2, "W06"), (9, "N08"), (17, "E09"))]
SHAPES = [
    pytest.param("U", SubbandConfig(bins=2), id="upper"),
    pytest.param("L", SubbandConfig(bins=2), id="lower"),
    pytest.param("L", SubbandConfig(channels=256, recirculation=2, bins=2), id="chain and recirculation"),
    pytest.param("U", SubbandConfig(channels=32, half=True, bins=2), id="half a frame"),
]


def slots(boards: Boards, group: Group, size: int) -> Iterator[np.ndarray]:
    """Dumps of the boards, each frame put where its header says, as any reader of the format would."""
    members = {
        (p.x.station, p.x.baseband, p.x.subband, p.y.station, p.y.baseband, p.y.subband): (number, p)
        for number, p in enumerate(group.products)
    }
    for number in itertools.count(NUMBER):
        slot = np.zeros(size, np.uint8)
        for frame in (wire.parse_frame(data.tobytes()) for frames in boards.dump(number) for data in frames):
            header = frame.header
            key = tuple(header[f"{name}_{side}"] for side in "xy" for name in ("sid", "bbid", "sbid"))
            member, product = members[key]
            index = header["recirculation_x"] - header["recirculation_y"] + product.recirculation // 2
            first = wire.first_lag(index, header["nblocks"], header["start_block"], header["nlags"])
            place = (member, header["bin"], first // header["nlags"])
            group.state(slot)[place] = GOOD
            group.counts(slot)[place] = header["dv_centre"], header["dv_edge"]
            group.lag_pairs(slot)[member, header["bin"], first : first + header["nlags"]] = frame.lags
        assert np.all(group.state(slot) == GOOD)
        yield slot


def piece_of(configuration: Configuration, boards: Boards, text: str) -> Piece:
    """The first whole integration of the only window."""
    pipe, (mapping,) = configuration.pipes[0], configuration.mappings
    plan, elements = make_plan(configuration.pipe_products(pipe.name)), parse_pipeline(text)
    output = WindowOutput(configuration, mapping, plan, make_recipe(elements))
    pieces: list[Piece] = []

    def deliver(done: Integration) -> None:
        pieces.append(output.piece(stage.spectra(), done.grid, done.start_ns, False))

    stage = Stage(elements, plan, configuration.dump_ns, deliver)
    for number, slot in enumerate(slots(boards, plan.groups[0], plan.slot_bytes)):
        stage.take((NUMBER + number) * configuration.dump_ns, slot)
        if pieces:
            return pieces[0]
    raise AssertionError


@pytest.mark.parametrize(
    "order", ["flag ! integrate n=5 ! dvnorm ! fft", "flag ! dvnorm ! fft ! integrate n=5 ! accnorm"]
)
@pytest.mark.parametrize(("sideband", "subband"), SHAPES)
def test_the_sky_comes_out(sideband: str, subband: SubbandConfig, order: str) -> None:
    """Every product, bin and channel of the file is the sky's spectrum at its frequency, but for the radiometer's noise."""
    baseband = BasebandConfig(sideband=sideband, subbands=(subband,))
    raw = {"stations": STATIONS, "basebands": [baseband.model_dump()], "boards": 2}
    config = Correlation.model_validate(raw)
    configuration = parse_vci(vci_document(config, "some.1"), edges={baseband.name: baseband.edge_hz})
    boards = Boards(BoardsConfig(correlation=config, delays_ns=DELAYS))
    boards.tell(Command(fields=(TimedField(start=0.0, field=FIELD),)))
    piece = piece_of(configuration, boards, f"{order} ! bdf")

    products = make_products(config, baseband, subband)
    maker = LagMaker(config, products, np.array(DELAYS) * 1e-9, 0)
    maker.point(FIELD, (NUMBER + 2.5) * 0.1)
    wanted = maker.spectra().astype(np.complex128)
    power = {(x, a): wanted[row].real for row, (x, y, (a, b)) in enumerate(rows(products)) if x == y and a == b}
    if sideband == "L":
        wanted = wanted[..., ::-1].conj()
    assert piece.cross is not None and piece.auto is not None
    labels, values = ["RR", "RL", "LR", "LL"], {"RR": 0, "RL": 1, "LL": 3}
    for row, (x, y, (a, b)) in enumerate(rows(products)):
        name = "RL"[a] + "RL"[b]
        if x != y:
            found = piece.cross[y * (y - 1) // 2 + x, :, :, labels.index(name)]
        elif name == "RL":
            found = piece.auto[x, :, :, 1] + 1j * piece.auto[x, :, :, 2]
        else:
            found = piece.auto[x, :, :, values[name]]
        # Half a second, half of it in each bin; the noise of a product is the mean of both stations' power.
        scale = np.sqrt(power[x, a] * power[y, b]) / (subband.channel_width_hz * 0.5 / 2) ** 0.5
        off = (found - wanted[row]) / (scale[..., ::-1] if sideband == "L" else scale)
        assert np.abs(off).max() < 6 and abs(off.mean()) < 0.5, (x, y, name)
        strength = np.abs(wanted[row] / scale).mean()
        assert strength > (3 if name in ("RR", "LL") else 0.5), "the sky is well above the noise"
    for flags in (piece.cross_flags, piece.auto_flags):
        assert flags is not None and not flags.any()


def rows(products: object) -> list[tuple[int, int, tuple[int, int]]]:
    """Stations and hands of each product."""
    return [
        (int(x), int(y), (int(a), int(b)))
        for x, y, (a, b) in zip(products.x, products.y, products.polarisations, strict=True)  # type: ignore[attr-defined]
    ]
