"""A configuration made from the document that configures the correlator itself: a VCI subArray.

Source: schema vciRequest 3.22 (element subArray, namespace ``http://www.nrc.ca/namespaces/widar``).

* Every pair of stations that have a subband gives one product for each ``pp`` of it (``A*B``: the lower station's
  baseband A with the higher one's B), every station its auto products (B*A is left out: it is A*B again).
* Lags are twice the spectral channels; 32 channels come in half frames.
* A dump lasts ``minIntegTime * ccIntegFactor * ltaIntegFactor``, with phase binning ``binningPeriod * ltaIntegFactor``.
* The steps of the pipeline follow ``cbeProcessing``; without it they are those of integrateFirst.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import combinations
from typing import NoReturn

from lxml import etree

from socs_bl.core import xml
from socs_bl.core.errors import Refused
from socs_bl.correlator.configuration import (
    LAGS_PER_FRAME,
    LAGS_PER_HALF_FRAME,
    Antenna,
    Assignment,
    Configuration,
    Pipe,
    Product,
    Stream,
    Subarray,
    Window,
)
from socs_bl.correlator.configuration import Mapping as Entry
from socs_bl.correlator.document import parse_configuration, write_configuration

NAMESPACE = "http://www.nrc.ca/namespaces/widar"
LIMIT = 4 << 20  # bytes
STYLES = ("integrateFirst", "transformFirst", "noTransform")
_PREFIX = f"{{{NAMESPACE}}}"
_CORRELATIONS = ("A*A", "A*B", "B*A", "B*B")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, slots=True)
class _Subband:
    """What the document says of one subband of a baseband pair."""

    pair: tuple[int, int]
    polarisations: tuple[str, str]
    subband: int
    window: str
    number: int
    bandwidth: float
    centre: float
    sideband: str
    correlations: tuple[str, ...]
    channels: int
    recirculation: int
    bins: int
    dump_ns: int
    autos: bool
    text: str
    span: int
    transforms: bool


def is_vci(root: etree._Element) -> bool:
    """Whether a document is one of these, by its root."""
    return str(root.tag) in (f"{_PREFIX}subArray", f"{_PREFIX}vciRequest")


def parse_vci(
    text: str | bytes,
    name: str = "",
    stations: Mapping[int, str] | None = None,
    edges: Mapping[str, float] | None = None,
    share: bool = False,
) -> Configuration:
    """The configuration for a subarray.

    Parameters
    ----------
    text : str or bytes
        XML: a subArray, or a vciRequest that holds one.
    name : str
        What the configuration is called.
    stations : mapping of int to str, optional
        Antennas by station, instead of the document's ``listOfStations``, which may leave them out.
    edges : mapping of str to float, optional
        Sky frequency of the edge of each baseband (by swbbName), Hz; without it the windows' centres are unknown.
    share : bool
        Windows that need the same steps share one pipeline; otherwise each has its own.

    Raises
    ------
    Refused
        When the document is no such thing, or asks for what the back end cannot do; the text names the line.
    """
    root = xml.parse(text, LIMIT, "VCI document")
    if not is_vci(root):
        raise Refused(f"the root of the VCI document is {root.tag}; it must be subArray or vciRequest of {NAMESPACE}")
    subarray = root if root.tag == f"{_PREFIX}subArray" else root.find(f"{_PREFIX}subArray")
    if subarray is None:
        _refuse(root, "the vciRequest holds no subArray; send the request that creates one")
    reader = _Reader(subarray, stations, edges or {})
    configuration = _assemble(reader, name, share)
    # What holds for a document that somebody wrote must hold for ours.
    return parse_configuration(write_configuration(configuration), name)


def parse_stations(text: str) -> dict[int, str]:
    """Stations as people write them: ``1=ea01,2=ea02``.

    Raises
    ------
    Refused
        When the text is anything else.
    """
    stations = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        number, equals, antenna = item.partition("=")
        if not (equals and antenna and number.isascii() and number.isdigit()):
            raise Refused(f"{item[:40]!r} is no station; write 1=ea01,2=ea02")
        stations[int(number)] = antenna
    return stations


def _refuse(element: etree._Element, text: str) -> NoReturn:
    raise Refused(f"VCI document, line {element.sourceline}: {text}")


class _Reader:
    """Reads a subArray element.

    Parameters
    ----------
    root : Element
    stations : mapping of int to str or None
    edges : mapping of str to float

    Attributes
    ----------
    stations : dict of int to str
        Antenna names by station.
    subbands : dict of (pair, subband) to _Subband
    members : dict of (pair, subband) to set of int
        Stations that have it.
    """

    def __init__(self, root: etree._Element, stations: Mapping[int, str] | None, edges: Mapping[str, float]) -> None:
        self.root = root
        self._edges = edges
        listed = root.findall(f"{_PREFIX}listOfStations/{_PREFIX}station")
        self.stations = dict(stations) if stations else {self._sid(item): self._antenna(item) for item in listed}
        self.subbands: dict[tuple[tuple[int, int], int], _Subband] = {}
        self.members: dict[tuple[tuple[int, int], int], set[int]] = {}
        for entry in root.findall(f"{_PREFIX}stationInputOutput"):
            self._read_entry(entry)
        if not self.stations:
            _refuse(root, "no stations are listed; give them, such as 1=ea01,2=ea02")
        if not self.subbands:
            _refuse(root, "no baseBand with a subBand that has polProducts; there is nothing to correlate")

    @property
    def config_id(self) -> str:
        """The telescope's name of the configuration."""
        return self.root.get("configId", "")

    def _sid(self, element: etree._Element) -> int:
        return _integer(element, "sid")

    def _antenna(self, element: etree._Element) -> str:
        return _UNSAFE.sub("_", element.get("name", "")) or f"station{element.get('sid')}"

    def _read_entry(self, entry: etree._Element) -> None:
        """One stationInputOutput: for all stations, or for those it names."""
        named = {self._sid(item): self._antenna(item) for item in entry.findall(f"{_PREFIX}station")}
        if not named and entry.get("sid", "all").lower() != "all":
            sid = self._sid(entry)
            named = {sid: self.stations.get(sid, self._antenna(entry))}
        for sid, antenna in named.items():
            self.stations.setdefault(sid, antenna)
        inputs = {_integer(item, "bbid"): item for item in entry.findall(f"{_PREFIX}bbParams")}
        for baseband in entry.findall(f"{_PREFIX}baseBand"):
            for element in baseband.findall(f"{_PREFIX}subBand"):
                if element.find(f"{_PREFIX}polProducts/{_PREFIX}pp") is None:
                    continue
                subband = self._read_subband(baseband, element, inputs)
                key = (subband.pair, subband.subband)
                if self.subbands.setdefault(key, subband) != subband:
                    _refuse(element, "stations have different settings of one subband; they cannot be correlated")
                self.members.setdefault(key, set()).update(named or self.stations)

    def _read_subband(
        self, baseband: etree._Element, element: etree._Element, inputs: Mapping[int, etree._Element]
    ) -> _Subband:
        first = _integer(baseband, "bbA")
        pair = (first, _integer(baseband, "bbB", first))
        letters = tuple(
            inputs[bb].get("polarization", default) if bb in inputs else default
            for bb, default in zip(pair, ("R", "L"), strict=True)
        )
        if any(letter not in ("R", "L", "X", "Y") for letter in letters):
            _refuse(baseband, f"polarisations {letters} of bbid {pair}; they must be R, L, X or Y")
        lower = first in inputs and inputs[first].get("sideband", "upper").lower() == "lower"
        products = _child(element, "polProducts")
        correlations = tuple(item.get("correlation", "") for item in products.findall(f"{_PREFIX}pp"))
        for correlation in correlations:
            if correlation not in _CORRELATIONS or correlations.count(correlation) > 1:
                _refuse(products, f"correlation {correlation!r}; each of {', '.join(_CORRELATIONS)} may be there once")
        channels = {_integer(item, "spectralChannels") for item in products.findall(f"{_PREFIX}pp")}
        if len(channels) > 1:
            _refuse(products, f"products with {sorted(channels)} channels in one subband; make them the same")
        times = _child(products, "blbProdIntegration")
        bins, dump_ns = _timing(baseband, element, times)
        window = _UNSAFE.sub("_", baseband.get("swbbName") or baseband.get("name") or f"BB{first}")
        central = _frequency(element, "centralFreq")
        edge = self._edges.get(window, 0.0)
        subset = products.find(f"{_PREFIX}autoCorrSubset")
        text, span, transforms = _steps(products, _integer(times, "cbeIntegFactor", 1))
        return _Subband(
            pair=pair,
            polarisations=(letters[0], letters[1]),
            subband=_integer(element, "sbid"),
            window=window,
            number=_integer(element, "swIndex"),
            bandwidth=_frequency(element, "bw"),
            centre=(edge - central if lower else edge + central) if edge else 0.0,
            sideband="L" if lower else "U",
            correlations=correlations,
            channels=channels.pop(),
            recirculation=_integer(times, "recirculation", 1),
            bins=bins,
            dump_ns=dump_ns,
            autos=subset is None or subset.get("algorithm") != "crossCorrOnly",
            text=text,
            span=span,
            transforms=transforms,
        )

    def disabled(self, subband: _Subband, one: int, other: int) -> bool:
        """Whether a baseline element takes this baseline out."""
        off = False
        for element in self.root.findall(f"{_PREFIX}baseline"):
            ends = {_integer(element, "stationOne"), _integer(element, "stationTwo", -1)} - {-1}
            here = ends <= {one, other} and _integer(element, "subband", subband.subband) == subband.subband
            if here and _integer(element, "bbA", subband.pair[0]) == subband.pair[0]:
                off = element.get("status") == "disable"
        return off


