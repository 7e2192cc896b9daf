"""Have the simulated correlator observe its schedule, and wait until the node has finished all its recordings."""

import sys

from socs_bl.client import MatchedClient

widar = MatchedClient("widar")
node = MatchedClient("cbe-01")

active = node.run.status().session["data"]["active"]
if active in (None, "c0"):
    sys.exit("no configuration with lag products is active")
print("configuration", active, "is active")
status, message, session = widar.observe.start()
if status != 0:
    sys.exit(message)
said = []
for session in widar.watch("observe"):
    for text in session["data"].get("said", [])[len(said) :]:
        print("Executor:", text, flush=True)
        said.append(text)
print(session["messages"][-1][1])
print("injected sources:", session["data"]["truth"])
