"""The simulated target selector and recipe generator: a pointing comes in, targets and a beamformer recipe go out.

On ``target-selector:pointings`` the system that records asks, with ``POINTING:`` and JSON, for the targets in its field
of view. The answer is the key ``targets:<obsid>`` (a JSON list of ``source_id``, ``ra``, ``dec`` in degrees, the phase
centre first), its name on ``target-selector:targets``, and the recipe file `socs_bl.simulators.recipe` describes. What
signals there are, and where, is in none of them.

Source: targets-minimal (channels, key), BluseBeamformerRecipes.jl ``targets2bfr`` (message, file name).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import redis

from socs_bl.commensal.wire import POINTINGS
from socs_bl.core.clock import COMPACT_FORMAT
from socs_bl.core.errors import Faulty, Refused
from socs_bl.core.names import parse_subarray
from socs_bl.services.redis_server import connect
from socs_bl.services.subscriber import Subscriber
from socs_bl.simulators.config import Schedule
from socs_bl.simulators.field import Position
from socs_bl.simulators.recipe import recipe_path, write_recipe

TARGETS = "target-selector:targets"
PREFIX = "POINTING:"
RECIPE_SECONDS = 300  # as long as the recipes of a site are when nothing says otherwise


class Pointing(msgspec.Struct, frozen=True):
    """What is asked; the request holds more.

    Attributes
    ----------
    telescope, array, pktstart_str, target : str
    ra_deg, dec_deg : float
        Of the phase centre.
    """

    telescope: str
    array: str
    pktstart_str: str
    target: str
    ra_deg: float
    dec_deg: float

    @property
    def obsid(self) -> str:
        """``<telescope>:<subarray>:<time>``."""
        return f"{self.telescope}:{self.array}:{self.pktstart_str}"

    @property
    def start(self) -> float:
        """Unix time of the recording's start, whole seconds."""
        return datetime.strptime(self.pktstart_str, COMPACT_FORMAT).replace(tzinfo=UTC).timestamp()


def parse_pointing(payload: str) -> Pointing:
    """Parse a request.

    Raises
    ------
    Refused
        When it is something else; the text says what.
    """
    if not payload.startswith(PREFIX):
        raise Refused(f"{payload[:80]!r} is no {PREFIX} and JSON")
    try:
        found = msgspec.json.decode(payload.removeprefix(PREFIX), type=Pointing)
        parse_subarray(found.array)
        if not (found.telescope.isalnum() and found.start > 0):
            raise Refused(f"{payload[:80]!r}: {found.telescope!r} is no telescope")
    except (msgspec.DecodeError, ValueError) as error:
        raise Refused(f"{payload[:80]!r} is no pointing: {error}") from error
    return found


@dataclass(frozen=True)
class Answers:
    """What a selector has done so far: requests answered, requests not understood or not answered, and the last ones."""

    answered: int = 0
    failed: int = 0
    obsid: str = ""
    fault: str = ""


class TargetSelector:
    """Answers pointings in a thread of its own.

    Parameters
    ----------
    url : str
        Redis.
    schedule : Schedule
        Subarrays and the site.
    directory : Path
        Recipes go there.
    field_of : callable
        Gives the targets of a subarray's field, the phase centre first, for a `Pointing`.
    """

    def __init__(
        self, url: str, schedule: Schedule, directory: Path, field_of: Callable[[Pointing], tuple[Position, ...]]
    ) -> None:
        self._schedule = schedule
        self._directory = directory
        self._field_of = field_of
        self._client = connect(url)
        self._subscriber = Subscriber(url, [POINTINGS], self._heard, self._interrupted)
        self.answers = Answers()

    def start(self) -> None:
        """Begin to listen."""
        self._subscriber.start()

    def stop(self) -> None:
        """Stop and wait for the thread."""
        self._subscriber.stop()
        self._client.close()

    @property
    def listening(self) -> bool:
        """Whether requests are heard."""
        return self._subscriber.subscribed.is_set()

    def answer(self, payload: str) -> str:
        """Answer one request; returns the id of the observation.

        Raises
        ------
        Refused
            When it is not understood, or names a subarray that is not in the schedule.
        Faulty
            When Redis or the disk does not take the answer.
        """
        pointing = parse_pointing(payload)
        subarray = self._schedule.subarray(pointing.array)
        targets = self._field_of(pointing)
        key = f"targets:{pointing.obsid}"
        listed = [{"source_id": target.name, "ra": target.ra_deg, "dec": target.dec_deg} for target in targets]
        centre = Position(pointing.target, pointing.ra_deg, pointing.dec_deg)
        try:
            self._client.set(key, json.dumps(listed))
            self._client.publish(TARGETS, key)
            write_recipe(
                recipe_path(self._directory, pointing.obsid),
                self._schedule.site,
                subarray,
                pointing.obsid,
                centre,
                targets,
                pointing.start,
                RECIPE_SECONDS,
            )
        except (redis.RedisError, OSError) as error:
            raise Faulty(f"{pointing.obsid}: targets or recipe not written ({error})", "selector") from error
        return pointing.obsid

    def _heard(self, channel: str, payload: str) -> None:
        del channel
        done = self.answers
        try:
            self.answers = Answers(done.answered + 1, done.failed, self.answer(payload))
        except (Refused, Faulty) as error:
            self.answers = Answers(done.answered, done.failed + 1, done.obsid, str(error))

    def _interrupted(self, reason: str) -> None:
        done = self.answers
        self.answers = Answers(done.answered, done.failed, done.obsid, reason)
