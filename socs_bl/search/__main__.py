"""One search in a process of its own: ``python -m socs_bl.search --input DIR --output DIR [--config FILE | --settings TEXT]``.

Standard output carries JSON lines: ``{"step", "done", "total", "unit", "eta_s"}`` while it works, and at the end
``{"result": {"reason", "text", "hits", "stamps", "obsid", "recordings", "products", "top"}}``. Everything else goes to
standard error. The process ends when its parent does, and leaves the processor to whoever needs it more.
With ``--engine seticore`` that program does the searching (`socs_bl.search.seticore`), with ``--warm-up`` it only
compiles its loops.

Exit status: 0 searched, or too short to search (`reason` says which); 1 crashed (traceback on standard error); 2 wrong
arguments or settings; 3 the recording is damaged or cannot be searched so; 4 a product could not be written; 5 there is
no recording. Of seticore: 6 ended by its deadline; 7 ended by a signal; 8 it declined the recording; 9 its device failed;
10 its products cannot be read. A negative status, as the parent sees it, is a signal.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from socs_bl.core import config as configuration
from socs_bl.core.errors import Refused
from socs_bl.search.analyzer_config import SeticoreConfig
from socs_bl.search.config import SearchConfig
from socs_bl.search.ending import STATUSES, SearchFailed
from socs_bl.search.model import Outcome
from socs_bl.services.process import die_with_parent

PROGRESS_INTERVAL_S = 0.2
TOP_HITS = 20
# A search can wait; the capture of the next recording on the same machine cannot.
NICENESS = 5
UNITS = {"search": "coarse channels", "seticore": "bands"}


class ProgressLines:
    """Writes progress as JSON lines, a few times a second, always the first and the last of a step."""

    def __init__(self) -> None:
        self._step = ""
        self._began = 0.0
        self._written = 0.0

    def __call__(self, step: str, done: int, total: int) -> None:
        """Report `done` of `total`."""
        now = time.monotonic()
        if step != self._step or done == 0:
            self._step, self._began, self._written = step, now, 0.0
        if done not in (0, total) and now - self._written < PROGRESS_INTERVAL_S:
            return
        self._written = now
        left = (now - self._began) / done * (total - done) if done else None
        unit = UNITS.get(step, "files")
        say({"step": step, "done": done, "total": total, "unit": unit, "eta_s": left and round(left, 2)})


def say(message: dict[str, Any]) -> None:
    """One line on standard output, at once."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def numba_cache() -> Path:
    """A directory for compiled loops that only this user can write: what is in it is loaded as code."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = root / "socs_bl" / "numba"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(directory, os.W_OK) and directory.stat().st_uid == os.getuid():
            return directory
    except OSError:
        pass  # a home that cannot be written to; compile anew then
    return Path(tempfile.mkdtemp(prefix="socs_bl-numba-"))


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser(
        prog="python -m socs_bl.search", description="Search recordings for drifting signals."
    )
    made.add_argument("--input", type=Path, help="directory with the GUPPI RAW files")
    made.add_argument("--output", type=Path, help="directory for hit lists and pictures")
    made.add_argument("--engine", choices=["built-in", "seticore"], default="built-in", help="what does the searching")
    settings = made.add_mutually_exclusive_group()
    settings.add_argument("--config", type=Path, help="settings of the search (YAML file)")
    settings.add_argument("--settings", default="{}", help="settings of the search (YAML or JSON text)")
    made.add_argument(
        "--warm-up", action="store_true", help="only compile what a search needs, for the searches to come"
    )
    return made


def settings_of(arguments: argparse.Namespace) -> SearchConfig | SeticoreConfig:
    """The settings a command line asks for."""
    model: type[SearchConfig] | type[SeticoreConfig]
    model = SeticoreConfig if arguments.engine == "seticore" else SearchConfig
    if arguments.config:
        return configuration.load(arguments.config, model)
    return configuration.check(yaml.safe_load(arguments.settings), model, "--settings")


def search(input_directory: Path, output: Path, config: SearchConfig | SeticoreConfig) -> dict[str, Any]:
    """Search all recordings under `input_directory`, write the products, and return the result line's contents."""
    # Imported here: the compiled loops' cache directory must be known first.
    from socs_bl.search import seticore
    from socs_bl.search.products import recordings_under

    progress = ProgressLines()
    found = recordings_under(input_directory)
    if not found:
        raise FileNotFoundError(f"{input_directory}: there is no GUPPI RAW file; was anything recorded?")
    # Nothing is held up by a recording that still grows: what is searched is what was there now.
    before = {stem: [path.stat() for path in paths] for stem, paths in found.items()}
    if isinstance(config, SeticoreConfig):
        result = seticore.search(found, output, config, progress)
    else:
        result = search_built_in(found, output, config, progress)
    for summary in result["recordings"]:
        seen = before[summary["stem"]]
        summary["bytes"] = sum(status.st_size for status in seen)
        summary["changed"] = [status.st_mtime_ns for status in seen]
    return result


