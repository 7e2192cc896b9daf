"""Container files without an engine: others' validators accept them, they fit the site config, nothing runs as root."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from socs_bl import plugin
from socs_bl.services.crossbar_node import configuration

REPOSITORY = Path(__file__).parents[2]
DOCKER = REPOSITORY / "docker"
BASE = DOCKER / "Dockerfile"
COMPOSE_FILES = sorted(DOCKER.rglob("docker-compose.yml"))
DOCKERFILES = sorted(DOCKER.rglob("Dockerfile"))
PROGRAMS = Path(sys.executable).parent
FOLDERS = {name: entry["module"].split(".")[2] for name, entry in plugin.agents.items()}
PORT = 8001
SITE = REPOSITORY / "site-configs" / "default.yaml"
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def compose(path: Path) -> dict[str, Any]:
    """A compose file."""
    parsed = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(parsed) <= {"services", "volumes"}, f"{path}: unknown top-level keys"
    return dict(parsed)


def dockerfile(path: Path = BASE) -> list[tuple[str, str]]:
    """Instructions of a Dockerfile with their arguments."""
    text = re.sub(r"(?m)^\s*#.*\n", "", path.read_text(encoding="utf-8")).replace("\\\n", " ")
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line.strip())
    ]


def copied() -> dict[str, str]:
    """What the Dockerfile copies out of the context, and where to."""
    pairs = [(rest.split()[:-1], rest.split()[-1]) for word, rest in dockerfile() if word == "COPY"]
    return {name: target for names, target in pairs for name in names}


def instances() -> dict[str, dict[str, Any]]:
    """Entries of the containers' site config by instance-id."""
    site = yaml.safe_load(SITE.read_text(encoding="utf-8"))
    return {agent["instance-id"]: agent for host in site["hosts"].values() for agent in host["agent-instances"]}


def agent_services() -> dict[str, Path]:
    """Services of all compose files that run an agent, and the files they are in."""
    found = {name: path for path in COMPOSE_FILES for name in compose(path)["services"]}
    return {name: path for name, path in found.items() if name.startswith("ocs-")}


