"""Redis as a dictionary: what the commands that ride in commits leave there, and what they publish, in order."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any


class Keyspace:
    """Strings, hashes and lists, and every message.

    Attributes
    ----------
    strings : dict of str to str
    hashes : dict of str to dict
    lists : dict of str to list
    messages : list of (str, str)
        Channel and payload since `take_messages` was called last.
    """

    def __init__(self) -> None:
        self.strings: dict[str, str] = {}
        self.hashes: dict[str, dict[str, str]] = defaultdict(dict)
        self.lists: dict[str, list[str]] = defaultdict(list)
        self.messages: list[tuple[str, str]] = []

    def apply(self, commands: Iterable[tuple[str, ...]]) -> None:
        """Carry commands out."""
        for word, key, *arguments in commands:
            match word:
                case "SET":
                    self.strings[key] = arguments[0]
                case "HSET":
                    self.hashes[key].update(zip(arguments[::2], arguments[1::2], strict=True))
                case "RPUSH":
                    self.lists[key] += arguments
                case "LPUSH":
                    self.lists[key][:0] = reversed(arguments)
                case "LREM":
                    self.lists[key] = [value for value in self.lists[key] if value != arguments[1]]
                case "DEL":
                    for name in (key, *arguments):
                        self.strings.pop(name, None)
                        self.hashes.pop(name, None)
                        self.lists.pop(name, None)
                case "PUBLISH":
                    self.messages.append((key, arguments[0]))
                case "EXPIRE":
                    assert key in self.strings or key in self.hashes, f"EXPIRE of {key}, which is not there"
                case _:
                    raise AssertionError(f"{word} is no command that the coordinator sends")

    def take_messages(self) -> dict[str, list[str]]:
        """Payloads since the last call, in order, by channel; without those to Slack."""
        taken: dict[str, list[str]] = defaultdict(list)
        for channel, payload in self.messages:
            if channel != "slack-messages":
                taken[channel].append(payload)
        self.messages.clear()
        return dict(taken)

    def state(self, array: str) -> dict[str, Any]:
        """The saved recording state of a subarray."""
        return dict(json.loads(self.strings[f"{array}:state"]))
