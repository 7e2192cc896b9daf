"""The package is the same thing in a wheel, a wheel from the sdist, an editable install and a bare checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pytest

REPOSITORY = Path(__file__).parents[1]
FOLDERS = {"socs_bl", "agents", "docs", "docker", "site-configs", "tests", "benchmarks"}
FILES = {"pyproject.toml", "README.rst", "Makefile", "CHANGELOG.rst"}
PRODUCTS = {"build", "dist", "run", "socs_bl.egg-info"}  # made here, tracked nowhere
AGENTS = sorted(path.parent.name for path in (REPOSITORY / "agents").glob("*/__init__.py"))

# Run outside of the checkout: what an installed package looks like to OCS and to people.
LOOK = """
import importlib, importlib.metadata, json, pkgutil, sys
import socs_bl, socs_bl.agents
points = [point for point in importlib.metadata.entry_points(group="ocs.plugins") if point.name == "socs_bl"]
table = [point.load() for point in points]
print(json.dumps({
    "where": socs_bl.agents.__path__[0],
    "agents": sorted(module.name for module in pkgutil.iter_modules(socs_bl.agents.__path__) if module.ispkg),
    "points": [point.value for point in points],
    "table": sorted(table[0].agents) if table else [],
    "found": sorted(name for name, agent in (table[0].agents if table else {}).items()
                    if importlib.util.find_spec(agent["module"].rpartition(".")[0])),
    "typed": importlib.resources.files(socs_bl).joinpath("py.typed").is_file(),
}))
"""


def run(command: Sequence[str | Path], cwd: Path, **variables: str) -> str:
    """Run a program; its output, or a failure with what it said."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    ran = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, f"{' '.join(map(str, command))}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def check(seen: str, root: Path) -> None:
    """What `LOOK` printed is a whole package under `root`."""
    found = json.loads(seen.splitlines()[-1])
    assert Path(found["where"]).resolve().is_relative_to(root.resolve())
    assert found["agents"] == AGENTS
    assert found["points"] == ["socs_bl.plugin"]
    assert found["found"] == [name for name in found["table"] if folder_of(name) in AGENTS]
    assert found["typed"]


