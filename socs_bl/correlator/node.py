"""The cells of a node's machine, by name."""

from __future__ import annotations

import msgspec

from socs_bl.core.machine import Machine
from socs_bl.correlator.model import Document, Held, Ingest, Line, Recording, Settings, Source, Stage, Tell, Writer


class NodeCells(Machine):
    """Reads and writes the cells, and decides nothing."""

    @property
    def settings(self) -> Settings:
        """The settings of the last restart."""
        return self.get("settings", Settings) or Settings()

    @property
    def source(self) -> Source:
        """Where frames come from."""
        return self.get("source", Source) or Source()

    @property
    def ingest(self) -> Ingest:
        """The ingest process."""
        return self.get("ingest", Ingest) or Ingest()

    def held(self, name: str) -> Held | None:
        """A configuration."""
        return self.get(f"configuration/{name}", Held)

    def all_held(self) -> list[Held]:
        """All configurations, as they were created."""
        found = [cell for cell in self.cells.values() if isinstance(cell, Held)]
        return sorted(found, key=lambda held: held.order)

    def line(self, configuration: str, pipe: str) -> Line | None:
        """A pipeline's process."""
        return self.get(_line_key(configuration, pipe), Line)

    def lines_of(self, held: Held) -> list[Line]:
        """The processes of a configuration, those that are there."""
        lines = (self.line(held.name, pipe.name) for pipe in held.pipes)
        return [line for line in lines if line is not None]

    def recording(self, uid: str) -> Recording | None:
        """A recording."""
        return self.get(f"recording/{uid}", Recording)

    def all_recordings(self) -> list[Recording]:
        """All recordings that are known, as they were asked for."""
        found = [cell for cell in self.cells.values() if isinstance(cell, Recording)]
        return sorted(found, key=lambda recording: recording.order)

    def open_recordings(self) -> list[Recording]:
        """Those that are not over."""
        return [recording for recording in self.all_recordings() if not recording.closed]

    @property
    def troubled(self) -> bool:
        """Whether a process is being started again, or has been given up."""
        stages = [self.ingest.stage, *(cell.stage for cell in self.cells.values() if isinstance(cell, Line))]
        return any(stage in (Stage.RESTARTING, Stage.QUARANTINED) for stage in stages)

    def tell(self, level: str, text: str) -> None:
        """Tell people."""
        self.issue(Tell(level=level, text=text))

    def document(self, name: str) -> str | None:
        """Text of a configuration; None when there is none of that name."""
        document = self.get(f"document/{name}", Document)
        return None if document is None else document.text

    def change(self, **changes: object) -> Ingest:
        """Change what is known of the ingest process."""
        ingest = msgspec.structs.replace(self.ingest, **changes)
        self.put("ingest", ingest)
        return ingest

    def change_source(self, **changes: object) -> Source:
        """Change what people want of the frames."""
        source = msgspec.structs.replace(self.source, **changes)
        self.put("source", source)
        return source

    def put_held(self, held: Held, **changes: object) -> Held:
        """Change a configuration."""
        held = msgspec.structs.replace(held, **changes)
        self.put(f"configuration/{held.name}", held)
        return held

    def put_line(self, line: Line, **changes: object) -> Line:
        """Change a pipeline's process."""
        line = msgspec.structs.replace(line, **changes)
        self.put(lane_of(line), line)
        return line

    def put_recording(self, recording: Recording) -> None:
        """Write a recording."""
        self.put(f"recording/{recording.uid}", recording)

    def put_writer(self, recording: Recording, key: str, writer: Writer) -> Recording:
        """Change a pipeline's part of a recording."""
        recording = msgspec.structs.replace(recording, writers={**recording.writers, key: writer})
        self.put_recording(recording)
        return recording


def _line_key(configuration: str, pipe: str) -> str:
    return f"pipeline/{configuration}/{pipe}"


def lane_of(line: Line) -> str:
    """The lane of what is done to a pipeline."""
    return _line_key(line.configuration, line.pipe)
