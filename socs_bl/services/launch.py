"""Run a program so that the kernel ends it together with its parent.

``python -I -S launch.py PARENT_PID SIGNAL PROGRAM [ARGUMENT ...]`` asks the kernel for SIGNAL at the parent's death
and then becomes PROGRAM. It stands alone and imports next to nothing because it runs before every child we start: a
`preexec_fn` would do the same inside the fork of a process with threads, where Python may deadlock.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Set the parent-death signal, check that the parent still lives, and become the program."""
    parent, signal_number, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        sys.exit(f"cannot tie {program[0]} to its parent: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it died before the kernel knew
        sys.exit(f"{program[0]} not started: its parent {parent} is gone")
    try:
        os.execvp(program[0], program)
    except OSError as error:
        sys.exit(f"cannot run {program[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
