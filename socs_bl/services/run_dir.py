"""What is kept in a run directory about the observatory that runs there, and how it and its orphans are ended.

Everything the supervisor starts dies with it. The agents do not: the HostManager starts them, as OCS does, without
such ties. So they carry the run directory in their environment (`MARK`), and each is ended exactly, by pid and start
time, at the next start or by ``socs-bl down``.
"""

from __future__ import annotations

import signal
from pathlib import Path

import msgspec

from socs_bl.core.errors import Faulty
from socs_bl.core.whole_file import write_whole
from socs_bl.services import process
from socs_bl.services.process import Identity

MARK = "SOCS_BL_RUN_DIR"
STATE = "observatory.json"
SUPERVISOR = "supervisor"
ORPHAN_GRACE = 3.0  # seconds between SIGTERM and SIGKILL
STOP_TIMEOUT = 40.0  # seconds for a supervisor to stop everything in order


class State(msgspec.Struct, frozen=True):
    """What other commands need to know of a running observatory."""

    supervisor: Identity
    ready: bool
    site_file: str
    host: str
    wamp_http: str
    wamp_view: str
    address_root: str
    realm: str
    redis_url: str
    agents: list[str]
    host_manager: str
    started: float


def mark(run_dir: Path) -> dict[str, str]:
    """The environment that marks a process and its descendants as belonging to a run directory.

    OCS's agents set their process title with setproctitle, which writes it over the environment the kernel shows,
    unless SPT_NOENV tells it not to.
    """
    return {MARK: str(run_dir.resolve()), "SPT_NOENV": "1"}


def write_state(run_dir: Path, state: State) -> None:
    """Write the state, whole or not at all."""
    write_whole(run_dir / STATE, msgspec.json.encode(state))


def end_marked(run_dir: Path) -> list[Identity]:
    """End every process that carries the run directory in its environment; returns those that survived."""
    return process.end(process.marked(MARK, str(run_dir.resolve())), ORPHAN_GRACE)


def end_orphans(run_dir: Path) -> int:
    """End what an earlier observatory of this directory has left behind, when that one was killed.

    The HostManager goes first, since it would start its agents again. Call it with the directory's lock held.

    Returns
    -------
    int
        How many processes there were.

    Raises
    ------
    Faulty
        When one cannot be ended.
    """
    records = process.read_records(run_dir / "pids")
    orphans = [identity for identity in records.values() if process.identify(identity.pid) == identity]
    manager = records.get("host_manager")
    if manager is not None and process.signal_exactly(manager, signal.SIGKILL):
        process.wait_gone([manager], ORPHAN_GRACE)
    found = process.marked(MARK, str(run_dir.resolve()))
    survivors = process.end(list({*orphans, *found}), ORPHAN_GRACE)
    if survivors:
        pids = ", ".join(str(identity.pid) for identity in survivors)
        raise Faulty(f"processes {pids} of an earlier run cannot be ended; end them by hand", "orphans")
    return len({*orphans, *found})


def read_state(run_dir: Path) -> State | None:
    """The state of the observatory that runs in a directory; None when none does."""
    try:
        state = msgspec.json.decode((run_dir / STATE).read_bytes(), type=State)
    except (OSError, msgspec.DecodeError):
        return None
    return state if process.identify(state.supervisor.pid) == state.supervisor else None


def end_observatory(run_dir: Path, timeout: float = STOP_TIMEOUT) -> bool:
    """End the observatory of a directory, and orphans when it was killed; False when there was nothing.

    Raises
    ------
    Faulty
        When something cannot be ended.
    """
    supervisor = process.read_records(run_dir / "pids").get(SUPERVISOR)
    running = supervisor is not None and process.signal_exactly(supervisor, signal.SIGTERM)
    if supervisor is not None and process.wait_gone([supervisor], timeout):
        process.end([supervisor], 0.0, signal.SIGKILL)
    return end_orphans(run_dir) > 0 or running
