"""Search: recorded voltages become a list of drifting narrow-band signals.

::

    GUPPI RAW --> voltages --> upchannelise --> beamform --> baseline --> dedoppler --> hits --> grouping --> .dat, .hits,
    (recorded)    per coarse   FFT along        coherent,    level and    Taylor        find,     one hit      .stamps, .h5,
                  channel      time             incoherent   noise        tree          measure,  a signal     plots,
                            recipe (bfr5) ----------^                                   mask                   catalogue

The stream (everything in the first line) is `socs_bl.search.engine.search_recording`; it reads recorded files and
nothing else, works through the band one coarse channel at a time, and runs in a process of its own
(``python -m socs_bl.search``). `socs_bl.search.machine` decides which recording is searched when, and what may be
deleted afterwards; the instance analyzer agent carries its decisions out.
"""

from socs_bl.search.config import SearchConfig

__all__ = ["SearchConfig"]
