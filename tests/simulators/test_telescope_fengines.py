"""Injected tones on their way: from the schedule through the F-engines into recordings, and back out of a search."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import spead2
import spead2.recv
from msgspec.structs import replace

from socs_bl.capture.guppi import encode_header
from socs_bl.cli.demo_theory import theory
from socs_bl.core.config import load
from socs_bl.core.errors import Faulty, Refused
from socs_bl.search.config import SearchConfig
from socs_bl.search.engine import search_recording
from socs_bl.search.products import write_products
from socs_bl.simulators import telescope_fengines
from socs_bl.simulators.comparison import Row, SearchedRecording, compare, read_search
from socs_bl.simulators.config import FieldConfig, Schedule, SubarrayConfig, Timing, ToneConfig
from socs_bl.simulators.fengine import FEngineConfig
from socs_bl.simulators.recipe import recipe_path, write_recipe
from socs_bl.simulators.telescope import tracks
from socs_bl.simulators.telescope_fengines import FEngines
from socs_bl.simulators.truth import Truth, inject

SYNC = 1795233600.0
HEAP_SECONDS = 0.064
TOLERANCE = 0.2  # of the ratio of measured to expected
SMALL = SubarrayConfig(
    antennas=("m000", "m011", "m003"),
    n_channels=8,
    n_groups=2,
    adc_sample_rate_hz=64000.0,
    field=FieldConfig(targets=2),
)


@pytest.fixture
def sleeping_fengines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that send nothing."""
    monkeypatch.setattr(telescope_fengines, "PROGRAM", (sys.executable, "-c", "import signal; signal.pause()"))