def _timing(baseband: etree._Element, element: etree._Element, times: etree._Element) -> tuple[int, int]:
    """Phase bins, and the length of a dump in ns."""
    factor = _integer(times, "ltaIntegFactor", 1)
    if element.get("phaseBinning", "off") == "on":
        groups = baseband.findall(f"{_PREFIX}phaseBinning")
        bins = sum(_integer(group, "numBins", 1) for group in groups)
        if bins < 1 or baseband.get("binningPeriod") is None:
            _refuse(element, "phaseBinning is on, yet its baseBand has no phaseBinning elements or no binningPeriod")
        return bins, round(_decimal(baseband, "binningPeriod") * 1000 * factor)
    hardware = _decimal(times, "minIntegTime") * _integer(times, "ccIntegFactor", 1)
    return 1, round(hardware * 1000 * factor)


def _steps(products: etree._Element, factor: int) -> tuple[str, int, bool]:
    """Text of the pipeline, span of its boxcar, and whether there is a transform."""
    processing = products.find(f"{_PREFIX}cbeProcessing")
    style = STYLES[0] if processing is None else processing.get("integrationStyle", STYLES[0])
    if style not in STYLES:
        _refuse(products, f"integrationStyle {style!r} is none of {', '.join(STYLES)}")
    span, transform = 1, ["fft"]
    if processing is not None:
        window = processing.find(f"{_PREFIX}window")
        if window is not None:
            if window.get("algorithm") != "hanning":
                _refuse(window, f"window algorithm {window.get('algorithm')!r}; only hanning is known")
            width = _integer(window, "width", 0)
            transform.insert(0, f"window hanning width={width}" if width else "window hanning")
        average = processing.find(f"{_PREFIX}averageFrequency")
        if average is not None:
            if average.get("algorithm") != "boxcar":
                _refuse(average, f"averageFrequency algorithm {average.get('algorithm')!r}; only boxcar is known")
            span = _integer(average, "span")
            transform.append(f"boxcar span={span}")
    integrate = [f"integrate n={factor}"]
    steps = {
        "integrateFirst": ["flag", *integrate, "dvnorm", *transform, "bdf"],
        "transformFirst": ["flag", "dvnorm", *transform, *integrate, "accnorm", "bdf"],
        "noTransform": ["flag", *integrate, "dvnorm", "bdf"],
    }[style]
    transforms = style != "noTransform"
    return " ! ".join(steps), span if transforms else 1, transforms


