"""The simulated radar: files that pydarnio reads, targets that are found again, names and blocks, faults, the process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np
import pydarnio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydarnio.borealis.v1_onwards import BorealisV1Read

from socs_bl.core.clock import unix_of_iso
from socs_bl.core.config import check, load
from socs_bl.core.errors import Refused
from socs_bl.simulators.radar import RadarWriter, Truth, play
from socs_bl.simulators.radar_config import Radar

C = 299792458.0
START = "2024-03-05T13:52:00Z"
SMALL = {"main_antennas": 4, "intf_antennas": 2, "sequences": 5, "slices": [{"ranges": 20}]}
KINDS = ("rawacf", "antennas_iq", "bfiq")


def radar(directory: Path, **changes: Any) -> Radar:
    """A small radar that plays as fast as it can; a record in four minutes."""
    values = {"directory": directory, "start": START, "factor": 0, "period_s": 240, "records": 4, **SMALL}
    return check(values | changes, Radar, "test")


def played(config: Radar) -> RadarWriter:
    """A radar whose records are through."""
    writer = RadarWriter(config)
    play(writer, threading.Event())
    assert not writer.counters["failed"]
    return writer


def names(directory: Path) -> list[str]:
    """Files below a directory."""
    return sorted(str(path.relative_to(directory)) for path in directory.glob("*/*"))


def dmap_records(path: Path, folder: Path, slice_id: int = 0) -> list[dict[str, Any]]:
    """What pydarnio makes of a rawacf file of any form."""
    if path.suffix == ".rawacf":
        return list(pydarnio.read_rawacf(str(path), mode="strict"))
    made = folder / f"{path.name}.dmap"
    pydarnio.BorealisConvert(str(path), "rawacf", str(made), slice_id, borealis_file_structure="site")
    return list(pydarnio.read_rawacf(str(made), mode="strict"))


@pytest.mark.parametrize("kind", KINDS)
def test_both_generations_hold_the_same(tmp_path: Path, kind: str) -> None:
    """pydarnio's readers of v0.7 and of v1.0, which share no code, find the same values; its checks of fields and types pass."""
    for generation in ("v0.7", "v1.0"):
        played(radar(tmp_path / generation, generation=generation, kinds=(kind,), records=3))
    site = pydarnio.BorealisRead(str(*(tmp_path / "v0.7").glob(f"*/*1352*.{kind}.hdf5.site")), kind, "site").records
    records, metadata = BorealisV1Read.read_records(str(*(tmp_path / "v1.0").glob(f"*/*1352*.{kind}.h5")))
    assert len(site) == len(records) == 2
    assert len(records[0]) + len(metadata) == {"rawacf": 51, "antennas_iq": 50, "bfiq": 50}[kind]
    renamed = {"lags": "lag_pulses", "tx_antenna_phases": "tx_excitations", "data": f"{kind}_data"}
    compared = set()
    for (name, old), new in zip(site.items(), records, strict=True):
        assert name == str(int(new["sqn_timestamps"][0] * 1000))
        for field, value in old.items():
            other = (new | metadata).get(renamed.get(field, field))
            if other is None or field == "borealis_git_hash":
                continue
            compared.add(field)
            other = other.decode() if isinstance(other, bytes) else other
            assert np.array_equal(value, np.ravel(other) if field == "data" else other), field
    assert len(compared) >= 33 and {"main_acfs", "data"} & compared


def test_site_files_have_the_radars_fields(tmp_path: Path) -> None:
    """29 attributes and 13 datasets a record of rawacf, text as bytes; the name of a record is its time in milliseconds."""
    played(radar(tmp_path, generation="v0.7", kinds=("rawacf",), records=1))
    with h5py.File(next(tmp_path.glob("*/*.site"))) as file:
        ((name, group),) = file.items()
        assert (len(group.attrs), len(group)) == (29, 13)
        assert isinstance(group.attrs["station"], bytes)
        assert name == str(int(group["sqn_timestamps"][0] * 1000))


def test_metadata_are_linked_and_scaled(tmp_path: Path) -> None:
    """In a v1.0 file what does not change is one object for all records, and data know their coordinates."""
    played(radar(tmp_path, kinds=("rawacf",), records=2))
    with h5py.File(next(tmp_path.glob("*/*.h5"))) as file:
        records = [file[name] for name in file if name != "metadata"]
        assert len(records) == 2 and len(file["metadata"]) == 34
        for record in records:
            assert all(record[name] == file["metadata"][name] for name in file["metadata"])
            assert not set(record) - set(file["metadata"]) - set(records[0])
            beam, gate, lag = record["main_acfs"].dims
            assert (beam.label, gate.label, lag.label) == ("beam", "range", "lag")
            assert beam["beam_nums"] == record["beam_nums"] and lag["lag_numbers"] == file["metadata/lag_numbers"]
            assert record["main_acfs"].compression == "gzip"


