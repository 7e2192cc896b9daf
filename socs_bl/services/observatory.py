"""A whole observatory on one machine: Redis, router, and OCS's HostManager that supervises all agents.

In the run directory lie the services' own directories, the site config in use, logs, the state for other commands
(``observatory.json``) and a lock that is held while it runs; see `socs_bl.services.run_dir`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.services import process
from socs_bl.services.crossbar_node import CrossbarNode, check_router
from socs_bl.services.operators import Operator
from socs_bl.services.process import Child, Identity
from socs_bl.services.redis_server import RedisServer, check_server
from socs_bl.services.redis_url import VARIABLE, conceal, from_environment
from socs_bl.services.run_dir import MARK, STATE, SUPERVISOR, State, end_marked, end_orphans, mark, write_state
from socs_bl.services.site import Site, SiteFile

AGENT_TIMEOUT = 300.0  # seconds for all agents to answer; a dozen of them keep two busy cores busy for two minutes
ENDS = 3  # ends of one agent while starting after which waiting for it is no use
# What the HostManager says of an agent that has ended: seen running before, or gone before it looked (OCS 0.12).
ENDED = ("Detected exit", "Launch not detected")
DIE_GRACE = 12.0  # an OCS agent takes six seconds to leave, its HostManager looks once a second
RESTART_LIMIT = 5  # restarts of a service ...
RESTART_WINDOW = 300.0  # ... within so many seconds before we give up
POLL_INTERVAL = 0.5
EXPLAIN_LINES = 8

Report = Callable[[str, int, int], None]


def quiet(step: str, done: int, total: int) -> None:
    """Report nothing."""


class Observatory:
    """Start, supervise and stop an observatory. Also a context manager.

    Parameters
    ----------
    run_dir : Path
        Made when missing. What Redis and the agents keep stays there from one start to the next.
    site_config : Path
        See `socs_bl.services.site`.
    report : callable, optional
        Told ``(step, done, total)`` while starting.
    systems : iterable of str, optional
        Systems whose agents are started; none: those the site config starts.
    """

    def __init__(self, run_dir: Path, site_config: Path, report: Report = quiet, systems: Iterable[str] = ()) -> None:
        self.run_dir = run_dir.resolve()
        self.site_file = SiteFile(site_config, systems)
        self.report = report
        self.redis: RedisServer | None = None
        self.router: CrossbarNode | None = None
        self.manager: Child | None = None
        self.redis_url = ""
        self.operator: Operator
        self.site: Site
        self.identity: Identity
        self._lock: int | None = None
        self._restarts: deque[float] = deque()

    # -- starting -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything and wait until every agent answers; on any failure everything is stopped again.

        Raises
        ------
        Refused
            When another one runs in this directory, or the site config is wrong.
        Faulty
            When a part does not come up; the text names it and shows the end of its log.
        Retry
            When a router or Redis of the site's own does not answer.
        """
        self.site_file.check_classes()
        self.site_file.host_manager()
        for directory in (self.run_dir, self.run_dir / "logs"):
            directory.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        try:
            end_orphans(self.run_dir)
            self._write_supervisor()
            self._start_services()
            self._start_manager()
            self._wait_for_agents(AGENT_TIMEOUT)
            self._write_state(ready=True)
        except BaseException:  # an interrupted start, too, leaves no process behind
            self.stop()
            raise

    def _take_lock(self) -> None:
        self._lock = os.open(self.run_dir / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            self._lock = None
            raise Refused(
                f"an observatory runs in {self.run_dir} already; end it with 'socs-bl down' or use another --run-dir"
            ) from error

    def _write_supervisor(self) -> None:
        own = process.identify(os.getpid())
        assert own is not None
        self.identity = own
        process.write_record(self.run_dir / "pids", SUPERVISOR, own)

    def _start_services(self) -> None:
        hub = self.site_file.site.hub
        values = {
            "RUN_DIR": str(self.run_dir),
            "WAMP_SERVER": hub.wamp_server,
            "WAMP_HTTP": hub.wamp_http,
            "REDIS_URL": "",
        }
        if self.site_file.wants("WAMP_SERVER"):
            self.router = CrossbarNode(self.run_dir / "crossbar", realm=hub.wamp_realm, address_root=hub.address_root)
            self.router.launch()  # it takes its time; Redis comes up meanwhile
            self._record("crossbar", self.router.child)
        self.report("Redis", 0, 1)
        if self.site_file.wants("REDIS_URL"):
            self.redis = RedisServer(self.run_dir / "redis")
            self.redis.start()
            self._record("redis", self.redis.child)
            values["REDIS_URL"] = self.redis.url
        urls = self.site_file.redis_urls()
        if not urls and self.redis is None and VARIABLE in os.environ:
            urls = [from_environment()]
        for url in urls:
            check_server(url)
            values["REDIS_URL"] = values["REDIS_URL"] or conceal(url)
        self.report("Redis", 1, 1)
        self.report("router", 0, 1)
        if self.router is not None:
            self.router.start()
            self._record("crossbar", self.router.child)
            values |= {"WAMP_SERVER": self.router.ws_url, "WAMP_HTTP": self.router.http_url}
        else:
            check_router(hub.wamp_http)
        self.report("router", 1, 1)
        self.redis_url = values["REDIS_URL"]
        self.site = self.site_file.write(self.run_dir / "default.yaml", values)
        self.operator = Operator(self.site.hub.wamp_http, self.site.hub.address_root)

    def _start_manager(self) -> None:
        argv = [sys.executable, "-m", "ocs.agent_cli", "--instance-id", self.site_file.host_manager().instance_id]
        argv += ["--site-file", str(self.run_dir / "default.yaml"), "--site-host", self.site_file.host_name()]
        argv += ["--working-dir", str(self.run_dir)]
        environment = {**mark(self.run_dir), "OCS_CONFIG_DIR": str(self.run_dir), "PYTHONUNBUFFERED": "1"}
        self.manager = Child("HostManager", argv, self.run_dir / "logs" / "host_manager.log", env=environment)
        self._record("host_manager", self.manager)
        self._write_state(ready=False)

    def _wait_for_agents(self, timeout: float) -> None:
        assert self.manager is not None
        waiting = [entry.instance_id for entry in self.site_file.started()]
        total = len(waiting)
        deadline = time.monotonic() + timeout
        while waiting:
            waiting = [name for name in waiting if not self.operator.answers(name)]
            self.report("agents", total - len(waiting), total)
            if not self.manager.running():
                raise Faulty(
                    f"the HostManager ended; {self.manager.log} ends:\n{self.manager.log_tail()}", "HostManager"
                )
            said = self._said_of(waiting)
            for name in waiting:
                if sum(any(words in text for words in ENDED) for text in said[name]) >= ENDS:
                    raise Faulty(self._explain([name], f"ended {ENDS} times", said[name]), name)
            if waiting and time.monotonic() > deadline:
                lines = [text for name in waiting for text in said[name]]
                raise Faulty(self._explain(waiting, f"did not answer within {timeout:.0f} s", lines), waiting[0])
            if waiting:
                self._wait_for_ends(POLL_INTERVAL)

    def _said_of(self, names: list[str]) -> dict[str, list[str]]:
        """What the HostManager has noted about agents (OCS 0.12: messages of its process ``manager``)."""
        texts: list[str] = []
        with contextlib.suppress(Retry, Faulty):
            _, _, session = self.operator.request(self.site_file.host_manager().instance_id, "status", "manager")
            texts = [str(text) for _, text in session.get("messages", [])]
        return {name: [text for text in texts if re.search(rf":{re.escape(name)}(?![\w-])", text)] for name in names}

    def _explain(self, names: list[str], what: str, said: list[str]) -> str:
        """A sentence about agents that are not up, and how to see more."""
        return "\n".join(
            [
                f"{', '.join(names)} {what}; logs are in {self.run_dir / 'logs'}. The HostManager says:",
                *said[-EXPLAIN_LINES:],
                "An agent that ends at once shows why when it is run by hand: "
                f"python -m ocs.agent_cli --instance-id {names[0]} --site-file {self.run_dir / 'default.yaml'} "
                f"--site-host {self.site_file.host_name()}",
            ]
        )

    def _record(self, name: str, child: Child | None) -> None:
        if child is not None:
            process.write_record(self.run_dir / "pids", name, child.identity)

    def _write_state(self, ready: bool) -> None:
        state = State(
            supervisor=self.identity,
            ready=ready,
            site_file=str(self.run_dir / "default.yaml"),
            host=self.site_file.host_name(),
            wamp_http=self.site.hub.wamp_http,
            wamp_view=self.router.view_url if self.router else "",
            address_root=self.site.hub.address_root,
            realm=self.site.hub.wamp_realm,
            redis_url=self.redis_url,
            agents=[entry.instance_id for entry in self.site_file.started()],
            host_manager=self.site_file.host_manager().instance_id,
            started=time.time(),
        )
        write_state(self.run_dir, state)

    # -- running --------------------------------------------------------------------------------------------------

    def supervise(self, timeout: float) -> list[str]:
        """Watch for at most `timeout` seconds and start again what has ended; returns the names of what was.

        The agents are the HostManager's business; this is for the HostManager itself, Redis and the router.

        Raises
        ------
        Faulty
            When something ends again and again, or does not come back.
        """
        self._wait_for_ends(timeout)
        restarted = []
        for name, child in self._children().items():
            if child.running():
                continue
            now = time.monotonic()
            self._restarts.append(now)
            while now - self._restarts[0] > RESTART_WINDOW:
                self._restarts.popleft()
            if len(self._restarts) > RESTART_LIMIT:
                raise Faulty(f"{name} ended again; {child.log} ends:\n{child.log_tail()}", name)
            child.kill()
            self._restart(name)
            restarted.append(name)
        return restarted

    def _restart(self, name: str) -> None:
        if name == "redis" and self.redis is not None:
            self.redis.start()
            self._record(name, self.redis.child)
        elif name == "crossbar" and self.router is not None:
            self.router.start()
            self._record(name, self.router.child)
        else:
            end_marked(self.run_dir)  # its agents have lost it
            self._start_manager()
            self._wait_for_agents(AGENT_TIMEOUT)
            self._write_state(ready=True)

    def _children(self) -> dict[str, Child]:
        children = {
            "redis": self.redis.child if self.redis else None,
            "crossbar": self.router.child if self.router else None,
            "host_manager": self.manager,
        }
        return {name: child for name, child in children.items() if child is not None}

    def _wait_for_ends(self, timeout: float) -> None:
        poll = select.poll()
        for child in self._children().values():
            if child.running():
                poll.register(child.fileno(), select.POLLIN)
        poll.poll(timeout * 1000)

    # -- stopping -------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop everything, in order and within seconds; harmless when called again or when nothing was started."""
        if self._lock is None:
            return
        if self.manager is not None and self.manager.running():
            # Its task ``die`` takes the agents along. Without a router there is nobody to ask.
            with contextlib.suppress(Retry, Faulty):
                self.operator.request(self.site_file.host_manager().instance_id, "start", "die")
                agents = set(process.marked(MARK, str(self.run_dir))) - {self.manager.identity}
                process.wait_gone(agents, DIE_GRACE)
        if self.manager is not None:
            self.manager.kill()
            end_marked(self.run_dir)
        if self.redis is not None:
            self.redis.stop()
        if self.router is not None:
            self.router.stop()
        (self.run_dir / STATE).unlink(missing_ok=True)
        for record in (self.run_dir / "pids").glob("*.json"):
            record.unlink()
        os.close(self._lock)
        self._lock = None

    def __enter__(self) -> Observatory:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
