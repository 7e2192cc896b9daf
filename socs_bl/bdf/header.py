"""What is known of a binary file before its first integration: the main header, as a record and as bytes.

Source: EVLA/ALMA Binary Data Format, header ``sdmDataHeader``, as EVLA writes it. Three things readers depend on: line ends are LF,
boundaries stand unquoted, and the XML stands on one line (one of the known readers stops after 100 lines).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import groupby
from xml.sax.saxutils import quoteattr

from socs_bl.bdf.scan import parse_project_path, parse_uid
from socs_bl.core.errors import Refused

CROSS_AND_AUTO, CROSS_ONLY, AUTO_ONLY = "CROSS_AND_AUTO", "CROSS_ONLY", "AUTO_ONLY"
STRUCTURES = {CROSS_AND_AUTO: "CrossAndAutoData", CROSS_ONLY: "CrossData", AUTO_ONLY: "AutoData"}
SIDEBANDS = ("NOSB", "LSB", "USB", "DSB")
XSI = "http://www.w3.org/2001/XMLSchema-instance"
XLINK = "http://www.w3.org/1999/xlink"
XVERSION = "http://Alma/XVERSION"
SDM_BINARY = "http://Alma/XASDM/sdmbin"
_SCHEMA = f"{SDM_BINARY} http://almaobservatory.org/XML/XASDM/sdmbin/2/sdmDataObject.xsd"
TITLE = "EVLA WIDAR correlator visibility data"
DESCRIPTION = "EVLA/CORRELATOR/WIDAR/FULL_RESOLUTION"
LOCATION = "http://evla.nrao.edu/wcbe/XSDM"
_NAME = re.compile(r"[A-Za-z0-9_]{1,32}")
_PRODUCT = re.compile(r"[RLXY]{2}")
_LIMITS = {"antennas": 512, "bins": 65536, "channels": 1 << 22}


@dataclass(frozen=True, slots=True)
class SpectralWindow:
    """A spectral window of a file.

    Attributes
    ----------
    baseband : str
        swbb, such as ``AC_8BIT``.
    number : int
        sw, from 1 in its baseband.
    channels, bins : int
        Spectral points and phase bins.
    cross, auto : tuple of str
        Polarisation products, such as ``RR RL LR LL`` and ``RR RL LL``; either may be empty.
    sideband : str
        NOSB, LSB, USB or DSB.
    scale : float
        What integer cross data are divided by; data written as floats are not scaled.
    """

    baseband: str
    number: int
    channels: int
    bins: int
    cross: tuple[str, ...]
    auto: tuple[str, ...]
    sideband: str = "NOSB"
    scale: float = 1.0

    @property
    def auto_values(self) -> int:
        """Floats of an auto spectrum's channel: the mixed product of three (RR RL LL) is complex, so three labels make four."""
        return 4 if len(self.auto) == 3 else len(self.auto)


