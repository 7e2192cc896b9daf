"""From the order heaps arrive in to the order GUPPI RAW wants: one copy, missing heaps zeroed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def arrange(received: npt.NDArray[np.int8], present: npt.NDArray[np.bool_], out: npt.NDArray[np.int8]) -> int:
    """Rearrange a block and zero what is missing.

    Parameters
    ----------
    received : numpy.ndarray
        int8 (packet indices, antennas, streams, channels of a heap, bytes of a heap's channel).
    present : numpy.ndarray
        bool (packet indices, antennas, streams).
    out : numpy.ndarray
        int8 (antennas, streams, channels of a heap, packet indices, bytes of a heap's channel), contiguous: the rows
        of the GUPPI RAW block, antenna slowest.

    Returns
    -------
    int
        Number of heaps missing.
    """
    # A heap's channel is one contiguous run; as a single item of that size numpy copies it in one go.
    run = np.dtype((np.void, received.shape[-1]))
    np.copyto(out.view(run)[..., 0], received.view(run)[..., 0].transpose(1, 2, 3, 0))
    times, antennas, streams = np.nonzero(~present)
    out[antennas, streams, :, times] = 0
    return len(times)