# -- the configuration -------------------------------------------------------------------------------------------------


def _assemble(reader: _Reader, name: str, share: bool) -> Configuration:
    streams: dict[tuple[int, int, int], Stream] = {}
    products: list[Product] = []
    windows, mappings = [], []
    pipes: dict[str, Pipe] = {}
    for number, (key, subband) in enumerate(sorted(reader.subbands.items()), start=1):
        windows.append(_window(f"w{number}", subband))
        text_key = subband.text if share else f"{number}"
        pipe = pipes.setdefault(text_key, Pipe(f"P{len(pipes)}", subband.text))
        assignments = []
        for one, other in _pairs(reader, subband, sorted(reader.members[key])):
            for correlation in subband.correlations:
                if one == other and correlation == "B*A":
                    continue
                sides = [0 if letter == "A" else 1 for letter in correlation.split("*")]
                ends = [
                    streams.setdefault(signal, Stream("s{}b{}f{}".format(*signal), *signal))
                    for station, side in zip((one, other), sides, strict=True)
                    for signal in [(station, subband.pair[side], subband.subband)]
                ]
                product = _product(f"p{len(products)}", ends[0], ends[1], subband, reader.root)
                products.append(product)
                assignments.append(Assignment(product.name, "".join(subband.polarisations[side] for side in sides)))
        mappings.append(Entry(windows[-1].name, pipe.name, tuple(assignments)))
    used = {stream.station for stream in streams.values()}
    antennas = tuple(Antenna(sid, reader.stations.get(sid, f"station{sid}")) for sid in sorted(used))
    dumps = {subband.dump_ns for subband in reader.subbands.values()}
    return Configuration(
        name=name,
        dump_ns=dumps.pop() if len(dumps) == 1 else 0,
        streams=tuple(streams.values()),
        products=tuple(products),
        subarrays=(Subarray("sa0", reader.config_id, antennas, tuple(windows)),),
        pipes=tuple(pipes.values()),
        mappings=tuple(mappings),
    )


