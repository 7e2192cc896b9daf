"""The search as a process: its lines, its exit status, its products, its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from socs_bl.search.__main__ import search
from socs_bl.search.config import SearchConfig
from socs_bl.search.dat import read_dat
from socs_bl.search.engine import SearchResult, search_recording
from socs_bl.services.process import identify, wait_gone

COMMAND = [sys.executable, "-m", "socs_bl.search"]
TONE = (321.5, 1.23, 0.3)
SETTINGS = "{fine_channels: 1024, plots: 0}"


def run(*arguments: object) -> tuple[int, list[dict[str, Any]], str]:
    """Exit status, JSON lines and standard error of one search."""
    done = subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_products_and_progress(tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path]) -> None:
    """One search writes progress lines, a result, a hit list, a summary and a picture, and exits 0; a second search of
    the same recording finds the same."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    write_raw(tmp_path / "in" / "sub" / "guppi_a.0000.raw", voltages([TONE], 1))
    (tmp_path / "config.yaml").write_text("fine_channels: 1024\nplots: 1\n")
    results = []
    for output in (tmp_path / "out", tmp_path / "out2"):
        status, lines, errors = run(
            "--input", tmp_path / "in", "--output", output, "--config", tmp_path / "config.yaml"
        )
        assert (status, errors) == (0, "")
        assert [set(line) for line in lines[:-1]] == [{"step", "done", "total", "unit", "eta_s"}] * (len(lines) - 1)
        assert lines[0] == {"step": "search", "done": 0, "total": 2, "unit": "coarse channels", "eta_s": None}
        results.append(lines[-1]["result"])
    result = results[0]
    assert [result[key] for key in ("reason", "text", "hits")] == ["searched", "", 1]
    assert result["obsid"] == "MeerKAT:array_1:test"
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"guppi_a.{kind}" for kind in ("dat", "hit01.png", "hits", "search.json", "stamps")]
    assert sorted(result["products"]) == sorted(str(path) for path in (tmp_path / "out").iterdir())
    hit = read_dat(tmp_path / "out" / "guppi_a.dat").hits[0]
    assert hit.frequency_mhz == pytest.approx(result["top"][0]["frequency_mhz"], abs=1e-9)
    summary = json.loads((tmp_path / "out" / "guppi_a.search.json").read_text())
    assert summary["hits"][0]["frequency_mhz"] == result["top"][0]["frequency_mhz"]
    assert (summary["low_hz"], summary["high_hz"]) == pytest.approx((1400e6 - 1000, 1400e6 + 1000), abs=1e-3)
    assert summary["start"] == pytest.approx((60000 - 40587) * 86400 + 100.25, abs=1e-4)
    assert summary["config"]["fine_channels"] == 1024
    assert (tmp_path / "out" / "guppi_a.hit01.png").read_bytes().startswith(b"\x89PNG")
    assert results[1]["top"] == result["top"]


def test_each_kind_of_failure_has_its_status(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path]
) -> None:
    """Too short 0, settings 2, damage 3, disk 4, nothing there 5; each with a result line that says why."""
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    (tmp_path / "typo.yaml").write_text("snrr: 3\n")
    (tmp_path / "long.yaml").write_text("min_duration_s: 100\n")
    (tmp_path / "occupied").write_text("a file where a directory should be")
    status, lines, errors = run("--input", source, "--output", output)
    assert (status, lines[-1]["result"]["reason"]) == (5, "missing") and str(source) in errors
    path = write_raw(source / "guppi_a.0000.raw", voltages([], 2))
    status, lines, _ = run("--input", source, "--output", output, "--config", tmp_path / "long.yaml")
    assert (status, lines[-1]["result"]["reason"], lines[-1]["result"]["hits"]) == (0, "too_short", 0)
    status, lines, errors = run("--input", source, "--output", output, "--config", tmp_path / "typo.yaml")
    assert (status, lines[-1]["result"]["reason"]) == (2, "settings") and "snrr" in errors
    status, lines, errors = run("--input", source, "--output", tmp_path / "occupied" / "x")
    assert (status, lines[-1]["result"]["reason"]) == (4, "disk")
    path.write_bytes(b"x" * 10000)
    status, lines, errors = run("--input", source, "--output", output)
    assert (status, lines[-1]["result"]["reason"]) == (3, "damaged") and str(path) in errors


