"""`MatchedClient`: an agent's operations as attributes, over HTTP, for scripts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ocs
import requests
from ocs import access, site_config
from ocs.client_http import ControlClient
from ocs.ocs_client import OCSReply

from socs_bl.client.errors import BAD_REPLY, DEADLINE, NO_CONNECTION, NO_REPLY, PATIENCE, WAIT_SLICE, NoAnswer, explain
from socs_bl.client.follower import Follower, SessionData, run_of
from socs_bl.core.errors import Refused, Retry


class _Http(ControlClient):  # type: ignore[misc]  # ocs carries no types
    """OCS's HTTP client with deadlines and errors that name the agent."""

    def __init__(self, instance_id: str, address: str, realm: str, url: str) -> None:
        super().__init__(address, realm=realm, url=url)
        self.instance_id = instance_id

    def call(self, procedure: str, *args: Any, **kwargs: Any) -> Any:
        """Call a procedure; a ``wait`` may take as long as its own timeout and the deadline."""
        wait = kwargs.get("timeout") or 0.0
        body = json.dumps({"procedure": procedure, "args": args, "kwargs": kwargs})
        try:
            reply = requests.post(self.call_url, data=body, timeout=(DEADLINE, DEADLINE + max(0.0, wait)))
            decoded = reply.json() if reply.status_code == requests.codes.ok else {}
        except requests.exceptions.Timeout as error:
            raise explain(self.instance_id, NO_REPLY, self.call_url) from error
        except requests.exceptions.RequestException as error:
            raise explain(self.instance_id, NO_CONNECTION, self.call_url) from error
        if reply.status_code != requests.codes.ok:
            raise explain(self.instance_id, BAD_REPLY, self.call_url, f"answers {reply.status_code}")
        if "error" in decoded:
            detail = " ".join(str(item) for item in decoded.get("args", ()))
            raise explain(self.instance_id, decoded["error"], self.call_url, detail)
        return decoded["args"][0]


class MatchedOperation:
    """One operation of an agent: ``start``, ``wait``, ``status``; calling a process gives its status."""

    def __init__(self, client: MatchedClient, name: str, info: Mapping[str, Any]) -> None:
        self._client = client
        self._name = name
        self.__doc__ = info.get("docstring")

    def start(self, **params: Any) -> OCSReply:
        """Start it with these parameters; the reply says only whether it was started."""
        return self._client.request("start", self._name, params)

    def status(self) -> OCSReply:
        """Its latest session."""
        return self._client.request("status", self._name)

    def wait(self, timeout: float | None = None) -> OCSReply:
        """Wait for its end, for ever without `timeout`, through a restart of the router."""
        return self._client.wait(self._name, timeout)

    def __call__(self) -> OCSReply:
        """The same as `status`."""
        return self.status()


class MatchedProcess(MatchedOperation):
    """A process: it runs until it is stopped."""

    def stop(self) -> OCSReply:
        """Ask it to stop; `wait` for the end."""
        return self._client.request("stop", self._name)


class MatchedTask(MatchedOperation):
    """A task: calling it starts it and waits for its end."""

    def abort(self) -> OCSReply:
        """Ask it to end before its time; `wait` for the end."""
        return self._client.request("abort", self._name)

    def __call__(self, **params: Any) -> OCSReply:
        """Start it, wait for its end, and return the last session."""
        begun = self.start(**params)
        if begun.status != ocs.OK:
            return begun
        ended = self.wait()
        if run_of(ended.session) != run_of(begun.session):
            text = f"{self._client.instance_id} was restarted while {self._name} ran; how it ended is in its log"
            return OCSReply(ocs.ERROR, text, {})
        return ended


