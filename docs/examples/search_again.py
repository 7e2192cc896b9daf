"""Search the newest recording of one instance once more, under a name of its own."""

import sys
import time

from socs_bl.client import MatchedClient

analyzer = MatchedClient("analyzer-blpn64-0")
queue = analyzer.queue_status().session["data"]
if not queue["reported"]:
    sys.exit("nothing has been searched yet")
newest = queue["reported"][0]
status, message, session = analyzer.process(run=f"by-hand-{time.time():.0f}", datadir=newest["datadir"], keep_raw=True)
print(f"{session['data']['reason']}, {session['data']['hits']} hits")
for product in session["data"]["products"]:
    print(product)