def test_dmap_is_what_pydarnio_would_make(tmp_path: Path) -> None:
    """The radar's own DMAP records equal those that pydarnio converts from its HDF5 file of the same signal."""
    played(radar(tmp_path / "h5", kinds=("rawacf",), records=3, cpid=-3800))
    played(radar(tmp_path / "dmap", kinds=("rawacf",), records=3, cpid=-3800, dmap=True))
    (own,) = (tmp_path / "dmap").glob("*/*1352*.sas.a.rawacf")
    ours = dmap_records(own, tmp_path)
    theirs = dmap_records(next((tmp_path / "h5").glob("*/*1352*.h5")), tmp_path)
    assert len(ours) == 2
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        assert one.pop("combf").split(" ; ")[1:] == other.pop("combf").split(" ; ")[1:]
        for name in one:
            assert np.allclose(one[name], other[name], rtol=1e-6) if name[1:] in ("cfd", "wr0") else np.array_equal(
                one[name], other[name]
            ), name  # fmt: skip


def velocity_of(values: np.ndarray, lag_s: np.ndarray, freq_hz: float) -> float:
    """The velocity at which the lags add up best, m/s."""
    tried = np.arange(-1200, 1200, 2.0)
    return float(tried[np.abs(np.exp(-4j * np.pi * freq_hz / C * np.outer(tried, lag_s)) @ values).argmax()])


@pytest.mark.parametrize("form", ["v0.7", "v1.0", "dmap"])
def test_targets_are_found_in_rawacf(tmp_path: Path, form: str) -> None:
    """From DMAP alone: in which gates there is an echo, how strong, how fast, how wide, and its phase between the arrays."""
    config = radar(
        tmp_path, generation="v0.7" if form == "v0.7" else "v1.0", dmap=form == "dmap", kinds=("rawacf",), records=24,
        sequences=30, period_s=4, slices=[{"ranges": 20, "beams": (3, 4)}],
        targets=[
            {"range_km": 450, "velocity_m_s": 350, "power_db": 20, "width_m_s": 60, "phase_deg": 40},
            {"range_km": 800, "velocity_m_s": -180, "power_db": 13, "width_m_s": 120, "phase_deg": -75, "beams": [4]},
            {"range_km": 9000},
        ],
    )  # fmt: skip
    truth = played(config).truth
    records = dmap_records(next(tmp_path.glob("*/*rawacf*")), tmp_path)
    assert len(records) == 24 and [echo.gate for echo in truth.echoes] == [6, 14]
    for beam, expected in ((3, truth.echoes[:1]), (4, truth.echoes)):
        mine = [record for record in records if record["bmnum"] == beam]
        acf, xcf = (
            np.mean([r[name][..., 0] + 1j * r[name][..., 1] for r in mine], axis=0) for name in ("acfd", "xcfd")
        )
        power = np.mean([record["pwr0"] for record in mine], axis=0)
        assert list(np.flatnonzero(power > 5 * np.median(power))) == [echo.gate for echo in expected]
        assert np.median(power) == pytest.approx(config.noise, rel=0.15)
        lag_s = (mine[0]["ltab"][:-1, 1] - mine[0]["ltab"][:-1, 0]) * 1e-6 * mine[0]["mpinc"]
        for echo in expected:
            values = acf[echo.gate]
            assert mine[0]["frang"] + echo.gate * mine[0]["rsep"] == echo.range_km
            assert power[echo.gate] - config.noise == pytest.approx(echo.power, rel=0.2)
            assert velocity_of(values[1:], lag_s[1:], mine[0]["tfreq"] * 1e3) == pytest.approx(
                echo.velocity_m_s, abs=10
            )
            near = (lag_s > 0) & (lag_s < 0.03)
            decay = -np.polyfit(lag_s[near], np.log(np.abs(values[near])), 1)[0]
            assert decay * C / (2 * np.pi * mine[0]["tfreq"] * 1e3) == pytest.approx(echo.width_m_s, rel=0.3)
            phase = np.angle(np.sum(xcf[echo.gate] * values.conj()), deg=True)
            assert phase == pytest.approx(echo.phase_deg, abs=6)


