"""Configuration of the commensal system. The defaults are those of the BLUSE site, save what names a place."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from socs_bl.core.config import Config
from socs_bl.core.names import instance_order, parse_instance, parse_subarray
from socs_bl.core.notifications import NotificationsConfig


class SupervisorConfig(Config):
    """Who starts analyzers and restarts recorders and gateways.

    Attributes
    ----------
    kind : str
        ``ocs``: analyzer and recorder agents; ``circus``: a circusd on every host.
    endpoint : str
        Where circusd listens; ``{host}`` is the host's name.
    analyzer, recorder, gateway : str
        Names of the watchers; ``{number}`` is the instance's number.
    deadline : float
        Time one command to circus may take, waiting for its turn at the host included, seconds; a restart may take as
        long as circusd waits for a program that hangs.
    """

    kind: Literal["ocs", "circus"] = "ocs"
    endpoint: str = Field(default="tcp://{host}:5555", pattern=r"^tcp://[A-Za-z0-9_.{}:-]+:[0-9]{1,5}$")
    analyzer: str = Field(default="bluse_analyzer_{number}", pattern=r"^[A-Za-z0-9_.{}-]+$")
    recorder: str = Field(default="bluse_hashpipe_{number}", pattern=r"^[A-Za-z0-9_.{}-]+$")
    gateway: str = Field(default="bluse_redisgw_{number}", pattern=r"^[A-Za-z0-9_.{}-]+$")
    deadline: float = Field(default=8.0, gt=0)


class CalibrationConfig(Config):
    """When and how calibration solutions are taken from the telescope state.

    Attributes
    ----------
    enabled : bool
    delay : float
        Time from the start of a recording to the retrieval, seconds.
    scripts : tuple of str
        Observation scripts whose gains count as a phase-up.
    settle : float
        Time after the second gain solution at which the phase-up counts as done, seconds.
    average : float
        Correction of an input with the array's median gain.
    flatten : bool
        Whether amplitudes are equalised channel by channel.
    keep : float
        Time for which solutions are kept, seconds.
    """

    enabled: bool = False
    delay: float = Field(default=60.0, ge=0)
    scripts: tuple[str, ...] = ("calibrate_delays.py", "bf_phaseup.py")
    settle: float = Field(default=10.0, ge=0)
    average: float = Field(default=100.0, gt=0)
    flatten: bool = True
    keep: float = Field(default=30 * 86400.0, ge=1)


class CommensalConfig(Config):
    """What the coordinator must know.

    Attributes
    ----------
    arrays : tuple of str
        Subarrays handled; the last character is CAM's number of the subarray.
    hashpipe_instances : tuple of str
        The pool, ``host/number`` each.
    streams_per_instance : int
        Multicast groups one instance can take.
    domain : str
        Hashpipe gateway domain.
    telescope : str
        First part of the observation id.
    data_volume : str
        Where an instance records; ``{number}`` is its number.
    dwell : float
        Length of a recording, seconds.
    dwell_margin : float
        Time after the end of the dwell at which the recording counts as ended, seconds.
    packet_margin : int
        Lead time of PKTSTART in heaps, when `lead_seconds` is not given.
    lead_seconds : float or None
        Lead time of PKTSTART in seconds; in 1k mode the heap margin alone is shorter than a status hash is old.
    largest_start_offset : float
        PKTSTART further than this from the clock is refused, seconds.
    start_check : float
        Time after PKTSTART at which every instance must say RECORD, seconds; in a short dwell at half of it.
    stop_pause : float
        Pause between PKTSTART=0 and the end of an early stop, seconds.
    shortest_recording : float
        Below this a recording is not searched, seconds.
    target_tries, target_pause : int, float
        How often, and seconds apart, a target is looked for that is not older than the last track.
    target_slack : float
        How much older than the end of the last track a target may be, seconds.
    join_pause : float
        Time between telling instances to join their group and speaking to the group, seconds.
    confirm_pause : float
        Time after which the status hashes must show what was published, seconds.
    confirm_tries : int
        How often an instance that does not show it is told again.
    processing_tries, processing_pause : int, float
        How often, and seconds apart, an analyzer that does not answer is asked to process.
    legacy_pause : float
        How long the result of a run is waited for when its return on ``proc_result`` has been heard, seconds.
    processing_deadline : float
        An instance whose result has not come by then is quarantined, seconds.
    skip_proposals : tuple of str
        Proposals that are not recorded.
    primary_proposals : tuple of str
        Proposals whose recordings are kept for people: after one the subarray waits.
    max_bad_instances : int or None
        A run with more instances than that that did not return a good result puts the subarray into ERROR; by default
        only one in which nobody did.
    on_error : str
        What becomes of an instance that returns a bad code: ``quarantine``; ``wait``, it stays and the subarray waits
        for people; ``continue``, it stays.
    min_quorum : float
        Fraction of a subarray's instances that must report a packet index for a recording to start.
    record_again : bool
        Whether a subarray that has become ready while the telescope is on source records again at once.
    reminder : float
        How often people are told that a subarray waits for them, seconds; 0 for never.
    release_on_heartbeat : bool
        Whether an instance that was quarantined for silence is released when it comes back.
    watch_interval : float
        How often such an instance is looked at, seconds.
    heartbeat_for : float
        How long it must have been heard of without a gap, seconds.
    heartbeat_returns : int
        How often it may come back by itself without a good result in between.
    slack_channel : str
    supervisor : SupervisorConfig
    calibration : CalibrationConfig
    notifications : NotificationsConfig
        Where notifications go besides the feed.
    """

    arrays: tuple[str, ...] = ("array_1", "array_2", "array_3", "array_4")
    hashpipe_instances: tuple[str, ...] = Field(min_length=1)
    streams_per_instance: int = Field(default=4, ge=1, le=256)
    domain: str = Field(default="bluse", pattern=r"^[a-z][a-z0-9]{0,15}$")
    telescope: str = Field(default="MeerKAT", pattern=r"^[A-Za-z0-9]{1,16}$")
    data_volume: str = Field(default="/buf{number}", pattern=r"^(/[A-Za-z0-9_{}-]+)+$")
    dwell: float = Field(default=290.0, gt=0)
    dwell_margin: float = Field(default=10.0, ge=0)
    packet_margin: int = Field(default=2048, ge=1)
    lead_seconds: float | None = Field(default=None, gt=0)
    largest_start_offset: float = Field(default=120.0, gt=0)
    start_check: float = Field(default=5.0, gt=0)
    stop_pause: float = Field(default=1.5, ge=0)
    shortest_recording: float = Field(default=150.0, ge=0)
    target_tries: int = Field(default=5, ge=1)
    target_pause: float = Field(default=5.0, gt=0)
    target_slack: float = Field(default=10.0, ge=0)
    join_pause: float = Field(default=0.5, ge=0)
    confirm_pause: float = Field(default=3.0, gt=0)
    confirm_tries: int = Field(default=3, ge=0)
    processing_tries: int = Field(default=3, ge=1)
    processing_pause: float = Field(default=5.0, gt=0)
    legacy_pause: float = Field(default=2.0, ge=0)
    processing_deadline: float = Field(default=5400.0, gt=0)
    skip_proposals: tuple[str, ...] = ()
    primary_proposals: tuple[str, ...] = ()
    max_bad_instances: int | None = Field(default=None, ge=0)
    on_error: Literal["quarantine", "wait", "continue"] = "quarantine"
    min_quorum: float = Field(default=0.0, ge=0, le=1)
    record_again: bool = False
    reminder: float = Field(default=1800.0, ge=0)
    release_on_heartbeat: bool = True
    watch_interval: float = Field(default=10.0, gt=0)
    heartbeat_for: float = Field(default=30.0, ge=0)
    heartbeat_returns: int = Field(default=3, ge=0)
    slack_channel: str = "meerkat-obs-log"
    supervisor: SupervisorConfig = SupervisorConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    notifications: NotificationsConfig = NotificationsConfig()

    @field_validator("arrays")
    @classmethod
    def _arrays(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(parse_subarray(name) for name in names)

    @field_validator("hashpipe_instances")
    @classmethod
    def _instances(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted((str(parse_instance(name)) for name in names), key=instance_order))

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for what in (self.arrays, self.hashpipe_instances):
            if len(set(what)) != len(what):
                raise ValueError(f"names must differ: {', '.join(sorted(what))}")
        return self

    @property
    def numbers(self) -> tuple[int, ...]:
        """Instance numbers there are, ascending."""
        return tuple(sorted({parse_instance(name).number for name in self.hashpipe_instances}))
