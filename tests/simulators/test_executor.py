"""What the simulated Executor says, and the VCI document: read with nothing of ours."""

from __future__ import annotations

import math
import socket
import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import erfa
import pytest

from socs_bl.core.errors import Refused
from socs_bl.simulators import executor, sky
from socs_bl.simulators.boards_config import Correlation, SubbandConfig
from socs_bl.simulators.executor import Said
from socs_bl.simulators.truth_file import read_truth, write_truth
from socs_bl.simulators.widar_config import vci_document

START = 1795233600.0  # MJD 61365 and four hours
CONFIG = Correlation()
TRUTH = sky.inject(CONFIG, "TSIM26.61365.16666667", START)
WIDAR = "{http://www.nrc.ca/namespaces/widar}"


def test_an_observation_is_said_in_order() -> None:
    """The table first, each scan before its start, FINISH last with the end of the last scan; all of one dataset."""
    said = executor.plan(CONFIG, TRUTH, "some.1")
    assert [document.what for document in said] == [
        "antennas", "scan 1 J1331+3030", "scan 2 J1347+1217", "scan 3 J1407+2827", "FINISH",
    ]  # fmt: skip
    assert [document.at for document in said] == [START + after - CONFIG.lead_s for after in (0, 0, 4, 8, 12)]
    roots = [ElementTree.fromstring(document.text) for document in said]
    assert {root.get("datasetId") for root in roots} == {"TSIM26.61365.16666667"}
    starts = [(float(root.get("startTime", "0")) - 61365) * 86400 - 4 * 3600 for root in roots[1:]]
    assert starts == pytest.approx([0, 4, 8, 12], abs=1e-6)
    assert [root.get("configId") for root in roots[1:]] == ["some.1"] * 4
    assert [int(root.findtext("scanNo", "")) for root in roots[1:]] == [1, 2, 3, 4]
    assert [root.findtext("correlator") for root in roots[1:]] == ["widar"] * 4
    assert roots[-1].findtext("name") == "FINISH"
    assert "suppress_data=True" in [element.text for element in roots[-1].iter("intent")]
    assert math.degrees(float(roots[2].findtext("ra", ""))) == pytest.approx(206.889)
    assert [element.text for element in roots[1].iter("intent")][:2] == [
        'ScanIntent="CALIBRATE_DELAY"', 'ScanIntent="CALIBRATE_PHASE"',
    ]  # fmt: skip
    assert [(each.get("IFid"), each.get("Sideband"), float(each.findtext("freq", ""))) for each in roots[1].iter("sslo")] == [
        ("AC", "1", 1000.0), ("BD", "-1", 2100.0),
    ]  # fmt: skip


def test_antennas_stand_where_the_site_says() -> None:
    """Geocentric positions, turned back into height and horizontal distance, are the pads'."""
    table = ElementTree.fromstring(executor.plan(CONFIG, TRUTH, "")[0].text)
    rows = list(table.iter("AntennaProperties"))
    assert [(row.get("name"), row.findtext("widarID")) for row in rows] == [
        ("ea03", "3"), ("ea07", "7"), ("ea12", "12"), ("ea19", "19"), ("ea24", "24"),
    ]  # fmt: skip
    for row in rows:
        longitude, latitude, height = erfa.gc2gd(1, [float(row.findtext(axis, "")) for axis in "XYZ"])
        east, north, _ = CONFIG.site.antennas[row.findtext("pad", "")]
        radius = 6371e3
        assert (latitude - math.radians(CONFIG.site.latitude_deg)) * radius == pytest.approx(north, abs=3)
        away = (longitude - math.radians(CONFIG.site.longitude_deg)) * radius * math.cos(latitude)
        assert away == pytest.approx(east, abs=3) and height == pytest.approx(CONFIG.site.altitude_m, abs=0.1)


def test_times_are_exact() -> None:
    """A time in a document is good to less than a microsecond, which a double is not."""
    assert executor.mjd(START) == "61365.16666666666667"
    assert executor.mjd(START + 1e-6) == "61365.16666666667824"