class MatchedClient:
    """An agent, with its operations as attributes: the interface of OCS up to 0.11.

    Parameters
    ----------
    instance_id : str
        The agent.
    args : list of str or argparse.Namespace, optional
        Site options, such as ``["--site-file", "default.yaml"]``; by default ``$OCS_CONFIG_DIR/default.yaml`` counts.
    privs : int or str, optional
        Keyword only: an access level (its password is looked up in ``~/.ocs-passwords.yaml``) or a password.

    Raises
    ------
    NoAnswer
        When the agent or the router does not answer.
    Refused
        When no site configuration is found.
    """

    def __init__(self, instance_id: str, *, args: Any = None, privs: int | str | None = None) -> None:
        self.instance_id = instance_id
        hub = read_hub(args)
        self._client = _Http(instance_id, f"{hub['address_root']}.{instance_id}", hub["wamp_realm"], hub["wamp_http"])
        self._api = self._client.get_api()
        password = access.client_get_password(privs, self._api["agent_class"], instance_id)
        self._password = {"password": password} if password and self._api.get("access_control") else {}
        for kind, made in (("tasks", MatchedTask), ("processes", MatchedProcess)):
            for name, _, info in self._api[kind]:
                setattr(self, name.replace("-", "_").replace(" ", "_"), made(self, name, info))

    def __repr__(self) -> str:
        return f"MatchedClient({self.instance_id!r})"

    def __getattr__(self, name: str) -> Any:
        """Say what there is instead of an operation that is not there."""
        api = self.__dict__.get("_api", {})
        names = [item[0] for kind in ("tasks", "processes") for item in api.get(kind, ())]
        raise AttributeError(f"agent {self.instance_id!r} has no operation {name!r}; it has {', '.join(names)}")

    def request(self, action: str, op: str, params: Mapping[str, Any] | None = None, **more: Any) -> OCSReply:
        """Send one request; see OCS's operation API."""
        return OCSReply(*self._client.request(action, op, params=dict(params or {}), **more, **self._password))

    def wait(self, op: str, timeout: float | None = None, patience: float = PATIENCE) -> OCSReply:
        """Wait for the end of an operation in slices, so that no request is held for hours.

        Raises
        ------
        NoAnswer
            When the agent has not answered for `patience` seconds.
        """
        began = heard = time.monotonic()
        while True:
            left = WAIT_SLICE if timeout is None else min(WAIT_SLICE, began + timeout - time.monotonic())
            try:
                reply = self.request("wait", op, timeout=max(0.0, left))
            except NoAnswer:
                if time.monotonic() - heard > patience or left <= 0:
                    raise
                time.sleep(0.5)
                continue
            heard = time.monotonic()
            if reply.status != ocs.TIMEOUT or (timeout is not None and heard - began >= timeout):
                return reply

    def watch(
        self, op: str, interval: float = 0.25, patience: float = PATIENCE, forever: bool = False
    ) -> Iterator[SessionData]:
        """Yield the session of an operation every time it has changed, until the run has ended.

        A reader that is slow gets the newest state and not every one between. The router may be restarted meanwhile.

        Parameters
        ----------
        op : str
            The operation.
        interval : float
            Seconds between two looks.
        patience : float
            Seconds without an answer before it is given up.
        forever : bool
            Go on with the next run when one has ended.

        Raises
        ------
        NoAnswer
            When the agent has not answered for `patience` seconds.
        Lost
            When the agent was restarted, so that the end of the run is unknown.
        """
        follower = Follower(self.instance_id, op, forever)
        heard = time.monotonic()
        while True:
            try:
                reply = self.request("status", op)
            except NoAnswer:
                if time.monotonic() - heard > patience:
                    raise
            else:
                heard = time.monotonic()
                if reply.status != ocs.OK:
                    raise Refused(f"{self.instance_id}: {reply.msg}")
                follower.read(reply.session)
            session = follower.take()
            if session is not None:
                yield session
            if follower.finished:
                return
            time.sleep(interval)

    def page_through(self, op: str, key: str) -> Any:
        """Read a value that the session data only sum up (``truncated``), whole.

        Raises
        ------
        Refused
            When there is no such operation or key.
        Retry
            When the value changed while it was read.
        """
        pages: list[Any] = []
        first: dict[str, int] = {}
        number, total = 0, 1
        while number < total:
            reply = self.request("start", "session_page", {"op": op, "key": key, "page": number})
            if reply.status == ocs.OK:
                reply = self.wait("session_page")
            data = reply.session.get("data", {})
            if not reply.session.get("success"):
                raise Refused(f"{self.instance_id}: {key} of {op} cannot be read: {reply.msg}")
            if (data["op"], data["key"], data["page"]) != (op, key, number):
                raise Retry(f"{self.instance_id}: somebody else pages through its data; try again")
            if data["of_sequence"] != first.setdefault("of_sequence", data["of_sequence"]):
                raise Retry(f"{self.instance_id}: {key} of {op} changed while it was read; try again")
            pages.append(data["value"])
            number, total = number + 1, data["pages"]
        return _joined(pages)


def _joined(pages: Sequence[Any]) -> Any:
    if isinstance(pages[0], str):
        return "".join(pages)
    if isinstance(pages[0], list):
        return [item for page in pages for item in page]
    if isinstance(pages[0], dict):
        return {key: value for page in pages for key, value in page.items()}
    return pages[0]


def read_hub(args: Any) -> dict[str, str]:
    """The hub section of the site configuration.

    Raises
    ------
    Refused
        When there is none, or it does not say where the router takes calls.
    """
    try:
        parsed = args if hasattr(args, "site_file") else site_config.parse_args("*control*", args=list(args or ()))
        site, _, _ = site_config.get_config(_once(parsed), "*control*")
    except (OSError, AssertionError, KeyError, TypeError) as error:
        raise Refused(
            f"no site configuration ({type(error).__name__}: {error}); set OCS_CONFIG_DIR to the directory of "
            f"default.yaml, or give args=['--site-file', FILE]"
        ) from error
    hub = dict(site.hub.data)
    if not str(hub.get("wamp_http", "")).startswith(("http://", "https://")):
        raise Refused(
            f"wamp_http in the site file is {hub.get('wamp_http')!r}; it must be like http://127.0.0.1:8001/call"
        )
    return hub


def _once(parsed: Any) -> Any:
    """OCS takes the name of a site or its file, and refuses both."""
    if parsed.site_file is not None:
        parsed.site = None
    return parsed
