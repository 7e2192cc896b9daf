"""Whether there is room."""

from __future__ import annotations

from collections.abc import Iterable


def fitting(sizes: Iterable[int], free_bytes: int, free_inodes: int, reserve: int = 0) -> list[bool]:
    """Which files fit, the first ones first.

    Parameters
    ----------
    sizes : iterable of int
        Bytes of each.
    free_bytes : int
        As the file system says for others than root.
    free_inodes : int
        -1: there is no fixed number of them.
    reserve : int
        Bytes that stay free.

    Returns
    -------
    list of bool
        One a file; a small one may fit behind a large one that does not.
    """
    answers = []
    for size in sizes:
        fits = size <= free_bytes - reserve and free_inodes != 0
        if fits:
            free_bytes -= size
            free_inodes -= 1 if free_inodes > 0 else 0
        answers.append(fits)
    return answers
