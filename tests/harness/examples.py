"""Scripts and commands of the documentation, in the order in which a night needs them, and what each has said."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.harness.live import REPOSITORY

DOCS = REPOSITORY / "docs"
EXAMPLES = DOCS / "examples"
# Run by the commands of the correlator's tutorial.
CORRELATOR = ("lag_frames.py", "scan.py")
NIGHT = [
    ("first_night.py", "SUBSCRIBED +PROCESS +MeerKAT:array_1:.*\n(.*\n)*recorded and searched"),
    ("look.py", r"array_1 FREE READY no instances\n2 free"),
    ("evening.py", "has 2 of 2 instances: blpn64/0, blpn64/1\n.*receives 239.*\n.*receives 239"),
    ("early_stop.py", "recording MeerKAT:array_1:.*\nblpn64/0: too_short, code 0\nblpn64/1: too_short, code 0"),
    ("recorder.py", r"blpn64/0 listening for array_1\nheaps \{'received': [1-9].*\nwriting nothing"),
    ("broken_node.py", "RECORD +blpn64/0\n(.*\n)*blpn64/1: did not start recording .*\nreleased"),
    ("socs-bl explain blpn64/1", "release_instance"),
    ("socs-bl explain array_1", "blpn64/1 quarantined: did not start recording|no status"),
    ("socs-bl replay", "tracking"),
    ("maintenance.py", "blpn64/1 is drained(.*\n)+.*blpn64/1 is free"),
    ("hits.py", r"blpn64/0 MeerKAT:array_1:.* hits\n(.*\n)*blpn64/1 MeerKAT:array_1:"),
    ("morning.py", "[1-9] recordings searched, 2 instances free"),
    ("search_again.py", r"\.dat"),
    ("observe.py", r"cycle 1 of 1: .*\ninjected signals: /"),
]


def console(page: str) -> Iterator[tuple[str, str]]:
    """The commands of a page's console blocks with what they print, in order; ``...`` stands for anything."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for block in re.findall(r"\.\. code-block:: console\n\n((?:    .*\n|\n)+)", text):
        for part in re.split(r"^    \$ ", block, flags=re.M)[1:]:
            command, _, printed = part.partition("\n")
            yield command, "".join(line.removeprefix("    ") + "\n" for line in printed.splitlines() if line)


def printed_as_shown(printed: str, shown: str) -> bool:
    """Whether a command has printed what its page shows."""
    return re.fullmatch(re.escape(shown).replace(re.escape("..."), "(.|\n)*?"), printed) is not None