def test_targets_are_found_in_samples(tmp_path: Path) -> None:
    """From the voltages alone: the pulses' echoes give range, velocity and power, the antennas' phases the beam."""
    config = radar(
        tmp_path, generation="v0.7", kinds=("antennas_iq", "bfiq"), records=6, sequences=60, period_s=8,
        fewer_sequences=0, slices=[{"ranges": 20, "beams": [11]}],
        targets=[{"range_km": 450, "velocity_m_s": -260, "power_db": 20, "phase_deg": 60}],
    )  # fmt: skip
    (echo,) = played(config).truth.echoes
    read = {
        kind: pydarnio.BorealisRead(str(next(tmp_path.glob(f"*/*.{kind}.*"))), kind, "site").records
        for kind in KINDS[1:]
    }
    beams, antennas = (
        [record["data"].reshape(record["data_dimensions"]) for record in read[kind].values()] for kind in ("bfiq", "antennas_iq")
    )  # fmt: skip
    record = next(iter(read["bfiq"].values()))
    scale = 32767 / record["data_normalization_factor"]
    main, intf = np.concatenate(beams, axis=1)[:, :, 0] * scale
    pulse = record["pulses"] * round(record["tau_spacing"] * 1e-6 * record["rx_sample_rate"])
    first = int(record["first_range_rtt"] * 1e-6 * record["rx_sample_rate"])
    at = {int(value): int(sample) for value, sample in zip(record["pulses"], pulse, strict=True)}
    power = [np.mean(np.abs(main[:, pulse[0] + first + gate]) ** 2) for gate in range(20)]
    assert int(np.argmax(power)) == echo.gate
    assert power[echo.gate] == pytest.approx(echo.power + config.noise, rel=0.2)
    sample = first + echo.gate
    lags = record["lags"][1:-1].astype(int)
    acf = np.array([np.mean(main[:, at[b] + sample] * main[:, at[a] + sample].conj()) for a, b in lags])
    lag_s = (lags[:, 1] - lags[:, 0]) * record["tau_spacing"] * 1e-6
    assert velocity_of(acf, lag_s, record["freq"] * 1e3) == pytest.approx(-260, abs=15)
    cross = np.mean(main[:, sample] * intf[:, sample].conj())
    assert np.angle(cross, deg=True) == pytest.approx(60, abs=8)
    voltage = np.concatenate(antennas, axis=1)[:, :, sample]
    step = np.angle(np.mean(voltage[1] * voltage[0].conj()))
    sine = step * C / (2 * np.pi * record["freq"] * 1e3 * 15.24)
    assert np.degrees(np.arcsin(sine)) == pytest.approx(record["beam_azms"][0], abs=2)
    assert 0 not in np.abs(voltage)


def test_names_of_slices(tmp_path: Path) -> None:
    """At a start each slice has the time of its own first record; at a boundary they share that of the first; days have folders."""
    config = radar(
        tmp_path, generation="v0.7", kinds=("rawacf",), start="2024-03-05T23:52:10Z", records=4,
        slices=[{"number": 0, "ranges": 2}, {"number": 3, "ranges": 2, "delay_s": 7}],
    )  # fmt: skip
    truth = played(config).truth
    assert names(tmp_path) == [
        "20240305/20240305.2352.10.sas.0.rawacf.hdf5.site",
        "20240305/20240305.2352.17.sas.3.rawacf.hdf5.site",
        "20240306/20240306.0000.10.sas.0.rawacf.hdf5.site",
        "20240306/20240306.0000.10.sas.3.rawacf.hdf5.site",
    ]
    assert sorted(written.name for written in truth.files) == names(tmp_path)
    assert {written.records for written in truth.files} == {2}


def test_files_grow_record_by_record(tmp_path: Path) -> None:
    """After every record the file is closed and readable, with one record more; its time is the radar's, not this computer's."""
    writer = RadarWriter(radar(tmp_path, kinds=("rawacf",), dmap=True, records=2))
    for count, event in enumerate(writer.schedule(), 1):
        writer.write(event)
        (path,) = tmp_path.glob("*/*")
        assert len(pydarnio.read_rawacf(str(path), mode="strict")) == count
        assert 0 < path.stat().st_mtime - event.time < 5


