"""The SDM: what sdmpy (with its schemas) and pyasdm read in the tables is what was put into the side files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from socs_bl.bdf.scan import Scan, ScanAntenna, mjd_ns
from socs_bl.bdf.sdm import Site, build_sdm
from socs_bl.bdf.sidefile import NodeCount, SideFile, SideWindow
from socs_bl.core.errors import Refused

SITE = Site("EVLA", 25.0)
START = mjd_ns(1_795_233_600 * 10**9)
INTERVAL = 5 * 10**9
ANTENNAS = tuple(
    ScanAntenna(f"ea{number:02d}", number, f"W{number:02d}", -1601185.0 + number, -5041977.5, 3554875.25 * number)
    for number in (1, 3, 12)
)
WINDOWS = (
    SideWindow(
        baseband="AC_8BIT", number=1, channels=64, bins=1, cross=("RR", "RL", "LR", "LL"), auto=("RR", "RL", "LL"),
        centre=1.5e9, bandwidth=64e6,
    ),
    SideWindow(
        baseband="AC_8BIT", number=2, channels=128, bins=1, cross=("RR", "LL"), auto=("RR", "LL"), centre=1.6e9,
        bandwidth=128e6,
    ),
)  # fmt: skip


def side_file(
    number: int = 1,
    subscan: int = 1,
    *,
    antennas: tuple[ScanAntenna, ...] = ANTENNAS,
    windows: tuple[SideWindow, ...] = WINDOWS,
    source: str = "3C286",
    ra: float = 3.5392577712237,
    dec: float = 0.53248521090894,
    mode: str = "CROSS_AND_AUTO",
    intents: tuple[str, ...] = ("CALIBRATE_PHASE", "OBSERVE_TARGET"),
    integrations: int = 6,
) -> SideFile:
    """A side file of scan `number`."""
    uid = f"uid:///evla/bdf/{1433189755525 + 10 * number + subscan}"
    start = START + number * 60 * 10**9 + subscan * 10**9
    scan = Scan(
        uid=uid, dataset_id="X_osro.57897.87981900463", config_id="X_osro.57897.87981900463.2", scan=number,
        subscan=subscan, start_ns=1, source=source, ra=ra, dec=dec, intents=intents, observer="A & B", antennas=antennas,
    )  # fmt: skip
    return SideFile(
        id=uid.replace(":", "_").replace("/", "_"), uid=uid, dataset_id=scan.dataset_id, scan_no=number, subscan_no=subscan,
        config_id=scan.config_id, start_time_ns=start, stop_time_ns=start + integrations * INTERVAL,
        num_integration=integrations, num_antenna=len(antennas), size=11_900_000 + number, path="/data/x", aborted=False,
        correlation_mode=mode, reason="", interval_ns=INTERVAL, antennas=antennas, windows=windows,
        nodes={"cbe-01": NodeCount(integrations, 0)}, exec_block="uid:///evla/bdf/1433189755000", scan=scan,
    )  # fmt: skip


def write(directory: Path, files: list[SideFile]) -> Path:
    """An SDM on the disk, without binary files."""
    directory.mkdir(exist_ok=True)
    for name, content in build_sdm(files, SITE).items():
        (directory / name).write_bytes(content)
    return directory


def test_sdmpy_reads_the_numbers_back(tmp_path: Path) -> None:
    """Antennas and their places, source, direction, times, intents, frequencies: by sdmpy, against its XML schemas."""
    import sdmpy

    sdm = sdmpy.SDM(str(write(tmp_path / "sdm", [side_file(2), side_file(1)])), use_xsd=True)
    assert [scan.idx for scan in sdm.scans()] == ["1", "2"]
    scan = sdm.scan(2)
    info = side_file(2)
    assert scan.source == scan.field == "3C286" and tuple(scan.coordinates) == (info.scan.ra, info.scan.dec)
    assert scan.intents == ["CALIBRATE_PHASE", "OBSERVE_TARGET"]
    assert scan.antennas == ["ea01", "ea03", "ea12"] and scan.stations == ["W01", "W03", "W12"]
    assert np.array(scan.positions).tolist() == [[item.x, item.y, item.z] for item in ANTENNAS]
    assert scan.startMJD == info.start_time_ns / 86400e9 and scan.endMJD == info.stop_time_ns / 86400e9
    assert scan.numIntegration == 6 and scan.numchans == [64, 128] and scan.chanwidths == [1e6, 1e6]
    assert scan.reffreqs == [1.4685e9, 1.5365e9]
    assert scan.freqs(0).mean() == 1.5e9 and scan.freqs(1).mean() == 1.6e9
    assert Path(scan.bdf_fname).name == info.id
    assert int(sdm["Main"][("2", "1")].dataSize) == info.size
    assert str(sdm["ExecBlock"][0].observerName) == "A & B"


def test_pyasdm_reads_the_numbers_back(tmp_path: Path) -> None:
    """The same by pyasdm: every table with all its rows, and what refers to what."""
    from pyasdm import ASDM

    infos = [side_file(1), side_file(2, source="Sgr A*", ra=-1.6, dec=-0.506)]
    asdm = ASDM()
    asdm.setFromFile(str(write(tmp_path / "sdm", infos)))
    rows = asdm.getMain().get()
    assert [row.getScanNumber() for row in rows] == [1, 2]
    assert [row.getNumIntegration() for row in rows] == [6, 6]
    assert [row.getDataUID().getEntityId() for row in rows] == [info.uid for info in infos]
    assert rows[0].getTime().get() == (infos[0].start_time_ns + infos[0].stop_time_ns) // 2
    antennas = asdm.getAntenna().get()
    assert [row.getName() for row in antennas] == ["ea01", "ea03", "ea12"]
    stations = asdm.getStation().get()
    assert [[place.get() for place in row.getPosition()] for row in stations] == [[a.x, a.y, a.z] for a in ANTENNAS]
    directions = [[item.get() for item in row.getReferenceDir()[0]] for row in asdm.getField().get()]
    assert directions == [[infos[0].scan.ra, infos[0].scan.dec], [-1.6, -0.506]]
    assert [row.getSourceName() for row in asdm.getSource().get()] == ["3C286", "3C286", "Sgr A*", "Sgr A*"]
    windows = asdm.getSpectralWindow().get()
    assert [(row.getRefFreq().get(), row.getNumChan()) for row in windows] == [(1.4685e9, 64), (1.5365e9, 128)]
    (config,) = asdm.getConfigDescription().get()
    assert [str(tag) for tag in config.getDataDescriptionId()] == ["DataDescription_0", "DataDescription_1"]
    for name in ("Feed", "Polarization", "Processor", "SwitchCycle", "CorrelatorMode", "State", "Scan", "Subscan",
                 "ExecBlock", "SBSummary", "DataDescription"):  # fmt: skip
        assert getattr(asdm, f"get{name}")().get(), name


def test_windows_keep_the_order_of_the_file(tmp_path: Path) -> None:
    """Another order or set of windows gets descriptions of its own, ascending in the order of its windows."""
    import sdmpy
    from sdmpy.scan import sdmarray

    infos = [side_file(1), side_file(2, windows=WINDOWS[::-1]), side_file(3, windows=WINDOWS[:1]), side_file(4)]
    sdm = sdmpy.SDM(str(write(tmp_path / "sdm", infos)))
    described = [sdmarray(sdm.scan(number)._config.dataDescriptionId).tolist() for number in (1, 2, 3, 4)]
    numbers = [[int(name.partition("_")[2]) for name in names] for names in described]
    assert numbers == [[0, 1], [2, 3], [4], [0, 1]]
    assert [sdm.scan(number).numchans for number in (1, 2, 3)] == [[64, 128], [128, 64], [64]]


def test_subscans_and_second_copies(tmp_path: Path) -> None:
    """Subscans have rows of their own; a second copy of a file is named only once."""
    import sdmpy
    from msgspec.structs import replace

    first = side_file(1, 1)
    copy = replace(first, id=f"{first.id}-2")
    sdm = sdmpy.SDM(str(write(tmp_path / "sdm", [copy, first, side_file(1, 2)])))
    assert [(scan.idx, scan.subidx) for scan in sdm.scans()] == [("1", "1"), ("1", "2")]
    assert len(sdm["Scan"]) == 1 and int(sdm["Scan"][0].numSubscan) == 2
    assert Path(sdm.scan(1, 1).bdf_fname).name == first.id


@pytest.mark.parametrize(
    ("told", "read"),
    [
        (("OBSERVE_TARGET",), ["OBSERVE_TARGET"]),
        (('ScanIntent="CALIBRATE_FLUX"', 'suppress_data="False"'), ["CALIBRATE_FLUX"]),
        (("ScanIntents=CALIBRATE_FLUX CALIBRATE_BANDPASS",), ["CALIBRATE_FLUX", "CALIBRATE_BANDPASS"]),
        (("looking around",), ["UNSPECIFIED"]),
        ((), ["UNSPECIFIED"]),
    ],
)
def test_intents_are_words_of_the_model(tmp_path: Path, told: tuple[str, ...], read: list[str]) -> None:
    """Only what the model knows is an intent; nothing known is UNSPECIFIED."""
    import sdmpy

    assert sdmpy.SDM(str(write(tmp_path / "sdm", [side_file(intents=told)]))).scan(1).intents == read


def test_one_dataset_only() -> None:
    """Files of two datasets make no SDM."""
    from msgspec.structs import replace

    with pytest.raises(Refused, match="one dataset"):
        build_sdm([side_file(1), replace(side_file(2), dataset_id="other")], SITE)


WINDOW = st.builds(
    SideWindow, baseband=st.sampled_from(["AC_8BIT", "BD_8BIT", "A1C1_3BIT", "OTHER"]), number=st.integers(1, 9),
    channels=st.integers(1, 1000), bins=st.integers(1, 40), cross=st.sampled_from([("RR",), ("XX", "YY"), ()]),
    auto=st.sampled_from([("RR", "LL"), ("XX", "XY", "YY")]), sideband=st.sampled_from(["NOSB", "USB", "LSB"]),
    centre=st.floats(0, 1e11), bandwidth=st.floats(0, 1e9),
)  # fmt: skip
FILE = st.builds(
    side_file, st.integers(1, 999), st.integers(1, 99), source=st.text(max_size=20).filter(str.isprintable),
    ra=st.floats(-7, 7), dec=st.floats(-2, 2), windows=st.lists(WINDOW, min_size=1, max_size=3).map(tuple),
    antennas=st.sampled_from([ANTENNAS, ANTENNAS[:2], (ScanAntenna("antenna1", 1), ScanAntenna("antenna2", 2))]),
    mode=st.sampled_from(["CROSS_AND_AUTO", "AUTO_ONLY"]), integrations=st.integers(1, 10**6),
)  # fmt: skip


@settings(max_examples=25)
@given(st.lists(FILE, min_size=1, max_size=4, unique_by=lambda info: (info.uid, info.scan_no, info.subscan_no)))
def test_any_files_make_valid_tables(tmp_path_factory: pytest.TempPathFactory, files: list[SideFile]) -> None:
    """Whatever the side files hold, the documents fit the schemas, and the same files give the same bytes in any order."""
    import sdmpy

    path = write(tmp_path_factory.mktemp("sdm"), files)
    sdm = sdmpy.SDM(str(path), use_xsd=True)
    assert sorted(int(row.dataSize) for row in sdm["Main"]) == sorted(info.size for info in files)
    for row in sdm["Main"]:
        assert len(sdm.scan(row.scanNumber, row.subscanNumber).antennas) == int(row.numAntenna)
    assert build_sdm(files[::-1], SITE) == build_sdm(files, SITE)
