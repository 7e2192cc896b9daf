"""Numeric feeds for aggregator, InfluxDB and Grafana: declared once, cast always.

A block whose fields come and go, mix types or hold numpy scalars is dropped by OCS's aggregator. A schema fixes the
fields and their types when the class is written.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autobahn.exception import Disconnected
from ocs.ocs_feed import Feed

Value = float | int | str | bool


@dataclass(frozen=True)
class FeedSchema:
    """What a feed carries.

    Parameters
    ----------
    name : str
        Name of the feed.
    blocks : mapping of str to mapping of str to type
        Per block the fields and their types: float, int, str or bool.
    frame_length : float
        Seconds per frame of the aggregator.
    buffer_time : float
        Seconds of samples per message.

    Raises
    ------
    ValueError
        For a name OCS would refuse or a type the aggregator cannot store.
    """

    name: str
    blocks: Mapping[str, Mapping[str, type]]
    frame_length: float = 60.0
    buffer_time: float = 0.0

    def __post_init__(self) -> None:
        for name in (self.name, *self.blocks):
            Feed.verify_data_field_string(name)
        for block, fields in self.blocks.items():
            for name, kind in fields.items():
                Feed.verify_data_field_string(name)
                if kind not in (float, int, str, bool):
                    raise ValueError(f"feed {self.name}, {block}.{name}: {kind!r} is none of float, int, str, bool")


@dataclass
class NumericFeed:
    """A feed that publishes samples of its schema.

    Parameters
    ----------
    schema : FeedSchema
        What it carries.
    raw : ocs.ocs_feed.Feed
        OCS's feed.
    joined : callable
        True while the router is there.
    """

    schema: FeedSchema
    raw: Any
    joined: Any
    counters: dict[str, int] = field(default_factory=lambda: {"published": 0, "unsent": 0, "not_finite": 0})

    def publish(self, block: str, values: Mapping[str, object], timestamp: float | None = None) -> bool:
        """Publish one sample of a block (from the reactor thread).

        A sample with a NaN or an infinity is left out whole and counted, since neither InfluxDB nor JSON has one.

        Returns
        -------
        bool
            False when the sample was left out, or there is no router (OCS keeps no samples).

        Raises
        ------
        ValueError
            When the block or its fields are not those of the schema.
        """
        fields = self.schema.blocks.get(block)
        if fields is None or set(fields) != set(values):
            wanted = sorted(fields) if fields is not None else f"one of the blocks {sorted(self.schema.blocks)}"
            raise ValueError(f"feed {self.schema.name}, block {block}: fields {sorted(values)} are not {wanted}")
        data = {name: _cast(values[name], kind) for name, kind in fields.items()}
        if any(isinstance(value, float) and not math.isfinite(value) for value in data.values()):
            self.counters["not_finite"] += 1
            return False
        if not self.joined():
            self.counters["unsent"] += 1
            return False
        try:
            self.raw.publish_message(
                {"block_name": block, "timestamp": time.time() if timestamp is None else float(timestamp), "data": data}
            )
        except Disconnected:
            self.counters["unsent"] += 1
            return False
        self.counters["published"] += 1
        return True

    def flush(self) -> None:
        """Send what is buffered."""
        if self.joined():
            self.raw.flush_buffer()


def _cast(value: object, kind: type) -> Value:
    item = getattr(value, "item", None)
    plain: Any = item() if callable(item) else value
    cast: Value = kind(plain)
    return cast
