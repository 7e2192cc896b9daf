"""SuperDARN: names, formats and stages of the files that its radars write.

What a pipeline can do with a file, each a stage that the engine of the data flow finds by its entry point::

    NAME.hdf5.site --check_hdf5--repair_records--site_to_array--> NAME.hdf5 --borealis_to_dmap--> NAME.a.rawacf.bz2
    NAME.h5 ------------------------------------------------------------------borealis_to_dmap--> NAME.a.rawacf.bz2
    NAME.a.rawacf --bzip2--> NAME.a.rawacf.bz2 --check_dmap--route_cpid--> institutions, mirror, special experiments
    NAME.antennas_iq.* --plot_antennas_iq--> NAME.antenna_N_0_70.jpg --thumbnail--dated_folder--> archive

Each is a plain function of a file (`work`, `core.stage`), runs in a process of its own, and gives one of four verdicts;
`work` holds the rule that a tool's failure is never the file's. Beside them: `names`, the mirrors' books (`ledger`), what
the old scripts left for others to read (`legacy`), and where they kept things (`places`). Libraries of the extra
`superdarn` are imported when a stage works.
"""
