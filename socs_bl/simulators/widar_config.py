"""The configuration of a simulated correlator as a WIDAR VCI document: a ``subArray`` with everything the boards make.

Source: schema of the WIDAR Virtual Correlator Interface, revision 3.22 (vciRequest.xsd, vciCommon.xsd), as evla_mcast
carries it. Correlator frequencies count from the edge of the baseband; polarisation A of a pair is right, B left.
"""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

from socs_bl.simulators.boards_config import BasebandConfig, Correlation, SubbandConfig

NAMESPACE = "http://www.nrc.ca/namespaces/widar"
BASEBAND_WIDTH_HZ = 1_024_000_000  # of an 8-bit sampler pair
_CORRELATION = {"RR": "A*A", "RL": "A*B", "LR": "B*A", "LL": "B*B"}


def _open(element: str, /, **attributes: object) -> str:
    words = "".join(f" {key}={quoteattr(str(value))}" for key, value in attributes.items())
    return f"<widar:{element}{words}>"


def _empty(element: str, /, **attributes: object) -> str:
    return f"{_open(element, **attributes)[:-1]}/>"


def vci_document(config: Correlation, config_id: str, subarray: str = "subarray1") -> str:
    """The VCI document.

    Parameters
    ----------
    config : Correlation
    config_id : str
        As the Executor's documents will name it.
    subarray : str
        Id of the subarray.
    """
    lines = ['<?xml version="1.0" encoding="UTF-8"?>']
    lines += [
        _open("subArray", **{"xmlns:widar": NAMESPACE}, configId=config_id, activationId=config_id, msgId=1, subarrayId=subarray)
    ]  # fmt: skip
    lines += ["<widar:listOfStations>"]
    lines += [_empty("station", sid=station.station, name=station.name) for station in config.ordered]
    lines += ["</widar:listOfStations>", _open("stationInputOutput", sid="all")]
    for baseband in config.basebands:
        side = "lower" if baseband.lower else "upper"
        for number, hand in ((baseband.right, "R"), (baseband.left, "L")):
            lines.append(_empty("bbParams", bbid=number, polarization=hand, sideband=side))
    for baseband in config.basebands:
        lines += _baseband(config, baseband)
    return "\n".join([*lines, "</widar:stationInputOutput>", "</widar:subArray>", ""])


def _baseband(config: Correlation, baseband: BasebandConfig) -> list[str]:
    bins = max(subband.bins for subband in baseband.subbands)
    binned: dict[str, object] = {"binningPeriod": config.hardware_us} if bins > 1 else {}
    lines = [
        _open(
            "baseBand",
            bbA=baseband.right,
            bbB=baseband.left,
            swbbName=baseband.name,
            bw=BASEBAND_WIDTH_HZ,
            **binned,
        )
    ]
    if bins > 1:
        lines.append(_empty("phaseBinning", phase=0, numBins=bins))
    for subband in baseband.subbands:
        lines += _subband(config, subband)
    return [*lines, "</widar:baseBand>"]


def _subband(config: Correlation, subband: SubbandConfig) -> list[str]:
    attributes: dict[str, object] = {
        "sbid": subband.subband,
        "swIndex": subband.number,
        "bw": f"{subband.bandwidth_hz:.0f}",
        "centralFreq": f"{subband.offset_hz:.3f}",
        "rqNumBits": 4,
    }
    if subband.bins > 1:
        attributes["phaseBinning"] = "on"
    lines = [_open("subBand", **attributes), _open("polProducts", autoCorrMode="on" if config.autos else "off")]
    for number, product in enumerate(config.products, 1):
        lines.append(
            _empty("pp", id=number, correlation=_CORRELATION[product], spectralChannels=subband.channels)
        )  # fmt: skip
    lines.append(
        _empty(
            "blbProdIntegration", recirculation=subband.recirculation, minIntegTime=config.hardware_us,
            ccIntegFactor=1, ltaIntegFactor=config.dump_factor, cbeIntegFactor=config.integrations,
        )
    )  # fmt: skip
    return [*lines, "</widar:polProducts>", "</widar:subBand>"]