def record(path: Path, fengines: FEngineConfig, first: int, channels: range, obsid: str, heaps: int) -> None:
    """Write what an instance would record of some channels, as one GUPPI RAW file."""
    sky, width, centre = fengines.sky(), fengines.width / 1e6, fengines.centre_frequency_hz / 1e6
    start = fengines.sync_time + first * fengines.heap_seconds
    middle = centre + (channels.start + len(channels) / 2 - fengines.n_channels / 2) * width - width / 2
    with path.open("wb") as file:
        for pktidx in range(first, first + heaps):
            block = np.ascontiguousarray(sky.samples(pktidx)[:, channels.start : channels.stop])
            file.write(
                encode_header(
                    {
                        "OBSFREQ": middle, "OBSBW": len(channels) * width, "CHAN_BW": width, "TBIN": 1 / fengines.width,
                        "OBSNCHAN": fengines.n_antennas * len(channels), "NANTS": fengines.n_antennas, "NPOL": 4,
                        "NBITS": 8, "DIRECTIO": 0, "BLOCSIZE": block.size, "HNTIME": fengines.spectra_per_heap,
                        "SCHAN": channels.start,
                        "PKTIDX": pktidx, "STT_IMJD": 40587 + int(start // 86400), "STT_SMJD": int(start % 86400),
                        "STT_OFFS": start % 1.0, "SRC_NAME": "x", "OBSID": obsid, "INSTANCE": f"blpn64/{channels.start // 4}",
                    }
                )
            )  # fmt: skip
            file.write(block.tobytes())


def small_schedule(**changes: object) -> Schedule:
    """Two cycles with a small subarray."""
    values = {
        "subarrays": (SMALL,),
        "timing": Timing(metadata_s=1, subscribe_s=1, slew_s=1, track_s=24, gap_s=1),
        "tones": ToneConfig(per_track=2),
    }
    return Schedule(**(values | changes))  # type: ignore[arg-type]


def search_all(directory: Path, schedule: Schedule, truth: Truth, recipes: Path | None = None) -> list[Row]:
    """Record and search every cycle with two instances, in beams where there are recipes; the comparison."""
    config = SearchConfig(plots=0, recipe_dir=recipes)
    engines = FEngines(schedule, directory, "127.0.0.1")
    engines.start(SYNC, schedule.seed, truth.tones)
    engines.kill()
    fengines = load(directory / "array_1.json", FEngineConfig)
    recordings = []
    for track in tracks(schedule):
        first = int((truth.started + track.track_at + 2.0 - SYNC) / HEAP_SECONDS)
        for channels in (range(4), range(4, 8)):
            stem = f"cycle{track.cycle}-{channels.start}"
            raw = directory / f"{stem}.0000.raw"
            record(raw, fengines, first, channels, f"MeerKAT:array_1:{track.cycle}", heaps=304)
            result = search_recording([raw], config, lambda *_: None)
            write_products(directory, stem, [raw], result, config, lambda *_: None)
            recordings.append(read_search(directory / f"{stem}.search.json"))
    return compare(truth.tones, recordings, theory)


def verdicts_of(rows: list[Row]) -> list[str]:
    """The verdicts of a comparison."""
    return [row.verdict for row in rows]


@pytest.mark.usefixtures("sleeping_fengines")
def test_injected_tones_are_found_in_what_the_fengines_send(tmp_path: Path) -> None:
    """Promise: every tone of every cycle is found where the truth says, and nothing else is."""
    schedule = small_schedule()
    rows = search_all(tmp_path, schedule, inject(schedule, SYNC + 10.3))
    assert verdicts_of(rows) == ["found"] * 4
    assert all(row.snr_ratio == pytest.approx(1.0, abs=TOLERANCE) for row in rows), [row.snr_ratio for row in rows]


@pytest.mark.usefixtures("sleeping_fengines")
def test_injected_tones_are_found_in_the_beams_on_them(tmp_path: Path) -> None:
    """Promise: with recipes each tone is strongest in the beam at its position, with the ratio theory gives a beam."""
    schedule = small_schedule(cycles=1)
    truth = inject(schedule, SYNC + 10.3)
    (track,) = tracks(schedule)
    targets, obsid = truth.field("array_1", 1), "MeerKAT:array_1:1"
    write_recipe(
        recipe_path(tmp_path, obsid), schedule.site, SMALL, obsid, targets[0], targets,
        float(int(truth.started + track.track_at)), 30,
    )  # fmt: skip
    rows = search_all(tmp_path, schedule, truth, tmp_path)
    assert verdicts_of(rows) == ["found"] * 2
    assert [row.hit.beam_name for row in rows if row.hit] == [target.name for target in targets]
    assert all(row.snr_ratio == pytest.approx(1.0, abs=TOLERANCE) for row in rows), [row.snr_ratio for row in rows]
    swapped = compare([replace(tone, source=targets[0].name) for tone in truth.tones], recordings_of(tmp_path))
    assert sorted(verdicts_of(swapped)) == ["found", "wrong beam"]


def recordings_of(directory: Path) -> list[SearchedRecording]:
    """All searches there."""
    return [read_search(path) for path in sorted(directory.glob("*.search.json"))]


@pytest.mark.usefixtures("sleeping_fengines")
def test_a_search_of_the_wrong_truth_finds_nothing(tmp_path: Path) -> None:
    """Promise: the comparison of one seed's recordings with another seed's truth fails."""
    schedule = small_schedule(cycles=1)
    truth = inject(schedule, SYNC)
    other = inject(small_schedule(cycles=1, seed=schedule.seed + 1), SYNC)
    assert verdicts_of(search_all(tmp_path, schedule, truth)) == ["found"] * 2
    assert sorted(verdicts_of(compare(other.tones, recordings_of(tmp_path)))) == ["missed"] * 2 + ["unexpected"] * 2


@pytest.mark.usefixtures("sleeping_fengines")
def test_each_subarray_gets_its_own_tones_and_noise(tmp_path: Path) -> None:
    """Promise: tones and noise of one subarray are not those of the other, and the seed decides both."""
    schedule = Schedule()
    truth = inject(schedule, SYNC)
    configs = []
    for seed in (1, 1, 2):
        engines = FEngines(schedule, tmp_path, "127.0.0.1")
        engines.start(SYNC, seed, truth.tones)
        engines.kill()
        configs.append([load(tmp_path / f"{name}.json", FEngineConfig) for name in ("array_1", "array_2")])
    first, again, other = configs
    assert first == again
    assert len({config.seed for config in (*first, *other)}) == 4
    for config in first:
        wanted = [tone for tone in truth.tones if tone.subarray == config.name]
        assert {tone.cycle for tone in wanted} == {1, 2}
        at_the_phase_centre = [tone.source == tone.target for tone in wanted]
        assert [not any(tone.delays) for tone in config.tones] == at_the_phase_centre
        assert True in at_the_phase_centre and False in at_the_phase_centre
        assert [tone.frequency_hz for tone in config.tones] == [tone.frequency_hz for tone in wanted]
        assert [(tone.start, tone.stop) for tone in config.tones] == [(tone.start, tone.stop) for tone in wanted]


def test_files_that_are_not_search_results_are_refused(tmp_path: Path) -> None:
    """Promise: a wrong file is refused by name."""
    path = tmp_path / "a.search.json"
    for content in ("", "{}", '{"obsid": 3}', "[]"):
        path.write_text(content)
        with pytest.raises(Refused, match="a.search.json"):
            read_search(path)
    with pytest.raises(Refused, match="cannot be read"):
        read_search(tmp_path / "b.search.json")


@pytest.mark.live
@pytest.mark.network
def test_fengines_of_two_subarrays_send_to_their_own_groups(tmp_path: Path) -> None:
    """Promise: each subarray's processes send real heaps of the present to its own groups, and count them at the end."""
    second = SMALL.model_copy(
        update={"name": "array_2", "antennas": ("m010",), "first_group": "239.192.2.0", "port": 7149}
    )
    schedule = Schedule(subarrays=(SMALL, second), tones=ToneConfig(per_track=1))
    engines = FEngines(schedule, tmp_path, "127.0.0.1")
    streams = []
    for subarray in schedule.subarrays:
        # Room for what comes while nobody reads: a full ring makes spead2 log from its own thread.
        room = spead2.recv.RingStreamConfig(heaps=16384)
        stream = spead2.recv.Stream(spead2.ThreadPool(), spead2.recv.StreamConfig(max_heaps=64), room)
        for number in range(subarray.n_groups):
            group = f"{subarray.first_group.removesuffix('.0')}.{number}"
            stream.add_udp_reader(group, subarray.port, interface_address="127.0.0.1", buffer_size=1 << 20)
        streams.append(stream)
    try:
        engines.start(SYNC, 1)
        with pytest.raises(Faulty, match="run already"):
            engines.start(SYNC, 1)
        for subarray, stream in zip(schedule.subarrays, streams, strict=True):
            seen: set[tuple[int, int]] = set()
            while len(seen) < 2 * len(subarray.antennas):
                heap = stream.get()
                items = {item.id: item for item in heap.get_items()}
                seen.add((items[0x4103].immediate_value, items[0x4101].immediate_value))
                assert items[0x1600].immediate_value % subarray.samples_per_heap == 0
            assert seen == {(first, antenna) for first in (0, 4) for antenna in range(len(subarray.antennas))}
        engines.check()
        assert all(report["running"] for report in engines.report().values())
    finally:
        counted = engines.stop()
        for stream in streams:
            stream.stop()
    assert set(counted) == {"array_1", "array_2"}
    assert all({"sent", "lost", "skipped", "dropped"} <= set(counters) for counters in counted.values())
    assert all(counters["sent"] > 0 for counters in counted.values())
    assert not engines.started
