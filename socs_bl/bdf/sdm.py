"""The Science Data Model beside the files of an execution block: the XML tables through which CASA and sdmpy open them.

A pure function of the side files (`socs_bl.bdf.sidefile`), so that it can be made again at any time: the same side files
give the same bytes. What is not known is written as the model's own word for it (``UNSPECIFIED``, zero sizes), never
guessed; tables that only hold what is not known are left out.

Windows that are observed together get ids of their own and in their order, so that the order of ``dataDescriptionId`` in
a ConfigDescription is that of the windows in the file. Times are ns since MJD 0 UTC, angles radians, frequencies Hz.

Source: SDM tables, schemas of version 3 as sdmpy brings them; conventions of EVLA's files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from socs_bl.bdf.scan import ScanAntenna
from socs_bl.bdf.sdm_tables import Row, array, reference, table, table_of_contents
from socs_bl.bdf.sidefile import SideFile, SideWindow
from socs_bl.core.errors import Refused

INTENTS = frozenset([
    "CALIBRATE_AMPLI", "CALIBRATE_ATMOSPHERE", "CALIBRATE_BANDPASS", "CALIBRATE_DELAY", "CALIBRATE_FLUX",
    "CALIBRATE_FOCUS", "CALIBRATE_FOCUS_X", "CALIBRATE_FOCUS_Y", "CALIBRATE_PHASE", "CALIBRATE_POINTING",
    "CALIBRATE_POLARIZATION", "CALIBRATE_SIDEBAND_RATIO", "CALIBRATE_WVR", "DO_SKYDIP", "MAP_ANTENNA_SURFACE",
    "MAP_PRIMARY_BEAM", "OBSERVE_TARGET", "CALIBRATE_POL_LEAKAGE", "CALIBRATE_POL_ANGLE", "TEST", "UNSPECIFIED",
    "CALIBRATE_ANTENNA_POSITION", "CALIBRATE_ANTENNA_PHASE", "MEASURE_RFI", "CALIBRATE_ANTENNA_POINTING_MODEL",
    "SYSTEM_CONFIGURATION", "CALIBRATE_APPPHASE_ACTIVE", "CALIBRATE_APPPHASE_PASSIVE", "OBSERVE_CHECK_SOURCE",
])  # fmt: skip
BASEBANDS = frozenset(["A1C1_3BIT", "A2C2_3BIT", "AC_8BIT", "B1D1_3BIT", "B2D2_3BIT", "BD_8BIT"])
AXES = ["TIM", "BAL", "ANT", "BAB", "SPW", "BIN", "APC", "SPP", "STO"]
_WORDS = re.compile(r"[A-Z][A-Z_]+")
ItemT = TypeVar("ItemT")


@dataclass(frozen=True)
class Site:
    """What an SDM says of the telescope."""

    telescope: str
    dish_diameter: float


@dataclass(frozen=True)
class Setup:
    """What makes a ConfigDescription: antennas, windows and mode of a file."""

    antennas: tuple[ScanAntenna, ...]
    windows: tuple[SideWindow, ...]
    mode: str


class Sdm:
    """The tables of an execution block.

    Parameters
    ----------
    files : sequence of SideFile
        Of one dataset, at least one.
    site : Site
    """

    def __init__(self, files: Sequence[SideFile], site: Site) -> None:
        if len({info.dataset_id for info in files}) != 1:
            raise Refused("an SDM is made of the files of one dataset; found none, or several")
        self.site = site
        # A second copy of a file has the same uid, which a table can name only once.
        by_uid = {info.uid: info for info in sorted(files, key=lambda info: info.id, reverse=True)}
        self.files = sorted(by_uid.values(), key=lambda info: (info.scan_no, info.subscan_no, info.start_time_ns))
        self.setups = _distinct(_setup(info) for info in self.files)
        self.antennas = sorted(
            _distinct(antenna for setup in self.setups for antenna in setup.antennas),
            key=lambda antenna: (antenna.station, antenna.name),
        )
        self.pads = _distinct(_pad(antenna) for antenna in self.antennas)
        # Windows of one setup stand together, in their order.
        self.bands = _distinct(setup.windows for setup in self.setups)
        self.windows = [window for band in self.bands for window in band]
        self.polarisations = _distinct(_correlations(window) for window in self.windows)
        self.fields = _distinct(_field(info) for info in self.files)
        self.start = min(info.start_time_ns for info in self.files)
        self.stop = max(info.stop_time_ns for info in self.files)
        self.block = self.files[0].exec_block

    def documents(self) -> dict[str, bytes]:
        """File names to contents, in an order in which whoever reads meanwhile finds what is referred to."""
        tables: dict[str, list[Row]] = {
            "Station": self._stations(),
            "Antenna": self._antennas(),
            "Polarization": self._polarizations(),
            "SpectralWindow": self._spectral_windows(),
            "DataDescription": self._data_descriptions(),
            "Feed": self._feeds(),
            "CorrelatorMode": [self._correlator_mode()],
            "Processor": [_PROCESSOR],
            "SwitchCycle": [_SWITCH_CYCLE],
            "State": [_STATE],
            "ConfigDescription": self._config_descriptions(),
            "Source": self._sources(),
            "Field": self._fields(),
            "SBSummary": [self._sb_summary()],
            "ExecBlock": [self._exec_block()],
            "Scan": self._scans(),
            "Subscan": self._subscans(),
            "Main": self._main(),
        }
        documents = {
            f"{name}.xml": table(name, rows, self.block, number)
            for number, (name, rows) in enumerate(tables.items(), 1)
        }
        counts = {name: len(rows) for name, rows in tables.items()}
        return documents | {"ASDM.xml": table_of_contents(counts, self.block, self.start)}

    # -- where and with what --------------------------------------------------------------------------------------

    def _stations(self) -> list[Row]:
        return [
            {"stationId": f"Station_{number}", "name": name, "position": array([x, y, z]), "type": "ANTENNA_PAD"}
            for number, (name, x, y, z) in enumerate(self.pads)
        ]

    def _antennas(self) -> list[Row]:
        return [
            {
                "antennaId": f"Antenna_{number}",
                "name": antenna.name,
                "antennaMake": "UNDEFINED",
                "antennaType": "GROUND_BASED",
                "dishDiameter": self.site.dish_diameter,
                # From the pad, whose position is geocentric.
                "position": array([0.0, 0.0, 0.0]),
                "offset": array([0.0, 0.0, 0.0]),
                "time": self.start,
                "stationId": f"Station_{self.pads.index(_pad(antenna))}",
            }
            for number, antenna in enumerate(self.antennas)
        ]

    def _feeds(self) -> list[Row]:
        rows: list[Row] = []
        for antenna in range(len(self.antennas)):
            for number, window in enumerate(self.windows):
                receptors = (
                    ("X", "Y") if any("X" in name or "Y" in name for name in _correlations(window)) else ("R", "L")
                )
                rows.append(
                    {
                        "feedId": 0,
                        "timeInterval": self._interval(),
                        "numReceptor": 2,
                        "beamOffset": array([[0.0, 0.0], [0.0, 0.0]]),
                        "focusReference": array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
                        "polarizationTypes": array(receptors),
                        "polResponse": array([["1.0 0.0", "0.0 0.0"], ["0.0 0.0", "1.0 0.0"]]),
                        "receptorAngle": array([0.0, 0.0]),
                        "antennaId": f"Antenna_{antenna}",
                        "receiverId": array([0]),
                        "spectralWindowId": f"SpectralWindow_{number}",
                    }
                )
        return rows

    # -- spectra --------------------------------------------------------------------------------------------------

    def _polarizations(self) -> list[Row]:
        return [
            {
                "polarizationId": f"Polarization_{number}",
                "numCorr": len(names),
                "corrType": array(names),
                "corrProduct": array([list(name) for name in names]),
            }
            for number, names in enumerate(self.polarisations)
        ]

    def _spectral_windows(self) -> list[Row]:
        rows: list[Row] = []
        for number, window in enumerate(self.windows):
            width = window.bandwidth / window.channels
            first = window.centre - window.bandwidth / 2 + width / 2
            rows.append(
                {
                    "spectralWindowId": f"SpectralWindow_{number}",
                    "basebandName": window.baseband if window.baseband in BASEBANDS else "NOBB",
                    "netSideband": window.sideband,
                    "numChan": window.channels,
                    "refFreq": first,
                    "sidebandProcessingMode": "NONE",
                    "totBandwidth": window.bandwidth,
                    "windowFunction": "UNIFORM",
                    "chanFreqStart": first,
                    "chanFreqStep": width,
                    "chanWidth": width,
                    "effectiveBw": width,
                    "measFreqRef": "TOPO",
                    "name": f"{window.baseband}#{window.number}",
                    "resolution": width,
                }
            )
        return rows

    def _data_descriptions(self) -> list[Row]:
        return [
            {
                "dataDescriptionId": f"DataDescription_{number}",
                "polOrHoloId": f"Polarization_{self.polarisations.index(_correlations(window))}",
                "spectralWindowId": f"SpectralWindow_{number}",
            }
            for number, window in enumerate(self.windows)
        ]

    def _correlator_mode(self) -> Row:
        names = sorted({window.baseband if window.baseband in BASEBANDS else "NOBB" for window in self.windows})
        return {
            "correlatorModeId": "CorrelatorMode_0",
            "numBaseband": len(names),
            "basebandNames": array(names),
            "basebandConfig": array([0] * len(names)),
            "accumMode": "NORMAL",
            "binMode": max(window.bins for window in self.windows),
            "numAxes": len(AXES),
            "axesOrderArray": array(AXES),
            "filterMode": array(["FILTER_NA"] * len(names)),
            "correlatorName": "NRAO_WIDAR",
        }

    def _config_descriptions(self) -> list[Row]:
        rows: list[Row] = []
        for number, setup in enumerate(self.setups):
            antennas = [f"Antenna_{self.antennas.index(antenna)}" for antenna in setup.antennas]
            before = sum(len(band) for band in self.bands[: self.bands.index(setup.windows)])
            described = [f"DataDescription_{before + place}" for place in range(len(setup.windows))]
            rows.append(
                {
                    "numAntenna": len(antennas),
                    "numDataDescription": len(described),
                    "numFeed": 1,
                    "correlationMode": setup.mode,
                    "configDescriptionId": f"ConfigDescription_{number}",
                    "numAtmPhaseCorrection": 1,
                    "atmPhaseCorrection": array(["AP_UNCORRECTED"]),
                    "processorType": "CORRELATOR",
                    "spectralType": "FULL_RESOLUTION",
                    "antennaId": array(antennas),
                    "dataDescriptionId": array(described),
                    "feedId": array([0]),
                    "processorId": "Processor_0",
                    "switchCycleId": array(["SwitchCycle_0"]),
                }
            )
        return rows

    # -- what was looked at ---------------------------------------------------------------------------------------

    def _sources(self) -> list[Row]:
        return [
            {
                "sourceId": number,
                "timeInterval": self._interval(),
                "code": "NONE",
                "direction": array([ra, dec]),
                "properMotion": array([0.0, 0.0]),
                "sourceName": name,
                "directionCode": "J2000",
                "spectralWindowId": f"SpectralWindow_{window}",
            }
            for number, (name, ra, dec) in enumerate(self.fields)
            for window in range(len(self.windows))
        ]

    def _fields(self) -> list[Row]:
        rows: list[Row] = []
        for number, (name, ra, dec) in enumerate(self.fields):
            direction = array([[ra, dec]])
            rows.append(
                {
                    "fieldId": f"Field_{number}",
                    "fieldName": name,
                    "numPoly": 0,
                    "delayDir": direction,
                    "phaseDir": direction,
                    "referenceDir": direction,
                    "time": self.start,
                    "code": "NONE",
                    "directionCode": "J2000",
                    "sourceId": number,
                }
            )
        return rows

    # -- when -----------------------------------------------------------------------------------------------------

    def _sb_summary(self) -> Row:
        block = reference(self.block, "SBSummary")
        return {
            "sBSummaryId": "SBSummary_0",
            "sbSummaryUID": block,
            "projectUID": block,
            "obsUnitSetUID": block,
            "frequency": self.windows[0].centre,
            "frequencyBand": "UNSPECIFIED",
            "sbType": "OBSERVER",
            "sbDuration": self.stop - self.start,
            "numObservingMode": 1,
            "observingMode": array(["UNSPECIFIED"]),
            "numberRepeats": 1,
            "numScienceGoal": 1,
            "scienceGoal": array(["UNSPECIFIED"]),
            "numWeatherConstraint": 1,
            "weatherConstraint": array(["UNSPECIFIED"]),
        }

    def _exec_block(self) -> Row:
        asked = self.files[0].scan
        lengths = _baselines(self.pads)
        return {
            "execBlockId": "ExecBlock_0",
            "startTime": self.start,
            "endTime": self.stop,
            "execBlockNum": 1,
            "execBlockUID": reference(self.block, "ExecBlock"),
            "projectUID": reference(self.block, "Project"),
            "configName": asked.config_id or "UNSPECIFIED",
            "telescopeName": self.site.telescope,
            "observerName": asked.observer or "UNSPECIFIED",
            "numObservingLog": 1,
            "observingLog": array([asked.dataset_id.replace(" ", "_")]),
            "sessionReference": reference(self.block, "Session"),
            "baseRangeMin": min(lengths, default=0.0),
            "baseRangeMax": max(lengths, default=0.0),
            "baseRmsMinor": 0.0,
            "baseRmsMajor": 0.0,
            "basePa": 0.0,
            "aborted": str(any(info.aborted for info in self.files)).lower(),
            "numAntenna": len(self.antennas),
            "antennaId": array([f"Antenna_{number}" for number in range(len(self.antennas))]),
            "sBSummaryId": "SBSummary_0",
        }

    def _scans(self) -> list[Row]:
        rows: list[Row] = []
        for number, group in groupby(self.files, key=lambda info: info.scan_no):
            members = list(group)
            intents = _distinct(intent for info in members for intent in _intents(info))
            origin = "FULL_RESOLUTION_AUTO" if members[0].correlation_mode == "AUTO_ONLY" else "FULL_RESOLUTION_CROSS"
            name = _field(members[0])[0]
            rows.append(
                {
                    "scanNumber": number,
                    "startTime": min(info.start_time_ns for info in members),
                    "endTime": max(info.stop_time_ns for info in members),
                    "numIntent": len(intents),
                    "numSubscan": len({info.subscan_no for info in members}),
                    "scanIntent": array(intents),
                    "calDataType": array([origin] * len(intents)),
                    "calibrationOnLine": array(["false"] * len(intents)),
                    "numField": 1,
                    "fieldName": array([name.replace(" ", "_")]),
                    "sourceName": name,
                    "execBlockId": "ExecBlock_0",
                }
            )
        return rows

    def _subscans(self) -> list[Row]:
        rows: list[Row] = []
        for (scan, subscan), group in groupby(self.files, key=lambda info: (info.scan_no, info.subscan_no)):
            members = list(group)
            rows.append(
                {
                    "scanNumber": scan,
                    "subscanNumber": subscan,
                    "startTime": min(info.start_time_ns for info in members),
                    "endTime": max(info.stop_time_ns for info in members),
                    "fieldName": _field(members[0])[0],
                    "subscanIntent": "ON_SOURCE",
                    "subscanMode": "NO_SWITCHING",
                    "numIntegration": sum(info.num_integration for info in members),
                    "numSubintegration": array([0]),
                    "execBlockId": "ExecBlock_0",
                }
            )
        return rows

    def _main(self) -> list[Row]:
        return [
            {
                "time": (info.start_time_ns + info.stop_time_ns) // 2,
                "numAntenna": info.num_antenna,
                "timeSampling": "INTEGRATION",
                "interval": info.stop_time_ns - info.start_time_ns,
                "numIntegration": info.num_integration,
                "scanNumber": info.scan_no,
                "subscanNumber": info.subscan_no,
                "dataSize": info.size,
                "dataUID": reference(info.uid, "Main"),
                "configDescriptionId": f"ConfigDescription_{self.setups.index(_setup(info))}",
                "execBlockId": "ExecBlock_0",
                "fieldId": f"Field_{self.fields.index(_field(info))}",
                "stateId": array(["State_0"] * info.num_antenna),
            }
            for info in self.files
        ]

    def _interval(self) -> str:
        """The whole execution block as midpoint and duration."""
        return f"{(self.start + self.stop) // 2} {self.stop - self.start}"


_PROCESSOR: Row = {
    "processorId": "Processor_0",
    "modeId": "CorrelatorMode_0",
    "processorType": "CORRELATOR",
    "processorSubType": "ALMA_CORRELATOR_MODE",
}
_SWITCH_CYCLE: Row = {
    "switchCycleId": "SwitchCycle_0",
    "numStep": 1,
    "weightArray": array([1.0]),
    "dirOffsetArray": array([[0.0, 0.0]]),
    "freqOffsetArray": array([0.0]),
    "stepDurationArray": array([0]),
}
_STATE: Row = {"stateId": "State_0", "calDeviceName": "NONE", "sig": "true", "ref": "false", "onSky": "true"}


def _distinct(items: Iterable[ItemT]) -> list[ItemT]:
    """Each item once, in order of first appearance."""
    return list(dict.fromkeys(items))


def _setup(info: SideFile) -> Setup:
    return Setup(info.antennas, info.windows, info.correlation_mode)


def _pad(antenna: ScanAntenna) -> tuple[str, float, float, float]:
    return antenna.pad or f"station{antenna.station}", antenna.x, antenna.y, antenna.z


def _field(info: SideFile) -> tuple[str, float, float]:
    return info.scan.source or "UNSPECIFIED", info.scan.ra, info.scan.dec


def _correlations(window: SideWindow) -> tuple[str, ...]:
    return window.cross or window.auto


def _intents(info: SideFile) -> list[str]:
    """The model's words among what the telescope's executor calls intents, which may be ``Key="value"``."""
    found = [word for text in info.scan.intents for word in _WORDS.findall(text) if word in INTENTS]
    return _distinct(found) or ["UNSPECIFIED"]


def _baselines(pads: Sequence[tuple[str, float, float, float]]) -> list[float]:
    """Lengths of all baselines, metres."""
    return [
        sum((one - other) ** 2 for one, other in zip(first[1:], second[1:], strict=True)) ** 0.5
        for number, first in enumerate(pads)
        for second in pads[:number]
    ]


def build_sdm(files: Sequence[SideFile], site: Site) -> Mapping[str, bytes]:
    """File names to contents of the SDM of a dataset; write them in this order.

    Raises
    ------
    Refused
        When the files are not of one dataset.
    """
    return Sdm(files, site).documents()
