"""Have the simulated correlator observe its schedule, and show what its Executor says."""

import sys
import time

from socs_bl.client import MatchedClient

widar = MatchedClient("widar")
node = MatchedClient("cbe-01")

deadline = time.monotonic() + 60
while (active := node.run.status().session["data"]["active"]) in (None, "c0"):
    if time.monotonic() > deadline:
        sys.exit("no configuration with lag products has become active")
    time.sleep(0.5)
print("configuration", active, "is active")
status, message, session = widar.observe.start()
if status != 0:
    sys.exit(message)
said = []
for session in widar.watch("observe"):
    for text in session["data"].get("said", [])[len(said) :]:
        print("Executor:", text, flush=True)
        said.append(text)
if not session["success"]:
    sys.exit(session["messages"][-1][1])
print(sum(text.startswith("scan ") for text in said), "scans observed")
print("injected sources:", session["data"]["truth"])
