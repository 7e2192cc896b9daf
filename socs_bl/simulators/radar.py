"""A SuperDARN radar that writes Borealis files: ``python -m socs_bl.simulators.radar --config FILE``.

It plays until SIGTERM or until its records are through, and then prints what it has written as one line of JSON. It dies with
the process that started it. Files are opened, appended to and closed for every record; a new one begins at every multiple of the
block's length since midnight UTC and at every start. What was put in is written as the truth.

Names as in Borealis' ``data_write``: at a start each slice's files carry the time of its own first record; later all slices take
the time of whichever crosses the boundary first. The folder is that of the record's own day.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from socs_bl.core.clock import iso_utc, unix_of_iso, utc
from socs_bl.core.config import load
from socs_bl.core.whole_file import write_whole
from socs_bl.services.process import die_with_parent
from socs_bl.simulators import radar_signal
from socs_bl.simulators.radar_config import SAMPLE_US, Radar, SliceConfig
from socs_bl.simulators.radar_files import append_dmap, append_site, append_v1
from socs_bl.simulators.radar_signal import Echo, Signal

GAP_S = 0.02  # between the samples of a sequence and the next sequence
LATENESS_S = 0.3  # of a record, at most, after its time in the schedule
GPS_WEEKS_S = 1024 * 7 * 86400  # after which GPS counts its weeks from 0 again
VERSIONS = {"v0.7": "v0.7-0-g0000000", "v1.0": "v1.0-0-g0000000"}
INCOMPLETE = 0.6  # of a record is written by a radar that dies
STRANGE = b"not of this radar\n"


class Written(msgspec.Struct, kw_only=True):
    """A file, and what is in it.

    Attributes
    ----------
    name : str
        Below the radar's directory.
    slice : int
    kind : str
    records, sequences : int
        Of records that are whole.
    first, last : float
        Unix seconds of the first sequence of the first and the last whole record, by the receivers' clock.
    incomplete, mismatched : int
        Records of which only a part was written; which have one sequence time too few. Neither counts as whole.
    clock : str
        What a wrong clock showed when the last record was written, else empty.
    """

    name: str
    slice: int
    kind: str
    records: int = 0
    sequences: int = 0
    first: float = 0.0
    last: float = 0.0
    incomplete: int = 0
    mismatched: int = 0
    clock: str = ""


class Truth(msgspec.Struct, kw_only=True):
    """All that is to be found again.

    Attributes
    ----------
    station : str
    cpid : int
    noise : float
    echoes : list of Echo
    files : list of Written
    strange : list of str
        Files of no radar, below the radar's directory.
    """

    station: str
    cpid: int
    noise: float
    echoes: list[Echo] = []
    files: list[Written] = []
    strange: list[str] = []


class Event(msgspec.Struct, frozen=True):
    """A record of one slice: its number, when it begins by the right time (Unix seconds), whether the radar has just started."""

    number: int
    slice: int
    time: float
    starts: bool


class RadarWriter:
    """Writes the files of a radar, one record of one slice after the other.

    Parameters
    ----------
    config : Radar
    """

    def __init__(self, config: Radar) -> None:
        self.config = config
        self.start = unix_of_iso(config.start) if config.start else time.time()
        self.signals = {part.number: Signal(config, part) for part in config.slices}
        self.truth = Truth(station=config.station, cpid=config.cpid, noise=config.noise)
        self.truth.echoes = [echo for made in self.signals.values() for echo in made.echoes]
        self.counters: Counter[str] = Counter()
        self._files: dict[Path, Written] = {}
        self._stems: dict[int, str] = {}
        self._boundary = 0.0

    def schedule(self) -> Iterator[Event]:
        """All records in the order in which they are written."""
        config = self.config
        parts = sorted(config.slices, key=lambda part: part.delay_s)
        time, number = self.start, 0
        while not config.records or number < config.records:
            away = [restart.away_s for restart in config.faults.restarts if restart.record == number]
            time += sum(away)
            for part in parts:
                starts = part is parts[0] and (not number or bool(away))
                yield Event(number, part.number, time + part.delay_s, starts)
            time, number = time + config.period_s, number + 1

    def write(self, event: Event) -> None:
        """Write a record into each of its slice's files.

        What the file system or the HDF5 library refuses is counted as `failed` and lost, while the radar goes on.
        """
        config, part = self.config, self.signals[event.slice].part
        random = np.random.default_rng([config.seed, event.slice, event.number])
        sequences = config.sequences - int(random.integers(0, config.fewer_sequences + 1))
        # Borealis counts in microseconds.
        right = round(event.time + random.uniform(0, min(LATENESS_S, config.period_s / 10)), 6)
        shown = config.faults.clock(event.number)
        first = round({"": right, "1970": right - self.start, "2006": right - GPS_WEEKS_S}[shown], 6)
        beam = part.beams[event.number % len(part.beams)]
        values = _values(config, part, first, sequences, beam) | {
            "gps_locked": shown != "1970",
            "gps_to_system_time_diff": first - right - 1e-4,
            "scan_start_marker": event.number % len(part.beams) == 0,
        }
        if event.number in config.faults.mismatched_records:
            values["sqn_timestamps"] = values["sqn_timestamps"][:-1]
        values |= self._signal(self.signals[event.slice], random, beam, sequences)
        stem = self._stem(event, first)
        folder = config.directory / f"{utc(first):%Y%m%d}"
        with self._counting():
            folder.mkdir(parents=True, exist_ok=True)
        for kind in config.kinds:
            with self._counting():
                self._append(folder / _name(config, stem, event.slice, kind), kind, event, values, right)

    def write_truth(self) -> None:
        """Write what has been put in so far, whole or not at all."""
        if self.config.truth is not None:
            self.config.truth.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.config.truth, msgspec.json.format(msgspec.json.encode(self.truth), indent=1))

    def _signal(self, made: Signal, random: np.random.Generator, beam: int, sequences: int) -> dict[str, Any]:
        kinds, found = self.config.kinds, dict[str, Any]()
        if "rawacf" in kinds:
            found |= made.correlations(random, beam, sequences)
        if set(kinds) & {"antennas_iq", "bfiq"}:
            found["antennas_iq_data"] = made.antennas(random, beam, sequences)
        if "bfiq" in kinds:
            found["bfiq_data"] = made.beams(found["antennas_iq_data"], beam)
        found["rx_main_excitations"], found["rx_intf_excitations"] = (row[np.newaxis] for row in made.excitations(beam))
        return found

    def _stem(self, event: Event, first: float) -> str:
        """The beginning of the names, new ones where they are due."""
        own = f"{utc(first):%Y%m%d.%H%M.%S}.{self.config.station}"
        if event.starts:
            self._stems, self._boundary = {}, 0.0
        if not self._boundary or first > self._boundary:
            # All slices that have begun take the new name; the others get their own with their first record.
            self._stems = dict.fromkeys(self._stems, own)
            self._boundary = (math.floor(first / self.config.block_s) + 1) * self.config.block_s
            self._strange(own, first)
        return self._stems.setdefault(event.slice, own)

    def _strange(self, stem: str, first: float) -> None:
        for name in self.config.faults.strange_names:
            path = self.config.directory / f"{utc(first):%Y%m%d}" / name
            relative = str(path.relative_to(self.config.directory))
            with self._counting():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(STRANGE + stem.encode())
                if relative not in self.truth.strange:
                    self.truth.strange.append(relative)

    def _append(self, path: Path, kind: str, event: Event, values: dict[str, Any], right: float) -> None:
        config = self.config
        whole = not config.faults.is_incomplete(event.number)
        part = 1.0 if whole else INCOMPLETE
        if config.generation == "v0.7":
            append_site(path, kind, _for_site(config, kind, values), part)
        elif config.dmap and kind == "rawacf":
            append_dmap(path, config.station_id, values, part)
        else:
            append_v1(path, kind, values, part)
        # The computer's clock, which need not be this one's; a record is written when it has ended.
        written = right + float(values["int_time"])
        os.utime(path, (written, written))
        self._note(path, kind, event, values, whole)

    def _note(self, path: Path, kind: str, event: Event, values: dict[str, Any], whole: bool) -> None:
        found = self._files.get(path)
        if found is None:
            found = Written(name=str(path.relative_to(self.config.directory)), slice=event.slice, kind=kind)
            self._files[path] = found
            self.truth.files.append(found)
        found.clock = self.config.faults.clock(event.number)
        stamps = values["sqn_timestamps"]
        # DMAP does not hold the times of sequences.
        matching = len(stamps) == values["num_sequences"] or path.suffix == ".rawacf"
        found.incomplete += not whole
        found.mismatched += whole and not matching
        self.counters["records"] += 1
        if whole and matching:
            found.last = float(stamps[0])
            found.first = found.first if found.records else found.last
            found.records += 1
            found.sequences += values["num_sequences"]

    @contextlib.contextmanager
    def _counting(self) -> Iterator[None]:
        try:
            yield
        # h5py tells what HDF5 could not do in any of these, a full disk among them.
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            self.counters["failed"] += 1
            print(f"a record is lost: {error}", flush=True)


@cache
def _constants(config: Radar, part: SliceConfig) -> dict[str, Any]:
    """What every record of a slice says alike."""
    main, both = config.main_antennas, config.main_antennas + config.intf_antennas
    lags = radar_signal.LAGS
    return {
        "agc_status_word": 0, "antenna_arrays": ["main", "intf"], "antenna_locations": radar_signal.antenna_places(config),
        "antennas": [f"main_{number}" if number < main else f"intf_{number - main}" for number in range(both)],
        "averaging_method": "mean", "blanked_samples": radar_signal.blanked(),
        "borealis_git_hash": VERSIONS[config.generation], "data_normalization_factor": radar_signal.NORMALIZATION,
        "experiment_comment": "simulated", "experiment_id": config.cpid, "experiment_name": config.experiment,
        "first_range": part.first_range_km, "first_range_rtt": radar_signal.first_range_us(part), "freq": part.freq_khz,
        "global_coord": ["latitude", "longitude", "altitude"], "intf_antenna_count": config.intf_antennas,
        "lag_numbers": lags[:, 1] - lags[:, 0], "lag_pulse_descriptors": ["first", "second"], "lag_pulses": lags,
        "lags": np.arange(len(lags)), "local_coord": ["x", "y", "z"], "lp_status_word": 0, "main_antenna_count": main,
        "num_ranges": part.ranges, "num_samps": radar_signal.samples(part), "num_slices": len(config.slices),
        "pulse_phase_offset": np.zeros(0), "pulses": radar_signal.PULSES, "range_gates": np.arange(part.ranges),
        "range_sep": radar_signal.RANGE_KM, "rx_antennas": np.arange(both), "rx_intf_antennas": np.arange(main, both),
        "rx_main_antennas": np.arange(main), "rx_sample_rate": 1e6 / SAMPLE_US, "samples_data_type": "complex float",
        "sample_time": np.arange(radar_signal.samples(part)) * SAMPLE_US, "scheduling_mode": "common",
        "slice_comment": "simulated", "slice_id": part.number, "slice_interfacing": "{}", "station": config.station,
        "station_location": config.location, "tau_spacing": radar_signal.TAU_US, "tx_antennas": np.arange(main),
        "tx_antenna_phases": np.ones(main), "tx_excitations": np.ones(main), "tx_pulse_len": SAMPLE_US,
    }  # fmt: skip


def _values(config: Radar, part: SliceConfig, first: float, sequences: int, beam: int) -> dict[str, Any]:
    """All fields of a record but for its signal."""
    length = radar_signal.samples(part) * SAMPLE_US * 1e-6 + GAP_S
    return _constants(config, part) | {
        "beam_azms": np.array([radar_signal.azimuth_deg(beam)]),
        "beam_nums": np.array([beam]),
        "int_time": sequences * length,
        "noise_at_freq": np.zeros(sequences),
        "num_sequences": sequences,
        "sqn_timestamps": first + length * np.arange(sequences),
    }


def _for_site(config: Radar, kind: str, values: dict[str, Any]) -> dict[str, Any]:
    """The same as v0.7 had it: pairs of pulses are the lags, samples lie flat and say how they are to be shaped."""
    changed = values | {"lags": values["lag_pulses"]}
    if kind == "rawacf":
        shape, names = values["main_acfs"].shape, ["num_beams", "num_ranges", "num_lags"]
    elif kind == "antennas_iq":
        shape, names = values["antennas_iq_data"].shape, ["num_antennas", "num_sequences", "num_samps"]
        order = [f"antenna_{number}" for number in range(config.main_antennas + config.intf_antennas)]
        changed |= {"data": values["antennas_iq_data"].ravel(), "antenna_arrays_order": order}
    else:
        shape, names = values["bfiq_data"].shape, ["num_antenna_arrays", "num_sequences", "num_beams", "num_samps"]
        changed |= {"data": values["bfiq_data"].ravel(), "antenna_arrays_order": ["main", "intf"]}
    return changed | {"data_dimensions": shape, "data_descriptors": names}


def _name(config: Radar, stem: str, number: int, kind: str) -> str:
    if config.dmap and kind == "rawacf":
        return f"{stem}.{chr(ord('a') + number)}.{kind}"
    return f"{stem}.{number}.{kind}.{'hdf5.site' if config.generation == 'v0.7' else 'h5'}"


def play(writer: RadarWriter, stop: threading.Event, clock: Callable[[], float] = time.monotonic) -> None:
    """Write each record when its averaging period is over, by a clock `factor` times as fast; the truth with each block.

    Parameters
    ----------
    writer : RadarWriter
    stop : threading.Event
        Ends it between two records.
    clock : callable
        Seconds.
    """
    config, began, known = writer.config, clock(), 0
    for event in writer.schedule():
        if config.factor:
            due = began + (event.time + config.period_s - writer.start) / config.factor
            if stop.wait(max(0.0, due - clock())):
                break
        elif stop.is_set():
            break
        writer.write(event)
        if len(writer.truth.files) != known:
            known = len(writer.truth.files)
            writer.write_truth()
    writer.write_truth()


def main(args: list[str] | None = None) -> int:
    """Play a radar until its records are through, SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m socs_bl.simulators.radar", description=main.__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON or YAML file, see Radar")
    config = load(parser.parse_args(args).config, Radar)
    die_with_parent()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    writer = RadarWriter(config)
    print(f"{config.station} starts at {iso_utc(writer.start)}", flush=True)
    play(writer, stop)
    print(json.dumps(writer.counters), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
