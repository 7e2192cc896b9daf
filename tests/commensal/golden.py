"""Golden messages: every Redis command of one cycle of `array_1` with two instances, as the original's users see them."""

from __future__ import annotations

import json

from tests.commensal.bench import SYNC

Commands = list[tuple[str, ...]]


def group(key: str, value: str, array: str = "array_1") -> Commands:
    """A key to both groups of a subarray, published and remembered."""
    commands: Commands = []
    for number in "01":
        channel = f"bluse:{array}-{number}///set"
        commands += [("PUBLISH", channel, f"{key}={value}"), ("HSET", channel, key, value)]
    return commands


def state(recproc: str, subscribed: str = "", ready: str = "", recording: str = "", processing: str = "") -> str:
    """A saved state without its timestamp; instances as `BOTH` names them."""
    names = {"subscribed": subscribed, "ready": ready, "recording": recording, "processing": processing}
    lists = {key: [f"blpn{name}" for name in value.split()] for key, value in names.items()}
    return json.dumps({"recproc_state": recproc, **lists})


def untimed(commands: Commands) -> Commands:
    """Commands with the timestamp taken out of saved states; consecutive equal saves once."""
    kept: Commands = []
    for command in commands:
        if command[1].endswith(":state"):
            saved = json.loads(command[2])
            assert saved.pop("timestamp") > 0
            command = (*command[:2], json.dumps(saved))
        kept.append(command)
    return kept


BOTH = "64/0 64/1"
SUBSCRIBED: Commands = [("SET", "array_1:freesub_state", "SUBSCRIBED")]
RUN = "MeerKAT:array_1:20270115T080018Z"
FIRST = "/buf0/20270115T080018Z-20261121-0001"
SECOND = "/buf1/20270115T080018Z-20261121-0001"
FACTS = f'{{"band": "l", "start_ts": 1800000018.048, "nants": 4, "obsid": "{RUN}"}}'

# Configure.
CONFIGURING: Commands = [
    ("SET", "array_1:freesub_state", "CONFIGURING"),
    ("SET", "array_1:state", state("READY")),
]

# After conf_complete, when the metadata are there: instances are claimed.
CLAIMED: Commands = [
    ("SET", "coordinator:cal_ts:array_1", "0"),
    ("PUBLISH", "bluse://blpn64/0/gateway", "join=array_1-0"),
    ("PUBLISH", "bluse://blpn64/1/gateway", "join=array_1-1"),
    ("SET", "free_instances", '["blpn65/0","blpn65/1"]'),
    *SUBSCRIBED,
    ("SET", "array_1:state", state("READY", BOTH, BOTH)),
]

# The announcement.
ANNOUNCED: Commands = [
    *group("SUBARRAY", "array_1"),
    *group("BINDPORT", "7148"),
    *group("FENSTRM", "8"),
    *group("SYNCTIME", str(SYNC)),
    *group("FECENTER", "1420"),
    *group("FENCHAN", "128"),
    *group("CHAN_BW", "0.0040000000000000001"),
    *group("HNCHAN", "16"),
    *group("HNTIME", "256"),
    *group("HCLOCKS", "65536"),
    *group("NANTS", "4"),
    *group("DWELL", "0"),
    *group("PKTSTART", "0"),
    ("PUBLISH", "bluse://blpn64/0/set", "NSTRM=4"),
    ("PUBLISH", "bluse://blpn64/0/set", "SCHAN=0"),
    ("PUBLISH", "bluse://blpn64/0/set", "DESTIP=239.192.1.0+3"),
    ("PUBLISH", "bluse://blpn64/1/set", "NSTRM=4"),
    ("PUBLISH", "bluse://blpn64/1/set", "SCHAN=64"),
    ("PUBLISH", "bluse://blpn64/1/set", "DESTIP=239.192.1.4+3"),
    ("DEL", "coordinator:allocated_hosts:array_1"),
    ("RPUSH", "coordinator:allocated_hosts:array_1", "blpn64/0"),
    ("RPUSH", "coordinator:allocated_hosts:array_1", "blpn64/1"),
    *SUBSCRIBED,
    ("SET", "array_1:state", state("READY", BOTH, BOTH)),
]

