"""``socs-bl status``: what runs, and how its operations stand."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from socs_bl.cli.options import add_run_dir
from socs_bl.core.clock import iso_utc
from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.services.crossbar_node import check_router
from socs_bl.services.operators import Operator
from socs_bl.services.redis_server import check_server
from socs_bl.services.redis_url import redact, reveal
from socs_bl.services.run_dir import State, read_state

EXIT_NOT_RUNNING = 3  # as of LSB init scripts
EXIT_NOT_WELL = 1
NEVER_STARTED = "no_history"  # OCS's word


class AgentStatus(msgspec.Struct, frozen=True):
    """One agent as an operator sees it.

    Attributes
    ----------
    instance_id : str
    agent_class : str
        Empty when it does not answer.
    pid : int
    managed : str
        What the HostManager has it do: ``up``, ``down``, ``start_at`` and so on; empty when it does not say.
    operations : dict of str to str
        Status of each operation that has been started: ``running``, ``done``, ``failed``, ``degraded`` ...
    text : str
        Why it does not answer.
    """

    instance_id: str
    agent_class: str = ""
    pid: int = 0
    managed: str = ""
    operations: dict[str, str] = {}
    text: str = ""


class Status(msgspec.Struct, frozen=True):
    """The whole observatory; a service's text is empty when it answers."""

    state: State
    router: str
    redis: str
    agents: list[AgentStatus]

    @property
    def well(self) -> bool:
        """True when everything answers."""
        return not self.router and not self.redis and all(agent.agent_class for agent in self.agents)


def add_parser(subparsers: Any) -> None:
    """Add ``status``."""
    parser = subparsers.add_parser("status", help="show the agents and their operations")
    add_run_dir(parser)
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print it; exit status 0 when all is well, 1 when something does not answer, 3 when nothing runs."""
    console = Console()
    status = gather(args.run_dir)
    if status is None:
        console.print(
            json.dumps(None) if args.json else f"nothing runs in {args.run_dir.resolve()}; start it with socs-bl up"
        )
        return EXIT_NOT_RUNNING
    if args.json:
        print(json.dumps(msgspec.to_builtins(status), indent=1))
    else:
        _print(console, status)
    return 0 if status.well else EXIT_NOT_WELL


def gather(run_dir: Path) -> Status | None:
    """Ask everything that runs in a directory; None when nothing does."""
    state = read_state(run_dir)
    if state is None:
        return None
    router = redis = ""
    try:
        check_router(state.wamp_http)
    except Retry as error:
        router = str(error)
    try:
        if state.redis_url:
            check_server(reveal(state.redis_url))
    except (Retry, Refused) as error:
        redis = str(error)
    operator = Operator(state.wamp_http, state.address_root)
    managed = _managed(operator, state.host_manager)
    agents = [_ask(operator, name, managed.get(name, "")) for name in (state.host_manager, *state.agents)]
    return Status(state, router, redis, agents)


def _managed(operator: Operator, host_manager: str) -> dict[str, str]:
    try:
        _, _, session = operator.request(host_manager, "status", "manager")
    except (Retry, Faulty):
        return {}
    return {child["instance_id"]: child["next_action"] for child in session.get("data", {}).get("child_states", [])}


def _ask(operator: Operator, instance_id: str, managed: str) -> AgentStatus:
    try:
        api = operator.api(instance_id)
    except (Retry, Faulty) as error:
        return AgentStatus(instance_id, managed=managed, text=str(error))
    operations = {name: _word(session) for name, session, _ in (*api["processes"], *api["tasks"]) if started(session)}
    return AgentStatus(instance_id, api["agent_class"], int(api["instance_pid"]), managed, operations)


def started(session: dict[str, Any]) -> bool:
    """True when the operation has been started since its agent was."""
    return bool(session.get("status", NEVER_STARTED) != NEVER_STARTED)


def _word(session: dict[str, Any]) -> str:
    """One word for an operation's session."""
    if session["status"] == "done":
        return "done" if session.get("success") else "failed"
    return "degraded" if session.get("degraded") else str(session["status"])


def _print(console: Console, status: Status) -> None:
    since = iso_utc(status.state.started)
    console.print(f"since {since}, pid {status.state.supervisor.pid}{'' if status.state.ready else ', starting'}")
    for name, address, text in (
        ("router", status.state.wamp_http, status.router),
        ("Redis", redact(status.state.redis_url), status.redis),
    ):
        line = ("bad  ", "red") if text else ("ok   ", "green")
        console.print(Text.assemble(line, f"{name} {text or address or 'none'}"), soft_wrap=True)
    table = Table("agent", "class", "pid", "operations", box=None)
    styles = {"failed": "red", "degraded": "yellow", "running": "green"}
    for agent in status.agents:
        words = Text(", ").join(
            Text.assemble(f"{name} ", (word, styles.get(word, ""))) for name, word in agent.operations.items()
        )
        silent = Text(f"{agent.managed + ': ' if agent.managed else ''}{agent.text}", style="red")
        table.add_row(
            agent.instance_id, agent.agent_class, str(agent.pid or ""), words if agent.agent_class else silent
        )
    console.print(table)