@dataclass(frozen=True, slots=True)
class Header:
    """The main header of a file.

    Attributes
    ----------
    uid, exec_block : str
        Of the file and of its execution block.
    project_path : str
        ``<execution block>/<scan>/<subscan>/``.
    start_ns : int
        Start of the first integration, ns since MJD 0.
    interval_ns : int
        Length of an integration; 0: the file does not say.
    antennas : int
        They stand in station order.
    windows : tuple of SpectralWindow
        Basebands ascending, windows ascending within.
    correlation_mode : str
        CROSS_AND_AUTO, CROSS_ONLY or AUTO_ONLY. Products that it leaves out are taken from the windows.
    title, description, location : str
        The texts that say who wrote it; the location without the uid.
    """

    uid: str
    exec_block: str
    project_path: str
    start_ns: int
    interval_ns: int
    antennas: int
    windows: tuple[SpectralWindow, ...]
    correlation_mode: str = CROSS_AND_AUTO
    title: str = TITLE
    description: str = DESCRIPTION
    location: str = LOCATION

    def __post_init__(self) -> None:
        # What the mode leaves out is in no window, so that two headers of one file are equal.
        cross, auto = self.has_cross, self.has_auto
        windows = (
            replace(window, cross=window.cross if cross else (), auto=window.auto if auto else ())
            for window in self.windows
        )
        object.__setattr__(self, "windows", tuple(windows))

    @property
    def baselines(self) -> int:
        """Pairs of two antennas."""
        return self.antennas * (self.antennas - 1) // 2

    @property
    def has_cross(self) -> bool:
        """Whether the file has cross-correlations."""
        return self.correlation_mode != AUTO_ONLY

    @property
    def has_auto(self) -> bool:
        """Whether the file has auto-correlations."""
        return self.correlation_mode != CROSS_ONLY

    def check(self) -> None:
        """Whether a file can be written with it that all known readers read.

        Raises
        ------
        Refused
            When not; the text says what would be right.
        """
        parse_uid(self.uid)
        parse_uid(self.exec_block)
        parse_project_path(self.project_path)
        if self.correlation_mode not in STRUCTURES:
            raise Refused(f"correlation mode {self.correlation_mode!r:.40} is not one of {', '.join(STRUCTURES)}")
        least = 2 if self.has_cross else 1
        if not least <= self.antennas <= _LIMITS["antennas"]:
            raise Refused(f"{self.antennas} antennas; {self.correlation_mode} needs {least} to {_LIMITS['antennas']}")
        if self.interval_ns < 1 or self.start_ns < 0:
            raise Refused(f"integrations of {self.interval_ns} ns from {self.start_ns}; both must be positive")
        for text in (self.title, self.description, self.location):
            if not text.isascii() or not text.isprintable() or len(text) > 200:
                raise Refused(f"header text {text!r:.60} is not at most 200 printable ASCII characters")
        places = [(window.baseband, window.number) for window in self.windows]
        if not places or places != sorted(set(places)):
            raise Refused(f"windows {places} are not in order; basebands ascending, then numbers, each once")
        for window in self.windows:
            self._check_window(window)
        if self.has_cross and not any(window.cross for window in self.windows):
            raise Refused(f"{self.correlation_mode}, but no window has cross products; use {AUTO_ONLY}")
        if self.has_auto and not any(window.auto for window in self.windows):
            raise Refused(f"{self.correlation_mode}, but no window has auto products; use {CROSS_ONLY}")

    def _check_window(self, window: SpectralWindow) -> None:
        name = f"window {window.baseband!r:.40} {window.number}"
        if not _NAME.fullmatch(window.baseband) or not 1 <= window.number <= 9999:
            raise Refused(f"{name}: a baseband is 1-32 letters, digits and '_', a number is 1 to 9999")
        for what, value in (("channels", window.channels), ("bins", window.bins)):
            if not 1 <= value <= _LIMITS[what]:
                raise Refused(f"{name}: {value} {what}; 1 to {_LIMITS[what]} are possible")
        products = (*window.cross, *window.auto)
        if len(window.cross) not in (0, 1, 2, 4) or len(window.auto) > 3 or not all(map(_PRODUCT.fullmatch, products)):
            raise Refused(
                f"{name}: products {products}; 1, 2 or 4 cross and 1 to 3 auto ones, such as RR, are possible"
            )
        if len(window.auto) == 3 and sum(product[0] != product[1] for product in window.auto) != 1:
            raise Refused(f"{name}: of three auto products one is mixed, as in RR RL LL, not {' '.join(window.auto)}")
        if not products:
            raise Refused(f"{name}: no products; a window needs some of a kind that {self.correlation_mode} has")
        if window.sideband not in SIDEBANDS:
            raise Refused(f"{name}: sideband {window.sideband!r:.20} is not one of {', '.join(SIDEBANDS)}")


def header_xml(header: Header, sizes: dict[str, tuple[int, str]]) -> str:
    """The ``sdmDataHeader`` on one line.

    Parameters
    ----------
    header : Header
    sizes : dict of str to (int, str)
        Part to its ``size`` and ``axes``, in the order of the file.
    """
    bands = "".join(
        f"<baseband name={quoteattr(name)}>{''.join(map(_window_xml, windows))}</baseband>"
        for name, windows in groupby(header.windows, key=lambda window: window.baseband)
    )
    parts = "".join(f'<{name} size="{size}" axes="{axes}"{_normalized(name)}/>' for name, (size, axes) in sizes.items())
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f'<sdmDataHeader xmlns:xsi="{XSI}" xmlns:xl="{XLINK}" xmlns:xv="{XVERSION}" xmlns="{SDM_BINARY}"'
        f' xsi:schemaLocation="{_SCHEMA}" xv:schemaVersion="2" xv:revision="1.1.2.1" xv:release="ALMA-6_1_0-B"'
        f' mainHeaderId="sdmDataHeader" byteOrder="Little_Endian" projectPath="{header.project_path}">'
        f"<startTime>{header.start_ns}</startTime>"
        f'<dataOID xl:type="locator" xl:href="{header.uid}" xl:title={quoteattr(header.title)}/>'
        '<dimensionality axes="TIM">1</dimensionality>'
        f'<execBlock xl:href="{header.exec_block}" xl:type="simple"/>'
        f"<numAntenna>{header.antennas}</numAntenna><correlationMode>{header.correlation_mode}</correlationMode>"
        "<spectralResolution>FULL_RESOLUTION</spectralResolution><processorType>CORRELATOR</processorType>"
        f'<dataStruct xsi:type="{STRUCTURES[header.correlation_mode]}" apc="AP_UNCORRECTED">{bands}{parts}</dataStruct>'
        "</sdmDataHeader>"
    )


def _normalized(part: str) -> str:
    return ' normalized="false"' if part == "autoData" else ""


def _window_xml(window: SpectralWindow) -> str:
    # Both kinds of products are always given, if empty: one of the known readers asks for both whatever the mode.
    return (
        f'<spectralWindow sw="{window.number}" swbb={quoteattr(window.baseband)} sdPolProducts="{" ".join(window.auto)}"'
        f' crossPolProducts="{" ".join(window.cross)}" numSpectralPoint="{window.channels}" numBin="{window.bins}"'
        f' scaleFactor="{_scale(window.scale)}" sideband="{window.sideband}"/>'
    )


def _scale(value: float) -> str:
    text = f"{value:.6f}"
    return text if float(text) == value else repr(value)
