"""Configurations from VCI documents: products, windows, times and steps follow from what the document says."""

from __future__ import annotations

import pytest

from socs_bl.core.errors import Refused
from socs_bl.correlator.document import parse_configuration, write_configuration
from socs_bl.correlator.vci import parse_stations, parse_vci

HEAD = '<widar:subArray xmlns:widar="http://www.nrc.ca/namespaces/widar" configId="c.2" activationId="a" msgId="1">'
STATIONS = "".join(f'<widar:station sid="{sid}" name="ea{sid:02d}"/>' for sid in (3, 1, 2))
TIMES = (
    '<widar:blbProdIntegration recirculation="1" minIntegTime="200.0" ccIntegFactor="2" ltaIntegFactor="2500" '
    'cbeIntegFactor="5"/>'
)


def products(channels: int = 64, correlations: str = "A*A A*B B*A B*B") -> str:
    return "".join(
        f'<widar:pp id="{number}" correlation="{correlation}" spectralChannels="{channels}"/>'
        for number, correlation in enumerate(correlations.split(), start=1)
    )


def subband(number: int, inside: str = "", pp: str = "", times: str = TIMES, more: str = "") -> str:
    return (
        f'<widar:subBand sbid="{number}" swIndex="{number + 1}" bw="64000000" centralFreq="{32 + 64 * number}000000" '
        f'rqNumBits="4"{more}><widar:polProducts>{pp or products()}{times}{inside}</widar:polProducts></widar:subBand>'
    )


def document(
    *subbands: str, baseband: str = "", more: str = "", listed: str = STATIONS, sideband: str = "upper"
) -> str:
    return (
        f"{HEAD}<widar:listOfStations>{listed}</widar:listOfStations>"
        f'<widar:stationInputOutput sid="all"><widar:bbParams bbid="0" polarization="R" sideband="{sideband}"/>'
        f'<widar:bbParams bbid="2" polarization="L"/><widar:baseBand bbA="0" bbB="2" swbbName="AC_8BIT"{baseband}>'
        f"{''.join(subbands)}</widar:baseBand></widar:stationInputOutput>{more}</widar:subArray>"
    )


def test_products_of_all_baselines_and_autos() -> None:
    """Three antennas, four products: twelve cross and nine auto products (B*A of one station is A*B), lower station x."""
    made = parse_vci(document(subband(0)), "c1", edges={"AC_8BIT": 1e9})
    (subarray,) = made.subarrays
    (window,) = subarray.windows
    assert [antenna.name for antenna in subarray.antennas] == ["ea01", "ea02", "ea03"] and subarray.config_id == "c.2"
    assert (window.baseband, window.number, window.channels, window.bandwidth) == ("AC_8BIT", 1, 64, 64e6)
    assert window.cross == ("RR", "RL", "LR", "LL") and window.auto == ("RR", "RL", "LL")
    assert window.centre == 1.032e9
    placed = {item.product: item.polarisation for item in made.mappings[0].assignments}
    found = {(p.x.station, p.y.station, p.x.baseband, p.y.baseband): placed[p.name] for p in made.products}
    crossed = {(0, 0): "RR", (0, 2): "RL", (2, 0): "LR", (2, 2): "LL"}
    expected = {(*pair, *sides): label for pair in ((1, 2), (1, 3), (2, 3)) for sides, label in crossed.items()} | {
        (sid, sid, *sides): label for sid in (1, 2, 3) for sides, label in crossed.items() if sides != (2, 0)
    }
    assert found == expected and len(made.products) == 21


def test_times_and_steps() -> None:
    """200 us x 2 x 2500 are a dump of 1 s, five of them an integration of 5 s, integrated first when nothing is said."""
    made = parse_vci(document(subband(0)))
    assert made.dump_ns == 10**9 and made.pipes[0].text == "flag ! integrate n=5 ! dvnorm ! fft ! bdf"


