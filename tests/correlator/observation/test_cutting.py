"""From documents to integrations: what of a scan is kept, by the machine's windows and the recorder's rule."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.bdf.scan import Scan
from socs_bl.correlator.configuration import Subarray
from socs_bl.correlator.integration import Grid
from socs_bl.correlator.recorder import Recording
from socs_bl.correlator.stage import Integration
from tests.correlator.observation.bench import NODES, SECOND, START, Bench, finish, observation

GRID = Grid(dump_ns=SECOND // 2, dumps=8)  # records of 4 s
SUBARRAY = Subarray("sa0", "eb.2", (), ())


def scans(*starts: float) -> list[Scan]:
    """The scans that begin at these seconds after `START` (the last one is FINISH), as a node has been told of them."""
    bench = Bench()
    bench.hear(*(observation(start, number) for number, start in enumerate(starts[:-1], 1)), finish(starts[-1]))
    bench.later(starts[-1] + 1)
    told = [scan for (node, _), scan in bench.nodes.scans.items() if node == NODES[0]]
    stops = {uid: stop for (node, uid), stop in bench.nodes.stops.items() if node == NODES[0]}
    return [Scan(uid=scan.uid, dataset_id="eb", start_ns=scan.start_ns, stop_ns=stops[scan.uid]) for scan in told]


def kept(scan: Scan) -> list[int]:
    """Numbers of the integrations around a scan that a recorder keeps."""
    recording = Recording(scan, Path("/"), SUBARRAY)
    first = GRID.place(scan.start_ns)[0] - 2
    around = range(first, first + (scan.stop_ns - scan.start_ns) // GRID.interval_ns + 6)
    found = (Integration(number, GRID, number * GRID.interval_ns, False) for number in around)
    return [done.number for done in found if recording.wants(done)]


@pytest.mark.parametrize(("phase", "records"), [(0.0, 7), (0.5, 6), (1.5, 6), (2.0, 7), (3.5, 7)])
def test_a_scan_of_thirty_seconds_gives_the_whole_records_only(phase: float, records: int) -> None:
    """30 s in records of 4 s: 7, or 6 where more is lost at both ends; `phase` is that of the start in its record."""
    start = 40.0 - (START % 4) + phase
    (scan,) = scans(start, start + 30.0)
    assert len(kept(scan)) == records


@given(st.lists(st.floats(4.0, 60.0), min_size=2, max_size=5), st.floats(0.0, 4.0))
def test_no_integration_is_in_two_files(lengths: list[float], phase: float) -> None:
    """Scans that follow one another share no record, and lose at most the one that the cut between them falls into."""
    starts = [10.0 + phase]
    for length in lengths:
        starts.append(starts[-1] + length)
    numbers = [number for scan in scans(*starts) for number in kept(scan)]
    assert len(set(numbers)) == len(numbers)
    whole = int(sum(lengths) // 4.0)
    assert whole - 1 - len(lengths) <= len(numbers) <= whole
