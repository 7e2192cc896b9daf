"""The tree as a plain class, with instances in this process."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socs_bl.core.errors import Faulty, Refused, Retry
from socs_bl.correlator.pipelinefs import Address, Instances, Tree
from socs_bl.correlator.pipelinefs.nodes import TASK_TIMEOUT
from socs_bl.correlator.pipelinefs.table import described
from socs_bl.correlator.pipelinefs.tree import number_of
from tests.correlator.pipelinefs.memory import SCAN, SCAN_FILE, MemoryNodes, make_tree

DOCUMENT = b'<config name="a">\n <inputConfig/>\n <outputConfig/>\n <pipelineConfig/>\n</config>\n'
CONFIGURATIONS = "/01/configurations"


def text(tree: Tree, path: str) -> str:
    """The content of a file."""
    return tree.read(path).decode()


def make(tree: Tree, path: str, content: bytes) -> None:
    """A new file, as a program writes it."""
    draft = tree.create(path)
    try:
        draft.write(content)
        draft.finish()
    finally:
        draft.close()


@contextmanager
def fails(number: int) -> Iterator[None]:
    """An error with this number, whatever its type."""
    with pytest.raises((OSError, Refused, Retry, Faulty)) as failure:
        yield
    assert number_of(failure.value) == number, failure.value


def observing() -> tuple[Tree, MemoryNodes]:
    """An instance with two configurations, one active, and everything there is that is there only at times."""
    tree, nodes = make_tree("01")
    tree.write("/01/src", b"file:///data/x.blf\n")
    make(tree, f"{CONFIGURATIONS}/c0", b"<config></config>")
    make(tree, f"{CONFIGURATIONS}/a", DOCUMENT)
    tree.write("/01/activations/now-a", b"1\n")
    tree.write("/01/flow", b"on\n")
    tree.rmdir(f"{CONFIGURATIONS}/a")
    make(tree, f"/01/recordings/{SCAN_FILE}", json.dumps(SCAN).encode())
    return tree, nodes


def walk(tree: Tree, path: str = "") -> Iterator[str]:
    """All directories."""
    yield path or "/"
    for name in tree.list(path or "/"):
        if tree.lookup(f"{path}/{name}").kind == "directory":
            yield from walk(tree, f"{path}/{name}")


def test_every_entry_is_described_where_it_is_and_every_description_is_true() -> None:
    """The READMEs are the reference: nothing is there that they do not name, nothing is named that is not there."""
    tree, _ = observing()
    directories = list(walk(tree))
    assert len(directories) > 20
    for directory in directories:
        names = tree.list(directory)
        told = described(text(tree, f"{directory}/README"))
        placeholders = [name for name in told if name.startswith("<")]
        assert sorted(set(told) - set(placeholders)) == sorted(set(told) & set(names)), directory
        assert placeholders or set(names) == set(told), directory
        for name in names:
            entry = tree.lookup(f"{directory}/{name}")
            if entry.kind == "file" and entry.readable:
                assert len(tree.read(f"{directory}/{name}")) == entry.size or name == "document"


def test_a_quiet_instance_lacks_what_its_readme_says_is_there_only_at_times() -> None:
    """live_ts and rate only while a file is played, active only while one is, pending only while something is."""
    tree, nodes = make_tree("01")
    told = set(described(text(tree, "/01/README")))
    assert told - set(tree.list("/01")) == {"live_ts", "rate", "active", "pending"}
    told_of = {part.partition("  ")[0]: part for part in text(tree, "/01/README").split("\n\n")}
    for name in ("live_ts", "rate", "active", "pending"):
        assert "is there only while" in " ".join(told_of[name].split())
        with fails(errno.ENOENT):
            tree.lookup(f"/01/{name}")
    tree.write("/01/src", b"file:///data/x.blf\n")
    assert told - set(tree.list("/01")) == {"active", "pending"}
    assert nodes.agents["01"].data["source"]["uri"] == "file:///data/x.blf"


@pytest.mark.parametrize(
    ("path", "written", "task", "parameters"),
    [
        ("/01/src", "udp://239.1.2.3:5000", "set_source", {"uri": "udp://239.1.2.3:5000"}),
        ("/01/flow", "off", "set_flow", {"flow": "off"}),
        ("/01/live_ts", "true", "set_playback", {"live_timestamps": True}),
        ("/01/rate", "1500", "set_playback", {"rate": 1500}),
        (
            "/01/framedump", "ascii", "set_framedump", {"mode": "ascii", "directory": "", "size": 0},
        ),
        ("/01/framedump_dir", "/d", "set_framedump", {"mode": "none", "directory": "/d", "size": 0}),
        ("/01/framedump_size", "9", "set_framedump", {"mode": "none", "directory": "", "size": 9}),
        (f"{CONFIGURATIONS}/c0/autodestroy", "1", "set_autodestroy", {"name": "c0", "autodestroy": True}),
        (
            f"{CONFIGURATIONS}/a/pipelines/P0/integrate/properties/n", "7", "set_property",
            {"configuration": "a", "pipeline": "P0", "element": "integrate", "property": "n", "value": "7"},
        ),
        (
            f"{CONFIGURATIONS}/a/pipelines/INPUT_STAGE/framedump/properties/mode", "binary", "set_framedump",
            {"mode": "binary", "directory": "", "size": 0},
        ),
        ("/01/activations/now-c0", "1", "activate_configuration", {"name": "c0"}),
        ("/bdfdir", "/data/.private", "set_bdfdir", {"directory": "/data/.private"}),
    ],
)  # fmt: skip
def test_what_is_written_is_asked_of_the_instance_and_read_back(
    path: str, written: str, task: str, parameters: dict[str, object]
) -> None:
    """Every writable entry runs its task once, with typed parameters; a read after it gives the new value."""
    tree, nodes = observing()
    asked = len(nodes.agents["01"].done)
    tree.write(path, f"{written}\n".encode())
    assert nodes.agents["01"].done[asked:] == [(task, parameters)]
    if tree.lookup(path).readable:
        assert text(tree, path) == f"{written}\n"


@pytest.mark.parametrize(
    ("path", "written", "number"),
    [
        ("/01/flow", b"maybe\n", errno.EINVAL),
        ("/01/src", b"http://x\n", errno.EINVAL),
        ("/01/rate", b"-1\n", errno.EINVAL),
        ("/01/rate", b"0.5\n", errno.EINVAL),
        ("/01/rate", "\u0661\n".encode(), errno.EINVAL),
        ("/01/live_ts", b"1\n", errno.EINVAL),
        ("/01/framedump_size", b"1.5\n", errno.EINVAL),
        ("/01/activations/now-a", b"0\n", errno.EINVAL),
        ("/01/activations/now-z", b"1\n", errno.ENOENT),
        ("/bdfdir", b"data\n", errno.EINVAL),
        ("/bdfdir", b"/data/../etc\n", errno.EINVAL),
        ("/01/src", b"\xff\xfe", errno.EINVAL),
        ("/01/src", b"two\nlines\n", errno.EINVAL),
        ("/01/src", b"x" * 5000, errno.EINVAL),
        ("/01/name", b"x\n", errno.EACCES),
        ("/README", b"x\n", errno.EACCES),
        ("/01", b"x\n", errno.EISDIR),
        ("/02/flow", b"on\n", errno.ENOENT),
        (f"{CONFIGURATIONS}/a/pipelines/P0/integrate/properties/n", b"x\n", errno.EINVAL),
        (f"{CONFIGURATIONS}/a/pipelines/INPUT_STAGE/src/properties/actual-rate", b"5\n", errno.EACCES),
    ],
)
def test_what_cannot_be_written_is_refused_and_changes_nothing(path: str, written: bytes, number: int) -> None:
    """Every refusal has its number; the instance is as before."""
    tree, nodes = observing()
    before = json.dumps(nodes.agents["01"].data)
    with fails(number):
        tree.write(path, written)
    assert json.dumps(nodes.agents["01"].data) == before


def test_a_running_instance_is_connected_and_one_that_is_not_is_started() -> None:
    """host:port in a new file: a probe first, the agent's start only when nobody answers; then it is a directory."""
    tree, nodes = make_tree("01", connected=False)
    make(tree, "/01", b"node1:9000\n")
    assert nodes.started == []
    make(tree, "/02", b"[::1]:9001")
    assert nodes.started == [("02", Address("[::1]", 9001))]
    assert tree.lookup("/02").kind == "directory"
    assert text(tree, "/02/name") == "02\n"
    with fails(errno.EEXIST):
        tree.create("/02")


