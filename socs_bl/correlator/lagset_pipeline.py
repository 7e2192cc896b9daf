"""The process of one lag pipeline: dumps from a ring, through the elements, to files.

::

    python -m socs_bl.correlator.lagset_pipeline -i RING "flag ! integrate n=5 ! dvnorm ! fft ! bdf"
        --configuration FILE --pipe NAME --control SOCKET --name NAME

What reads the ring stands before the first element and is never written. Control messages take effect between two dumps.
When this process is killed it costs one integration, and those that wait for the disk: its successor goes on at the next
dump, and flags the integration whose first dumps it has not seen. What is being recorded it is told by
``--recordings FILE``, before it takes a dump.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from socs_bl.bdf.scan import Scan
from socs_bl.core.errors import Refused, Retry, SocsError
from socs_bl.correlator import spectrum
from socs_bl.correlator.bls import LagSetFiles
from socs_bl.correlator.configuration import Configuration, Product, Stream
from socs_bl.correlator.control import ControlServer, Request
from socs_bl.correlator.document import parse_configuration
from socs_bl.correlator.output import make_outputs, place_auto, place_cross
from socs_bl.correlator.pipeline import make_recipe, parse_pipeline
from socs_bl.correlator.plan import GOOD, Plan, make_plan
from socs_bl.correlator.recorder import FLUSH, Done, Recorder, status_of
from socs_bl.correlator.ring import Dump, Flush, RingReader
from socs_bl.correlator.stage import Stage

PATIENCE_S = 30.0  # for the ring to appear
IDLE_S = 0.2
DISK_S = 0.005  # between two looks whether the disk has caught up
LARGEST_DOCUMENT = 64 << 20


class _Wanted(msgspec.Struct):
    """What WCBE_RECORDING_MSG asks for."""

    scan: Scan
    directory: str


class LagPipeline:
    """One pipeline between its ring and its control socket.

    Parameters
    ----------
    configuration : Configuration
    pipe : str
        Whose products the ring has.
    text : str
        Of the pipeline.
    ring : RingReader
    control : ControlServer
    name : str
        Stands before the elements' names in messages.
    bls_directory : Path
        Where a bls element's folder is made.

    Raises
    ------
    Refused
        When the text, the products and the windows do not fit each other.
    """

    def __init__(
        self,
        configuration: Configuration,
        pipe: str,
        text: str,
        ring: RingReader,
        control: ControlServer,
        name: str,
        bls_directory: Path,
    ) -> None:
        elements = parse_pipeline(text)
        recipe, plan = make_recipe(elements), make_plan(configuration.pipe_products(pipe))
        outputs = make_outputs(configuration, pipe, plan, recipe) if recipe.output else ()
        self._lag_sets = LagSetFiles(bls_directory / recipe.bls, plan, recipe.bls_limit << 20) if recipe.bls else None
        self._ring, self._control, self._name = ring, control, name
        self._recorder = Recorder(configuration, outputs, self._tell)
        self._stage = Stage(
            elements,
            plan,
            configuration.dump_ns,
            lambda done: self._recorder.deliver(done, self._stage.spectra),
            self._lag_sets,
        )
        self._ended = False
        self._poller = select.poll()
        self._poller.register(ring.fileno(), select.POLLIN)
        self._poller.register(control.fileno(), select.POLLIN)
        self._sequence = 0
        self._missed = 0
        self._last_dump = time.monotonic()
        self._commands: dict[str, Callable[[Request], dict[str, Any]]] = {
            "WCBE_RECORDING_MSG": self._record,
            "WCBE_RECORDING_STOP_MSG": self._stop_recording,
            "WCBE_STATUS_MSG": self._status,
            "WCBE_PROPERTY_MSG": self._property,
            "WCBE_QUIT_MSG": self._quit,
        }

    def begin(self, recordings: Path) -> None:
        """Open the recordings of a file, before the first dump: what waits in the ring belongs to them.

        Raises
        ------
        msgspec.ValidationError
            When the file is not a list of what WCBE_RECORDING_MSG asks for.
        """
        for wanted in msgspec.json.decode(recordings.read_bytes(), type=list[_Wanted]):
            try:
                self._open(wanted)
            except Refused as error:
                self._tell("error", str(error))  # the agent asks again, and hears it then

    def close(self) -> None:
        """End the recordings and let go of the files; what waits is written first."""
        self._report(self._recorder.close())
        if self._lag_sets is not None:
            self._lag_sets.close()

    def step(self, timeout_s: float) -> bool:
        """Take what comes next from the ring, and answer the agent.

        Parameters
        ----------
        timeout_s : float
            How long to wait when there is nothing to do.

        Returns
        -------
        bool
            Whether the pipeline has been told to end.
        """
        item = self._next(timeout_s)
        if isinstance(item, Dump):
            self._take(item)
        elif isinstance(item, Flush):
            self._stage.flush()
            self._recorder.end_all(FLUSH)
        elif not self._ring.waiting:
            self._recorder.silent(time.monotonic() - self._last_dump, time.time_ns())
        for request in self._control.requests():
            self._answer(request)
        self._report(self._recorder.poll())
        return self._ended

    def _next(self, timeout_s: float) -> Dump | Flush | None:
        """What comes next; nothing while the disk is behind and the ring has room, rather than that much is dropped."""
        if self._recorder.full and self._ring.waiting < self._ring.slots // 2:
            time.sleep(DISK_S)
            return None
        item = self._ring.take()
        if item is None:
            self._poller.poll(timeout_s * 1000)
            item = self._ring.take()
        return item

    def _take(self, dump: Dump) -> None:
        self._last_dump = time.monotonic()
        if self._sequence:
            self._missed += dump.sequence - self._sequence - 1
        self._sequence = dump.sequence
        try:
            self._stage.take(dump.time_ns, dump.slot)
        finally:
            self._ring.release(dump)
        if self._stage.dump_ns:  # otherwise it is held, and not in any integration yet
            self._recorder.passed(dump.time_ns)

    def _answer(self, request: Request) -> None:
        """Carry out what the agent asks for."""
        command = self._commands.get(request.type)
        if command is None:
            request.refuse(f"{request.type!r:.60} is none of {', '.join(self._commands)}")
            return
        try:
            answer = command(request)
        except (Refused, msgspec.ValidationError, TypeError, ValueError, KeyError) as error:
            request.refuse(f"{self._name}: {error}")
            return
        request.respond(**answer)

    def _record(self, request: Request) -> dict[str, Any]:
        wanted = msgspec.convert(request.fields["recording"], _Wanted)
        self._open(wanted)
        return {"uid": wanted.scan.uid}

    def _open(self, wanted: _Wanted) -> None:
        done = self._recorder.open(wanted.scan, Path(wanted.directory))
        if done is not None:
            self._report([done])

    def _stop_recording(self, request: Request) -> dict[str, Any]:
        uid, stop_ns = str(request.fields["uid"]), int(request.fields["stop_ns"])
        self._recorder.stop(uid, stop_ns)
        return {"uid": uid}

    def _property(self, request: Request) -> dict[str, Any]:
        element, name = str(request.fields["element"]), str(request.fields["property"])
        if request.fields.get("value") is not None:
            return {"value": self._stage.set_property(element, name, str(request.fields["value"]))}
        for found in self._stage.properties():
            if found["name"] == element and name in found["properties"]:
                return {"value": found["properties"][name]}
        raise Refused(f"{element}.{name}: no such property")

    def _status(self, request: Request) -> dict[str, Any]:
        return {
            "name": self._name,
            "elements": self._stage.properties(),
            "counters": {**self._stage.counters, "missed": self._missed, "waiting": self._ring.waiting},
            "dump_ns": self._stage.dump_ns,
            "memory_bytes": self._stage.nbytes,
            "recordings": status_of(self._recorder.recordings),
        }

    def _quit(self, request: Request) -> dict[str, Any]:
        self._ended = True
        return {}

    def _tell(self, severity: str, text: str) -> None:
        self._control.report("WCBE_BUS_MSG", src=f"{self._name}/bdf", severity=severity, text=text)

    def _report(self, done: Sequence[Done]) -> None:
        for item in done:
            fields = {"uid": item.uid, "integrations": item.integrations, "dropped": item.dropped}
            self._control.report("WCBE_RECORDING_DONE", **fields, error=item.error, ending=item.ending)


def warm_up() -> None:
    """Compile the loops on one made-up dump; of several processes one compiles, the others wait and load the result."""
    stream = Stream("s", 1, 0, 0)
    plan = make_plan([Product("p", stream, stream)])
    slot = np.zeros(plan.slot_bytes, np.uint8)
    plan.groups[0].state(slot)[:] = GOOD
    plan.groups[0].counts(slot)[:] = 1
    nowhere = np.zeros((0, 5), np.int64)
    with open(spectrum.__file__, "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for text in ("flag ! integrate n=2 ! dvnorm ! fft ! null", "flag ! dvnorm ! fft ! null"):
            stage = Stage(parse_pipeline(text), plan, 1, lambda done: None)
            stage.take(1, slot)
            values = stage.spectra()[0].values
        place_cross(values, nowhere, False, values[..., None])
        place_auto(values, nowhere, False, values[..., None].real.copy())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one lag pipeline; ends with 0 when it is told to, by WCBE_QUIT_MSG or SIGTERM."""
    arguments = _parse(argv)
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stop.append(number))
    try:
        _run(arguments, stop)
    except (SocsError, OSError) as error:
        print(f"lagset_pipeline {arguments.name}: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lagset_pipeline", description="One lag pipeline of a correlator back end.")
    parser.add_argument("-i", "--input", type=Path, required=True, metavar="RING", help="where the dumps come from")
    parser.add_argument("--configuration", type=Path, required=True, metavar="FILE", help="configuration document")
    parser.add_argument("--pipe", required=True, help="which of its pipelines this is")
    parser.add_argument("--control", type=Path, required=True, metavar="SOCKET", help="where the agent asks")
    parser.add_argument("--name", required=True, help="stands before the elements' names in messages")
    parser.add_argument(
        "--bls-directory", type=Path, metavar="DIR", help="where bls elements write; default: beside RING"
    )
    parser.add_argument("--recordings", type=Path, metavar="FILE", help="what is being recorded already, as JSON")
    parser.add_argument("text", help="elements joined by '!'")
    return parser.parse_args(argv)


