"""pipelinefs: the back end as a file system, for people and scripts that read and write files.

Flow::

    programs --open, read, write, rmdir--> mount (FUSE) --> tree (paths) --> table (rows) --> entries (text, tasks)
                                                                                                  |
    agents cbe_pipeline <--WAMP, by the command pipelinefs-- Nodes <-- nodes (instances, deadlines)

The tree holds nothing of its own but the list of connected instances and the directory of binary files: everything else
is what the instances say, asked when somebody reads.
"""

from socs_bl.correlator.pipelinefs.nodes import Address, Instance, Instances, Nodes
from socs_bl.correlator.pipelinefs.tree import Entry, Tree

__all__ = ["Address", "Entry", "Instance", "Instances", "Nodes", "Tree"]