@pytest.mark.parametrize("content", [b"", b"node1", b":9000", b"a b:1", b"node1:0", b"node1:99999", b"-o:22", b"x;y:1"])
def test_an_address_that_is_none_makes_no_instance(content: bytes) -> None:
    """Nothing but host:port goes on to a command line."""
    tree, nodes = make_tree()
    if content:
        with fails(errno.EINVAL):
            make(tree, "/01", content + b"\n")
    else:
        make(tree, "/01", content)
    assert nodes.started == []
    with fails(errno.ENOENT):
        tree.lookup("/01")


@pytest.mark.parametrize("name", ["bdfdir", "README", "errors", "recordings"])
def test_names_of_entries_are_not_names_of_instances(name: str) -> None:
    """An instance cannot hide an entry of the top directory."""
    tree, _ = make_tree()
    with fails(errno.EEXIST):
        tree.create(f"/{name}")


@given(st.text(alphabet=st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=12))
def test_strange_names_reach_nobody(name: str) -> None:
    """A name either is one for an instance or makes nothing: no path, address or command is made of another."""
    tree, nodes = make_tree()
    try:
        make(tree, f"/{name}", b"localhost:9000\n")
    except (Refused, OSError):
        assert nodes.started == []
    else:
        assert name.replace("_", "").isascii() and name.replace("_", "").isalnum()


