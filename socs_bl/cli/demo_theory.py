"""What theory says the demonstration's search must find for what was injected.

Here, because it takes both: the simulators know nothing of searches, and the search nothing of what was injected.
"""

from __future__ import annotations

import math

from socs_bl.capture.wire import POLARISATIONS
from socs_bl.search.theory import expected_snr
from socs_bl.simulators.comparison import SearchedRecording
from socs_bl.simulators.truth import InjectedTone


def theory(tone: InjectedTone, recording: SearchedRecording, beamformed: bool) -> float:
    """Signal-to-noise ratio of a tone in the beam on it, or in the incoherent sum.

    The fine channels of a coarse channel lie at whole multiples of their width from its centre. What was not received
    is missing from the tone as it is from the noise, so it costs the root of the fraction.
    """
    fine = round(tone.channel_width_hz / recording.fine_channel_hz)
    half_way = recording.start + recording.spectra / recording.fine_channel_hz / 2
    place = (tone.frequency_at(half_way) - tone.channel_hz) / recording.fine_channel_hz
    rate = tone.drift_hz_s / recording.fine_channel_hz**2
    summed, gain = (1, float(tone.antennas)) if beamformed else (tone.antennas, 1.0)
    return math.sqrt(1 - recording.missing) * expected_snr(
        tone.power, fine, recording.spectra, POLARISATIONS * summed, rate, place - round(place), gain
    )
