"""What was injected against what a search has found.

Made afterwards, by whoever ran both. Which recordings should hold a tone follows from their own times and frequency
ranges; a tone's frequency is carried from its reference time to the first sample of each recording, where searches
report theirs. Which beam it must be in follows from its position: a beam is known by the name of the target it points at.
What signal-to-noise ratio it must have depends on how it is searched; whoever compares brings the theory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from socs_bl.core.errors import Refused
from socs_bl.simulators.truth import InjectedTone

Verdict = Literal["found", "wrong beam", "missed", "not recorded", "unexpected"]
INCOHERENT = -1


@dataclass(frozen=True)
class Found:
    """A hit.

    Attributes
    ----------
    frequency_hz : float
        At the first sample of the recording.
    drift_hz_s : float
    snr : float
    beam : int
        Number of the beam it is strongest in; -1: the incoherent sum.
    beam_name : str
        What that beam points at; empty for the incoherent sum.
    """

    frequency_hz: float
    drift_hz_s: float
    snr: float
    beam: int = INCOHERENT
    beam_name: str = ""


@dataclass(frozen=True)
class SearchedRecording:
    """One instance's recording as it was searched.

    Attributes
    ----------
    subarray, instance : str
    start : float
        Unix time of its first sample, seconds.
    duration_s : float
    low_hz, high_hz : float
        Edges of its band.
    fine_channel_hz, drift_step_hz_s : float
        Resolution of the search; also how far a hit may be off.
    hits : tuple of Found
    spectra : int
        Spectra that were searched.
    beams : tuple of str
        What the beams point at; empty when there was no recipe.
    missing : float
        Fraction of the recording that was not received.
    """

    subarray: str
    instance: str
    start: float
    duration_s: float
    low_hz: float
    high_hz: float
    fine_channel_hz: float
    drift_step_hz_s: float
    hits: tuple[Found, ...]
    spectra: int
    beams: tuple[str, ...] = ()
    missing: float = 0.0


class _Hit(msgspec.Struct, frozen=True):
    frequency_mhz: float
    drift_hz_s: float
    snr: float
    beam: int = INCOHERENT
    beam_name: str = ""


class _Search(msgspec.Struct, frozen=True):
    """What is read of a search's JSON file; it holds more."""

    obsid: str
    instance: str
    start: float
    duration_s: float
    low_hz: float
    high_hz: float
    fine_channel_hz: float
    drift_step_hz_s: float
    missing: float
    spectra: int
    hits: tuple[_Hit, ...]
    beams: tuple[str, ...] = ()