def test_an_instance_that_does_not_come_up_says_why() -> None:
    """The end of a start is told with its reason, and the name is free again."""
    tree, nodes = make_tree()
    nodes.stillborn = "exit status 1; its log ends: no router"
    with pytest.raises(Faulty, match="exit status 1; its log ends: no router"):
        make(tree, "/01", b"localhost:9000\n")
    nodes.stillborn = ""
    make(tree, "/01", b"localhost:9000\n")
    assert tree.list("/") == ["01", "README", "bdfdir", "errors", "recordings"]


def test_rmdir_shuts_an_instance_down_and_one_that_is_gone_is_taken_out() -> None:
    """The directory need not be empty, and the agent need not be there any more."""
    tree, nodes = make_tree("01", "02")
    agent = nodes.agents["01"]
    tree.rmdir("/01")
    assert agent.done == [("shutdown", {})]
    del nodes.agents["02"]
    tree.rmdir("/02")
    assert tree.list("/") == ["README", "bdfdir", "errors", "recordings"]
    assert " /02: taken out without being told to end: agent cbe-02 did not answer" in text(tree, "/errors")


def test_the_directory_of_files_is_told_to_all_and_to_those_that_come() -> None:
    """bdfdir is one for all instances; before anybody has written it, it is what they have."""
    tree, nodes = make_tree("01", "02")
    assert text(tree, "/bdfdir") == "\n"
    tree.write("/bdfdir", b"/data/.private\n")
    make(tree, "/03", b"localhost:9000\n")
    assert [agent.data["bdfdir"] for agent in nodes.agents.values()] == ["/data/.private"] * 3
    other = Tree(Instances(nodes))
    make(other, "/01", b"localhost:9000\n")
    assert text(other, "/bdfdir") == "/data/.private\n"


