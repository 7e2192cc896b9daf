"""What a verified transfer over ssh costs beside one bare rsync of the same files, and how long a look at a store takes.

Both go to this machine through an sshd of their own, both to a fresh directory, in turns; each figure is the shortest of them.
Ours hashes at the source, reads everything back at the target, and has it on disk when it ends; the bare rsync does none of
it. A row each gives the reference the same durability, a ``sync`` of the target's file system; another one compares the processor
time of all that ran at both ends, for a machine that has other work.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[1]))  # for tests.harness

from report import Figure

from socs_bl.dataflow.hand import RemoteHand
from socs_bl.dataflow.scan import compare, scan
from socs_bl.dataflow.ssh import Link
from socs_bl.dataflow.transfer import Item, SshCarrier, transfer
from socs_bl.services.process import children
from tests.harness.sshd import Sshd, sshd

WANTED_LARGE, WANTED_SMALL, WANTED_SCAN_S, WANTED_CPU = 1.1, 1.2, 5.0, 0.1
HOP = "benchmark"


def fill(root: Path, count: int, size: int) -> list[Item]:
    """Files of random bytes, a thousand in a directory."""
    block = os.urandom(1 << 20)
    for number in range(count):
        path = root / f"{number // 1000:03d}" / f"{number:08d}.rawacf"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for start in range(0, size, len(block)):
                file.write(number.to_bytes(8, "big") + block[8 : min(len(block), size - start)])
    os.sync()
    return [Item(seen, seen.path) for seen in scan("source", root).files]


def bare(server: Sshd, source: Path, target: Path) -> None:
    """rsync as people call it."""
    shell = f"ssh -p {server.port} -i {server.identity} -o UserKnownHostsFile={server.known_hosts} -o BatchMode=yes"
    argv = ["rsync", "-a", f"--rsh={shell}", f"{source}/", f"{server.user}@127.0.0.1:{target}/"]
    subprocess.run(argv, check=True)


def ours(link: Link, source: Path, target: Path, items: list[Item]) -> None:
    """As the data flow does it."""
    carrier = SshCarrier(RemoteHand(link, target, (sys.executable,)))
    report = transfer(source, items, carrier, HOP)
    wrong = [outcome for outcome in report.outcomes if not outcome.good]
    if wrong:
        raise SystemExit(f"{len(wrong)} files were not moved; the first: {wrong[0]}")


@contextmanager
def _fresh(place: Path) -> Iterator[Path]:
    target = place / "target"
    target.mkdir()
    yield target
    shutil.rmtree(target)
    os.sync()


def transfers(server: Sshd, link: Link, place: Path, what: str, count: int, size: int, goal: float) -> list[Figure]:
    """Ours and the bare one in turns."""
    source = place / "source"
    items = fill(source, count, size)
    times: dict[str, list[float]] = {"bare": [], "synced": [], "ours": [], "cpu": [], "bare all": [], "ours all": []}
    for _ in range(3):
        with _fresh(place) as target:
            began, worked = time.perf_counter(), _all_cpu()
            bare(server, source, target)
            times["bare"].append(time.perf_counter() - began)
            times["bare all"].append(_all_cpu() - worked)
            subprocess.run(["sync", "-f", str(target)], check=True)
            times["synced"].append(time.perf_counter() - began)
        with _fresh(place) as target:
            began, worked, own = time.perf_counter(), _all_cpu(), _own_cpu()
            ours(link, source, target, items)
            times["ours"].append(time.perf_counter() - began)
            times["ours all"].append(_all_cpu() - worked)
            times["cpu"].append((_own_cpu() - own) / times["ours"][-1])
    shutil.rmtree(source)
    best = {name: min(taken) for name, taken in times.items()}
    ratio, synced = best["ours"] / best["bare"], best["ours"] / best["synced"]
    return [
        Figure(f"transfer: {what}, verified", best["ours"], best["bare"], ratio, f"<= {goal} x bare rsync", "s", ratio <= goal),
        Figure(f"transfer: {what}, against rsync and sync", best["ours"], best["synced"], synced, "", "s", None),
        Figure(
            f"transfer: {what}, processor time of both ends",
            best["ours all"], best["bare all"], best["ours all"] / best["bare all"], "", "s", None,
        ),
        Figure(
            f"transfer: {what}, our own processor",
            best["cpu"], 1.0, best["cpu"], f"< {WANTED_CPU} of a core", "core", best["cpu"] < WANTED_CPU,
        ),
    ]  # fmt: skip


def _own_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _all_cpu() -> float:
    """Of this process and all below it, sshd and ssh among them, those that have ended too."""
    spent, waiting = sum(os.times()[:4]), [child.pid for child in children(os.getpid())]
    while waiting:
        pid = waiting.pop()
        with suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_bytes()
            ticks = stat[stat.rindex(b")") + 2 :].split()[11:15]  # proc(5): utime, stime, cutime, cstime
            spent += sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
            waiting += [child.pid for child in children(pid)]
    return spent


def looks(place: Path, count: int) -> list[Figure]:
    """A look at a store whose files are all known, against a bare walk."""
    fill(place / "store", count, 1)
    known = {seen.path: seen for seen in scan("store", place / "store").files}
    began = time.perf_counter()
    changes = compare(known, scan("store", place / "store"))
    taken = time.perf_counter() - began
    if any(changes):
        raise SystemExit("a look at an unchanged store found changes")
    began = time.perf_counter()
    for folder, _, names in os.walk(place / "store"):
        for name in names:
            os.lstat(os.path.join(folder, name))
    walked = time.perf_counter() - began
    goal = f"< {WANTED_SCAN_S:.0f} s"
    return [
        Figure(f"look at {count} known files", taken, walked, taken / walked, goal, "s", taken < WANTED_SCAN_S),
    ]


def rows(quick: bool) -> list[Figure]:
    """All of it."""
    with tempfile.TemporaryDirectory() as directory, sshd(Path(directory) / "sshd") as server:
        place = Path(directory)
        link = Link(f"{server.user}@127.0.0.1", server.port, server.identity, server.known_hosts, timeout=60.0)
        try:
            link.open()
            link.wait()
            size, count = (200 << 20, 1000) if quick else (2 << 30, 10_000)
            large = transfers(server, link, place, f"one file of {size >> 20} MiB", 1, size, WANTED_LARGE)
            small = transfers(server, link, place, f"{count} files of 4 kB", count, 4096, WANTED_SMALL)
        finally:
            link.close()
        return [*large, *small, *looks(place, 10_000 if quick else 100_000)]