# The start of a recording.
STARTED: Commands = [
    *group("DWELL", "20"),
    *group("DATADIR", FIRST)[:2],
    ("SET", "array_1:datadir", FIRST),
    *group("DATADIR", SECOND)[2:],
    ("SET", "array_1:datadir", SECOND),
    *group("SRC_NAME", "J0437-4715"),
    *group("RA", "67.5"),
    *group("RA_STR", "04:30:00"),
    *group("DEC", "-47.25"),
    *group("DEC_STR", "-47:15:00"),
    *group("OBSID", RUN),
    *group("PKTSTART", "15907"),
    (
        "PUBLISH",
        "target-selector:pointings",
        'POINTING:{"telescope": "MeerKAT", "array": "array_1", "pktstart_str": "20270115T080018Z",'
        ' "target": "J0437-4715", "ra_deg": 67.5, "dec_deg": -47.25, "f_max": 1420.256, "band": "l"}',
    ),
    ("LPUSH", "blpn64/0:unprocessed", FIRST),
    ("LPUSH", "blpn64/1:unprocessed", SECOND),
    ("SET", f"metadata:{FIRST}", FACTS),
    ("SET", f"metadata:{SECOND}", FACTS),
    ("SET", f"rec_end:{FIRST}", "1800000038.048"),
    ("SET", f"rec_end:{SECOND}", "1800000038.048"),
    *SUBSCRIBED,
    ("SET", "array_1:state", state("RECORD", BOTH, "", BOTH)),
]

# The end of its dwell.
ENDED: Commands = [
    ("PUBLISH", "rec_result", "rec-timeout:array_1"),
    *SUBSCRIBED,
    ("SET", "array_1:state", state("RECORD", BOTH, "", BOTH)),
    ("SET", "blpn64/0:last-datadir", FIRST),
    ("SET", "blpn64/1:last-datadir", "unknown"),
    *SUBSCRIBED,
    ("SET", "array_1:state", state("PROCESS", BOTH, "", "", BOTH)),
]

# Both results.
RETURNED: Commands = [
    ("LREM", "blpn64/0:unprocessed", "0", FIRST),
    *SUBSCRIBED,
    ("SET", "array_1:state", state("PROCESS", BOTH, "64/0", "", "64/1")),
    ("LREM", "blpn64/1:unprocessed", "0", SECOND),
    *(("EXPIRE", f"{kind}:{d}", "2592000") for d in (FIRST, SECOND) for kind in ("metadata", "rec_end")),
    ("SET", "automator:n_proc", "1"),
    *SUBSCRIBED,
    ("SET", "array_1:state", state("READY", BOTH, BOTH)),
]

# Deconfigure.
RELEASED: Commands = [
    ("PUBLISH", "bluse://blpn64/0/set", "DESTIP=0.0.0.0"),
    ("PUBLISH", "bluse://blpn64/0/set", "DWELL=0"),
    ("HSET", "bluse://blpn64/0/set", "DESTIP", "0.0.0.0"),
    ("HSET", "bluse://blpn64/0/set", "DWELL", "0"),
    ("PUBLISH", "bluse://blpn64/1/set", "DESTIP=0.0.0.0"),
    ("PUBLISH", "bluse://blpn64/1/set", "DWELL=0"),
    ("HSET", "bluse://blpn64/1/set", "DESTIP", "0.0.0.0"),
    ("HSET", "bluse://blpn64/1/set", "DWELL", "0"),
    ("PUBLISH", "bluse://blpn64/0/gateway", "leave=array_1-0"),
    ("PUBLISH", "bluse://blpn64/1/gateway", "leave=array_1-1"),
    ("PUBLISH", "bluse:array_1-0///gateway", "leave=array_1-0"),
    ("PUBLISH", "bluse:array_1-1///gateway", "leave=array_1-1"),
    ("DEL", "coordinator:allocated_hosts:array_1"),
    ("SET", "free_instances", '["blpn64/0","blpn64/1","blpn65/0","blpn65/1"]'),
    ("SET", "array_1:freesub_state", "FREE"),
    ("SET", "array_1:state", state("READY")),
]
