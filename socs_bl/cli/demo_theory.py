"""What theory says the demonstration's search must find for what was injected.

Here, because it takes both: the simulators know nothing of searches, and the search nothing of what was injected.
"""

from __future__ import annotations

import math

from socs_bl.search.theory import expected_snr
from socs_bl.simulators.comparison import SearchedRecording
from socs_bl.simulators.truth import InjectedTone

POLARISATIONS = 2
TOLERANCE = 0.2  # of the ratio of measured to expected
_TAIL_HZ = 1e-6  # a tone on a channel's border belongs to the upper one, whatever the last digit says


def theory(tone: InjectedTone, recording: SearchedRecording, beamformed: bool) -> float:
    """Signal-to-noise ratio of a tone in the beam on it, or in the incoherent sum.

    The fine channels of a coarse channel lie at whole multiples of their width from its centre. What was not received
    is missing from the tone as it is from the noise, so it costs the root of the fraction.
    """
    fine = round(tone.channel_width_hz / recording.fine_channel_hz)
    half_way = recording.start + recording.spectra / recording.fine_channel_hz / 2
    place = (tone.frequency_at(half_way) - tone.channel_hz + _TAIL_HZ) / recording.fine_channel_hz
    rate = tone.drift_hz_s / recording.fine_channel_hz**2
    offset = place - round(place)
    received = math.sqrt(1 - recording.missing)
    if beamformed:
        return received * expected_snr(
            tone.power, fine, recording.spectra, POLARISATIONS, rate, offset, gain=float(tone.antennas)
        )
    return received * expected_snr(tone.power, fine, recording.spectra, POLARISATIONS * tone.antennas, rate, offset)
