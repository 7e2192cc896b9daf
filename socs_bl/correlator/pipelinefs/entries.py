"""What the entries of the tree say and do: text from what an instance says, tasks from what is written."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from socs_bl.bdf.scan import decode_scan, encode_scan, file_name
from socs_bl.core.errors import Refused, Retry
from socs_bl.correlator.names import parse_name
from socs_bl.correlator.pipelinefs.nodes import INSTANCE_PREFIX, Address, Instance, Instances, Session, absent

CREATE_TIMEOUT = 120.0  # seconds: documents have several MB
DESTROY_PATIENCE, DESTROY_PAUSE = 5.0, 0.1  # seconds; the processes of a configuration take a moment to end
ACTIVATION = "now-"
INPUT_STAGE = "INPUT_STAGE"
_LARGEST_PORT = 65535


@dataclass(frozen=True)
class Place:
    """Where a path leads: the names that stand in it for segments in angle brackets."""

    instances: Instances
    names: Mapping[str, str]

    @property
    def instance(self) -> Instance:
        """The instance the path leads through."""
        return self.instances.get(self.names["instance"])

    @property
    def session(self) -> Session:
        """What that instance says."""
        return self.instance.session()

    def look(self, *keys: str) -> Any:
        """A value that the instance says.

        Raises
        ------
        FileNotFoundError
            When it says nothing of the kind.
        """
        value: Any = self.session
        for key in keys:
            if not isinstance(value, Mapping) or key not in value:
                raise absent(f"instance {self.names['instance']} says nothing of {'/'.join(keys)}")
            value = value[key]
        return value

    def run(self, task: str, **parameters: object) -> None:
        """Run a task of that instance; see `Instance.run`."""
        self.instance.run(task, parameters)


# -- text out -------------------------------------------------------------------------------------------------------


def shown(value: Any) -> str:
    """A value as the line of a file."""
    if isinstance(value, bool):
        return f"{value}\n".lower()
    if isinstance(value, Mapping | list | tuple):
        return json_text(value)
    return "\n" if value is None else f"{value}\n"


def lines(texts: Iterable[str]) -> str:
    """One text a line."""
    return "".join(f"{text}\n" for text in texts)


def json_text(value: Any) -> str:
    """JSON for people."""
    return json.dumps(value, indent=1) + "\n"


# -- text in --------------------------------------------------------------------------------------------------------


def one_of(text: str, *words: str) -> str:
    """One of these words.

    Raises
    ------
    Refused
        When it is another.
    """
    if text not in words:
        raise Refused(f"{text!r:.60} is not {' or '.join(words)}")
    return text


def truth(text: str) -> bool:
    """``true`` or ``false``.

    Raises
    ------
    Refused
        When it is neither.
    """
    return one_of(text, "true", "false") == "true"


def whole_number(text: str) -> int:
    """A whole number from 0.

    Raises
    ------
    Refused
        When it is not.
    """
    if not (text.isascii() and text.isdigit()):
        raise Refused(f"{text!r:.60} is not a whole number from 0; write it like 1000000000")
    return int(text)


# -- instances ------------------------------------------------------------------------------------------------------


def connect(at: Place, name: str, content: bytes) -> None:
    """Connect or start the instance that a new file names."""
    parse_name(name, "instance")
    host, colon, port = content.decode("utf-8", "replace").strip().rpartition(":")
    wrong = not colon or not host or len(host) > 255 or not set(host) <= _HOST_CHARACTERS or host.startswith("-")
    if wrong or not (port.isascii() and port.isdigit() and 0 < int(port) <= _LARGEST_PORT):
        raise Refused(f"{content!r:.80} is not host:port; write it like localhost:9000")
    at.instances.connect(name, Address(host, int(port)))


_HOST_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_[]:")


def read_bdfdir(at: Place) -> str:
    """What was written here, else what the instances have where that is the same for all."""
    if at.instances.bdfdir:
        return f"{at.instances.bdfdir}\n"
    found = {str(session.get("bdfdir") or "") for _, session in sessions(at)}
    return shown(found.pop()) if len(found) == 1 else ""


def write_bdfdir(at: Place, text: str) -> None:
    """Tell all instances, and those to come."""
    if not text.startswith("/") or ".." in text.split("/"):
        raise Refused(f"{text!r:.80} is not an absolute path; write it like /data/bdf/.private")
    at.instances.bdfdir = text
    at.instances.everywhere(lambda instance: instance.run("set_bdfdir", {"directory": text}))


def sessions(at: Place) -> list[tuple[str, Session]]:
    """What the instances say, without those that are away."""

    def look(instance: Instance) -> tuple[str, Session] | None:
        try:
            return instance.name, instance.session()
        except Retry:
            return None

    return [found for found in at.instances.everywhere(look) if found is not None]


def from_file(at: Place) -> bool:
    """Frames come from a file."""
    return bool(at.look("source", "kind") == "file")


def set_framedump(at: Place, **changed: object) -> None:
    """Change some of how frames are dumped."""
    now = at.look("framedump")
    at.run("set_framedump", **{key: now[key] for key in ("mode", "directory", "size")} | changed)


def read_status(at: Place) -> str:
    """Counters, pipelines and faults."""
    session = at.session
    status = {
        key: session.get(key) for key in ("name", "flow", "active", "pending", "fault", "counters", "input_stage")
    }
    status["pipelines"] = {
        name: {
            pipe: {key: pipeline.get(key) for key in ("state", "restarts")}
            for pipe, pipeline in found["pipelines"].items()
        }
        for name, found in session.get("configurations", {}).items()
    }
    return json_text(status)


# -- configurations -------------------------------------------------------------------------------------------------


def configuration(at: Place) -> tuple[str, str]:
    """The keys of the path's configuration."""
    return "configurations", at.names["configuration"]