def test_one_instance_that_is_away_fails_alone() -> None:
    """What is meant for all is done by all others, and the error names who has not done it."""
    tree, nodes = make_tree("01", "02", "03")
    del nodes.agents["02"]
    with pytest.raises(Faulty, match=r"\A02: agent cbe-02 did not answer"):
        tree.write("/bdfdir", b"/data/.private\n")
    assert {agent.data["bdfdir"] for agent in nodes.agents.values()} == {"/data/.private"}


@pytest.mark.timeout(60)
def test_an_instance_that_hangs_costs_the_first_reader_its_patience_and_the_next_nothing() -> None:
    """Only one question is under way at a time; the other instances answer; the directory can still be listed."""
    tree, nodes = make_tree("01", "02", patience=0.2)
    nodes.hanging["01"] = threading.Event()
    looks = nodes.looks
    try:
        for _ in range(1000):
            with fails(errno.ETIMEDOUT):
                tree.read("/01/flow")
        assert nodes.looks == looks + 1
        assert "flow" in tree.list("/01") and "active" not in tree.list("/01")
        assert tree.lookup("/01/flow").kind == "file"
        assert text(tree, "/02/flow") == "off\n"
    finally:
        nodes.hanging["01"].set()


def test_what_was_asked_before_a_task_is_not_shown_after_it() -> None:
    """A look that was under way while a task ran does not count as newer than the task."""
    tree, nodes = make_tree("01")
    instance = tree.instances.get("01")
    nodes.hanging["01"] = threading.Event()
    seen: list[object] = []
    reader = threading.Thread(target=lambda: seen.append(instance.session()["flow"]))
    looks = nodes.looks
    reader.start()
    while nodes.looks == looks:
        reader.join(0.001)
    instance.run("set_flow", {"flow": "on"}, TASK_TIMEOUT)
    nodes.hanging.pop("01").set()
    assert instance.session()["flow"] == "on"
    reader.join()


def test_a_configuration_is_created_by_writing_its_document() -> None:
    """In one write or in many, and whole: the document is read back as it was written; what is wrong is told at once."""
    tree, nodes = make_tree("01")
    draft = tree.create(f"{CONFIGURATIONS}/a")
    assert tree.lookup(f"{CONFIGURATIONS}/a").kind == "file"
    assert tree.list(CONFIGURATIONS) == ["README", "a"]
    with fails(errno.EBUSY):
        tree.create(f"{CONFIGURATIONS}/a")
    for start in range(0, len(DOCUMENT), 7):
        draft.write(DOCUMENT[start : start + 7])
    assert tree.lookup(f"{CONFIGURATIONS}/a").kind == "directory"
    draft.close()
    assert tree.read(f"{CONFIGURATIONS}/a/document").strip() == DOCUMENT.strip()
    with fails(errno.EINVAL):
        tree.create(f"{CONFIGURATIONS}/b").write(b"<wrong/>\n</wrong>")
    with fails(errno.EINVAL):
        make(tree, f"{CONFIGURATIONS}/c", b"<config> that ends too early")
    assert list(nodes.agents["01"].documents) == ["a"]


def test_a_file_that_is_never_written_leaves_nothing() -> None:
    """``touch`` makes no configuration."""
    tree, nodes = make_tree("01")
    tree.create(f"{CONFIGURATIONS}/a").close()
    assert tree.list(CONFIGURATIONS) == ["README"]
    assert nodes.agents["01"].done == []