def search_built_in(
    found: dict[str, list[Path]], output: Path, config: SearchConfig, progress: ProgressLines
) -> dict[str, Any]:
    """Search recordings here; as `search`."""
    from socs_bl.core.whole_file import remove_left_over
    from socs_bl.search.engine import SEARCHED, search_recording
    from socs_bl.search.products import write_products

    remove_left_over(output, time.time())
    summaries, products, hits = [], list[str](), list[dict[str, Any]]()
    for stem, paths in found.items():
        result = search_recording(paths, config, progress, output / stem)
        written = write_products(output, stem, paths, result, config, progress)
        summaries.append(written.summary)
        products += [str(path) for path in written.paths]
        hits += [{"frequency_mhz": h.frequency_mhz, "drift_hz_s": h.drift_hz_s, "snr": h.snr} for h in result.hits]
    early = (f"{s['stem']} ends early, after {s['duration_s']:.1f} s: {s['damage']}" for s in summaries if s["damage"])
    reasons = {summary["reason"] for summary in summaries}
    top = sorted(hits, key=lambda hit: -float(hit["snr"]))[:TOP_HITS]
    return {
        "reason": SEARCHED if SEARCHED in reasons else min(reasons), "text": "; ".join(early),
        "hits": len(hits), "stamps": sum(int(summary.get("stamp_count", 0)) for summary in summaries),
        "obsid": summaries[0]["obsid"], "recordings": summaries, "products": products, "top": top,
    }  # fmt: skip


def failed(outcome: Outcome, error: Exception) -> int:
    """Say why there is no result."""
    say({"result": {"reason": outcome.value, "text": str(error), "hits": 0, "products": []}})
    sys.stderr.write(f"{error}\n")
    return STATUSES[outcome]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one search; returns the exit status."""
    arguments = parser().parse_args(argv)
    if not arguments.warm_up and not (arguments.input and arguments.output):
        parser().error("--input and --output are needed, or --warm-up")
    die_with_parent()
    os.nice(NICENESS)
    cache = os.environ.setdefault("NUMBA_CACHE_DIR", str(numba_cache()))
    if arguments.warm_up:
        from socs_bl.search.warm_up import warm_up

        warm_up(Path(cache))
        return 0
    try:
        config = settings_of(arguments)
    except (Refused, yaml.YAMLError) as error:
        return failed(Outcome.SETTINGS, error)
    try:
        result = search(arguments.input, arguments.output, config)
    except SearchFailed as error:
        return failed(error.outcome, error)
    except Refused as error:
        return failed(Outcome.DAMAGED, error)
    except FileNotFoundError as error:
        return failed(Outcome.MISSING, error)
    except OSError as error:
        return failed(Outcome.DISK, error)
    say({"result": result})
    return 0


if __name__ == "__main__":
    sys.exit(main())