def test_restart_with_an_incomplete_record(tmp_path: Path) -> None:
    """A radar that dies while it writes leaves a record in part; the next file has odd minutes and is whole."""
    for generation, dmap in (("v0.7", False), ("v1.0", False), ("v1.0", True)):
        directory = tmp_path / f"{generation}{dmap}"
        restart = {"restarts": [{"record": 2, "away_s": 777, "incomplete": True}]}
        truth = played(
            radar(directory, generation=generation, dmap=dmap, kinds=("rawacf",), block_s=86400, faults=restart)
        ).truth
        assert [(written.records, written.incomplete) for written in truth.files] == [(1, 1), (2, 0)]
        broken, good = (directory / written.name for written in truth.files)
        assert ".1412.57." in good.name
        assert len(dmap_records(good, tmp_path)) == 2
        if dmap:
            records, at = pydarnio.read_rawacf(str(broken), mode="lax")
            assert len(records) == 1 and 0 < at < broken.stat().st_size
        else:
            with pytest.raises(Exception, match=r"\w"):  # pydarnio's own, one for each generation
                dmap_records(broken, tmp_path)
            with h5py.File(broken) as file:
                sizes = sorted(len(file[name]) + len(file[name].attrs) for name in file if name != "metadata")
            assert len(sizes) == 2 and sizes[0] < sizes[1] == (42 if generation == "v0.7" else 51)


@pytest.mark.parametrize(("shows", "day"), [("1970", "19700101"), ("2006", "20040720")])
def test_wrong_clock(tmp_path: Path, shows: str, day: str) -> None:
    """Receivers without time: names, folders and records of the past, the file's own time right, until the clock is set."""
    wrong = {"wrong_clock": [{"record": 0, "records": 2, "shows": shows}]}
    truth = played(radar(tmp_path, generation="v0.7", kinds=("rawacf",), records=3, faults=wrong)).truth
    first, second = truth.files
    assert (first.records, first.clock, second.records, second.clock) == (2, shows, 1, "")
    assert first.name.startswith(f"{day}/{day}.") and second.name.startswith("20240305/20240305.1400.")
    assert abs((tmp_path / first.name).stat().st_mtime - unix_of_iso(START)) < 600
    records = pydarnio.BorealisRead(str(tmp_path / first.name), "rawacf", "site").records.values()
    assert [record["gps_locked"] for record in records] == [shows == "2006"] * 2
    assert all(record["gps_to_system_time_diff"] < -15 * 365 * 86400 for record in records)
    assert [record["sqn_timestamps"][0] for record in records][0] == pytest.approx(first.first)


def test_wrong_clock_in_mid_block(tmp_path: Path) -> None:
    """The same name then appears in the folder of another day, as Borealis does it."""
    wrong = {"wrong_clock": [{"record": 1, "records": 1, "shows": "1970"}]}
    played(radar(tmp_path, kinds=("rawacf",), records=3, block_s=86400, dmap=True, faults=wrong))
    assert names(tmp_path) == ["19700101/20240305.1352.00.sas.a.rawacf", "20240305/20240305.1352.00.sas.a.rawacf"]


@pytest.mark.parametrize("generation", ["v0.7", "v1.0"])
def test_mismatch_silent_antenna_and_strange_names(tmp_path: Path, generation: str) -> None:
    """One time too few in the record that was asked for; nothing from the antenna that was; the files that belong to nobody."""
    strange = ("core.4711", "20240305.1352.00.sas.0 copy.rawacf", "notes.h5")
    faults = {"mismatched_records": [1], "zeroed_antennas": [2], "strange_names": strange}
    config = radar(tmp_path, generation=generation, kinds=("antennas_iq",), block_s=86400, records=3, faults=faults)
    truth = played(config).truth
    (written,) = truth.files
    assert (written.records, written.mismatched, written.incomplete) == (2, 1, 0)
    assert sorted(truth.strange) == sorted(f"20240305/{name}" for name in strange)
    assert set(truth.strange) < set(names(tmp_path))
    with h5py.File(tmp_path / written.name) as file:
        for number, name in enumerate(sorted(set(file) - {"metadata"})):
            group = file[name]
            count = int(group.attrs["num_sequences"] if generation == "v0.7" else group["num_sequences"][()])
            assert len(group["sqn_timestamps"]) == count - (number == 1)
            data = group["data"][()].reshape(6, count, -1) if generation == "v0.7" else group["antennas_iq_data"][()]
            assert [bool(antenna.any()) for antenna in data] == [True, True, False, True, True, True]


def test_full_disk_does_not_stop_the_radar(tmp_path: Path) -> None:
    """What cannot be written is counted and told, and later records go on."""
    (tmp_path / "20240305").write_text("no folder")
    config = radar(tmp_path, kinds=("rawacf",), dmap=True, start="2024-03-05T23:55:00Z", records=3)
    writer = RadarWriter(config)
    play(writer, threading.Event())
    assert writer.counters["records"] == 1 and writer.counters["failed"] > 0
    assert [(written.name, written.records) for written in writer.truth.files] == [
        ("20240306/20240306.0003.00.sas.a.rawacf", 1)
    ]