def test_activation_is_pending_until_frames_flow() -> None:
    """pending has the actions in their order; active is a link, and leads to the configuration."""
    tree, _ = make_tree("01")
    for name in ("c0", "a"):
        make(tree, f"{CONFIGURATIONS}/{name}", DOCUMENT)
        tree.write(f"/01/activations/now-{name}", b"1")
    assert text(tree, "/01/pending") == "activate c0\nactivate a\n"
    with fails(errno.ENOENT):
        tree.readlink("/01/active")
    tree.write("/01/flow", b"on\n")
    assert tree.readlink("/01/active") == "configurations/a"
    assert "pending" not in tree.list("/01")
    rate = "/01/" + tree.readlink("/01/active") + "/pipelines/INPUT_STAGE/src/properties/actual-rate"
    assert text(tree, rate) == "1000.0\n"
    tree.rmdir(f"{CONFIGURATIONS}/a")
    assert text(tree, "/01/pending") == "destroy a\n"
    tree.rmdir(f"{CONFIGURATIONS}/c0")
    assert tree.list(CONFIGURATIONS) == ["README", "a"]


def test_scans_are_recorded_by_one_or_by_all() -> None:
    """A scan in a new file named like its uid; nodes that it does not name are those it was given to; rm stops it."""
    tree, nodes = make_tree("01", "02")
    scan = json.dumps(SCAN).encode()
    with fails(errno.EINVAL):
        make(tree, "/recordings/other", scan)
    make(tree, f"/recordings/{SCAN_FILE}", scan)
    found = json.loads(text(tree, f"/recordings/{SCAN_FILE}"))
    assert {name: found[name]["nodes"] for name in found} == dict.fromkeys(("01", "02"), ["cbe-01", "cbe-02"])
    tree.unlink(f"/01/recordings/{SCAN_FILE}")
    ended = json.loads(text(tree, f"/01/recordings/{SCAN_FILE}"))
    assert ended["state"] == "done" and ended["stop_ns"] > SCAN["start_ns"]
    assert nodes.agents["02"].data["recordings"][SCAN["uid"]]["state"] == "open"
    tree.unlink(f"/recordings/{SCAN_FILE}")
    assert nodes.agents["02"].data["recordings"][SCAN["uid"]]["state"] == "done"


@pytest.mark.parametrize(
    ("act", "number"),
    [
        (lambda tree: tree.mkdir("/02"), errno.EPERM),
        (lambda tree: tree.rmdir("/01/configurations"), errno.EPERM),
        (lambda tree: tree.rmdir("/01/flow"), errno.ENOTDIR),
        (lambda tree: tree.unlink("/01/flow"), errno.EPERM),
        (lambda tree: tree.unlink("/01"), errno.EISDIR),
        (lambda tree: tree.create("/01/x"), errno.EPERM),
        (lambda tree: tree.create("/05/x"), errno.ENOENT),
        (lambda tree: tree.read("/01"), errno.EISDIR),
        (lambda tree: tree.read("/01/activations/now-c0"), errno.EACCES),
        (lambda tree: tree.list("/01/flow"), errno.ENOTDIR),
        (lambda tree: tree.list("/01/flow/x"), errno.ENOENT),
        (lambda tree: tree.readlink("/01/flow"), errno.EINVAL),
        (lambda tree: tree.lookup(f"{CONFIGURATIONS}/a/pipelines/P0/nothing"), errno.ENOENT),
    ],
)
def test_what_the_tree_does_not_do_has_its_number(act: Callable[[Tree], object], number: int) -> None:
    """Programs get the errors that they know from other file systems."""
    with fails(number):
        act(observing()[0])


def test_errors_keep_the_sentences() -> None:
    """A shell shows a number; what it was stands in errors."""
    tree, _ = make_tree("01")
    assert text(tree, "/errors") == ""
    tree.instances.complain("/01/flow", "'maybe'\nis not on or off")
    assert text(tree, "/errors").endswith("Z /01/flow: 'maybe' is not on or off\n")


def test_status_is_json() -> None:
    """For programs: counters, pipelines, what is wrong."""
    tree, _ = observing()
    status = json.loads(text(tree, "/01/status"))
    assert status["counters"] == {"frames": 1000}
    assert status["pipelines"] == {"c0": {}, "a": {"P0": {"state": "up", "restarts": 0}}}