def create_configuration(at: Place, name: str, content: bytes) -> None:
    """Create a configuration from its document."""
    parse_name(name)
    try:
        document = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(f"the document of {name} is not UTF-8 (byte {error.start}); write it as XML in UTF-8") from error
    at.instance.run("create_configuration", {"name": name, "document": document}, CREATE_TIMEOUT)


def destroy_configuration(at: Place) -> None:
    """Destroy a configuration; its name is free when this is over."""
    at.run("destroy_configuration", name=at.names["configuration"])
    _await_destroyed(at)


def set_source(at: Place, text: str) -> None:
    """Change the source; what that destroys is gone when this is over."""
    at.run("set_source", uri=text)
    _await_destroyed(at)


def _await_destroyed(at: Place) -> None:
    """Wait until nothing is being destroyed; what takes longer than most goes on by itself."""
    deadline = time.monotonic() + DESTROY_PATIENCE
    while any(found["state"] == "destroying" for found in at.look("configurations").values()):
        if time.monotonic() > deadline:
            return
        time.sleep(DESTROY_PAUSE)


def read_document(at: Place) -> str:
    """The document of a configuration, chunk by chunk."""
    parts: list[str] = []
    offset, total = 0, 1
    while offset < total:
        data = at.instance.run("read_document", {"name": at.names["configuration"], "offset": offset})
        offset, total = offset + len(data["text"]), int(data["total"])
        if not data["text"]:
            break
        parts.append(data["text"])
    return "".join(parts)


def activate(at: Place, text: str) -> None:
    """Activate the configuration that the entry names."""
    one_of(text, "1")
    at.run("activate_configuration", name=at.names["activation"].removeprefix(ACTIVATION))


# -- pipelines ------------------------------------------------------------------------------------------------------


def pipelines(at: Place) -> Iterable[str]:
    """The pipelines of a configuration."""
    found: Mapping[str, Any] = at.look(*configuration(at), "pipelines")
    return found


def elements(at: Place) -> Sequence[Mapping[str, Any]]:
    """The elements of a pipeline, in order."""
    found: Sequence[Mapping[str, Any]] = at.look(*configuration(at), "pipelines", at.names["pipeline"], "elements")
    return found


def element(at: Place) -> Mapping[str, Any]:
    """The element of a pipeline.

    Raises
    ------
    OSError
        ENOENT: when it is no more.
    """
    for found in elements(at):
        if found["name"] == at.names["element"]:
            return found
    raise absent(f"pipeline {at.names['pipeline']} has no element {at.names['element']}")


def properties(at: Place) -> Mapping[str, Any]:
    """The properties of an element of a pipeline."""
    found: Mapping[str, Any] = element(at)["properties"]
    return found


