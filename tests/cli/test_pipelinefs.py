"""The commands pipelinefs and wcbe-setup: how agents are started, what is refused, what setup does and leaves alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ocs import site_config

from socs_bl.cli import pipelinefs, setup
from socs_bl.cli.nodes import SPAWN, WampNodes, check_spawn, spawn_command
from socs_bl.core.errors import Refused, Retry
from socs_bl.correlator.pipelinefs import Address
from tests.correlator.pipelinefs import memory
from tests.harness.fuse import mounted
from tests.harness.live import wait_until, write_site

HUB = {
    "wamp_server": "ws://127.0.0.1:1/ws", "wamp_http": "http://127.0.0.1:1/call", "wamp_realm": "realm",
    "address_root": "observatory",
}  # fmt: skip
AT = Address("cbe-node-01", 9000)


def nodes(directory: Path, spawn: str = SPAWN) -> WampNodes:
    """Agents of a site in which cbe-02 has an entry; nothing runs."""
    site = write_site(directory, HUB, [{"agent-class": "CBEPipeline", "instance-id": "cbe-02"}])
    return WampNodes(site_config.add_arguments().parse_args(["--site-file", str(site)]), directory, spawn)


def test_a_command_for_another_host_is_made_of_words() -> None:
    """No shell of ours sees it, and the one at the other end of ssh gets nothing to interpret."""
    spawn = "ssh -p {port} wcbe@{host} /opt/python {arguments} --log-dir /var/log/{name}"
    command = spawn_command(spawn, "01", AT, ["-m", "agent", "--instance-id", "cbe-01"])
    assert command == [
        "ssh", "-p", "9000", "wcbe@cbe-node-01", "/opt/python", "-m", "agent", "--instance-id", "cbe-01", "--log-dir",
        "/var/log/01",
    ]  # fmt: skip
    with pytest.raises(Refused, match="characters that a remote shell may change"):
        spawn_command(spawn, "01", AT, ["--site-file", "/etc/x; reboot"])
    assert spawn_command(SPAWN, "01", AT, ["/with space"]) == [sys.executable, "/with space"]


@pytest.mark.parametrize("spawn", ["ssh {host}", "{arguments} {user}", "ssh {host {arguments}", "'ssh {arguments}"])
def test_a_template_that_cannot_work_is_refused(spawn: str) -> None:
    """Before anything is mounted, and not when the first instance is wanted."""
    with pytest.raises(Refused, match="--spawn"):
        check_spawn(spawn)


def test_what_starts_an_agent(tmp_path: Path) -> None:
    """An instance that the site file lists takes its arguments from there; another one is told where the router is."""
    wamp = nodes(tmp_path, "/bin/sh -c 'echo \"$@\"; exit 3' {arguments}")
    for name, expected in (
        ("02", f"socs_bl.agents.cbe_pipeline.agent --instance-id cbe-02 --site-file {tmp_path}/default.yaml"),
        (
            "01",
            "socs_bl.agents.cbe_pipeline.agent --instance-id cbe-01 --site none --site-file none "
            "--crossbar-timeout 0 --site-hub ws://127.0.0.1:1/ws "
            "--site-http http://127.0.0.1:1/call --site-realm realm --address-root observatory --access-policy none",
        ),
    ):
        ended = wamp.start(name, AT)
        wait_until(ended, what="the end of the shell")
        assert ended() == f"exit status 3; its log {tmp_path}/cbe-{name}.log ends: {expected}"


def test_another_host_wants_a_template(tmp_path: Path) -> None:
    """Nothing is started here that was meant for there."""
    with pytest.raises(Refused, match="cbe-node-01 is not this machine; .* --spawn 'ssh {host} python3 {arguments}'"):
        nodes(tmp_path).start("01", AT)


def test_without_a_router_nobody_answers(tmp_path: Path) -> None:
    """The sentence says where the router was looked for."""
    with pytest.raises(Retry, match="no router at http://127.0.0.1:1/call"):
        nodes(tmp_path).session("01")


def test_what_cannot_be_mounted_is_said_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback: the place, the group, the site."""
    site = str(write_site(tmp_path, HUB, []))
    (tmp_path / "file").touch()
    state = ["--state-dir", str(tmp_path / "state"), "--site-file", site, "-f"]
    assert pipelinefs.main([str(tmp_path), *state]) == 1
    assert f"pipelinefs: {tmp_path} is not an empty directory" in capsys.readouterr().err
    assert pipelinefs.main([str(tmp_path), *state, "--group", "nobody-has-this"]) == 1
    assert "pipelinefs: there is no group 'nobody-has-this'" in capsys.readouterr().err
    assert pipelinefs.main([str(tmp_path), *state[:-2], "/nowhere.yaml"]) == 1
    assert "pipelinefs: no site configuration" in capsys.readouterr().err
    assert pipelinefs.main([str(tmp_path), *state, "--run-dir", str(tmp_path)]) == 1
    assert f"pipelinefs: nothing runs in {tmp_path}" in capsys.readouterr().err


