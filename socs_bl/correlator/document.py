"""Configuration documents: the XML that `configuration.Configuration` is read from and written to.

The structure is that of ``schema/config.rng``. What a schema cannot say is checked here: references, shapes that must fit
each other, and that nothing is written to the same place twice. Every refusal names the line and what would be right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import NoReturn

from lxml import etree

from socs_bl.core import xml
from socs_bl.core.errors import Refused
from socs_bl.correlator.configuration import (
    LAGS_PER_FRAME,
    Antenna,
    Assignment,
    Configuration,
    Mapping,
    Pipe,
    Product,
    Stream,
    Subarray,
    Window,
)
from socs_bl.correlator.file_header import check_subarray
from socs_bl.correlator.names import parse_name
from socs_bl.correlator.pipeline import Recipe, make_recipe, parse_pipeline

SCHEMA = Path(__file__).with_name("schema") / "config.rng"
LIMIT = 64 << 20  # bytes: the configuration of a whole correlator has some ten million
_WRITTEN_AS = {
    "config": "config has inputConfig, outputConfig and pipelineConfig in this order, and may have name and version='1'",
    "inputConfig": "inputConfig has strm elements, then product4 elements, and may have dump (microseconds)",
    "strm": "a strm has id, stn (1-255), bb (0-7) and sb (0-17)",
    "product4": "a product4 has id, x, y and lags, and may have frames (1-16), rec (1-256), chip (0-63), ccc (0-15), "
    "bins (1-65536) and half (0 or 1)",
    "outputConfig": "outputConfig has sub elements",
    "sub": "a sub has id, may have cfg, and holds ant elements, then sw elements",
    "ant": "an ant has stn (1-255) and name",
    "sw": "a sw has id, swbb, sw, nchan and bw (Hz), and may have sb (U or L), cross and sd (such as 'RR RL LR LL'), "
    "nbin and centre (Hz)",
    "pipelineConfig": "pipelineConfig has pipe elements, then map elements",
    "pipe": "a pipe has id and desc",
    "map": "a map has sw and pipe, and holds p elements",
    "p": "a p has id and pol (such as RR)",
}


def parse_configuration(text: str | bytes, name: str = "") -> Configuration:
    """Read a document.

    Parameters
    ----------
    text : str or bytes
        XML, bytes in UTF-8.
    name : str
        What the configuration is called, whatever the document says; empty: as the document says.

    Raises
    ------
    Refused
        When it is not XML, has a DOCTYPE, is not what the schema says, or does not make sense.
    """
    what = f"configuration {name}" if name else "configuration"
    root = xml.parse(text, LIMIT, what)
    _check_structure(root, what)
    return _Reader(root, what).read(name)


def write_configuration(configuration: Configuration) -> str:
    """The document of a configuration; `parse_configuration` reads the same back."""
    attributes = {"name": configuration.name} if configuration.name else {}
    root = etree.Element("config", {**attributes, "version": "1"})
    dump = {"dump": _microseconds(configuration.dump_ns)} if configuration.dump_ns else {}
    entry = etree.SubElement(root, "inputConfig", dump)
    for stream in configuration.streams:
        values = {"stn": stream.station, "bb": stream.baseband, "sb": stream.subband}
        etree.SubElement(entry, "strm", {"id": stream.name, **_texts(values)})
    for product in configuration.products:
        etree.SubElement(entry, "product4", _product_attributes(product))
    output = etree.SubElement(root, "outputConfig")
    for subarray in configuration.subarrays:
        chosen = {"cfg": subarray.config_id} if subarray.config_id else {}
        group = etree.SubElement(output, "sub", {"id": subarray.name, **chosen})
        for antenna in subarray.antennas:
            etree.SubElement(group, "ant", {"stn": str(antenna.station), "name": antenna.name})
        for window in subarray.windows:
            etree.SubElement(group, "sw", _window_attributes(window))
    processing = etree.SubElement(root, "pipelineConfig")
    for pipe in configuration.pipes:
        etree.SubElement(processing, "pipe", {"id": pipe.name, "desc": pipe.text})
    for mapping in configuration.mappings:
        members = etree.SubElement(processing, "map", {"sw": mapping.window, "pipe": mapping.pipe})
        for item in mapping.assignments:
            etree.SubElement(members, "p", {"id": item.product, "pol": item.polarisation})
    return etree.tostring(root, pretty_print=True, encoding="unicode")


def _texts(values: dict[str, int]) -> dict[str, str]:
    return {key: str(value) for key, value in values.items()}


def _microseconds(nanoseconds: int) -> str:
    return format(Decimal(nanoseconds).scaleb(-3).normalize(), "f")


def _product_attributes(product: Product) -> dict[str, str]:
    placed = {"chip": product.chip, "ccc": product.cell}
    return {
        "id": product.name,
        "x": product.x.name,
        "y": product.y.name,
        **_texts({"lags": product.lags, "frames": product.frames, "rec": product.recirculation}),
        **_texts({key: value for key, value in placed.items() if value >= 0}),
        **_texts({"bins": product.bins, "half": int(product.half)}),
    }


def _window_attributes(window: Window) -> dict[str, str]:
    return {
        "id": window.name,
        "swbb": window.baseband,
        "sw": str(window.number),
        "nchan": str(window.channels),
        "bw": repr(window.bandwidth),
        "sb": window.sideband,
        "cross": " ".join(window.cross),
        "sd": " ".join(window.auto),
        "nbin": str(window.bins),
        **({"centre": repr(window.centre)} if window.centre else {}),
    }


@cache
def _schema() -> etree.RelaxNG:
    return etree.RelaxNG(etree.parse(str(SCHEMA)))


def _check_structure(root: etree._Element, what: str) -> None:
    schema = _schema()
    if schema.validate(root):
        return
    # The validator complains from the inside out: the first complaint is about the element that is wrong.
    error = schema.error_log[0]
    wrong = next((element for element in root.iter() if element.sourceline == error.line), root)
    right = _WRITTEN_AS.get(str(wrong.tag), "see the page on configuration documents")
    raise Refused(f"{what}, line {error.line}: {error.message}; {right}")


class _Reader:
    """Reads a document whose structure is right.

    Parameters
    ----------
    root : Element
    what : str
        What errors call the document.
    """

    def __init__(self, root: etree._Element, what: str) -> None:
        self._root = root
        self._what = what
        self._ids: set[str] = set()
        self._streams: dict[str, Stream] = {}
        self._products: dict[str, Product] = {}
        self._subarrays: dict[str, Subarray] = {}
        self._windows: dict[str, tuple[Subarray, Window]] = {}
        self._pipes: dict[str, Pipe] = {}
        self._recipes: dict[str, Recipe] = {}
        self._written: dict[str, str] = {}  # by subarray: the first pipe that writes its file

    def read(self, name: str) -> Configuration:
        """The configuration, called `name` unless that is empty."""
        entry, output, processing = self._root
        dump = Decimal(entry.get("dump", "0")) * 1000
        if dump != int(dump):
            self._refuse(entry, f"dump is {entry.get('dump')} microseconds, which is no whole number of nanoseconds")
        self._read_streams(entry.iter("strm"))
        self._read_products(entry.iter("product4", "product7"))
        subarrays = tuple(self._read_subarray(element) for element in output)
        for element in processing.iter("pipe"):
            self._read_pipe(element)
        mappings = self._read_mappings(processing.iter("map"))
        name = name or self._root.get("name", "")
        return Configuration(
            name=parse_name(name) if name else "",
            dump_ns=int(dump),
            streams=tuple(self._streams.values()),
            products=tuple(self._products.values()),
            subarrays=subarrays,
            pipes=tuple(self._pipes.values()),
            mappings=mappings,
        )

    def _refuse(self, element: etree._Element, text: str) -> NoReturn:
        raise Refused(f"{self._what}, line {element.sourceline}: {text}")

    def _identity(self, element: etree._Element) -> str:
        name = str(element.get("id"))
        if name in self._ids:
            self._refuse(element, f"id {name} is there twice; give each element an id of its own")
        self._ids.add(name)
        return name

    # -- input ----------------------------------------------------------------------------------------------------

    def _read_streams(self, elements: Iterable[etree._Element]) -> None:
        known: dict[tuple[int, int, int], str] = {}
        for element in elements:
            name = self._identity(element)
            signal = (_number(element, "stn"), _number(element, "bb"), _number(element, "sb"))
            if signal in known:
                self._refuse(element, f"strm {name} is the same signal as {known[signal]}; use that one")
            known[signal] = name
            self._streams[name] = Stream(name, *signal)

    def _read_products(self, elements: Iterable[etree._Element]) -> None:
        same: dict[tuple[str, str], list[Product]] = {}
        for element in elements:
            if element.tag == "product7":
                self._refuse(element, "7-bit products (product7) are not correlated yet; use product4")
            name = self._identity(element)
            product = Product(
                name=name,
                x=self._stream(element, "x"),
                y=self._stream(element, "y"),
                lags=_number(element, "lags"),
                frames=_number(element, "frames", 1),
                recirculation=_number(element, "rec", 1),
                bins=_number(element, "bins", 1),
                chip=_number(element, "chip", -1),
                cell=_number(element, "ccc", -1),
                half=element.get("half") == "1",
            )
            self._check_product(element, product)
            others = same.setdefault((product.x.name, product.y.name), [])
            for other in others:
                if not _distinct(product, other):
                    self._refuse(
                        element,
                        f"the frames of {name} cannot be told from those of {other.name}: the same streams; give each of "
                        "them its chip and ccc",
                    )
            others.append(product)
            self._products[name] = product

    def _stream(self, element: etree._Element, attribute: str) -> Stream:
        name = str(element.get(attribute))
        if name not in self._streams:
            self._refuse(element, f"{attribute}={name!r} is no strm; name one of the document's strm elements")
        return self._streams[name]

    def _check_product(self, element: etree._Element, product: Product) -> None:
        if product.x.station > product.y.station:
            self._refuse(
                element,
                f"{product.name} has the higher station as x; write x={product.y.name!r} y={product.x.name!r} and turn "
                "its polarisation round",
            )
        if product.lags & (product.lags - 1):
            self._refuse(element, f"lags={product.lags} of {product.name} is no power of two, such as {LAGS_PER_FRAME}")
        lags = product.frames_per_set * product.lags_per_frame
        if product.lags != lags:
            self._refuse(
                element,
                f"{product.name}: {product.frames} frames x {product.recirculation} recirculation blocks x "
                f"{product.lags_per_frame} lags are {lags} lags, not {product.lags}; correct one of them",
            )

    # -- output ---------------------------------------------------------------------------------------------------

    def _read_subarray(self, element: etree._Element) -> Subarray:
        name = self._identity(element)
        antennas: list[Antenna] = []
        for item in element.iter("ant"):
            antenna = Antenna(_number(item, "stn"), str(item.get("name")))
            if any(other.station == antenna.station or other.name == antenna.name for other in antennas):
                self._refuse(item, f"station {antenna.station} or antenna {antenna.name} is there twice; remove one")
            antennas.append(antenna)
        windows: dict[tuple[str, int], Window] = {}
        for item in element.iter("sw"):
            window = self._read_window(item)
            place = (window.baseband, window.number)
            if place in windows:
                self._refuse(item, f"sw {window.number} of {window.baseband} is there twice; number the windows from 1")
            windows[place] = window
        subarray = Subarray(name, element.get("cfg", ""), tuple(antennas), tuple(windows.values()))
        self._subarrays[name] = subarray
        self._windows.update({window.name: (subarray, window) for window in subarray.windows})
        return subarray

    def _read_window(self, element: etree._Element) -> Window:
        name = self._identity(element)
        cross, auto = (tuple(element.get(kind, "").split()) for kind in ("cross", "sd"))
        for labels in (cross, auto):
            if len(set(labels)) != len(labels):
                self._refuse(element, f"window {name} lists a polarisation twice: {' '.join(labels)}; remove one")
        return Window(
            name=name,
            baseband=str(element.get("swbb")),
            number=_number(element, "sw"),
            channels=_number(element, "nchan"),
            bandwidth=float(element.get("bw", "0")),
            sideband=element.get("sb", "U"),
            cross=cross,
            auto=auto,
            bins=_number(element, "nbin", 1),
            centre=float(element.get("centre", "0")),
        )

    # -- in between -----------------------------------------------------------------------------------------------

    def _read_pipe(self, element: etree._Element) -> None:
        pipe = Pipe(self._identity(element), str(element.get("desc")))
        try:
            self._recipes[pipe.name] = make_recipe(parse_pipeline(pipe.text))
        except Refused as error:
            self._refuse(element, f"pipe {pipe.name}: {error}")
        self._pipes[pipe.name] = pipe

    def _read_mappings(self, elements: Iterable[etree._Element]) -> tuple[Mapping, ...]:
        mappings = []
        mapped: dict[str, str] = {}
        places: dict[tuple[str, int, int, str], str] = {}
        writers: dict[tuple[str, int, int], etree._Element] = {}
        for element in elements:
            window, pipe = str(element.get("sw")), str(element.get("pipe"))
            if window not in self._windows:
                self._refuse(element, f"sw={window!r} is no window; name one of the document's sw elements")
            if pipe not in self._pipes:
                self._refuse(element, f"pipe={pipe!r} is no pipe; name one of the document's pipe elements")
            self._check_file(element, self._windows[window][0].name, pipe)
            shapes: Counter[tuple[int, int]] = Counter()
            for item in element:
                product = self._products.get(str(item.get("id")))
                if product is None:
                    self._refuse(item, f"id={item.get('id')!r} is no product; name one of the document's product4")
                if product.name in mapped:
                    self._refuse(
                        item, f"product {product.name} is mapped twice, to {mapped[product.name]} already; remove one"
                    )
                mapped[product.name] = window
                polarisation = str(item.get("pol"))
                self._check_place(item, product, polarisation, window)
                place = (window, product.x.station, product.y.station, polarisation)
                if place in places:
                    self._refuse(
                        item, f"{product.name} goes where {places[place]} goes already: {polarisation} of {window}"
                    )
                places[place] = product.name
                if self._recipes[pipe].output and writers.setdefault(place[:3], element) is not element:
                    self._refuse(
                        item,
                        f"{product.name}: other polarisations of stations {place[1]} and {place[2]} of {window} are in another "
                        "map; they are written together, put them into one",
                    )
                if (product.lags, product.bins) not in shapes:
                    self._check_shape(item, product, window, pipe)
                shapes[product.lags, product.bins] += 1
            assignments = tuple(Assignment(str(item.get("id")), str(item.get("pol"))) for item in element)
            mappings.append(Mapping(window, pipe, assignments))
        return tuple(mappings)

    def _check_file(self, element: etree._Element, subarray: str, pipe: str) -> None:
        """What is written for a subarray stands in one file: with one length of integrations, spectra or lags."""
        recipe = self._recipes[pipe]
        if not recipe.output:
            return
        if subarray not in self._written:
            try:
                check_subarray(self._subarrays[subarray])
            except Refused as error:
                self._refuse(element, f"the files of {subarray}, which pipe {pipe} writes, cannot be: {error}")
        first = self._written.setdefault(subarray, pipe)
        other = self._recipes[first]
        if recipe.dumps != other.dumps:
            self._refuse(
                element,
                f"pipe {pipe} integrates {recipe.dumps} dumps, {first} {other.dumps}, and both write the files of "
                f"{subarray}; give both the same n, or their windows subarrays of their own",
            )
        if recipe.transforms != other.transforms:
            self._refuse(
                element,
                f"of pipes {first} and {pipe} one has an fft, and both write the files of {subarray}, which hold spectra or "
                "lags; give both an fft, or their windows subarrays of their own",
            )

    def _check_place(self, element: etree._Element, product: Product, polarisation: str, name: str) -> None:
        subarray, window = self._windows[name]
        labels, attribute = (window.auto, "sd") if product.auto else (window.cross, "cross")
        if polarisation not in labels:
            self._refuse(
                element,
                f"pol={polarisation!r} of {product.name} is none of {attribute}={' '.join(labels)!r} of window {name}; "
                "add it there",
            )
        stations = {antenna.station for antenna in subarray.antennas}
        for station in (product.x.station, product.y.station):
            if station not in stations:
                self._refuse(element, f"station {station} of {product.name} is no ant of {subarray.name}; add it there")

    def _check_shape(self, element: etree._Element, product: Product, name: str, pipe: str) -> None:
        """The window must hold what the pipeline makes of this product's lags, if the pipeline writes it."""
        window = self._windows[name][1]
        elements = parse_pipeline(self._pipes[pipe].text)
        kinds = {item.kind for item in elements}
        if "bdf" not in kinds:
            return
        channels = product.lags // 2 if "fft" in kinds else product.lags
        for item in elements:
            span = int(item.properties.get("span", 1)) if item.kind == "boxcar" else 1
            if channels % span:
                self._refuse(
                    element, f"span={span} of pipe {pipe} does not divide {channels} channels of {product.name}"
                )
            channels //= span
        if channels != window.channels:
            self._refuse(
                element,
                f"{product.name} gives {channels} channels with pipe {pipe}, window {name} has nchan={window.channels}; "
                f"write nchan='{channels}' or change its lags",
            )
        if product.bins != window.bins:
            self._refuse(
                element, f"{product.name} has bins={product.bins}, window {name} nbin={window.bins}; make them the same"
            )


def _number(element: etree._Element, attribute: str, default: int = 0) -> int:
    return int(element.get(attribute, default))


def _distinct(one: Product, other: Product) -> bool:
    """Whether chip and cell tell two products of the same streams apart: of a chain each frame has another cell."""
    places = (one.chip, one.cell), (other.chip, other.cell)
    return min(map(min, places)) >= 0 and places[0] != places[1]