@pytest.mark.parametrize(
    ("processing", "text", "channels"),
    [
        ('integrationStyle="transformFirst"', "flag ! dvnorm ! fft ! integrate n=5 ! accnorm ! bdf", 64),
        ('integrationStyle="noTransform"', "flag ! integrate n=5 ! dvnorm ! bdf", 128),
        (
            '><widar:averageFrequency algorithm="boxcar" span="4"/><widar:window algorithm="hanning"/',
            "flag ! integrate n=5 ! dvnorm ! window hanning ! fft ! boxcar span=4 ! bdf",
            16,
        ),
    ],
)
def test_processing(processing: str, text: str, channels: int) -> None:
    """The documented styles, window before the transform, boxcar after it; the window of the file has what comes out."""
    inside = f"<widar:cbeProcessing {processing}>" if "><" not in processing else f"<widar:cbeProcessing{processing}>"
    made = parse_vci(document(subband(0, inside + "</widar:cbeProcessing>")))
    assert made.pipes[0].text == text and made.subarrays[0].windows[0].channels == channels


def test_shapes() -> None:
    """32 channels are half frames, 1024 with recirculation 4 are four frames a block; phase bins set the dump's length."""
    half = parse_vci(document(subband(0, pp=products(32)))).products[0]
    assert (half.lags, half.half, half.frames) == (64, True, 1)
    many = parse_vci(document(subband(0, pp=products(1024), times=TIMES.replace('"1"', '"4"', 1)))).products[0]
    assert (many.lags, many.frames, many.recirculation) == (2048, 4, 4)
    bins = '<widar:phaseBinning phase="0.0" numBins="30"/><widar:phaseBinning phase="0.75" numBins="10"/>'
    binned = parse_vci(
        document(bins, subband(0, more=' phaseBinning="on"'), baseband=' binningPeriod="5000.0"', sideband="lower")
    )
    assert binned.products[0].bins == 40 and binned.dump_ns == 5000 * 1000 * 2500
    assert binned.subarrays[0].windows[0].sideband == "L"


def test_one_pipeline_a_window_or_shared() -> None:
    """Each window has a pipeline of its own, unless those with the same steps are to share one."""
    other = subband(2, '<widar:cbeProcessing integrationStyle="transformFirst"/>')
    two = document(subband(0), subband(1), other)
    assert [mapping.pipe for mapping in parse_vci(two).mappings] == ["P0", "P1", "P2"]
    assert [mapping.pipe for mapping in parse_vci(two, share=True).mappings] == ["P0", "P0", "P1"]


def test_stations_and_baselines() -> None:
    """Stations may come from outside; subbands of some stations only, disabled baselines and no autos are honoured."""
    made = parse_vci(document(subband(0), listed=""), stations=parse_stations("7=ea07, 5=ea05"))
    assert [antenna.station for antenna in made.subarrays[0].antennas] == [5, 7]
    cut = document(
        subband(0, '<widar:autoCorrSubset algorithm="crossCorrOnly"/>', pp=products(correlations="A*A")),
        more='<widar:baseline status="disable" stationOne="2" stationTwo="1"/>',
    )
    pairs = [(item.x.station, item.y.station) for item in parse_vci(cut).products]
    assert pairs == [(1, 3), (2, 3)] and parse_vci(cut).subarrays[0].windows[0].auto == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<subArray/>", "must be subArray"),
        (document(), "nothing to correlate"),
        (document(subband(0), listed=""), "no stations are listed"),
        (document(subband(0, pp=products(64, "A*C"))), "correlation 'A*C'"),
        (document(subband(0, pp=products(64, "A*A A*A"))), "may be there once"),
        (document(subband(0, times="")), "has no blbProdIntegration"),
        (document(subband(0, times=TIMES.replace("200.0", "soon"))), "minIntegTime='soon' is no number"),
        (document(subband(0, times=TIMES.replace('"1"', '"4"', 1))), "no whole number of frames"),
        (document(subband(0, '<widar:cbeProcessing integrationStyle="someday"/>')), "integrateFirst, transformFirst"),
        (document(subband(0, pp=products(96))), "no whole number of frames"),
        (document(subband(0, more=' phaseBinning="on"')), "no phaseBinning elements"),
        (document(subband(0), subband(0, pp=products(128))), "different settings of one subband"),
        ('<!DOCTYPE x [<!ENTITY a "b">]>' + document(subband(0)), "document type"),
    ],
)
def test_what_cannot_be_done_is_refused(text: str, words: str) -> None:
    """A sentence each, with the line where there is one."""
    with pytest.raises(Refused, match=words.replace("*", r"\*")):
        parse_vci(text)


def test_its_document_reads_back() -> None:
    """What is made of a VCI document is a configuration document like any other."""
    made = parse_vci(document(subband(0), subband(1)), "c1")
    assert parse_configuration(write_configuration(made)) == made
