"""Capture: SPEAD heaps of the F-engines into GUPPI RAW files, one instance at a time.

::

    set channel -> Gateway -> machine -> effects ---------- in band, between two blocks --.
                                                                                          v
    multicast groups -> receive (spead2, one chunk = one block) -> present flags -> recording -> *.raw
                                                                       |
                                                 exact counters -> status buffer -> status hash

The machine decides (when to listen, when to record, where to); the stream carries blocks and counts every heap that
came, came late, came twice or did not come.
"""
