"""What a search looks for; recorded with its result."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from socs_bl.core.config import Config

MIN_FINE_CHANNELS = 64


class SearchConfig(Config):
    """Settings of one search. The defaults suit a 20 s recording with 4 kHz coarse channels.

    Attributes
    ----------
    fine_channels : int or None
        FFT length: fine channels per coarse channel, even. None: the power of two whose channel width comes nearest to
        `fine_resolution_hz`.
    fine_resolution_hz : float
        Wanted width of a fine channel, Hz; used when `fine_channels` is None.
    snr : float or None
        Smallest signal-to-noise ratio that makes a hit (definition: `socs_bl.search.baseline`). None: as high as
        `false_hits_per_run` asks for.
    false_hits_per_run : float
        Hits that noise may make in the search of one recording, on average (`socs_bl.search.trials`); used when `snr` is
        None.
    max_drift_hz_s : float
        Drift rates from minus to plus this are searched, Hz/s.
    min_duration_s : float
        Recordings shorter than this are not searched, seconds.
    max_missing : float
        A spectrum of one antenna of which a larger fraction is missing is left out.
    max_hits_per_channel : int
        After this many hits a coarse channel is given up as interference, and counted.
    plots : int
        Waterfall pictures drawn, strongest hits first.
    recipe_dir : Path or None
        Directory of beamformer recipes (`socs_bl.search.bfr5`). None, or no recipe of the observation there: only the
        incoherent beam is searched.
    save_h5 : bool
        Write the dynamic spectra of all beams as FBH5 files.
    stamps : int
        Strongest hits of which the voltages of all antennas are kept.
    telescope_id : int
        SIGPROC's number of the telescope, for the products; 64 is MeerKAT.
    """

    fine_channels: int | None = Field(default=None, ge=MIN_FINE_CHANNELS)
    fine_resolution_hz: float = Field(default=1.0, gt=0)
    snr: float | None = Field(default=None, ge=3.0)
    false_hits_per_run: float = Field(default=0.001, gt=0)
    max_drift_hz_s: float = Field(default=4.0, gt=0)
    min_duration_s: float = Field(default=10.0, ge=0)
    max_missing: float = Field(default=0.5, ge=0, lt=1)
    max_hits_per_channel: int = Field(default=32, ge=1)
    plots: int = Field(default=4, ge=0)
    recipe_dir: Path | None = None
    save_h5: bool = False
    stamps: int = Field(default=3, ge=0)
    telescope_id: int = Field(default=64, ge=0)

    @field_validator("fine_channels")
    @classmethod
    def _even(cls, value: int | None) -> int | None:
        if value is not None and value % 2:
            raise ValueError("must be even, so that one fine channel is centred on the coarse channel")
        return value

    def fft_length(self, chan_bw_hz: float) -> int:
        """Fine channels per coarse channel of `chan_bw_hz` (Hz)."""
        if self.fine_channels is not None:
            return self.fine_channels
        wanted = max(1, round(abs(chan_bw_hz) / self.fine_resolution_hz))
        lower = 1 << (wanted.bit_length() - 1)
        nearest = lower if wanted * wanted <= 2 * lower * lower else 2 * lower
        return max(MIN_FINE_CHANNELS, nearest)