def folder_of(agent_class: str) -> str:
    """The folder of an agent class, as the plugin table says."""
    from socs_bl import plugin

    return plugin.agents[agent_class]["module"].split(".")[2]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean copy of what git would carry: nothing ignored, links as links."""
    copy = tmp_path_factory.mktemp("checkout") / "socs_bl"
    ignore = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "run", "_build", "*.egg-info")
    shutil.copytree(REPOSITORY, copy, symlinks=True, ignore=ignore)
    shutil.copy(REPOSITORY / ".gitignore", copy)
    return copy


@pytest.fixture(scope="module")
def built(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sdist, the wheel from the checkout, and the wheel from the sdist."""
    out = tmp_path_factory.mktemp("built")
    code = (
        "import sys; from build import ProjectBuilder\n"
        "source, out, *kinds = sys.argv[1:]\n"
        "for kind in kinds: print(ProjectBuilder(source).build(kind, f'{out}/{kind}'))\n"
    )
    sdist, wheel = run([sys.executable, "-c", code, checkout, out, "sdist", "wheel"], out).split("\n")[-3:-1]
    with tarfile.open(sdist) as archive:
        archive.extractall(out / "unpacked", filter="data")
    (source,) = (out / "unpacked").iterdir()
    second = run([sys.executable, "-c", code, source, out / "again", "wheel"], out).split("\n")[-2]
    return {"sdist": Path(sdist), "wheel": Path(wheel), "sdist wheel": Path(second)}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that sees the dependencies of this one, and no socs_bl; returns its interpreter."""
    place = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", "--without-pip", place], place)
    (site,) = (place / "lib").glob("python3*/site-packages")
    (ours,) = {path for path in map(Path, sys.path) if path.name == "site-packages" and (path / "ocs").is_dir()}
    (site / "dependencies.pth").write_text(
        f"{ours}\n"
    )  # .pth files in it, such as that of an editable install, do not count
    return place / "bin" / "python"


def install(environment: Path, *what: str | Path) -> Path:
    """Install without dependencies and without asking an index; returns where packages are."""
    run(
        [sys.executable, "-m", "pip", "--python", environment, "install", "--quiet", "--no-deps", "--no-index"]
        + ["--no-build-isolation", "--ignore-installed", *what],
        environment.parent,
    )
    (site,) = (environment.parent.parent / "lib").glob("python3*/site-packages")
    return site


def uninstall(environment: Path) -> None:
    """Remove what `install` has brought."""
    run(
        [sys.executable, "-m", "pip", "--python", environment, "uninstall", "--quiet", "--yes", "socs_bl"],
        environment.parent,
    )


def test_the_top_of_the_repository_is_as_agreed() -> None:
    """The top-level folders are exactly those of the layout, and socs_bl/agents is the link to agents."""
    tops = {path.name for path in REPOSITORY.iterdir() if path.is_dir() and not path.name.startswith(".")}
    assert tops - PRODUCTS == FOLDERS
    assert {path.name for path in REPOSITORY.iterdir() if path.is_file()} >= FILES
    assert os.readlink(REPOSITORY / "socs_bl" / "agents") == "../agents"


def test_the_sdist_carries_agents_once(built: dict[str, Path]) -> None:
    """The sdist has the real folder, not the link, and everything that tests and docs need."""
    with tarfile.open(built["sdist"]) as archive:
        names = [PurePosixPath(*PurePosixPath(member.name).parts[1:]) for member in archive if member.isfile()]
        assert not [member.name for member in archive if member.issym() or member.islnk()]
    copies = [name for name in names if name.parts[-3:] == ("agents", AGENTS[0], "__init__.py")]
    assert copies == [PurePosixPath("agents", AGENTS[0], "__init__.py")]
    assert {name.parts[0] for name in names if len(name.parts) > 1} - {".ci"} <= FOLDERS
    assert {"constraints.txt", "Makefile"} <= {str(name) for name in names}


@pytest.mark.parametrize("kind", ["wheel", "sdist wheel"])
def test_a_wheel_is_whole(built: dict[str, Path], environment: Path, kind: str) -> None:
    """A wheel holds agents as socs_bl/agents, no link, nothing beside the package, and works where it is installed."""
    with zipfile.ZipFile(built[kind]) as archive:
        names = [PurePosixPath(name) for name in archive.namelist()]
        assert not [entry for entry in archive.infolist() if (entry.external_attr >> 28) == 0o12]
    assert {name.parts[0] for name in names} == {"socs_bl", f"socs_bl-{version()}.dist-info"}
    assert len(names) == len(set(names))
    assert PurePosixPath("socs_bl", "agents", AGENTS[0], "__init__.py") in names
    site = install(environment, built[kind])
    try:
        check(run([environment, "-c", LOOK], environment.parent), site)
    finally:
        uninstall(environment)


def test_both_wheels_hold_the_same(built: dict[str, Path]) -> None:
    """Nothing is lost on the way through the sdist."""
    contents = []
    for kind in ("wheel", "sdist wheel"):
        with zipfile.ZipFile(built[kind]) as archive:
            contents.append({name: archive.getinfo(name).CRC for name in archive.namelist()})
    assert contents[0] == contents[1]


def test_an_editable_install_sees_the_checkout(checkout: Path, environment: Path) -> None:
    """An editable install finds agents in the checkout through the link."""
    install(environment, "--editable", checkout)
    try:
        check(run([environment, "-c", LOOK], environment.parent), checkout)
    finally:
        uninstall(environment)


def test_a_bare_checkout_runs(checkout: Path, environment: Path) -> None:
    """Without any installation modules of the checkout run with ``python -m`` from its top."""
    agent = next(name for name in AGENTS if (checkout / "agents" / name / "agent.py").exists())
    assert "usage:" in run([environment, "-m", f"socs_bl.agents.{agent}.agent", "--help"], checkout)


def version() -> str:
    """The version pyproject.toml gives."""
    return str(tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])
