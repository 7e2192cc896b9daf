"""The recordings of a node: which pipelines write them, when they are over, and that others are told so.

A recording is told to the pipelines of the active configuration, and to those of every configuration that is to become
active, before it does. Frame time ends it: each pipeline says when its part is done. When frames do not come up to its
stop (the boards are off, a file was at its end), the pipelines are told to end it all the same.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from socs_bl.core.effect import Answer
from socs_bl.correlator.model import (
    FrameTimeRead,
    Line,
    ReadFrameTime,
    RecordAsked,
    Recording,
    RecordingDone,
    SendRecording,
    SendStop,
    Stage,
    StopAsked,
    WriteMarker,
    Writer,
)
from socs_bl.correlator.node import NodeCells, lane_of

MARKERS = "markers"
SILENCE = "silence"  # an ending: the stop has passed by the clock on the wall, and frames had ceased before
MARKER_PAUSE = 10.0  # seconds until a marker that could not be written is tried again
MARKER_TRIES = 30
KEPT = 50  # recordings that are over and still known, so that nothing is recorded twice


class Recordings(NodeCells):
    """What a node's machine does about recordings."""

    # -- what people ask ------------------------------------------------------------------------------------------

    def on_record(self, event: RecordAsked) -> None:
        """Record a scan; one that is known is not recorded again, but may now have its end."""
        known = self.recording(event.uid)
        if known is not None:
            if event.stop_ns:
                self._set_stop(known, event.stop_ns, known.reason)
            self.issue(Answer())
            return
        if not self.source.bdfdir:
            self.issue(Answer(refusal=f"{event.uid}: no directory to create files in; set bdfdir first"))
            return
        if len(self.open_recordings()) >= self.settings.recordings:
            limit = self.settings.recordings
            self.issue(Answer(refusal=f"{event.uid}: {limit} recordings are open already; stop those that are over"))
            return
        recording = Recording(
            uid=event.uid,
            scan=event.scan,
            directory=self.source.bdfdir,
            start_ns=event.start_ns,
            stop_ns=event.stop_ns,
            order=self.sequence,
        )
        self.put_recording(recording)
        for name in self.names_recording():
            self.enlist(name, [recording])
        if recording.stop_ns:
            self._guard(recording)
        self.issue(Answer())

    def on_stop(self, event: StopAsked) -> None:
        """A recording gets its end; of two ends the earlier one counts."""
        recording = self.recording(event.uid)
        if recording is not None and not recording.closed:
            if event.stop_ns:
                self._set_stop(recording, event.stop_ns, event.reason)
            else:
                self._end_now(msgspec.structs.replace(recording, reason=event.reason))
        self.issue(Answer())

    def _set_stop(self, recording: Recording, stop_ns: int, reason: str) -> None:
        if recording.closed or 0 < recording.stop_ns <= stop_ns:
            return
        recording = msgspec.structs.replace(recording, stop_ns=stop_ns, reason=reason)
        self.put_recording(recording)
        self._send_stop(recording, stop_ns)
        self._guard(recording)
        self._conclude(recording)

    # -- who writes -----------------------------------------------------------------------------------------------

    def names_in_use(self) -> list[str]:
        """The active configuration and those that are to become active."""
        ingest = self.ingest
        return [name for name in dict.fromkeys((ingest.active, *(wait.name for wait in ingest.queue))) if name]

    def names_recording(self) -> list[str]:
        """The configurations whose pipelines may get frames at any moment: the active one, and the one that was sent."""
        ingest = self.ingest
        sent = [wait.name for wait in ingest.queue if wait.sent]
        return [name for name in dict.fromkeys((ingest.active, *sent)) if name]

    def enlist(self, name: str, recordings: Iterable[Recording]) -> None:
        """Tell the pipelines of a configuration of recordings."""
        held = self.held(name)
        for line in self.lines_of(held) if held is not None else []:
            if line.stage not in (Stage.QUARANTINED, Stage.ENDING):
                for recording in recordings:
                    self._enlist_line(line, recording.uid)

    def _enlist_line(self, line: Line, uid: str) -> None:
        recording, key = self.recording(uid), _writer_key(line)
        if recording is None or recording.closed or recording.told:
            return
        writer = recording.writers.get(key, Writer())
        if writer.open or writer.ending == "flush":
            self.put_writer(recording, key, msgspec.structs.replace(writer, open=True, ending=""))
            if line.stage is Stage.RUNNING:
                self._send(line, recording)

    def resume(self, line: Line) -> None:
        """A pipeline runs (again): it goes on with what it was writing, and with all else that is open."""
        if line.configuration not in self.names_in_use():
            self.strike(line, "")
            return
        told = line.configuration in self.names_recording()
        for recording in self.open_recordings():
            writer = recording.writers.get(_writer_key(line))
            if told or (writer is not None and writer.open):
                self._enlist_line(line, recording.uid)

    def recordings_of(self, name: str, pipe: str) -> list[Recording]:
        """What a pipeline is writing, or would be if it ran."""
        key = f"{name}/{pipe}"
        open_ones = [recording for recording in self.open_recordings() if not recording.told]
        return [item for item in open_ones if key in item.writers and item.writers[key].open]

    def strike(self, line: Line, reason: str) -> None:
        """A pipeline writes nothing any more: its parts of recordings are over."""
        key = _writer_key(line)
        for recording in self.open_recordings():
            writer = recording.writers.get(key)
            if writer is not None and writer.open:
                over = msgspec.structs.replace(writer, open=False, error=reason, ending="fault" if reason else "flush")
                self._conclude(self.put_writer(recording, key, over))

    def _send(self, line: Line, recording: Recording) -> str:
        effect = SendRecording(
            configuration=line.configuration,
            pipe=line.pipe,
            run=line.run,
            uid=recording.uid,
            scan=recording.scan,
            stop_ns=recording.stop_ns,
            directory=recording.directory,
        )
        return self.issue(effect, lane=lane_of(line))

    def _send_stop(self, recording: Recording, stop_ns: int) -> None:
        for key, writer in recording.writers.items():
            line = self.line(*key.split("/", 1))
            if writer.open and line is not None and line.stage is Stage.RUNNING:
                effect = SendStop(
                    configuration=line.configuration,
                    pipe=line.pipe,
                    run=line.run,
                    uid=recording.uid,
                    stop_ns=stop_ns,
                    reason=recording.reason,
                )
                self.issue(effect, lane=lane_of(line))

    # -- how it ends ----------------------------------------------------------------------------------------------

    def on_recording_done(self, event: RecordingDone) -> None:
        """A pipeline has done its part."""
        recording, line = self.recording(event.uid), self.line(event.configuration, event.pipe)
        if recording is None or recording.closed or line is None or line.run != event.run:
            return
        key = _writer_key(line)
        writer = recording.writers.get(key)
        if writer is None or not writer.open:
            return
        over = Writer(
            open=False,
            integrations=writer.integrations + event.integrations,
            dropped=writer.dropped + event.dropped,
            error=event.error or writer.error,
            ending=event.ending,
        )
        others = recording.writers.values()
        if event.error and all(other.error != event.error for other in others):
            self.tell("error", f"{key} has ended {event.uid}: {event.error}")
        if event.ending == SILENCE and all(other.ending != SILENCE for other in others):
            self.tell("warning", f"{event.uid}: no frames came at the end of its time; are the boards sending?")
        self._conclude(self.put_writer(recording, key, over))
        if event.ending == "flush" and line.stage is Stage.RUNNING and self._stays(line.configuration):
            self._enlist_line(line, event.uid)

    def _stays(self, name: str) -> bool:
        """Whether frames will come for a configuration though there was a flush: time had jumped, or ingest was new."""
        ingest = self.ingest
        leaving = name == ingest.active and any(wait.sent for wait in ingest.queue)
        return name in self.names_recording() and not leaving

    def on_guard(self, uid: str) -> None:
        """The stop is over by the clock on the wall; frame time decides, once processes run that could get frames."""
        if self.recording(uid) is None:
            return
        if self.ingest.stage is not Stage.RUNNING or any(not wait.sent for wait in self.ingest.queue[:1]):
            self.arm(f"guard/{uid}", self.settings.frame_patience)
            return
        self.issue(ReadFrameTime(uid=uid), lane=f"time/{uid}")

    def on_frame_time(self, event: FrameTimeRead) -> None:
        """As long as frames come and are not there yet, wait; otherwise end it."""
        recording = self.recording(event.uid)
        if recording is None or recording.closed or recording.told:
            return
        if event.flowing and event.newest_ns < recording.stop_ns:
            self.arm(f"guard/{event.uid}", self.settings.frame_patience)
            return
        self._end_now(recording)

    def on_end_timer(self, uid: str) -> None:
        """Who has not said by now that it is done is not waited for."""
        recording = self.recording(uid)
        if recording is not None and not recording.closed:
            self._give_up(recording, "did not end it")

    def _give_up(self, recording: Recording, error: str) -> None:
        """Close it without those who are still writing it."""
        over = {
            key: msgspec.structs.replace(writer, open=False, error=error, ending="fault" if error else "told")
            for key, writer in recording.writers.items()
            if writer.open
        }
        self._close(msgspec.structs.replace(recording, writers={**recording.writers, **over}))

    def _end_now(self, recording: Recording) -> None:
        recording = msgspec.structs.replace(recording, told=True)
        self.put_recording(recording)
        self.cancel(f"guard/{recording.uid}")
        self._send_stop(recording, 0)
        self.arm(f"end/{recording.uid}", self.settings.frame_patience)
        self._conclude(recording)

    def _guard(self, recording: Recording) -> None:
        if not recording.told:
            left = max(recording.stop_ns / 1e9 - self.now.wall, 0.0)
            self.arm(f"guard/{recording.uid}", left + self.settings.frame_patience)

    def _conclude(self, recording: Recording) -> None:
        """Close it when all have done their part and no other configuration can take it on."""
        writers = recording.writers.values()
        if recording.closed or any(writer.open for writer in writers):
            return
        if recording.told or any(writer.ending in ("stop", SILENCE) for writer in writers):
            self._close(recording)

    def _close(self, recording: Recording) -> None:
        recording = msgspec.structs.replace(recording, closed=True)
        self.put_recording(recording)
        self.cancel(f"guard/{recording.uid}")
        self.cancel(f"end/{recording.uid}")
        self._mark(recording)
        over = [item for item in self.all_recordings() if item.marked]
        for old in over[: max(len(over) - KEPT, 0)]:
            self.drop(f"recording/{old.uid}")

    # -- telling the publisher ------------------------------------------------------------------------------------

    def _mark(self, recording: Recording) -> None:
        causes: dict[str, list[str]] = {}
        for key, writer in sorted(recording.writers.items()):
            if writer.error:
                causes.setdefault(writer.error, []).append(key)
        errors = [f"{', '.join(keys)}: {error}" for error, keys in causes.items()]
        effect = WriteMarker(
            uid=recording.uid,
            directory=recording.directory,
            integrations=integrations_of(recording),
            dropped=sum(writer.dropped for writer in recording.writers.values()),
            stop_ns=recording.stop_ns,
            aborted=bool(errors),
            reason="; ".join(errors) or recording.reason,
        )
        self.issue(effect, lane=MARKERS)

    def on_marked(self, uid: str) -> None:
        """The marker is there."""
        recording = self.recording(uid)
        if recording is not None:
            self.put_recording(msgspec.structs.replace(recording, marked=True))

    def on_marker_failed(self, uid: str, reason: str) -> None:
        """Try again, for some minutes."""
        recording = self.recording(uid)
        if recording is None:
            return
        tries = recording.tries + 1
        given_up = tries >= MARKER_TRIES
        self.put_recording(msgspec.structs.replace(recording, tries=tries, marked=given_up))
        if given_up:
            self.tell("error", f"{uid}: its marker was given up ({reason}); publish it by hand")
            return
        if tries == 1:
            self.tell("warning", f"{uid}: its marker cannot be written ({reason}); it is tried again")
        self.arm(f"marker/{uid}", MARKER_PAUSE)

    def on_marker_timer(self, uid: str) -> None:
        """Write the marker again."""
        recording = self.recording(uid)
        if recording is not None:
            self._mark(recording)

    # -- after a restart ------------------------------------------------------------------------------------------

    def restart_recordings(self) -> None:
        """All pipelines are gone: who wrote writes again as soon as it runs, if its configuration is in use."""
        in_use = self.names_in_use()
        for recording in self.open_recordings():
            writers = {
                key: writer
                if key.split("/", 1)[0] in in_use or not writer.open
                else msgspec.structs.replace(writer, open=False, ending="flush")
                for key, writer in recording.writers.items()
            }
            recording = msgspec.structs.replace(recording, writers=writers)
            self.put_recording(recording)
            if recording.told:  # they were ending it, and are no more
                self._give_up(recording, "")
            elif recording.stop_ns:  # anew: processes take a while to start
                self._guard(recording)


def _writer_key(line: Line) -> str:
    return f"{line.configuration}/{line.pipe}"


def integrations_of(recording: Recording) -> int:
    """Integrations this node has written: of each configuration the most of a pipeline."""
    most: dict[str, int] = {}
    for key, writer in recording.writers.items():
        name = key.split("/", 1)[0]
        most[name] = max(most.get(name, 0), writer.integrations)
    return sum(most.values())
