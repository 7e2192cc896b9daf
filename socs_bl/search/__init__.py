"""Search: recorded voltages become a list of drifting narrow-band signals.

::

    GUPPI RAW --> voltages --> upchannelise --> incoherent --> baseline --> dedoppler --> hits --> .dat, plots
    (recorded)    per coarse    FFT along        power over     level and     Taylor      find,      catalogue
                  channel       time             antennas       noise         tree        measure,
                                                                                          mask

The stream (everything in the first line) is `socs_bl.search.engine.search_recording`; it reads recorded files and
nothing else, works through the band one coarse channel at a time, and runs in a process of its own
(``python -m socs_bl.search``). `socs_bl.search.machine` decides which recording is searched when, and what may be
deleted afterwards; the instance analyzer agent carries its decisions out.
"""

from socs_bl.search.config import SearchConfig

__all__ = ["SearchConfig"]