def read_search(path: Path) -> SearchedRecording:
    """Read the ``<stem>.search.json`` that a search leaves behind.

    The subarray is the second part of the observation id, ``<telescope>:<subarray>:<time>``.

    Raises
    ------
    Refused
        When there is no such file or it holds something else.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Search)
        _, subarray, _ = found.obsid.split(":")
    except OSError as error:
        raise Refused(f"{path}: cannot be read ({error.strerror}); was the recording searched?") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise Refused(f"{path}: is not the result of a search ({error}); give a .search.json file") from error
    return SearchedRecording(
        subarray=subarray,
        instance=found.instance,
        start=found.start,
        duration_s=found.duration_s,
        low_hz=found.low_hz,
        high_hz=found.high_hz,
        fine_channel_hz=found.fine_channel_hz,
        drift_step_hz_s=found.drift_step_hz_s,
        missing=found.missing,
        spectra=found.spectra,
        beams=found.beams,
        hits=tuple(
            Found(hit.frequency_mhz * 1e6, hit.drift_hz_s, hit.snr, hit.beam, hit.beam_name) for hit in found.hits
        ),
    )


@dataclass(frozen=True)
class Row:
    """One line of the comparison.

    Attributes
    ----------
    verdict : str
        ``found``; ``wrong beam``: found, but strongest in a beam that does not point at it; ``missed``: the recording
        has no hit close enough; ``not recorded``: no recording holds the tone; ``unexpected``: a hit that no tone
        explains.
    subarray, instance : str
        Instance is empty for a tone that was not recorded.
    tone : InjectedTone or None
        None for an unexpected hit.
    injected_hz : float or None
        Frequency of the tone at the first sample of the recording.
    hit : Found or None
    frequency_channels, drift_steps : float or None
        Hit minus tone, in fine channels and drift steps of the search.
    expected_snr : float or None
        What theory gives for the tone in the beam it was found in, or should have been; None without a theory.
    """

    verdict: Verdict
    subarray: str
    instance: str
    tone: InjectedTone | None
    injected_hz: float | None = None
    hit: Found | None = None
    frequency_channels: float | None = None
    drift_steps: float | None = None
    expected_snr: float | None = None

    @property
    def snr_ratio(self) -> float | None:
        """Signal-to-noise ratio measured over expected; None unless the tone was found."""
        if self.hit is None or self.expected_snr is None:
            return None
        return self.hit.snr / self.expected_snr


Theory = Callable[[InjectedTone, SearchedRecording, bool], float]
"""Signal-to-noise ratio that a search must find for a tone in a recording; True: in the beam on it, not in the sum."""


def compare(
    truth: Sequence[InjectedTone], recordings: Iterable[SearchedRecording], theory: Theory | None = None
) -> list[Row]:
    """Compare tones with hits.

    A tone belongs in every recording of its subarray that lies within the tone's time and whose band holds it half-way
    through. A hit finds it when both frequency and drift differ by at most one fine channel and one drift step; each hit
    finds one tone at most, the closest pairs first.

    Returns
    -------
    list of Row
        Tones in their order (one row per recording that should hold it), then unexpected hits. The search was complete
        and clean when every verdict is ``found``.
    """
    rows: dict[int, list[Row]] = {index: [] for index in range(len(truth))}
    unexpected = []
    for recording in recordings:
        wanted = [index for index, tone in enumerate(truth) if _holds(recording, tone)]
        matched = _match([truth[index] for index in wanted], recording)
        for place, index in enumerate(wanted):
            number = matched.get(place)
            rows[index].append(
                _row(truth[index], recording, None if number is None else recording.hits[number], theory)
            )
        unexpected += [
            Row("unexpected", recording.subarray, recording.instance, None, None, hit)
            for number, hit in enumerate(recording.hits)
            if number not in matched.values()
        ]
    missing = {index: Row("not recorded", truth[index].subarray, "", truth[index]) for index in rows if not rows[index]}
    return [row for index, found in rows.items() for row in (found or [missing[index]])] + unexpected


def _holds(recording: SearchedRecording, tone: InjectedTone) -> bool:
    """True when the tone should be in the recording from its first sample to its last."""
    end = recording.start + recording.duration_s
    middle = tone.frequency_at(recording.start + recording.duration_s / 2)
    return (
        recording.subarray == tone.subarray
        and tone.start <= recording.start
        and end <= tone.stop
        and recording.low_hz <= middle < recording.high_hz
    )


def _offsets(tone: InjectedTone, hit: Found, recording: SearchedRecording) -> tuple[float, float]:
    """Hit minus tone at the first sample, in fine channels and drift steps."""
    frequency = (hit.frequency_hz - tone.frequency_at(recording.start)) / recording.fine_channel_hz
    return frequency, (hit.drift_hz_s - tone.drift_hz_s) / recording.drift_step_hz_s


def _match(tones: Sequence[InjectedTone], recording: SearchedRecording) -> dict[int, int]:
    """Places of tones and hits that belong together: the closest pairs first, each used once."""
    pairs = sorted(
        (distance, place, number)
        for place, tone in enumerate(tones)
        for number, hit in enumerate(recording.hits)
        if (distance := max(abs(offset) for offset in _offsets(tone, hit, recording))) <= 1.0
    )
    matched: dict[int, int] = {}
    for _, place, number in pairs:
        if place not in matched and number not in matched.values():
            matched[place] = number
    return matched


def _row(tone: InjectedTone, recording: SearchedRecording, hit: Found | None, theory: Theory | None) -> Row:
    injected_hz = tone.frequency_at(recording.start)
    beamformed = bool(recording.beams) if hit is None else hit.beam != INCOHERENT
    expected = theory(tone, recording, beamformed) if theory else None
    if hit is None:
        return Row("missed", recording.subarray, recording.instance, tone, injected_hz, expected_snr=expected)
    verdict: Verdict = "wrong beam" if recording.beams and hit.beam_name != tone.source else "found"
    frequency, drift = _offsets(tone, hit, recording)
    return Row(verdict, recording.subarray, recording.instance, tone, injected_hz, hit, frequency, drift, expected)
