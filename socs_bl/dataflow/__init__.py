"""Files, and the promises made about them: where each goes, how it is verified, when it may be deleted.

::

    seen by scan --> name --> complete? --> file, copy --> stages that apply, in order --> job --> done, retry, held...
    or event         pattern  rule          catalogue      pipeline (YAML)                 transfer, transform, retention

A pipeline is a YAML file (`socs_bl.dataflow.config`): stores, patterns of names, stages. `socs_bl.dataflow.pipeline` holds it
against the stages that are installed and says of any file what would be done and why. The catalogue
(`socs_bl.dataflow.catalogue`) knows every file, every copy and every job, and can be made again from the disks and the
manifests (`socs_bl.dataflow.manifest`). Nothing is deleted but by `socs_bl.dataflow.retention`.
"""
