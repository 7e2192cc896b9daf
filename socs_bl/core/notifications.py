"""Configuration of notification sinks: who is told what besides the feed. Secrets are named, never written here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from socs_bl.core.config import Config

Level = Literal["info", "warning", "error"]
# What a text begins with in Slack, where the original's readers look for it.
MARKS: Mapping[str, str] = {"info": "", "warning": ":warning: ", "error": ":x: "}
_VARIABLE = r"^[A-Z][A-Z0-9_]{0,63}$"
_URL = r"^https?://[^\s]+$"


class SinkConfig(Config):
    """What all sinks have in common.

    Attributes
    ----------
    threshold : str
        ``info``, ``warning`` or ``error``: what is less than this is not sent.
    deadline : float
        Time one message may take, seconds.
    rate, burst : float, int
        Messages a minute in the long run, and how many may come at once.
    queue : int
        Messages that wait while the sink does not answer; when there are more, the oldest goes.
    keep : float
        Time for which a message that could not be sent is tried again, seconds.
    """

    threshold: Level = "info"
    deadline: float = Field(default=10.0, gt=0, le=300)
    rate: float = Field(default=20.0, gt=0)
    burst: int = Field(default=20, ge=1)
    queue: int = Field(default=200, ge=1)
    keep: float = Field(default=900.0, ge=0)


class SlackConfig(SinkConfig):
    """Slack, by an incoming webhook or by ``chat.postMessage``.

    Attributes
    ----------
    webhook_env : str
        Environment variable with the URL of a webhook (the URL is a secret).
    url : str
        Of ``chat.postMessage``.
    token_env : str
        Environment variable with the token for `url`.
    channel : str
        Needed with `url`.
    """

    webhook_env: str = Field(default="", pattern=_VARIABLE + "|^$")
    url: str = Field(default="", pattern=_URL + "|^$")
    token_env: str = Field(default="SLACK_API_TOKEN", pattern=_VARIABLE)
    channel: str = ""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.webhook_env) == bool(self.url):
            raise ValueError("give either webhook_env or url")
        if self.url and not self.channel:
            raise ValueError("url needs a channel")
        return self


class GrafanaConfig(SinkConfig):
    """Annotations in Grafana.

    Attributes
    ----------
    url : str
        Of the annotations, such as ``http://grafana:3000/api/annotations``.
    token_env : str
        Environment variable with the bearer token.
    tags : mapping of str to str
        Code of a notification to the annotation's tag; others are not annotated.
    """

    url: str = Field(pattern=_URL)
    token_env: str = Field(default="GRAFANA_AUTH", pattern=_VARIABLE)
    tags: Mapping[str, str] = {
        "configuring": "CONFIGURE",
        "unsubscribed": "UNSUBSCRIBE",
        "recording": "RECORD",
        "processing": "PROCESS",
    }


class NotificationsConfig(Config):
    """The sinks there are; none by default."""

    slack: SlackConfig | None = None
    grafana: GrafanaConfig | None = None
