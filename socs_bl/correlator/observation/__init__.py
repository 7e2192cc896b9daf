"""Which scan is recorded when: what the observation executor announces, and what the nodes are told of it.

Flow, with the modules that do each step::

    executor --multicast--> hearing (sockets) -> wire (documents) -> machine: a dataset's documents, in order of time,
        cut it into scans -> record and stop_recording at every node of the back end (effects, by the agent)

A document says when something begins; it ends when the next document of its dataset says so. Times are the
documents' and the frames', never those of arrival.
"""
