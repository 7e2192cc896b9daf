"""The documents of the simulated executor, whose builder knows nothing of our parser, through parser and machine."""

from __future__ import annotations

import math

import pytest

from socs_bl.correlator.observation import wire
from socs_bl.correlator.observation.model import AntennasHeard, Observation, ObservationHeard
from socs_bl.simulators import executor, sky
from socs_bl.simulators.boards_config import Correlation
from tests.correlator.observation.bench import NODES, SECOND, START, Bench

CONFIG = Correlation()


def test_a_schedule_becomes_its_scans() -> None:
    """Said one after the other, a second before their starts: each scan of the schedule, to the microsecond, and its end."""
    truth = sky.inject(CONFIG, executor.dataset_id(CONFIG, START + 10), START + 10)
    bench = Bench()
    for said in executor.plan(CONFIG, truth, "c.1"):
        bench.later(said.at - START)
        document = wire.parse_document(said.text)
        if isinstance(document, Observation):
            bench.say(ObservationHeard(observation=document))
        else:
            bench.say(AntennasHeard(table=document))
    bench.later(truth.scans[-1].stop - START + 1)
    scans = [scan for (node, _), scan in bench.nodes.scans.items() if node == NODES[0]]
    assert len(scans) == len(truth.scans)
    for scan, wanted, planned in zip(scans, truth.scans, CONFIG.scans, strict=True):
        stop = bench.nodes.stops[NODES[0], scan.uid]
        assert scan.start_ns == pytest.approx(wanted.start * SECOND, abs=1000)
        assert stop == pytest.approx(wanted.stop * SECOND, abs=1000)
        assert (scan.dataset_id, scan.config_id, scan.scan) == (truth.dataset_id, "c.1", wanted.scan)
        assert (scan.source, math.degrees(scan.ra)) == (planned.source, pytest.approx(planned.ra_deg))
        assert scan.project == CONFIG.project and scan.observer
        assert [one.station for one in scan.antennas] == [station.station for station in CONFIG.ordered]