@given(
    delays=st.lists(st.sampled_from([0.0, 3.0, 50.0]), min_size=1, max_size=2),
    restarts=st.lists(st.tuples(st.integers(1, 7), st.sampled_from([30.0, 777.0, 9000.0]), st.booleans()), max_size=2),
    partial=st.sets(st.integers(0, 7), max_size=2),
    start=st.integers(0, 86399),
)
@settings(max_examples=12, deadline=None)
def test_truth_is_what_lies_there(
    tmp_path_factory: pytest.TempPathFactory,
    delays: list[float],
    restarts: list[tuple[int, float, bool]],
    partial: set[int],
    start: int,
) -> None:
    """Whatever happens: each record is in one file, the truth counts the whole ones, no file crosses a boundary."""
    directory = tmp_path_factory.mktemp("radar")
    faults = {
        "restarts": [{"record": record, "away_s": away, "incomplete": dying} for record, away, dying in restarts],
        "incomplete_records": sorted(partial),
    }
    slices = [{"number": number, "ranges": 1, "delay_s": delay} for number, delay in enumerate(delays)]
    config = radar(
        directory, generation="v0.7", kinds=("rawacf",), slices=slices, records=8, period_s=600, faults=faults,
        start=f"2024-03-05T{start // 3600:02d}:{start // 60 % 60:02d}:{start % 60:02d}Z",
    )  # fmt: skip
    truth = played(config).truth
    assert sorted(written.name for written in truth.files) == names(directory)
    total = 0
    for written in truth.files:
        with h5py.File(directory / written.name) as file:
            times = [int(name) / 1000 for name in file]
            whole = [name for name in file if len(file[name]) + len(file[name].attrs) == 42]
        assert (len(whole), len(times)) == (written.records, written.records + written.incomplete)
        total += len(times)
        assert times[-1] // 7200 == times[0] // 7200
        stamp = unix_of_iso("{0[0]}T{0[1]}{0[2]}Z".format(Path(written.name).name.split(".")))
        assert stamp // 7200 == times[0] // 7200 and stamp <= times[0] < stamp + max(delays) + 1
    assert total == 8 * len(slices)


def test_process(tmp_path: Path) -> None:
    """The program plays its records by its clock, says what it has written, and leaves the truth."""
    path = tmp_path / "radar.json"
    values = {**SMALL, "directory": str(tmp_path / "data"), "truth": str(tmp_path / "truth.json"), "start": START}
    path.write_text(json.dumps({**values, "records": 3, "period_s": 240, "factor": 4800, "kinds": ["rawacf"]}))
    command = [sys.executable, "-m", "socs_bl.simulators.radar", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout.splitlines()[-1]) == {"records": 3}
    truth = msgspec.json.decode((tmp_path / "truth.json").read_bytes(), type=Truth)
    assert sorted(written.name for written in truth.files) == names(tmp_path / "data")
    assert load(path, Radar).factor == 4800


def test_process_stops_between_records(tmp_path: Path) -> None:
    """SIGTERM while it waits for the next record: it ends well, with the truth of what there is."""
    path = tmp_path / "radar.json"
    path.write_text(json.dumps({**SMALL, "directory": str(tmp_path / "data"), "truth": str(tmp_path / "truth.json")}))
    command = [sys.executable, "-m", "socs_bl.simulators.radar", "--config", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline().startswith("sas starts at 20")
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait(60) == 0
        assert json.loads(child.stdout.read()) == {}
    assert msgspec.json.decode((tmp_path / "truth.json").read_bytes(), type=Truth).files == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"slices": [{"number": 1}, {"number": 1}]}, "distinct"),
        ({"slices": [{"delay_s": 500}]}, "period_s"),
        ({"slices": [{"number": 26}], "dmap": True}, "letter"),
        ({"dmap": True, "generation": "v0.7"}, "v1.0"),
        ({"block_s": 7000}, "day"),
        ({"fewer_sequences": 9}, "sequences"),
        ({"start": "yesterday"}, "not a time"),
        ({"station": "../"}, "station"),
        ({"faults": {"strange_names": ["../x"]}}, "directories"),
        ({"faults": {"zeroed_antennas": [6]}}, "antennas 0 to 5"),
    ],
)
def test_impossible_radars_are_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    """Before anything is written, naming the key."""
    with pytest.raises(Refused, match=told):
        radar(tmp_path, **changes)
