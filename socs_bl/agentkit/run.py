"""The body of every agent's ``main``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import txaio
from autobahn.twisted.wamp import ApplicationRunner
from ocs import site_config

from socs_bl.agentkit.agent import Agent
from socs_bl.agentkit.site_agent import SiteAgent
from socs_bl.core.errors import SocsError

_txaio: Any = txaio  # it makes its functions when told the framework, out of sight of type checkers

NOT_GIVEN = -1
RECONNECT_LIMIT = 5.0


def run(agent_class: type[Agent], parser: argparse.ArgumentParser, args: Sequence[str] | None = None) -> None:
    """Parse the arguments, join the router, serve until told to end.

    Parameters
    ----------
    agent_class : type
        The agent; its name is the agent-class in the plugin table and the site file.
    parser : argparse.ArgumentParser
        What ``add_agent_args()`` of its module gives.
    args : sequence of str, optional
        The arguments; by default those of the process.

    Raises
    ------
    SystemExit
        With status 1 when the agent cannot work: its arguments or files are wrong, or another process has its
        instance-id. The reason is printed.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    _txaio.use_twisted()
    _txaio.start_logging(level=os.environ.get("LOGLEVEL", "info"))
    # Twisted measures delays by the wall clock, which steps; nothing has been scheduled yet.
    reactor.seconds = time.monotonic
    parsed = parse_args(agent_class.__name__, parser, args)
    site_agent = SiteAgent(reactor, parsed, agent_class.__name__)
    try:
        agent = agent_class(site_agent, parsed)
    except SocsError as error:
        sys.exit(f"{parsed.instance_id}: {error}")
    _end_in_order(reactor, agent)
    _runner(parsed).run(site_agent, auto_reconnect=True, log_level=os.environ.get("LOGLEVEL", "info"))
    if site_agent.fatal is not None:
        sys.exit(site_agent.fatal)


def parse_args(
    agent_class: str, parser: argparse.ArgumentParser, args: Sequence[str] | None = None
) -> argparse.Namespace:
    """As ``ocs.site_config.parse_args``, but an agent waits for its router for ever unless told otherwise.

    OCS gives up after 10 s, and a router needs about as long to start. The argument ``--crossbar-timeout`` and the
    host's ``crossbar_timeout`` (or ``crossbar-timeout``, which OCS documents and does not read) still decide.
    """
    parser.set_defaults(crossbar_timeout=NOT_GIVEN)
    arguments = list(sys.argv[1:] if args is None else args)
    parsed: argparse.Namespace = site_config.parse_args(agent_class=agent_class, parser=parser, args=arguments)
    if parsed.crossbar_timeout == NOT_GIVEN:
        _, host, _ = site_config.get_config(_located(parsed), agent_class)
        data: dict[str, Any] = host.data if host is not None else {}
        parsed.crossbar_timeout = data.get("crossbar_timeout", data.get("crossbar-timeout", 0))
    return parsed


def _located(parsed: argparse.Namespace) -> argparse.Namespace:
    """The same arguments, with the site given once: OCS takes a name or a file, not both."""
    values = vars(parsed) | ({"site": None} if parsed.site_file is not None else {})
    return argparse.Namespace(**values)


def _runner(parsed: argparse.Namespace) -> Any:
    runner = ApplicationRunner(parsed.site_hub, parsed.site_realm)
    runner.max_retries, runner.max_retry_delay = -1, RECONNECT_LIMIT
    # Autobahn stops retrying when the first attempt fails; agents may start before their router.
    runner._connect_successes = 1
    return runner


def _end_in_order(reactor: Any, agent: Agent) -> None:
    reactor.addSystemEventTrigger("before", "shutdown", agent.site_agent.end)
    reactor.addSystemEventTrigger("during", "shutdown", agent.close)
