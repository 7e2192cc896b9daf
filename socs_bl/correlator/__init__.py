"""The correlator's back end: lag frames become lag sets, spectra and integrations.

Flow, with the modules that do each step::

    boards --UDP--> receive -> assembly -> ring (shared memory) -> elements -> bdf writer
                     |  one process (`ingest`)   |   one process for each pipeline (`lagset_pipeline`)
    configuration documents -> machine (create, activate, destroy) -> in-band events between two frames

A configuration says which streams and products exist and which pipeline each enters (`configuration`, `document`).
Frame timestamps are the only clock: what is late, what belongs to which integration and which recording follows from them.
"""
