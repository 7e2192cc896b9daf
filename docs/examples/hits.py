"""Show what the searches of tonight have found: run, frequency, drift rate and signal-to-noise ratio of every hit."""

from pathlib import Path

from socs_bl.client import MatchedClient

for name in ("blpn64/0", "blpn64/1"):
    queue = MatchedClient(f"analyzer-{name.replace('/', '-')}").queue_status().session["data"]
    for run in reversed(queue["reported"]):
        print(f"{name} {run['run']}: {run['reason']}, {run['hits']} hits")
        for product in run["products"]:
            if product.endswith(".dat"):
                rows = [line.split() for line in Path(product).read_text().splitlines() if line[:1].isdigit()]
                for row in rows:
                    print(f"    {float(row[3]):.6f} MHz, {float(row[1]):+.3f} Hz/s, S/N {float(row[2]):.1f}")
