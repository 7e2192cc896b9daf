"""What the live tests do with their subarray: telescope, coordinator, and all that is said to the gateways."""

from __future__ import annotations

import json
import re
import signal
import threading
from typing import Any

import redis

from socs_bl.services import process
from socs_bl.services.observatory import Observatory
from socs_bl.services.process import Identity
from socs_bl.services.run_dir import MARK
from tests.harness.live import wait_until

ARRAY = "array_1"
INSTANCES = ("blpn64/0", "blpn64/1")


class GatewayLog:
    """Everything said on channels of the hashpipe domain, in order."""

    def __init__(self, url: str) -> None:
        self.messages: list[tuple[str, str]] = []
        self._client = redis.Redis.from_url(url)
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="gateway log")

    def __enter__(self) -> GatewayLog:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _listen(self) -> None:
        with self._client.pubsub() as channel:
            channel.psubscribe("bluse:*")
            while not self._stop.is_set():
                message = channel.get_message(timeout=0.2)
                if message and message["type"] == "psubscribe":
                    self._ready.set()
                elif message and message["type"] == "pmessage":
                    self.messages.append((message["channel"].decode(), message["data"].decode()))

    def normalised(self) -> list[tuple[str, str]]:
        """The log with what depends on the time of day taken out."""
        return [(channel, _timeless(text)) for channel, text in self.messages]


def _timeless(text: str) -> str:
    text = re.sub(r"\d{8}T\d{6}Z", "<time>", text)
    return re.sub(r"^(PKTSTART|SYNCTIME)=[1-9]\d*$", r"\1=<index>", text)


class Subarray:
    """The observatory's one subarray, as its people and its telescope see it.

    Parameters
    ----------
    observatory : Observatory
    """

    def __init__(self, observatory: Observatory) -> None:
        self.observatory = observatory
        self.redis = redis.Redis.from_url(observatory.redis_url, decode_responses=True)
        wait_until(self._listening, 60, what="the coordinator listening")
        self.redis.ping()  # connected now, so that the connection is not held against the first test

    def close(self) -> None:
        """Give the connection back."""
        self.redis.close()

    def log(self) -> GatewayLog:
        """A log of the gateways' channels, to be entered."""
        return GatewayLog(self.observatory.redis_url)

    # -- the coordinator ------------------------------------------------------------------------------------------

    def coordinate(self) -> dict[str, Any]:
        """Session data of the coordinator; empty while it does not answer."""
        try:
            _, _, session = self.observatory.operator.request("coordinator", "status", "coordinate")
        except Exception:  # noqa: BLE001 - a killed agent answers with whatever the router makes of it
            return {}
        return session.get("data") or {}

    def states(self) -> tuple[str, str]:
        """Both states, as the keys in Redis say."""
        saved = json.loads(self.redis.get(f"{ARRAY}:state") or '{"recproc_state": "READY"}')
        return self.redis.get(f"{ARRAY}:freesub_state") or "FREE", saved["recproc_state"]

    def wait_for(self, *states: str) -> None:
        """Wait for a state of either kind, or for both."""
        wait_until(lambda: set(states) <= set(self.states()), 90, what=f"{' and '.join(states)}")

    def ask(self, task: str, **parameters: object) -> None:
        """Have the coordinator do something, and wait until it has."""
        self._do("coordinator", task, parameters)

    def kill(self) -> tuple[str, str]:
        """SIGKILL the coordinator; wait until the HostManager has brought it back and it hears CAM; its states then."""
        victim = wait_until(self._process, 30, what="the coordinator's process")
        assert process.signal_exactly(victim, signal.SIGKILL)
        assert process.wait_gone([victim], 10) == []
        again = wait_until(self._process, 60, what="the HostManager starting it again")
        assert again != victim
        data = wait_until(self._listening, 90, what="the coordinator listening again")
        array = data["arrays"][ARRAY]
        return array["freesub_state"], array["recproc_state"]

    def _listening(self) -> dict[str, Any]:
        data = self.coordinate()
        return data if data.get("listening") else {}

    def _process(self) -> Identity | None:
        for identity in process.marked(MARK, str(self.observatory.run_dir)):
            if "coordinator" in " ".join(process.command_line(identity.pid)):
                return identity
        return None

    # -- the telescope --------------------------------------------------------------------------------------------

    def telescope(self, task: str, **parameters: object) -> None:
        """Have the telescope do something, and wait until it has."""
        self._do("telescope", task, parameters)

    def configure(self) -> None:
        """From nothing, or from the announcement, to instances that receive."""
        self.telescope("configure", array=ARRAY)
        wait_until(self._receiving, 60, what="packets at both instances")

    def track(self) -> None:
        """On source, until a recording has begun."""
        self.telescope("track", array=ARRAY, target="3C 286")
        self.wait_for("RECORD")

    def deconfigure(self) -> None:
        """Everything given back."""
        self.telescope("deconfigure", array=ARRAY)
        wait_until(lambda: self.coordinate().get("pool", {}).get("free") == 2, 60, what="the instances' release")

    def _receiving(self) -> bool:
        statuses = [self.redis.hgetall(f"bluse://{name}/status") for name in INSTANCES]
        return all(status.get("NETSTAT") == "receiving" for status in statuses)

    def _do(self, agent: str, task: str, parameters: dict[str, object]) -> None:
        status, text, _ = self.observatory.operator.request(agent, "start", task, **parameters)
        assert status == 0, text

        def ended() -> dict[str, Any]:
            session = self.observatory.operator.request(agent, "status", task)[2]
            return session if session["status"] == "done" else {}

        session = wait_until(ended, 60, what=f"the end of {task}")
        assert session["success"], session["messages"]
