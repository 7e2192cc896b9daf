"""The instances of the back end behind the tree: who is connected, what they say, what they are asked to do.

The tree is read by programs that know nothing of networks, so every look and every request has a deadline here: an
instance that is away costs the first who asks about it the deadline and the next ones nothing, and never the others.
"""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, TypeVar

from socs_bl.core.clock import iso_utc
from socs_bl.core.errors import Faulty, Refused, Retry, SocsError
from socs_bl.correlator.names import parse_name

MAX_AGE = 0.1  # seconds for which what an instance has said is as good as asked anew
PATIENCE = 3.0  # seconds a reader waits for an instance
TASK_TIMEOUT = 30.0
START_TIMEOUT = 90.0
GONE_TIMEOUT = 20.0
PROBE_INTERVAL = 0.2
COMPLAINTS = 100
INSTANCE_PREFIX = "cbe-"  # an instance's agent is cbe-NAME
Session = Mapping[str, Any]
Ended = Callable[[], str]
Answer = TypeVar("Answer")


def absent(text: str) -> OSError:
    """The error for what is not there."""
    return OSError(errno.ENOENT, text)


class Address(NamedTuple):
    """Where an instance runs, or is to run."""

    host: str
    port: int


class Nodes(Protocol):
    """How agents are reached and started; used from several threads at once."""

    def start(self, name: str, address: Address) -> Ended:
        """Start the agent of an instance.

        Returns
        -------
        callable
            Empty while what was started runs; then a sentence on how it ended.

        Raises
        ------
        Refused, Faulty
            When it cannot be started.
        """

    def session(self, name: str) -> Session:
        """The session data of the agent's ``run``, whole.

        Raises
        ------
        Retry
            When it does not answer, or does not run yet.
        Refused
            When somebody else answers under the name.
        """

    def run(self, name: str, task: str, parameters: Mapping[str, object], timeout: float) -> Session:
        """Run a task to its end, or with a `timeout` of 0 only start it, and return its session data.

        Raises
        ------
        Refused
            When the agent refuses; nothing has changed.
        Retry
            When it does not answer in time.
        Faulty
            When it fails.
        """


class Instance:
    """One instance as this file system knows it.

    Parameters
    ----------
    name : str
    address : Address
    nodes : Nodes
    patience : float
        Seconds a reader waits.
    """

    def __init__(self, name: str, address: Address, nodes: Nodes, patience: float = PATIENCE) -> None:
        self.name = name
        self.address = address
        self._nodes = nodes
        self._patience = patience
        self._changed = threading.Condition()
        self._tasks = threading.Lock()
        self._heard: Session | SocsError = Retry(f"instance {name} was not asked yet")
        self._heard_at = self._acted_at = float("-inf")
        self._asked_at: float | None = None

    def session(self) -> Session:
        """What its ``run`` says, at most `MAX_AGE` old.

        Raises
        ------
        Retry
            When it does not answer within the reader's patience.
        Refused
            When somebody else answers under the name.
        """
        with self._changed:
            wanted = max(time.monotonic() - MAX_AGE, self._acted_at)
            while self._heard_at < wanted:
                if self._asked_at is None:
                    self._asked_at = time.monotonic()
                    threading.Thread(target=self._look, name=f"look-{self.name}", daemon=True).start()
                self._wait(self._asked_at)
            if isinstance(self._heard, SocsError):
                raise self._heard
            return self._heard

    def run(self, task: str, parameters: Mapping[str, object] | None = None, timeout: float = TASK_TIMEOUT) -> Session:
        """Run a task, one at a time, and forget what was heard before it.

        Raises
        ------
        Refused, Retry, Faulty
            See `Nodes.run`.
        """
        if not self._tasks.acquire(timeout=timeout or TASK_TIMEOUT):
            raise Retry(f"instance {self.name} still works at an earlier request; ask for {task} again later")
        try:
            return self._nodes.run(self.name, task, parameters or {}, timeout)
        finally:
            self._tasks.release()
            with self._changed:
                self._acted_at = time.monotonic()

    def _wait(self, asked: float) -> None:
        """Wait for the answer to what was asked then; those who come late to an instance that hangs do not wait."""
        left = asked + self._patience - time.monotonic()
        if not self._changed.wait_for(lambda: self._asked_at != asked, max(0.0, left)):
            raise Retry(
                f"instance {self.name} has not answered for {time.monotonic() - asked:.1f} s; see its log on "
                f"{self.address.host}, or take it out with rmdir"
            )

    def _look(self) -> None:
        heard: Session | SocsError
        try:
            heard = self._nodes.session(self.name)
        except SocsError as error:
            heard = error
        with self._changed:
            assert self._asked_at is not None
            # As old as the question: a task may have changed things while the answer was under way.
            self._heard, self._heard_at, self._asked_at = heard, self._asked_at, None
            self._changed.notify_all()


