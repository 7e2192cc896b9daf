"""The one table that the tree is built from: every entry, what it says, what it does, and its line in a README.

`TABLE` holds one `Row` for each kind of entry. A segment in angle brackets stands for the names that ``members`` gives.
Adding a row adds the entry, its permissions and its description.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from socs_bl.correlator.pipelinefs import entries
from socs_bl.correlator.pipelinefs.entries import Place

README = "README"
WIDTH = 100


@dataclass(frozen=True)
class Row:
    """One kind of entry.

    Attributes
    ----------
    path : str
    text : str
        What it is, for the README of its directory.
    kind : {"file", "directory", "link"}
    when : str
        When it is there; empty: always.
    present : callable
        The same, asked.
    members : callable
        For a segment in angle brackets: the names there are.
    read : callable
        Content of a file, target of a link.
    write : callable
        What a line that is written does.
    writable : callable
        Whether this one of several may be written; by default all.
    create, created : callable, str
        What the content of a new file of this name does, and its line in the README.
    remove, removed : callable, str
        What rmdir or rm does, and its line in the README.
    slow : bool
        Reading asks the agent: its size is not told in advance.
    """

    path: str
    text: str
    kind: Literal["file", "directory", "link"] = "file"
    when: str = ""
    present: Callable[[Place], bool] = field(default=lambda _: True)
    members: Callable[[Place], Iterable[str]] | None = None
    read: Callable[[Place], str] | None = None
    write: Callable[[Place, str], None] | None = None
    writable: Callable[[Place], bool] = field(default=lambda _: True)
    create: Callable[[Place, str, bytes], None] | None = None
    created: str = ""
    remove: Callable[[Place], None] | None = None
    removed: str = ""
    slow: bool = False

    @property
    def name(self) -> str:
        """The last segment, without angle brackets."""
        return self.path.rpartition("/")[2].strip("<>")


_PIPELINES = "/<instance>/configurations/<configuration>/pipelines"
_PROPERTY = "a property of the element, as it is now"

TABLE: tuple[Row, ...] = (
    Row(
        "/bdfdir", "directory in which the instances create their BDFs; what is written here goes to all that are "
        "connected and to those that come. The publisher publishes into its parent",
        read=entries.read_bdfdir, write=entries.write_bdfdir,
    ),
    Row("/errors", "what went wrong, in sentences, the newest last: a shell shows only the number of an error",
        read=lambda at: entries.lines(at.instances.complaints())),
    Row("/recordings", "the recordings of all instances", kind="directory"),
    Row(
        "/recordings/<recording>", "a recording as each instance has it, JSON by instance", members=entries.all_recordings,
        read=entries.read_all_recordings, create=entries.record_everywhere,
        created="a scan as JSON (uid, dataset_id, start_ns, stop_ns ...; times in ns since 1970 UTC, a stop of 0 means "
        "open) in a file named like the uid with '_' for everything but letters and digits: all instances record it",
        remove=entries.stop_everywhere, removed="rm stops it now, on all instances",
    ),
    Row(
        "/<instance>", "one instance of the back end", kind="directory", members=lambda at: at.instances.names(),
        create=entries.connect,
        created="host:port in a new file connects the instance of that name, or starts it on that host when none "
        "answers; the entry is then a directory",
        remove=lambda at: at.instances.shut_down(at.names["instance"]),
        removed="rmdir shuts the instance down; the directory need not be empty",
    ),
    Row("/<instance>/name", "the instance's own name", read=lambda at: entries.shown(at.look("name"))),
    Row(
        "/<instance>/src", "where lag frames come from: udp://group-or-address:port, with ?interface=address for "
        "multicast, or file:///path.blf. A change destroys all configurations and switches the flow off",
        read=lambda at: entries.shown(at.look("source", "uri")), write=entries.set_source,
    ),
    Row(
        "/<instance>/flow", "whether frames flow: on or off",
        read=lambda at: entries.shown(at.look("flow")),
        write=lambda at, text: at.run("set_flow", flow=entries.one_of(text, "on", "off")),
    ),
    Row(
        "/<instance>/live_ts", "whether frames that are played back get the present time: true or false",
        when="src is a file of lag frames", present=entries.from_file,
        read=lambda at: entries.shown(at.look("source", "live_timestamps")),
        write=lambda at, text: at.run("set_playback", live_timestamps=entries.truth(text)),
    ),
    Row(
        "/<instance>/rate", "frames a second that are played back; 0: as fast as possible",
        when="src is a file of lag frames", present=entries.from_file,
        read=lambda at: entries.shown(at.look("source", "rate")),
        write=lambda at, text: at.run("set_playback", rate=entries.whole_number(text)),
    ),
    Row(
        "/<instance>/active", "the active configuration", kind="link", when="a configuration is active",
        present=lambda at: bool(at.session.get("active")), read=lambda at: f"configurations/{at.look('active')}",
    ),
    Row(
        "/<instance>/pending", "what was asked for and waits for frames, one '<action> <configuration>' a line, the "
        "oldest first", when="something is pending", present=lambda at: bool(at.session.get("pending")),
        read=lambda at: entries.lines(" ".join(map(str, item)) for item in at.look("pending")),
    ),
    Row("/<instance>/status", "counters, pipelines and what is wrong, JSON", read=entries.read_status),
    Row(
        "/<instance>/framedump", "how frames are dumped to files: none, ascii or binary",
        read=lambda at: entries.shown(at.look("framedump", "mode")),
        write=lambda at, text: entries.set_framedump(at, mode=entries.one_of(text, "none", "ascii", "binary")),
    ),
    Row(
        "/<instance>/framedump_dir", "directory of the dumps",
        read=lambda at: entries.shown(at.look("framedump", "directory")),
        write=lambda at, text: entries.set_framedump(at, directory=text),
    ),
    Row(
        "/<instance>/framedump_size", "bytes after which the next file of a dump begins; 0: the default",
        read=lambda at: entries.shown(at.look("framedump", "size")),
        write=lambda at, text: entries.set_framedump(at, size=entries.whole_number(text)),
    ),
    Row("/<instance>/configurations", "the configurations", kind="directory"),
    Row(
        "/<instance>/configurations/<configuration>", "a configuration", kind="directory",
        members=lambda at: at.look("configurations"), create=entries.create_configuration,
        created="a configuration document (XML) in a new file creates a configuration of that name",
        remove=entries.destroy_configuration,
        removed="rmdir destroys it, the active one once another is activated",
    ),
    Row("/<instance>/configurations/<configuration>/document", "the document it was made from", slow=True,
        read=entries.read_document),
    Row(
        "/<instance>/configurations/<configuration>/autodestroy", "whether it is destroyed once another is "
        "activated: 0 or 1",
        read=lambda at: f"{int(at.look(*entries.configuration(at), 'autodestroy'))}\n",
        write=lambda at, text: at.run(
            "set_autodestroy", name=at.names["configuration"], autodestroy=entries.one_of(text, "0", "1") == "1"
        ),
    ),
    Row(_PIPELINES, "the pipelines that its lag products enter", kind="directory"),
    Row(f"{_PIPELINES}/INPUT_STAGE", "the input stage, which all configurations share", kind="directory"),
    Row(f"{_PIPELINES}/INPUT_STAGE/<element>", "an element of the input stage", kind="directory",
        members=lambda at: at.look("input_stage")),
    Row(f"{_PIPELINES}/INPUT_STAGE/<element>/properties", "its properties", kind="directory"),
    Row(
        f"{_PIPELINES}/INPUT_STAGE/<element>/properties/<property>", _PROPERTY,
        members=lambda at: at.look("input_stage", at.names["element"]), read=entries.read_input_property,
        write=entries.write_input_property, writable=entries.input_property_writable,
    ),
    Row(f"{_PIPELINES}/<pipeline>", "a pipeline", kind="directory", members=entries.pipelines),
    Row(f"{_PIPELINES}/<pipeline>/<element>", "an element of the pipeline", kind="directory",
        members=lambda at: [element["name"] for element in entries.elements(at)]),
    Row(f"{_PIPELINES}/<pipeline>/<element>/properties", "its properties", kind="directory"),
    Row(
        f"{_PIPELINES}/<pipeline>/<element>/properties/<property>", _PROPERTY + "; its permissions tell whether it can be changed",
        members=entries.properties, read=lambda at: entries.shown(entries.properties(at)[at.names["property"]]),
        write=entries.write_property, writable=entries.property_writable,
    ),
    Row("/<instance>/activations", "what activates configurations", kind="directory"),
    Row(
        "/<instance>/activations/<activation>", "now-<configuration>: writing 1 activates that configuration at once",
        members=lambda at: [f"now-{name}" for name in at.look("configurations")], write=entries.activate,
    ),
    Row("/<instance>/recordings", "the recordings of this instance", kind="directory"),
    Row(
        "/<instance>/recordings/<recording>", "a recording, JSON", members=entries.recordings,
        read=lambda at: entries.json_text(entries.recording(at)), create=entries.record,
        created="a scan as JSON, as in the top directory's recordings: this instance alone records it",
        remove=lambda at: entries.stop(at, at.instance), removed="rm stops it now",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Branch:
    """A row and the branches below it."""

    row: Row
    literal: dict[str, Branch] = field(default_factory=dict)
    named: list[Branch] = field(default_factory=list)  # one at most: the segment in angle brackets

    def below(self) -> list[Branch]:
        """All branches directly below, in the order of the table."""
        return [*self.literal.values(), *self.named]


def grow(table: Iterable[Row] = TABLE) -> Branch:
    """The table as a tree, with a README in every directory."""
    root = Branch(Row("", "the back end's instances", kind="directory"))
    for row in table:
        *parents, last = row.path.split("/")[1:]
        branch = root
        for segment in parents:
            branch = branch.literal[segment] if segment in branch.literal else branch.named[0]
        if last.startswith("<"):
            branch.named.append(Branch(row))
        else:
            branch.literal[last] = Branch(row)
    _add_readmes(root)
    return root


def _add_readmes(branch: Branch) -> None:
    for child in branch.below():
        if child.row.kind == "directory":
            _add_readmes(child)
    text = readme(branch)
    branch.literal[README] = Branch(Row(f"{branch.row.path}/{README}", "this text", read=lambda _: text))


def readme(branch: Branch) -> str:
    """What a directory's README says."""
    title = branch.row.path or "/"
    parts = [f"{title}\n{'=' * len(title)}\n{_sentence(branch.row.text)}\n", "README\n" + _indented("This text.")]
    for child in branch.below():
        row = child.row
        shown = f"<{row.name}>" if child in branch.named else row.name
        text = [_sentence(row.text)]
        if row.when:
            text.append(f"It is there only while {row.when}.")
        if row.create:
            text.append(f"To create one: {row.created}.")
        if row.remove:
            text.append(f"To end one: {row.removed}.")
        parts.append(f"{shown}  ({_access(row)})\n" + _indented(" ".join(text)))
    return "\n".join(parts)


def described(text: str) -> list[str]:
    """The names that a README describes, those in angle brackets as they stand there."""
    return [line.partition("  ")[0] for line in text.splitlines()[3:] if line and not line.startswith(" ")]


def _access(row: Row) -> str:
    if row.kind != "file":
        return row.kind
    can = [word for word, function in (("read", row.read), ("write", row.write)) if function]
    return " and ".join(can)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _indented(text: str) -> str:
    return (
        textwrap.indent(textwrap.fill(text, WIDTH - 4, break_long_words=False, break_on_hyphens=False), "    ") + "\n"
    )
