"""What notifications look like to the services that show them: Slack and Grafana.

Source: Slack, incoming webhooks and ``chat.postMessage``; Grafana, HTTP API, annotations; commensal-automator, tags and
body of its annotations.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from socs_bl.core.notifications import MARKS, GrafanaConfig, Level, NotificationsConfig, SinkConfig, SlackConfig

LEVELS: tuple[Level, ...] = ("info", "warning", "error")
_REASON = re.compile(r"[a-z_]{1,60}")


@dataclass(frozen=True)
class Notice:
    """Something people are told.

    Attributes
    ----------
    level : str
    code : str
        What kind of thing it is.
    text : str
    time : float
        Unix seconds.
    """

    level: Level
    code: str
    text: str
    time: float


@dataclass(frozen=True)
class Request:
    """A POST of JSON. `url` and `token` may be secret: neither is ever shown."""

    url: str
    body: bytes
    token: str = ""


def level_of(text: str) -> Level:
    """A level by its name; what is none of them is taken as the highest."""
    return next((level for level in LEVELS if level == text), LEVELS[-1])


class Form(Protocol):
    """How one service is told."""

    name: str

    def wants(self, notice: Notice) -> bool:
        """Whether the service is told such things at all."""

    def request(self, notice: Notice) -> Request:
        """What to post."""

    def refusal(self, body: bytes) -> str:
        """Why an answer with a good status is a refusal all the same; empty when it is not."""


class Slack:
    """Slack, by webhook or token.

    Parameters
    ----------
    config : SlackConfig
    environment : mapping of str to str
        Where the secrets are.
    """

    name = "slack"

    def __init__(self, config: SlackConfig, environment: Mapping[str, str]) -> None:
        self._channel = config.channel
        self._posts = not config.webhook_env
        self._url = config.url or environment.get(config.webhook_env, "")
        self._token = environment.get(config.token_env, "") if self._posts else ""
        needed = config.token_env if self._posts else config.webhook_env
        self.missing = "" if (self._token or not self._posts) and self._url else needed

    def wants(self, notice: Notice) -> bool:
        """Everything, when there is somewhere to send it."""
        return bool(self._url)

    def request(self, notice: Notice) -> Request:
        """A message with the mark of its level."""
        message = {"text": MARKS[notice.level] + notice.text}
        if self._posts:
            message["channel"] = self._channel
        return Request(self._url, json.dumps(message).encode(), self._token)

    def refusal(self, body: bytes) -> str:
        """``chat.postMessage`` answers 200 to everything, and says in its body whether it is ok."""
        if not self._posts:
            return ""
        try:
            answer = json.loads(body)
            taken, reason = answer["ok"] is True, str(answer.get("error", ""))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return "its answer is not Slack's"
        if taken:
            return ""
        return reason if _REASON.fullmatch(reason) else "it does not say why"


class Grafana:
    """Annotations in Grafana.

    Parameters
    ----------
    config : GrafanaConfig
    environment : mapping of str to str
    """

    name = "grafana"

    def __init__(self, config: GrafanaConfig, environment: Mapping[str, str]) -> None:
        self._config = config
        self._token = environment.get(config.token_env, "")
        self.missing = "" if self._token else config.token_env

    def wants(self, notice: Notice) -> bool:
        """What has a tag."""
        return notice.code in self._config.tags

    def request(self, notice: Notice) -> Request:
        """A point in time with a tag and a text."""
        annotation = {
            "time": int(notice.time * 1000),
            "isRegion": False,
            "tags": [self._config.tags[notice.code]],
            "text": notice.text,
        }
        return Request(self._config.url, json.dumps(annotation).encode(), self._token)

    def refusal(self, body: bytes) -> str:
        """A good status is an acceptance."""
        return ""


def configured(
    config: NotificationsConfig, environment: Mapping[str, str] = os.environ
) -> list[tuple[Slack | Grafana, SinkConfig]]:
    """The sinks a configuration names, with their secrets from the environment."""
    found: list[tuple[Slack | Grafana, SinkConfig]] = []
    if config.slack is not None:
        found.append((Slack(config.slack, environment), config.slack))
    if config.grafana is not None:
        found.append((Grafana(config.grafana, environment), config.grafana))
    return found
