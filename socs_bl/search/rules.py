"""When raw data may be deleted: the rules, as data.

Every deletion names one of `RULES`. A rule holds for a directory when its state (`Standing`) has all that the rule
needs; beyond that, whatever the rule, nothing is deleted that is preserved, or that a run waits for or works on. What
cannot be known from the state (that the files are still those that were searched) is proven by the shell as the rule's
`proof` says, just before it deletes.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping

import msgspec

from socs_bl.search.model import Proof


class Standing(enum.Enum):
    """What the state knows about a directory; the value is how people are told that it is missing."""

    SEARCHED = "searched completely"
    CATALOGUED = "catalogued"
    MEASURED = "measured to be too short"


class Bar(enum.Enum):
    """What forbids every deletion."""

    PRESERVED = "it is preserved; unpreserve it first"
    WANTED = "a run waits for it or works on it"
    GOING = "it is being deleted already"


class Rule(msgspec.Struct, frozen=True):
    """One rule.

    Attributes
    ----------
    name : str
    text : str
        In words, for people and for the message of a refusal.
    needs : frozenset of Standing
    proof : Proof
        What the shell must show first.
    """

    name: str
    text: str
    needs: frozenset[Standing]
    proof: Proof


_SEARCHED = frozenset({Standing.SEARCHED, Standing.CATALOGUED})

AFTER_SEARCH = Rule(
    "searched",
    "searched completely, unchanged since, products written and catalogued, not preserved, and raw data are not kept",
    _SEARCHED,
    Proof.SEARCHED,
)
TOO_SHORT = Rule(
    "too_short",
    "measured to be too short, unchanged since, not preserved, and neither raw nor short data are kept",
    frozenset({Standing.MEASURED}),
    Proof.MEASURED,
)
DISK_SHORT = Rule(
    "disk_short",
    "the disk is short, it is the oldest that was searched completely, unchanged since, catalogued, not preserved",
    _SEARCHED,
    Proof.SEARCHED,
)
ASKED = Rule(
    "asked", "somebody asks; searched completely, unchanged since, catalogued, not preserved", _SEARCHED, Proof.SEARCHED
)
FORCED = Rule(
    "forced", "somebody insists; no run waits for it or works on it, not preserved", frozenset(), Proof.NOTHING
)

RULES: Mapping[str, Rule] = {rule.name: rule for rule in (AFTER_SEARCH, TOO_SHORT, DISK_SHORT, ASKED, FORCED)}


def objection(rule: Rule, standing: Collection[Standing], bars: Collection[Bar]) -> str:
    """Why `rule` does not hold for a directory; empty when it does."""
    reasons = [bar.value for bar in Bar if bar in bars]
    reasons += [f"it is not {need.value}" for need in Standing if need in rule.needs and need not in standing]
    return f"{'; '.join(reasons)} (rule {rule.name}: {rule.text})" if reasons else ""
