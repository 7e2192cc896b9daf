"""The Binary Data Format of EVLA and ALMA: written, read, salvaged and published.

Flow of one file, with the modules that do each step::

    spectra of an integration --writer--> NAME.part (blocks of constant length, `layout`)
        --publisher's machine--> closed, synced, renamed --> BdfInfo (`wire`) --> SDM beside it (`sdm`)

A block's place follows from its number alone, so several nodes write one file at the same time, and whatever is killed
while it writes costs at most its own pieces.
"""
