"""Instances that live in this process and answer as agents of class CBEPipeline do.

Run as a program it mounts their tree: ``python -m tests.correlator.pipelinefs.memory MOUNTPOINT``.
"""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.correlator.pipelinefs import Address, Instances, Tree
from socs_bl.correlator.pipelinefs.mount import mount
from socs_bl.correlator.pipelinefs.nodes import Ended, Session

CHUNK = 64  # characters of a document at a time
LINEAR = "flag ! integrate n=5 ! fft ! bdf"
SCAN = {"uid": "uid:///evla/bdf/1433189755525", "dataset_id": "eb1", "start_ns": 10**18, "stop_ns": 0}
SCAN_FILE = "uid____evla_bdf_1433189755525"


class MemoryAgent:
    """One agent's state and tasks."""

    def __init__(self, name: str) -> None:
        self.documents: dict[str, str] = {}
        self.done: list[tuple[str, dict[str, Any]]] = []
        self.frames = False
        self.data: dict[str, Any] = {
            "name": name,
            "source": {"uri": "", "kind": "", "live_timestamps": False, "rate": 0},
            "flow": "off", "active": None, "pending": [], "configurations": {}, "bdfdir": "", "recordings": {},
            "input_stage": {
                "src": {
                    "uri": "", "actual-rate": 0.0, "num-frames": 0, "fps": 0.0, "live-timestamps": False,
                    "widar-max-framesize": 1064,
                },
                "framedump": {"mode": "none", "directory": "", "size": 0},
                "decode": {"bad": 0, "unknown": 0},
                "assembly": {"complete": 0, "late": 0},
            },
            "framedump": {"mode": "none", "directory": "", "size": 0},
            "counters": {"frames": 0}, "fault": "",
        }  # fmt: skip

    def create_configuration(self, name: str, document: str) -> None:
        """Refuses what is not XML."""
        if not (document.startswith("<config") and document.rstrip().endswith("</config>")):
            raise Refused(f"{name}: line 1: this is no configuration document")
        self.documents[name] = document
        kinds = [words.split()[0] for words in LINEAR.split(" ! ")]
        found = [
            {"name": kind, "kind": kind, "properties": {"n": "5"} if kind == "integrate" else {}} for kind in kinds
        ]
        pipelines = {} if name == "c0" else {"P0": {"text": LINEAR, "state": "up", "restarts": 0, "elements": found}}
        self.data["configurations"][name] = {"autodestroy": False, "state": "created", "pipelines": pipelines}

    def activate_configuration(self, name: str) -> None:
        """Takes effect when frames flow."""
        self.data["pending"].append(["activate", name])
        self.flow()

    def flow(self) -> None:
        """Frames come in, so that what is pending happens."""
        if not self.frames or self.data["flow"] != "on":
            return
        for action, name in self.data["pending"]:
            if action == "activate":
                self.data["active"] = name
            else:
                del self.data["configurations"][name]
        self.data["pending"] = []
        self.data["counters"]["frames"] += 1000
        self.data["input_stage"]["src"]["actual-rate"] = 1000.0

    def destroy_configuration(self, name: str) -> None:
        """Deferred for the active one; the others take a moment."""
        if self.data["active"] == name:
            self.data["pending"].append(["destroy", name])
        else:
            self.data["configurations"][name]["state"] = "destroying"

    def go_on(self) -> None:
        """The moment is over."""
        held = self.data["configurations"]
        self.data["configurations"] = {name: found for name, found in held.items() if found["state"] != "destroying"}

    def set_autodestroy(self, name: str, autodestroy: bool) -> None:
        """As the agent does."""
        self.data["configurations"][name]["autodestroy"] = autodestroy

    def set_source(self, uri: str) -> None:
        """A change destroys all configurations and switches the flow off."""
        kind = uri.partition("://")[0]
        if kind not in ("udp", "file"):
            raise Refused(f"{uri!r} is not a source; write udp://host:port or file:///path.blf")
        self.data["source"] |= {"uri": uri, "kind": kind}
        self.data["input_stage"]["src"]["uri"] = uri
        self.data |= {"flow": "off", "active": None, "pending": []}
        for found in self.data["configurations"].values():
            found["state"] = "destroying"

    def set_flow(self, flow: str) -> None:
        """As the agent does."""
        self.data["flow"] = flow
        self.frames = flow == "on"
        self.flow()

    def set_playback(self, rate: int | None = None, live_timestamps: bool | None = None) -> None:
        """As the agent does."""
        given = {"rate": rate, "live_timestamps": live_timestamps}
        self.data["source"] |= {key: value for key, value in given.items() if value is not None}

    def set_framedump(self, mode: str, directory: str, size: int) -> None:
        """As the agent does."""
        self.data["framedump"] = {"mode": mode, "directory": directory, "size": size}
        self.data["input_stage"]["framedump"] = dict(self.data["framedump"])

    def set_bdfdir(self, directory: str) -> None:
        """As the agent does."""
        self.data["bdfdir"] = directory

    def set_property(self, configuration: str, pipeline: str, element: str, property: str, value: str) -> None:
        """Element n of integrate takes numbers only."""
        if not value.isdigit():
            raise Refused(f"{element}.{property}: {value!r} is not a number")
        elements = self.data["configurations"][configuration]["pipelines"][pipeline]["elements"]
        next(found for found in elements if found["name"] == element)["properties"][property] = value

    def read_document(self, name: str, offset: int) -> dict[str, Any]:
        """In chunks."""
        text = self.documents[name]
        return {"name": name, "offset": offset, "text": text[offset : offset + CHUNK], "total": len(text)}

    def record(self, scan: str) -> None:
        """Keeps it."""
        decoded = msgspec.json.decode(scan.encode())
        self.data["recordings"][decoded["uid"]] = {"state": "open", "nodes": decoded["nodes"], "stop_ns": 0}

    def stop_recording(self, uid: str, stop_ns: int, reason: str) -> None:
        """Ends it."""
        self.data["recordings"][uid] |= {"state": "done", "stop_ns": stop_ns, "reason": reason}