class Instances:
    """The connected instances, and what holds for all of them.

    Parameters
    ----------
    nodes : Nodes
    patience, start_timeout : float
        Seconds a reader waits for an instance, and those a new one has to come up.

    Attributes
    ----------
    bdfdir : str
        Where all create their files; empty while nobody has said so here.
    """

    def __init__(self, nodes: Nodes, patience: float = PATIENCE, start_timeout: float = START_TIMEOUT) -> None:
        self.bdfdir = ""
        self._nodes = nodes
        self._patience = patience
        self._start_timeout = start_timeout
        self._lock = threading.Lock()
        self._connected: dict[str, Instance] = {}
        self._coming: set[str] = set()
        self._complaints: deque[str] = deque(maxlen=COMPLAINTS)

    def names(self) -> list[str]:
        """The connected instances, sorted."""
        with self._lock:
            return sorted(self._connected)

    def get(self, name: str) -> Instance:
        """An instance.

        Raises
        ------
        OSError
            ENOENT: when none of that name is connected.
        """
        with self._lock:
            if name not in self._connected:
                raise absent(f"no instance {name} is connected; write host:port to a new file {name}")
            return self._connected[name]

    def connect(self, name: str, address: Address) -> None:
        """Connect a running instance, or start it and wait until it answers.

        Raises
        ------
        Refused
            When the name is taken or cannot be one.
        Retry, Faulty
            When the instance does not come up.
        """
        parse_name(name, "instance")
        with self._lock:
            if name in self._connected or name in self._coming:
                raise Refused(f"instance {name} is {'coming up' if name in self._coming else 'connected'} already")
            self._coming.add(name)
        try:
            instance = Instance(name, address, self._nodes, self._patience)
            if self._probe(name):
                self._wait_up(name, address)
            if self.bdfdir:
                instance.run("set_bdfdir", {"directory": self.bdfdir})
            with self._lock:
                self._connected[name] = instance
        finally:
            with self._lock:
                self._coming.discard(name)

    def shut_down(self, name: str) -> None:
        """Shut an instance down and take it out of the tree. One that does not answer is taken out, too.

        Raises
        ------
        Refused, Retry, Faulty
            When it does not take the request, or still answers long after.
        """
        instance = self.get(name)
        if reason := self._probe(name):
            self.complain(f"/{name}", f"taken out without being told to end: {reason}")
        else:
            # An agent that ends takes its answer with it; the probes tell.
            instance.run("shutdown", timeout=0.0)
            deadline = time.monotonic() + GONE_TIMEOUT
            while not self._probe(name):
                if time.monotonic() > deadline:
                    raise Retry(f"instance {name} still answers; it may take longer to end, or a HostManager keeps it")
                time.sleep(PROBE_INTERVAL)
        with self._lock:
            self._connected.pop(name, None)

    def everywhere(self, action: Callable[[Instance], Answer], names: Iterable[str] | None = None) -> list[Answer]:
        """Do something with several instances (all by default) side by side.

        Raises
        ------
        Faulty
            When some failed; the text names them. The others have done it.
        """
        instances = [self.get(name) for name in (self.names() if names is None else names)]
        if not instances:
            return []
        answers, failed = [], []
        with ThreadPoolExecutor(len(instances)) as pool:
            for instance, future in [(instance, pool.submit(action, instance)) for instance in instances]:
                try:
                    answers.append(future.result())
                except SocsError as error:
                    failed.append((instance.name, error))
        if failed:
            if len(instances) == 1:
                raise failed[0][1]
            raise Faulty("; ".join(f"{name}: {error}" for name, error in failed), failed[0][0])
        return answers

    def complain(self, path: str, text: str) -> None:
        """Keep what went wrong for those who read ``errors``: a shell shows the number of an error only."""
        said = text if text.startswith(path) else f"{path}: {text}"
        line = " ".join(f"{iso_utc(time.time())} {said}".splitlines())
        with self._lock:
            self._complaints.append(line)

    def complaints(self) -> list[str]:
        """The last `COMPLAINTS` of them, oldest first."""
        with self._lock:
            return list(self._complaints)

    def _probe(self, name: str) -> str:
        """Empty when an instance answers, else why not."""
        try:
            self._nodes.session(name)
        except Retry as error:
            return str(error)
        return ""

    def _wait_up(self, name: str, address: Address) -> None:
        ended = self._nodes.start(name, address)
        deadline = time.monotonic() + self._start_timeout
        while reason := self._probe(name):
            if end := ended():
                raise Faulty(f"instance {name} ended before it answered: {end}", name)
            if time.monotonic() > deadline:
                raise Retry(
                    f"instance {name} on {address.host} does not answer after {self._start_timeout:.0f} s: {reason}"
                )
            time.sleep(PROBE_INTERVAL)