def test_unknowns_are_drawn_from_the_seed() -> None:
    """The same seed gives the same sky; a calibrator is in the phase centre and a target's source is not."""
    other = sky.inject(CONFIG, "x", START, seed=7)
    assert sky.inject(CONFIG, "x", START, seed=7) == other
    assert other.delays_ns == TRUTH.delays_ns and other.scans[1].sources != TRUTH.scans[1].sources
    for scan in (*TRUTH.scans, *other.scans):
        (source,) = scan.sources
        distance = math.hypot(source.east_arcsec, source.north_arcsec)
        assert distance == 0 if scan.calibrator else 45 <= distance <= 180
        assert 8 <= source.flux_jy <= 25
        assert source.coefficient == pytest.approx(source.flux_jy / (source.flux_jy + 370))
    assert all(abs(delay) <= 4 for delay in TRUTH.delays_ns.values()) and len(set(TRUTH.delays_ns.values())) == 5


def test_the_truth_is_kept(tmp_path: Path) -> None:
    """What is written is read back; something else is refused."""
    write_truth(tmp_path / "truth.json", TRUTH)
    assert read_truth(tmp_path / "truth.json", sky.CorrelatorTruth) == TRUTH
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(Refused, match="does not say what was injected"):
        read_truth(tmp_path / "other.json", sky.CorrelatorTruth)
    with pytest.raises(Refused, match="cannot be read"):
        read_truth(tmp_path / "none.json", sky.CorrelatorTruth)


def test_the_vci_document_has_every_product() -> None:
    """Stations, basebands, subbands, products and integration stand where the schema has them."""
    bins = CONFIG.basebands[0].model_copy(update={"subbands": (SubbandConfig(bins=4),)})
    root = ElementTree.fromstring(
        vci_document(CONFIG.model_copy(update={"basebands": (bins, CONFIG.basebands[1])}), "c.1")
    )
    assert root.tag == f"{WIDAR}subArray" and root.get("configId") == "c.1"
    assert [station.get("sid") for station in root.iter(f"{WIDAR}station")] == ["3", "7", "12", "19", "24"]
    sides = [
        (each.get("bbid"), each.get("polarization"), each.get("sideband")) for each in root.iter(f"{WIDAR}bbParams")
    ]
    assert sides == [("0", "R", "upper"), ("1", "L", "upper"), ("2", "R", "lower"), ("3", "L", "lower")]
    first, second = root.iter(f"{WIDAR}baseBand")
    assert first.get("swbbName") == "AC_8BIT" and second.get("bbB") == "3"
    assert [each.get("numBins") for each in root.iter(f"{WIDAR}phaseBinning")] == ["4"]
    (subband,) = second.iter(f"{WIDAR}subBand")
    assert (subband.get("swIndex"), subband.get("bw")) == ("1", "64000000")
    products = [(each.get("correlation"), each.get("spectralChannels")) for each in subband.iter(f"{WIDAR}pp")]
    assert products == [("A*A", "128"), ("A*B", "128"), ("B*A", "128"), ("B*B", "128")]
    (integration,) = subband.iter(f"{WIDAR}blbProdIntegration")
    factors = [integration.get(name) for name in ("recirculation", "minIntegTime", "ltaIntegFactor", "cbeIntegFactor")]
    assert factors == ["2", "500", "200", "5"]


@pytest.mark.network
def test_documents_arrive_by_multicast() -> None:
    """A listener on loopback gets the document as one datagram, and the table on its own group."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("", 0))
        receiver.settimeout(20.0)
        for group in ("239.192.52.1", "239.192.52.2"):
            membership = struct.pack("4s4s", socket.inet_aton(group), socket.inet_aton("127.0.0.1"))
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        port = receiver.getsockname()[1]
        network = {
            "observation_group": "239.192.52.1", "observation_port": port,
            "antenna_group": "239.192.52.2", "antenna_port": port,
        }  # fmt: skip
        config = Correlation.model_validate({"network": network})
        for document in (Said(0.0, "table", True, "<a/>"), Said(0.0, "scan", False, "<b/>")):
            executor.send(config, document)
            assert receiver.recv(100) == document.text.encode()