def test_without_the_extra_the_command_that_installs_it_is_said() -> None:
    """mfusepy is an extra."""
    program = (
        "import sys; sys.modules['mfusepy'] = None\n"
        "from socs_bl.correlator.pipelinefs.mount import import_mfusepy\n"
        "try:\n    import_mfusepy()\nexcept Exception as error:\n    print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("Refused mounting needs mfusepy")
    assert "pip install 'socs_bl[fuse]'" in done.stdout


@pytest.mark.parametrize(
    ("mounts", "found"),
    [
        ("pipelinefs /mnt/my\\040pipes fuse.pipelinefs rw 0 0\nproc /proc proc rw 0 0\n", "/mnt/my pipes"),
        ("proc /proc proc rw 0 0\n", "nowhere; mount it first"),
        (
            "p /a fuse.pipelinefs rw 0 0\np /b fuse.pipelinefs rw 0 0\n",
            r"more than once \(/a, /b\); say which with --mount",
        ),
    ],
)
def test_setup_finds_the_mount(tmp_path: Path, mounts: str, found: str) -> None:
    """The only one that there is; otherwise people say which."""
    (tmp_path / "mounts").write_text(mounts, encoding="utf-8")
    if found.startswith("/"):
        assert setup.find_mount(tmp_path / "mounts") == Path(found)
    else:
        with pytest.raises(Refused, match=found):
            setup.find_mount(tmp_path / "mounts")


@pytest.mark.live
def test_setup_does_what_is_missing_and_leaves_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once it starts the instance with c0; again it changes nothing, and never what people observe with."""
    top = tmp_path / "pipelines"
    with mounted([sys.executable, "-m", memory.__name__], top):
        words = ["02", "--mount", str(top), "--bdfdir", "/data/.private", "--source", "udp://239.1.2.3:5000"]
        assert setup.main(words) == 0
        assert capsys.readouterr().out.splitlines() == [
            "02: connected, localhost:9000",
            "files are created in /data/.private",
            "02: lag frames come from udp://239.1.2.3:5000",
            "02: configuration c0 created",
            "02: configuration c0 will be active once frames flow",
            "02: the flow is on",
        ]
        (top / "02/configurations/a").write_text("<config></config>\n")
        (top / "02/activations/now-a").write_text("1\n")
        (top / "02/flow").write_text("on\n")
        assert (top / "02/active").readlink() == Path("configurations/a")
        assert setup.main(words) == 0
        assert capsys.readouterr().out == "02: ready already\n"
        assert (top / "02/active").readlink() == Path("configurations/a")
        assert setup.main(["02", "--mount", str(top), "--source", "udp://239.1.2.4:5000"]) == 0
        assert "02: configuration c0 created" in capsys.readouterr().out, "the new source has destroyed the old one"
        assert setup.main(["02", "--mount", str(top), "--source", "http://x"]) == 1
        assert "'http://x' is not a source" in capsys.readouterr().err
        assert setup.main(["04", "--mount", str(top)]) == 0
        assert "04: no source yet" in capsys.readouterr().out
        assert (top / "04/pending").read_text() == "activate c0\n"
        assert setup.main(["04", "--mount", str(top)]) == 0
        assert (top / "04/pending").read_text() == "activate c0\n"
    assert setup.main(["02", "--mount", str(top)]) == 1
    assert f"no pipelinefs is mounted at {top}" in capsys.readouterr().err
