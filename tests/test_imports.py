"""Who may import whom: the contracts in pyproject.toml hold, and cover every room and machine there is."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import grimp
import pytest

REPOSITORY = Path(__file__).parents[1]
CONTRACTS: list[dict[str, Any]] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
HOUSE = {"agentkit", "agents", "cli", "client", "core", "hashpipe", "page", "plugin", "services", "simulators"}
SHARED = ("socs_bl.hashpipe.wire", "socs_bl.bdf.scan")  # texts and records that rooms share
PURE = frozenset(
    [
        "__future__",
        "abc",
        "base64",
        "bisect",
        "collections",
        "dataclasses",
        "decimal",
        "enum",
        "fractions",
        "functools",
        "hashlib",
        "heapq",
        "ipaddress",
        "itertools",
        "json",
        "math",
        "msgspec",
        "numpy",
        "operator",
        "re",
        "statistics",
        "string",
        "types",
        "typing",
        "unicodedata",
    ]
)


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(
        "socs_bl", include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )


def rooms(graph: grimp.ImportGraph) -> set[str]:
    children = graph.find_children("socs_bl") - {f"socs_bl.{name}" for name in HOUSE}
    return {name for name in children if graph.find_children(name)}


def impure(graph: grimp.ImportGraph, start: str) -> set[str]:
    """What a machine or model reaches within its room that is neither core nor pure, as ``importer -> imported``."""
    room = start.rpartition(".")[0]
    found, seen, waiting = set(), set(), [start]
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        for imported in graph.find_modules_directly_imported_by(module):
            if imported.startswith(f"{room}.") or imported in SHARED:
                waiting.append(imported)
            elif imported.startswith("socs_bl.core.") or imported in PURE:
                continue
            elif not (module == f"{room}.config" and imported == "pydantic"):
                found.add(f"{module} -> {imported}")
    return found


def lint(directory: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the configuration in `directory`."""
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True, no_logo=True))"
    return subprocess.run([sys.executable, "-c", code], cwd=directory, capture_output=True, text=True, timeout=120)


def test_the_contracts_hold() -> None:
    """Layers, independent rooms, outside simulators, pure machines, as import-linter sees them."""
    ran = lint(REPOSITORY)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_broken_contract_is_found(tmp_path: Path) -> None:
    """The same contracts fail on a package whose core imports a service: the first test is not blind."""
    for name in ("", "core", "services", "agents", "cli", "agentkit", "client", "simulators", "hashpipe"):
        (tmp_path / "socs_bl" / name).mkdir()
        (tmp_path / "socs_bl" / name / "__init__.py").touch()
    for room in ("commensal", "capture", "search", "correlator", "bdf", "dataflow", "superdarn"):
        (tmp_path / "socs_bl" / room).mkdir()
        for name in ("__init__.py", "machine.py", "model.py"):
            (tmp_path / "socs_bl" / room / name).touch()
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    assert lint(tmp_path).returncode == 0
    (tmp_path / "socs_bl" / "core" / "__init__.py").write_text("import socs_bl.services\n")
    (tmp_path / "socs_bl" / "search" / "machine.py").write_text("import socs_bl.commensal\nimport time\n")
    ran = lint(tmp_path)
    assert ran.returncode == 1 and "1 kept, 3 broken" in ran.stdout, ran.stdout


def test_the_contracts_cover_every_room(graph: grimp.ImportGraph) -> None:
    """A new room must be named where rooms are kept apart, and simulators kept out of it."""
    independent = next(set(contract["modules"]) for contract in CONTRACTS if contract["type"] == "independence")
    outside = next(set(c["forbidden_modules"]) for c in CONTRACTS if c.get("source_modules") == ["socs_bl.simulators"])
    assert independent == outside == rooms(graph)


def test_machines_reach_only_what_is_pure(graph: grimp.ImportGraph) -> None:
    """Every machine and model, and what they use of their room, imports core, numpy and pure standard library only."""
    sources = {m for m in graph.modules if m.startswith("socs_bl.") and m.rpartition(".")[2] in ("machine", "model")}
    sources -= {"socs_bl.core.machine"}
    assert sources
    assert set().union(*(impure(graph, source) for source in sources)) == set()


def test_impurity_is_found(graph: grimp.ImportGraph) -> None:
    """A module that reads the clock or another room does not pass for pure."""
    graph.add_module("socs_bl.commensal.noun")
    for imported in ("time", "socs_bl.services.site"):
        graph.add_import(importer="socs_bl.commensal.noun", imported=imported)
    graph.add_import(importer="socs_bl.commensal.machine", imported="socs_bl.commensal.noun")
    found = impure(graph, "socs_bl.commensal.machine")
    assert {"socs_bl.commensal.noun -> time", "socs_bl.commensal.noun -> socs_bl.services.site"} <= found