class MemoryNodes:
    """`Nodes` without a network: tests say who is there, who hangs and who fails to start."""

    def __init__(self, *running: str) -> None:
        self.agents = {name: MemoryAgent(name) for name in running}
        self.started: list[tuple[str, Address]] = []
        self.hanging: dict[str, threading.Event] = {}
        self.stillborn = ""
        self.looks = 0

    def start(self, name: str, address: Address) -> Ended:
        """Up at once, or ended with the sentence that the test has set."""
        self.started.append((name, address))
        if not self.stillborn:
            self.agents[name] = MemoryAgent(name)
        return lambda: self.stillborn

    def session(self, name: str) -> Session:
        """A copy; an instance that hangs answers when the test lets it."""
        self.looks += 1
        if name in self.hanging:
            self.hanging[name].wait()
        if name not in self.agents:
            raise Retry(f"agent cbe-{name} did not answer: no agent has registered under that name")
        told = copy.deepcopy(self.agents[name].data)
        self.agents[name].go_on()
        return told

    def run(self, name: str, task: str, parameters: Mapping[str, object], timeout: float) -> Session:
        """Runs it at once."""
        if name not in self.agents:
            raise Retry(f"agent cbe-{name} did not answer: no agent has registered under that name")
        agent = self.agents[name]
        agent.done.append((task, dict(parameters)))
        if task == "shutdown":
            del self.agents[name]
            return {}
        method: Callable[..., Any] | None = getattr(agent, task, None)
        if method is None:
            raise Faulty(f"no operation {task}", name)
        return method(**parameters) or {}


def make_tree(*running: str, connected: bool = True, patience: float = 20.0) -> tuple[Tree, MemoryNodes]:
    """A tree over instances in this process."""
    nodes = MemoryNodes(*running)
    instances = Instances(nodes, patience=patience, start_timeout=20.0)
    if connected:
        for name in running:
            instances.connect(name, Address("localhost", 9000))
    return Tree(instances), nodes


def main(place: str) -> None:
    """Mount a tree with instance 01, and 03 that hangs."""
    tree, nodes = make_tree("01", "03", patience=1.0)
    nodes.hanging["03"] = threading.Event()
    mount(tree, Path(place))


if __name__ == "__main__":
    main(sys.argv[1])
