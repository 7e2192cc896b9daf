"""The site config of one machine: OCS's own format, with places for what is known only when the services run.

``$WAMP_SERVER``, ``$WAMP_HTTP``, ``$REDIS_URL``, ``$RUN_DIR`` and ``$SITE_DIR`` (where the file itself lies) may stand in
any string. A file that holds ``$WAMP_SERVER`` gets an embedded router and one that holds ``$REDIS_URL`` an embedded
Redis; a file with real addresses uses those.

An agent's entry may name the system it belongs to (``system: correlator``; OCS does not look at it). Who asks for
systems by name gets their agents started and those of the others not; who does not gets what ``manage`` says.
"""

from __future__ import annotations

import importlib.metadata
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template
from typing import Any

import yaml
from pydantic import ConfigDict, Field

from socs_bl.core.config import Config, check
from socs_bl.core.errors import Refused
from socs_bl.core.whole_file import write_whole

PLACES = ("WAMP_SERVER", "WAMP_HTTP", "REDIS_URL", "RUN_DIR", "SITE_DIR")
HOST_MANAGER = "HostManager"
UP = (None, "up", "yes", "host", "host/up")  # OCS's names for: start it with the host manager


class Entry(Config):
    """One agent of a host, as OCS writes it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    agent_class: str = Field(alias="agent-class")
    instance_id: str = Field(alias="instance-id")
    manage: str | None = None
    system: str = ""
    arguments: list[Any] = []


class Host(Config):
    """One host of the site."""

    model_config = ConfigDict(extra="allow", frozen=True)

    agents: list[Entry] = Field(alias="agent-instances")


class Hub(Config):
    """How to reach the router."""

    model_config = ConfigDict(extra="allow", frozen=True)

    wamp_server: str
    wamp_http: str
    wamp_realm: str
    address_root: str


class Site(Config):
    """A site config."""

    model_config = ConfigDict(extra="allow", frozen=True)

    hub: Hub
    hosts: dict[str, Host]


class SiteFile:
    """A site config on its way to a running observatory.

    Parameters
    ----------
    path : Path
        With or without places.
    systems : iterable of str
        Systems whose agents are to be started; none: as the file says.

    Raises
    ------
    Refused
        When it cannot be read or is not a site config, or has no such system; the text names the key.
    """

    def __init__(self, path: Path, systems: Iterable[str] = ()) -> None:
        self.path = path
        try:
            self._raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"{path}: cannot be read ({error}); give the path of a site config") from error
        except yaml.YAMLError as error:
            raise Refused(f"{path}: is not YAML ({str(error).splitlines()[0]}); correct the file") from error
        self.site = check(self._raw, Site, str(path))
        if wanted := set(systems):
            self._choose(wanted)
        self.used: set[str] = set()
        self._fill(self._raw, dict.fromkeys(PLACES, ""))

    def _choose(self, systems: set[str]) -> None:
        """Start the agents of these systems, and not those of others."""
        known = {entry.system for host in self.site.hosts.values() for entry in host.agents if entry.system}
        if unknown := systems - known:
            raise Refused(
                f"{self.path}: no agent has system {sorted(unknown)[0]!r}; there are {', '.join(sorted(known))}"
            )
        for host in self._raw["hosts"].values():
            for entry in host["agent-instances"]:
                if entry.get("system"):
                    entry["manage"] = "host/up" if entry["system"] in systems else "host/down"
        self.site = check(self._raw, Site, str(self.path))

    def wants(self, place: str) -> bool:
        """True when the file leaves this place open."""
        return place in self.used

    def host_name(self) -> str:
        """The host section for this machine: its host name if there is one, else ``localhost``.

        Raises
        ------
        Refused
            When there is neither.
        """
        for name in (socket.gethostname(), "localhost"):
            if name in self.site.hosts:
                return name
        raise Refused(
            f"{self.path}: hosts has neither {socket.gethostname()!r} nor 'localhost'; add a section for this host"
        )

    def agents(self) -> list[Entry]:
        """The agents of this machine."""
        return self.site.hosts[self.host_name()].agents

    def host_manager(self) -> Entry:
        """The host manager of this machine.

        Raises
        ------
        Refused
            When there is not exactly one.
        """
        managers = [entry for entry in self.agents() if entry.agent_class == HOST_MANAGER]
        if len(managers) != 1:
            raise Refused(
                f"{self.path}: host {self.host_name()!r} has {len(managers)} agents of class {HOST_MANAGER}; give it one"
            )
        return managers[0]

    def started(self) -> list[Entry]:
        """The agents that the host manager starts by itself."""
        return [entry for entry in self.agents() if entry.manage in UP and entry.agent_class != HOST_MANAGER]

    def redis_urls(self) -> list[str]:
        """Real values of ``--redis-url`` among the agents' arguments."""
        urls = set()
        for entry in self.agents():
            words = [str(word) for word in _flat(entry.arguments)]
            urls |= {
                value
                for flag, value in zip(words, words[1:], strict=False)
                if flag == "--redis-url" and "$" not in value
            }
        return sorted(urls)

    def check_classes(self) -> None:
        """Raise Refused when an agent's class is offered by no installed plugin, or an id stands twice."""
        known = installed_classes()
        seen: set[str] = set()
        for entry in self.agents():
            if entry.agent_class not in known:
                raise Refused(
                    f"{self.path}: no installed OCS plugin offers {entry.agent_class!r} ({entry.instance_id}); "
                    "install the package that does (for ours: pip install -e .) or correct agent-class"
                )
            if entry.instance_id in seen:
                raise Refused(
                    f"{self.path}: instance-id {entry.instance_id!r} stands twice; agents need ids of their own"
                )
            seen.add(entry.instance_id)

    def write(self, path: Path, values: Mapping[str, str]) -> Site:
        """Write the file with its places filled (``$SITE_DIR`` need not be given), for OCS to read; returns it parsed."""
        filled = self._fill(self._raw, {"SITE_DIR": str(self.path.resolve().parent), **values})
        head = f"# Made from {self.path.resolve()} at every start; changes here are lost.\n"
        write_whole(path, (head + yaml.safe_dump(filled, sort_keys=False)).encode())
        return check(filled, Site, str(path))

    def _fill(self, value: Any, values: Mapping[str, str]) -> Any:
        if isinstance(value, dict):
            return {key: self._fill(item, values) for key, item in value.items()}
        if isinstance(value, list):
            return [self._fill(item, values) for item in value]
        if not isinstance(value, str):
            return value
        template = Template(value)
        names = set(template.get_identifiers())
        if not template.is_valid() or not names <= set(PLACES):
            raise Refused(
                f"{self.path}: {value!r} holds a place that is not one of ${', $'.join(PLACES)}; write $$ for a dollar"
            )
        self.used |= names
        return template.substitute(values)


def _flat(arguments: list[Any]) -> list[Any]:
    """OCS takes arguments as one list or as lists in a list."""
    return [word for item in arguments for word in (item if isinstance(item, list) else [item])]


def installed_classes() -> set[str]:
    """The agent classes of all OCS plugins installed here; a plugin that cannot be imported offers none."""
    classes: set[str] = set()
    for plugin in importlib.metadata.entry_points(group="ocs.plugins"):
        try:
            classes |= set(plugin.load().agents)
        except Exception:  # noqa: BLE001 - a foreign plugin may fail in any way; OCS leaves it out as well
            continue
    return classes


def default_site() -> Path:
    """The site config that comes with the package: a whole observatory on this machine."""
    package = Path(__file__).parents[1]
    for path in (package.parent / "site-configs" / "observatory.yaml", package / "site-configs" / "observatory.yaml"):
        if path.is_file():
            return path
    raise Refused("the package's own site config is not installed; give one with --site-config")
