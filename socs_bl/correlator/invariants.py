"""What must hold of a node after every event; the words are at the top of `machine`."""

from __future__ import annotations

from socs_bl.core.effect import Effect
from socs_bl.correlator.model import (
    INGEST_LANE,
    SETTLED,
    CreateTables,
    Held,
    Line,
    Phase,
    PipeText,
    ReadFrameTime,
    Stage,
    StartIngest,
    StartPipeline,
    StopPipeline,
    WriteMarker,
)
from socs_bl.correlator.node import NodeCells, lane_of


def memory_of(pipes: tuple[PipeText, ...]) -> int:
    """Bytes of the rings of pipelines."""
    return sum(pipe.ring_bytes for pipe in pipes)


def check_node(node: NodeCells) -> None:
    """What must hold after every event; see the top of `machine`."""
    ingest, source = node.ingest, node.source
    in_use = [*([ingest.active] if ingest.active else []), *(wait.name for wait in ingest.queue)]
    for name in in_use:
        held = node.held(name)
        assert held is not None and held.phase is not Phase.DESTROYING, f"{name} is in use and being destroyed"
    assert not any(wait.sent for wait in ingest.queue[1:]), f"not only the first activation is sent: {ingest.queue}"
    assert source.uri or not source.on, "frames flow from nowhere"
    running = ingest.stage is Stage.RUNNING
    assert running or not (ingest.active or ingest.flow_told), f"no ingest process, yet {ingest}"
    assert (ingest.stage is Stage.RESTARTING) == ("ingest" in node.timers), f"{ingest.stage} without its timer"
    for effect in node.outstanding_of(Effect, lane=INGEST_LANE):
        assert running or isinstance(effect, StartIngest), f"{effect} is for an ingest process that is not there"
    for held in node.all_held():
        _check_held(node, held, in_use)
    used = sum(memory_of(held.pipes) for held in node.all_held())
    assert used <= node.settings.ring_bytes, f"rings of {used} bytes"
    _check_lines(node)
    _check_queue(node)
    _check_recordings(node)


def _check_held(node: NodeCells, held: Held, in_use: list[str]) -> None:
    assert node.document(held.name) is not None, f"{held.name} has lost its document"
    if held.phase is Phase.DESTROYING:
        assert held.doomed and held.name not in in_use, f"{held.name} is destroyed against all wishes"
        lines = node.lines_of(held)
        ending = lines and all(line.stage is Stage.ENDING for line in lines)
        heard = node.ingest.stage is Stage.RUNNING  # it says when it has forgotten it
        assert heard or ending, f"{held.name} is being destroyed, and nothing is under way"
        return
    assert not held.doomed or held.name in in_use, f"{held.name} is not wanted and stays"
    assert len(node.lines_of(held)) == len(held.pipes), f"{held.name} has lost a pipeline"
    if held.phase is Phase.CREATING and node.ingest.stage is Stage.RUNNING:
        asked = [effect for effect in node.outstanding_of(CreateTables) if effect.name == held.name]
        assert asked, f"{held.name} is not there, and nobody was asked for it"


def _check_lines(node: NodeCells) -> None:
    for line in (cell for cell in node.cells.values() if isinstance(cell, Line)):
        lane, held = lane_of(line), node.held(line.configuration)
        assert held is not None, f"{lane} has no configuration"
        assert (line.stage is Stage.RESTARTING) == (lane in node.timers), f"{lane}: {line.stage} and its timer"
        for stage, kind in ((Stage.STARTING, StartPipeline), (Stage.ENDING, StopPipeline)):
            under_way = bool(node.outstanding_of(kind, lane=lane))
            assert (line.stage is stage) == under_way, f"{lane}: {line.stage}, {kind.__name__}: {under_way}"
        if line.stage is Stage.WAITING:
            assert held.phase is not Phase.CREATED, f"{lane} waits for a ring that is there"


def _check_queue(node: NodeCells) -> None:
    """The first that waits is sent as soon as it can be."""
    ingest = node.ingest
    if ingest.stage is Stage.RUNNING and ingest.queue and not ingest.queue[0].sent:
        held = node.held(ingest.queue[0].name)
        assert held is not None
        ready = held.phase is Phase.CREATED and all(line.stage in SETTLED for line in node.lines_of(held))
        assert not ready, f"{held.name} could be activated"


def _check_recordings(node: NodeCells) -> None:
    """What must hold of recordings after every event."""
    for recording in node.all_recordings():
        uid, timers = recording.uid, node.timers
        waiting = f"guard/{uid}" in timers or f"end/{uid}" in timers
        asked = any(effect.uid == uid for effect in node.outstanding_of(ReadFrameTime))
        marking = f"marker/{uid}" in timers or any(item.uid == uid for item in node.outstanding_of(WriteMarker))
        if recording.closed:
            assert not waiting, f"{uid} is over and waited for"
            assert recording.marked != marking, f"{uid} is over, marked: {recording.marked}, being marked: {marking}"
            assert not any(writer.open for writer in recording.writers.values()), f"{uid} is over and written"
            continue
        assert not marking and not recording.marked, f"{uid} is open and marked as done"
        if recording.stop_ns or recording.told:
            assert waiting or asked, f"{uid} has its stop, and nothing would end it when no frames come"
        for key, writer in recording.writers.items():
            line = node.line(*key.split("/", 1))
            assert not writer.open or line is not None, f"{uid} waits for {key}, which is no more"