def property_writable(at: Place) -> bool:
    """Whether a property can be changed, as far as the element tells."""
    return at.names["property"] in element(at).get("writable", properties(at))


def write_property(at: Place, text: str) -> None:
    """Change a property of an element."""
    names = {key: at.names[key] for key in ("configuration", "pipeline", "element", "property")}
    at.run("set_property", **names, value=text)


def read_input_property(at: Place) -> str:
    """A property of an element of the input stage."""
    return shown(at.look("input_stage", at.names["element"], at.names["property"]))


_INPUT_TASKS: dict[tuple[str, str], Callable[[Place, str], None]] = {
    ("src", "uri"): set_source,
    ("src", "fps"): lambda at, text: at.run("set_playback", rate=whole_number(text)),
    ("src", "live-timestamps"): lambda at, text: at.run("set_playback", live_timestamps=truth(text)),
    ("framedump", "mode"): lambda at, text: set_framedump(at, mode=text),
    ("framedump", "directory"): lambda at, text: set_framedump(at, directory=text),
    ("framedump", "size"): lambda at, text: set_framedump(at, size=whole_number(text)),
}


def input_property_writable(at: Place) -> bool:
    """Whether a property of the input stage can be changed."""
    return (at.names["element"], at.names["property"]) in _INPUT_TASKS


def write_input_property(at: Place, text: str) -> None:
    """Change a property of an element of the input stage."""
    _INPUT_TASKS[at.names["element"], at.names["property"]](at, text)


# -- recordings -----------------------------------------------------------------------------------------------------


def recordings(at: Place) -> list[str]:
    """The recordings of an instance, as file names."""
    return [file_name(uid) for uid in at.look("recordings")]


def recording(at: Place) -> Any:
    """What an instance says of a recording."""
    return at.look("recordings", _uid(at.session, at.names["recording"]))


def record(at: Place, name: str, content: bytes) -> None:
    """Let one instance record a scan."""
    at.run("record", scan=_scan(name, content, [at.instance.name]))


def stop(at: Place, instance: Instance) -> None:
    """Stop a recording of an instance now."""
    uid = _uid(instance.session(), at.names["recording"])
    reason = "removed from the recordings by hand"
    instance.run("stop_recording", {"uid": uid, "stop_ns": time.time_ns(), "reason": reason})


def all_recordings(at: Place) -> list[str]:
    """The recordings of all instances that answer, as file names."""
    return sorted({file_name(uid) for _, session in sessions(at) for uid in session.get("recordings", {})})


def read_all_recordings(at: Place) -> str:
    """A recording as every instance has it."""
    return json_text({name: session["recordings"][uid] for name, session, uid in _holders(at)})


def record_everywhere(at: Place, name: str, content: bytes) -> None:
    """Let all instances record a scan."""
    if not at.instances.names():
        raise Refused("no instance is connected; write host:port to a new file in the top directory first")
    scan = _scan(name, content, at.instances.names())
    at.instances.everywhere(lambda instance: instance.run("record", {"scan": scan}))


def stop_everywhere(at: Place) -> None:
    """Stop a recording on all instances that have it."""
    at.instances.everywhere(lambda instance: stop(at, instance), [name for name, _, _ in _holders(at)])


def _holders(at: Place) -> list[tuple[str, Session, str]]:
    wanted = at.names["recording"]
    found = [(name, session) for name, session in sessions(at)]
    return [
        (name, session, uid)
        for name, session in found
        for uid in session.get("recordings", {})
        if file_name(uid) == wanted
    ]


def _uid(session: Session, wanted: str) -> str:
    for uid in session.get("recordings", {}):
        if file_name(uid) == wanted:
            return str(uid)
    raise absent(f"there is no recording {wanted}")


def _scan(name: str, content: bytes, instances: Sequence[str]) -> str:
    """The scan in a new file, as text for the agents; where it names no nodes these instances are they."""
    scan = decode_scan(content)
    if file_name(scan.uid) != name:
        raise Refused(f"the scan's uid is {scan.uid}; write it to a file named {file_name(scan.uid)}")
    nodes = scan.nodes or tuple(INSTANCE_PREFIX + instance for instance in instances)
    return encode_scan(msgspec.structs.replace(scan, nodes=nodes))