def _run(arguments: argparse.Namespace, stop: list[int]) -> None:
    """From the arguments to a pipeline that works until it is told to end."""
    if arguments.configuration.stat().st_size > LARGEST_DOCUMENT:
        raise Refused(f"{arguments.configuration}: larger than {LARGEST_DOCUMENT} bytes; that is no configuration")
    configuration = parse_configuration(arguments.configuration.read_bytes())
    plan = make_plan(configuration.pipe_products(arguments.pipe))
    if not plan.products:
        raise Refused(f"{arguments.configuration}: no product enters pipeline {arguments.pipe!r:.80}")
    warm_up()
    ring = _open_ring(arguments.input, plan, stop)
    bls_directory = arguments.bls_directory or arguments.input.parent
    with contextlib.closing(ring), contextlib.closing(ControlServer(arguments.control)) as control:
        pipeline = LagPipeline(
            configuration, arguments.pipe, arguments.text, ring, control, arguments.name, bls_directory
        )
        with contextlib.closing(pipeline):
            if arguments.recordings is not None:
                pipeline.begin(arguments.recordings)
            while not pipeline.step(IDLE_S) and not stop:
                continue


def _open_ring(path: Path, plan: Plan, stop: Sequence[int]) -> RingReader:
    """The ring, as soon as the ingest process has made it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return RingReader(path, plan)
        except Retry:
            if stop or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
