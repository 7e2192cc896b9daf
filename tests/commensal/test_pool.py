"""The pool: a changed list of instances, quarantine and release."""

from __future__ import annotations

from tests.commensal.bench import INSTANCES, Bench


def test_changed_instance_list() -> None:
    """At a restart new instances join the pool; one that is gone leaves it, when it works as soon as it is free."""
    bench = Bench()
    bench.subscribe()
    bench.restart(hashpipe_instances=["blpn64/0", "blpn65/0", "blpn66/0"])
    assert bench.duties() == {"blpn64/0": "ready", "blpn64/1": "ready", "blpn65/0": "free", "blpn66/0": "free"}
    bench.new_writes()
    bench.cam("deconfigure")
    assert bench.duties() == {"blpn64/0": "free", "blpn65/0": "free", "blpn66/0": "free"}
    assert ("SET", "free_instances", '["blpn64/0","blpn65/0","blpn66/0"]') in bench.new_writes()


def test_empty_pool_stays_empty() -> None:
    """A restart with no instance free frees none; the original takes [] for "no data" and frees all."""
    bench = Bench()
    bench.subscribe(streams=16)
    before = bench.duties()
    bench.new_writes()
    bench.restart()
    assert bench.duties() == before == dict.fromkeys(INSTANCES, "ready")
    assert [command[2] for command in bench.new_writes() if command[1] == "free_instances"] == ["[]"]


def test_quarantine_and_release() -> None:
    """An operator takes a free instance out of the pool and puts it back; a working one is left alone."""
    bench = Bench()
    bench.subscribe()
    bench.ask("quarantine_instance", "blpn64/0")
    bench.ask("quarantine_instance", "blpn65/0")
    bench.ask("release_instance", "blpn64/1")
    bench.ask("release_instance", "nobody/0")
    bench.ask("reset_array", "array_1")
    assert bench.quarantined() == ["blpn65/0"] and bench.duties()["blpn64/0"] == "ready"
    bench.ask("release_instance", "blpn65/0")
    assert bench.quarantined() == []


def test_instances_that_left_are_spoken_to() -> None:
    """A working instance whose number the configuration no longer has is told to record like all others."""
    bench = Bench()
    bench.subscribe()
    bench.restart(hashpipe_instances=["blpn64/0", "blpn65/0"])
    run = bench.record()
    started = bench.machine.run(run)
    assert started is not None and started.instances == ("blpn64/0", "blpn64/1")
    told = {channel for channel, payload in bench.messages() if payload.startswith("PKTSTART=")}
    assert {"bluse:array_1-0///set", "bluse:array_1-1///set"} <= told
