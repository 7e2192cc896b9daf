"""Start the simulated correlator, and point the back end's node at its lag frames."""

import sys
import time

from socs_bl.client import MatchedClient

widar = MatchedClient("widar")
node = MatchedClient("cbe-01")


def do(reply) -> dict:
    """Stop with the agent's own words when it has refused or failed; the session data otherwise."""
    status, message, session = reply
    if status != 0 or (session.get("status") == "done" and not session.get("success")):
        sys.exit(f"{session.get('op_name', 'request')}: {message} {session.get('messages', [])[-2:]}")
    return session["data"]


do(widar.boards.start())
while "source" not in (data := widar.boards.status().session["data"]):
    time.sleep(0.2)
do(node.set_source(uri=data["source"]))
do(node.set_flow(flow="on"))
print("lag frames come from", data["source"])
print("configuration of the correlator:", do(widar.configure())["document"])