def test_a_recording_whose_last_block_is_being_written(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path]
) -> None:
    """What is there is searched without waiting: the result says where it ends and why, the recording counts as damaged,
    its size is that of the files as they were; a whole one beside it is not damaged and adds no words."""
    source = tmp_path / "in"
    source.mkdir()
    whole = write_raw(source / "guppi_a.0000.raw", voltages([TONE], 1))
    growing = write_raw(source / "guppi_b.0000.raw", voltages([TONE], 2))
    for cut in (1000, 10 * 256 * 16 + 500):
        os.truncate(growing, growing.stat().st_size - cut)
        status, lines, errors = run("--input", source, "--output", tmp_path / "out", "--settings", SETTINGS)
        result = lines[-1]["result"]
        assert (status, errors, result["reason"], result["hits"]) == (0, "", "searched", 2)
        assert result["text"].startswith("guppi_b ends early, after ") and "interrupted" in result["text"]
        assert [bool(found["damage"]) for found in result["recordings"]] == [False, True]
        assert [found["bytes"] for found in result["recordings"]] == [whole.stat().st_size, growing.stat().st_size]


def test_two_whole_recordings_leave_nothing_to_say(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path]
) -> None:
    """The text of a result without damage is empty."""
    for name in ("a", "b"):
        write_raw(tmp_path / f"guppi_{name}.0000.raw", voltages([], 1))
    status, lines, _ = run("--input", tmp_path, "--output", tmp_path / "out", "--settings", SETTINGS)
    assert (status, lines[-1]["result"]["text"]) == (0, "")


def test_the_size_is_that_before_the_search(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is appended while it is searched does not count as searched."""
    path = write_raw(tmp_path / "guppi_a.0000.raw", voltages([], 1))
    before = path.stat().st_size

    def growing(*arguments: Any) -> SearchResult:
        with open(path, "ab") as file:
            file.write(bytes(100))
        return search_recording(*arguments)

    monkeypatch.setattr("socs_bl.search.engine.search_recording", growing)
    result = search(tmp_path, tmp_path / "out", SearchConfig(fine_channels=1024, plots=0))
    assert result["recordings"][0]["bytes"] == before


def test_left_over_private_files_are_removed(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path]
) -> None:
    """A search removes what a killed one has left beside the products: private files of its naming, no younger ones, and
    nothing of anybody else."""
    output = tmp_path / "out"
    output.mkdir()
    write_raw(tmp_path / "guppi_a.0000.raw", voltages([], 1))
    names = [".guppi_a.dat.123-4567.part", ".other.part", "visible.123-4567.part", ".young.dat.123-4567.part"]
    for name in names:
        (output / name).write_bytes(b"half")
        os.utime(output / name, (1e9, 4e9 if "young" in name else 1e9))
    status, _, _ = run("--input", tmp_path, "--output", output, "--settings", SETTINGS)
    assert status == 0
    assert sorted(path.name for path in output.iterdir() if path.name.endswith(".part")) == sorted(names[1:])


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    """When the agent is killed, its search does not go on."""
    fifo = tmp_path / "config.yaml"
    os.mkfifo(fifo)
    command = [*COMMAND, "--input", str(tmp_path), "--output", str(tmp_path), "--config", str(fifo)]
    script = "import subprocess, sys; p = subprocess.Popen(sys.argv[1:]); print(p.pid, flush=True); p.wait()"
    with subprocess.Popen([sys.executable, "-c", script, *command], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        search = identify(int(parent.stdout.readline()))
        assert search is not None
        # Opening the pipe waits until the search reads its settings; it then waits for us to close it.
        writer = os.open(fifo, os.O_WRONLY)
        try:
            parent.kill()
            assert wait_gone([search], 20.0) == []
        finally:
            os.close(writer)


def test_the_loops_can_be_compiled_before(
    tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `--warm-up` a search with gaps compiles nothing: the cache of compiled loops does not change."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(cache))
    assert run("--warm-up") == (0, [], "")
    compiled = {path.name for path in cache.rglob("*.nbc")}
    assert len(compiled) >= 7
    data = voltages([TONE], 3)
    data[:, :, 512:1024] = 0
    write_raw(tmp_path / "guppi_a.0000.raw", data)
    status, lines, _ = run(
        "--input", tmp_path, "--output", tmp_path / "out", "--settings", "{fine_channels: 1024, plots: 0}"
    )
    assert status == 0 and lines[-1]["result"]["hits"] == 1
    assert {path.name for path in cache.rglob("*.nbc")} == compiled