def test_compose_files_follow_the_schema() -> None:
    """The JSON schema of the compose specification, as check-jsonschema brings it, takes every file."""
    argv = [str(PROGRAMS / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", *map(str, COMPOSE_FILES)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_linter_takes_the_dockerfiles() -> None:
    """hadolint parses every Dockerfile and has nothing to say."""
    argv = [str(PROGRAMS / "hadolint"), "--no-color", "--failure-threshold", "info", *map(str, DOCKERFILES)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_every_agent_has_a_dockerfile(name: str) -> None:
    """It begins with the common image, adds at most an extra that exists, and its compose file builds it under its own name."""
    path = DOCKER / FOLDERS[name] / "Dockerfile"
    instructions = dockerfile(path)
    assert instructions[:2] == [("ARG", "BASE=socs_bl"), ("FROM", "${BASE}")]
    for installed in [rest for word, rest in instructions if word == "RUN"]:
        extra = re.search(r"'\.\[(\w+)\]'$", installed)
        assert extra is not None and extra[1] in PYPROJECT["project"]["optional-dependencies"]
    images = set()
    for service in compose(path.with_name("docker-compose.yml"))["services"].values():
        assert (path.parent / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == path
        images.add(service["image"])
    assert len(images) == 1 and images.isdisjoint({"socs_bl"})


@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_every_agent_has_a_compose_file(name: str) -> None:
    """Services named as OCS's HostManager wants them, instances of the right class, configuration read only."""
    services = compose(DOCKER / FOLDERS[name] / "docker-compose.yml")["services"]
    assert services
    for service_name, service in services.items():
        environment = dict(item.split("=", 1) for item in service["environment"])
        assert service_name == service["container_name"] == f"ocs-{environment['INSTANCE_ID']}"
        assert instances()[environment["INSTANCE_ID"]]["agent-class"] == name
        assert environment["SITE_HUB"] == f"ws://127.0.0.1:{PORT}/ws"
        assert environment["SITE_HTTP"] == f"http://127.0.0.1:{PORT}/call"
        assert "${OCS_CONFIG_DIR}:/config:ro" in service["volumes"]
        assert service["network_mode"] == "host" and "ports" not in service and not service.get("privileged")


def test_the_host_manager_finds_a_service_for_every_agent() -> None:
    """Agents of the site config that containers run and services that run agents are the same; its files are ours."""
    managed = {f"ocs-{name}" for name, entry in instances().items() if entry["manage"] == "docker/up"}
    assert managed == set(agent_services())
    (manager,) = [entry for entry in instances().values() if entry["agent-class"] == "HostManager"]
    given = manager["arguments"][manager["arguments"].index("--docker-compose") + 1].split(",")
    assert {REPOSITORY / path for path in given} == set(COMPOSE_FILES)


@pytest.mark.parametrize("instance_id", sorted(instances()))
def test_paths_of_arguments_are_mounted(instance_id: str) -> None:
    """Absolute paths that an agent in a container is given lie in a volume; those of /config are in site-configs."""
    file = agent_services().get(f"ocs-{instance_id}")
    if file is None:
        return
    service = compose(file)["services"][f"ocs-{instance_id}"]
    mounted = {volume.removesuffix(":ro").rpartition(":")[2] for volume in service["volumes"]}
    for word in instances()[instance_id]["arguments"]:
        if str(word).startswith("/"):
            assert "/" + Path(word).parts[1] in mounted, f"{instance_id}: {word}"
        if str(word).startswith("/config/"):
            assert (SITE.parent / str(word).removeprefix("/config/")).is_file(), f"{instance_id}: {word}"


def test_no_file_is_left_over() -> None:
    """Every folder with a compose file is that of an agent, every one with a Dockerfile that of an agent or the router."""
    assert {path.parent.name for path in DOCKER.glob("*/docker-compose.yml")} == set(FOLDERS.values())
    assert {path.parent.name for path in DOCKER.glob("*/Dockerfile")} == {*FOLDERS.values(), "crossbar"}


@pytest.mark.parametrize("instance_id", sorted(instances()))
def test_arguments_are_those_of_the_parser(instance_id: str) -> None:
    """What the site config gives an agent of ours is what its parser takes."""
    entry = instances()[instance_id]
    if entry["agent-class"] in plugin.agents:
        module = importlib.import_module(plugin.agents[entry["agent-class"]]["module"])
        module.add_agent_args().parse_args([str(word) for word in entry["arguments"]])


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.parent.name)
def test_what_is_built_and_mounted_is_there(path: Path) -> None:
    """Build contexts, Dockerfiles and mounted files exist; named volumes are declared."""
    parsed = compose(path)
    for service in parsed["services"].values():
        if "build" in service:
            context = (path.parent / service["build"]["context"]).resolve()
            assert context == REPOSITORY and (context / service["build"]["dockerfile"]).is_file()
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (path.parent / source).exists(), f"{path}: {source} is not there"
            elif not source.startswith("$"):
                assert source in parsed["volumes"], f"{path}: volume {source} is not declared"


def test_the_hub_is_on_loopback() -> None:
    """The router runs with our own configuration, and Redis and router listen on this machine only."""
    services = compose(DOCKER / "docker-compose.yml")["services"]
    assert set(services) == {"crossbar", "redis", "ocs-registry", "ocs-aggregator"}
    assert json.loads((DOCKER / "crossbar" / "config.json").read_text()) == json.loads(json.dumps(configuration(PORT)))
    command = services["redis"]["command"]
    assert command[command.index("--bind") + 1] == "127.0.0.1"
    assert command[command.index("--appendonly") + 1] == "yes"


def test_the_image_runs_agents_without_privileges() -> None:
    """The last user is never root, the entry point is OCS's own under an init, what is copied is let into the context."""
    for path in DOCKERFILES:
        assert [rest for word, rest in dockerfile(path) if word == "USER"][-1] == "9000"
    instructions = dockerfile()
    assert instructions[0][0] == "FROM"
    assert any("--uid 9000" in rest for word, rest in instructions if word == "RUN")
    assert [json.loads(rest) for word, rest in instructions if word == "ENTRYPOINT"] == [["dumb-init", "ocs-agent-cli"]]
    version = re.match(r"python:(3\.\d+)-", instructions[0][1])
    assert version is not None and f">={version[1]}" == PYPROJECT["project"]["requires-python"]
    let_in = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied()) == let_in
    assert all((REPOSITORY / name).exists() for name in copied())


def test_the_image_can_build_the_package(tmp_path: Path) -> None:
    """The files that the Dockerfile copies are enough to build the wheel, and all that the wheel takes is among them."""
    forced = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert set(forced) <= set(copied()), "the Dockerfile does not copy what pyproject.toml includes"
    source = tmp_path / "app"
    source.mkdir()
    for name, target in copied().items():
        place = source / name if target == "./" else source / target
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, place, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPOSITORY / name, place)
    code = (
        "import sys; from build import ProjectBuilder; print(ProjectBuilder(sys.argv[1]).build('wheel', sys.argv[2]))"
    )
    argv = [sys.executable, "-c", code, str(source), str(tmp_path / "dist")]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(done.stdout.splitlines()[-1]) as wheel:
        names = set(wheel.namelist())
    assert all(any(name.startswith(f"{target}/") for name in names) for target in forced.values())