def _pairs(reader: _Reader, subband: _Subband, stations: list[int]) -> Iterator[tuple[int, int]]:
    """Baselines by higher, then lower station; then the stations themselves, for their autos."""
    for other, one in sorted((high, low) for low, high in combinations(stations, 2)):
        if not reader.disabled(subband, one, other):
            yield one, other
    if subband.autos:
        yield from ((station, station) for station in stations)


def _window(name: str, subband: _Subband) -> Window:
    a, b = subband.polarisations
    labels = {"A*A": a + a, "A*B": a + b, "B*A": b + a, "B*B": b + b}
    cross = tuple(labels[item] for item in subband.correlations)
    auto = tuple(labels[item] for item in subband.correlations if item != "B*A") if subband.autos else ()
    return Window(
        name=name,
        baseband=subband.window,
        number=subband.number,
        channels=subband.channels // subband.span if subband.transforms else 2 * subband.channels,
        bandwidth=subband.bandwidth,
        sideband=subband.sideband,
        cross=cross,
        auto=auto,
        bins=subband.bins,
        centre=subband.centre,
    )


def _product(name: str, x: Stream, y: Stream, subband: _Subband, root: etree._Element) -> Product:
    lags = 2 * subband.channels
    half = lags == LAGS_PER_HALF_FRAME
    frames, rest = divmod(lags, subband.recirculation * (LAGS_PER_HALF_FRAME if half else LAGS_PER_FRAME))
    if rest or not frames:
        _refuse(
            root,
            f"{subband.channels} channels with recirculation {subband.recirculation} in subband {subband.subband} are no "
            f"whole number of frames of {LAGS_PER_FRAME} lags",
        )
    return Product(name, x, y, lags, frames, subband.recirculation, subband.bins, half=half)


# -- values ------------------------------------------------------------------------------------------------------------


def _child(element: etree._Element, tag: str) -> etree._Element:
    found = element.find(f"{_PREFIX}{tag}")
    if found is None:
        _refuse(element, f"has no {tag}; add it")
    return found


def _integer(element: etree._Element, attribute: str, default: int | None = None) -> int:
    text = element.get(attribute)
    if text is None and default is not None:
        return default
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= 9):
        _refuse(element, f"{attribute}={text!r:.40} is no whole number")
    return int(text)


def _decimal(element: etree._Element, attribute: str) -> Decimal:
    try:
        value = Decimal(element.get(attribute, ""))
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or not 0 <= value < Decimal(10) ** 15:
        _refuse(element, f"{attribute}={element.get(attribute)!r:.40} is no number")
    return value


def _frequency(element: etree._Element, attribute: str) -> float:
    return float(_decimal(element, attribute))
