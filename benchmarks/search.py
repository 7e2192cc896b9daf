"""The search's loops: upchannelisation against a bare FFT, and a whole search against turbo_seti's on the same file.

Everything runs on one processor core. turbo_seti needs older packages than ours: it gets an environment of its own in
``build/turbo_seti-env``, made at the first run; where it cannot be had, its row says so and has no reference.

Both sides search the same FBH5 file (noise and drifting tones; 16 spectra, fine channels of 2.79 Hz, drifts up to 4 Hz/s,
turbo_seti's usual product) from opening it to the written ``.dat``. Each searches it once before, which loads and compiles
everything; the processor time of the best of the following is taken. Hits are the same when each tone that was put in is
one hit of either, at the same place within two channels and two drift steps.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
from report import Figure, arguments, publish

from socs_bl.capture.guppi import Header, Value, encode_header, iter_blocks
from socs_bl.search.beamform import VoltageBeams
from socs_bl.search.bfr5 import INCOHERENT
from socs_bl.search.config import SearchConfig
from socs_bl.search.dat import read_dat, write_dat
from socs_bl.search.engine import search_filterbank
from socs_bl.search.fbh5 import FilterbankWriter, band_attributes, beam_file
from socs_bl.search.measure import chirp_template
from socs_bl.search.voltages import Band, Recording

ENVIRONMENT = Path(__file__).resolve().parent.parent / "build" / "turbo_seti-env"
PACKAGES = ("turbo_seti==2.3.2", "blimpy==2.1.4", "numpy<2.4", "setuptools<81")
SPECTRA, FINE_HZ, SPECTRUM_S, LOOKS = 16, 2.7939677238464355, 1.0 / 2.7939677238464355, 51
MAX_DRIFT, SNR, TONES = 4.0, 25.0, 8
THEIRS = """
import json, logging, sys, time
from turbo_seti.find_doppler.find_doppler import FindDoppler
path, out, coarse, drift, snr, times = sys.argv[1:]
best = None
for turn in range(1 + int(times)):
    began = time.process_time()
    FindDoppler(path, max_drift=float(drift), snr=float(snr), out_dir=out, n_coarse_chan=int(coarse), gpu_backend=False,
                log_level_int=logging.WARNING).search(n_partitions=1, progress_bar="n")
    took = time.process_time() - began
    best = took if turn and (best is None or took < best) else best
print(json.dumps({"seconds": best}))
"""


def cpu_seconds(work: Callable[[], object], times: int) -> float:
    """Least processor time of several runs after one that does not count."""
    work()
    taken = []
    for _ in range(times):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)


# --- upchannelisation


def write_raw(path: Path, antennas: int, channels: int, samples: int) -> Path:
    """A recording of noise in four blocks."""
    generator = np.random.default_rng(1)
    part = samples // 4
    with open(path, "wb") as file:
        for number in range(4):
            block = generator.normal(0, 12, (antennas, channels, part, 2, 2)).astype(np.int8)
            cards: dict[str, Value] = {
                "OBSFREQ": 1284.0, "OBSBW": channels * 0.2, "CHAN_BW": 0.2, "TBIN": 5e-6, "OBSNCHAN": antennas * channels,
                "NANTS": antennas, "NPOL": 4, "NBITS": 8, "DIRECTIO": 0, "BLOCSIZE": block.size, "HNTIME": 256,
                "PKTIDX": number * part // 256,
            }  # fmt: skip
            file.write(encode_header(cards))
            file.write(block.tobytes())
    return path


def upchannelisation(directory: Path, fine: int, spectra: int, times: int) -> Figure:
    """Recorded bytes to summed power, against only the FFT of the same samples."""
    antennas, channels = 4, 2
    path = write_raw(directory / f"{fine}.0000.raw", antennas, channels, fine * spectra)
    recording = Recording(iter_blocks([path]))
    source = VoltageBeams(recording, fine, 0.5, None)
    generator = np.random.default_rng(2)
    samples = generator.standard_normal((2, spectra, fine, 2), np.float32).view(np.complex64)[..., 0]

    def bare() -> None:
        for _ in range(antennas * channels):
            # In place and scaled, so that the samples stay what they are in size.
            scipy.fft.fft(samples, axis=-1, norm="ortho", overwrite_x=True, workers=1)

    ours = cpu_seconds(lambda: [source.load(channel) for channel in range(channels)], times)
    reference = cpu_seconds(bare, times)
    count = antennas * channels * samples.size * 1e-6
    ratio = reference / ours
    return Figure(
        f"upchannelisation, FFT of {fine}: recorded bytes to power", count / ours, count / reference, ratio,
        ">= 0.5 of a bare FFT", "Msamples/s", ratio >= 0.5,
    )  # fmt: skip


# --- the whole search


def write_filterbank(directory: Path, fine: int) -> tuple[Path, list[tuple[float, float]]]:
    """A file of noise and tones; frequency (MHz, at the start) and drift (Hz/s) of the tones."""
    generator = np.random.default_rng(3)
    power = generator.gamma(LOOKS, 1.0 / LOOKS, (SPECTRA, fine)).astype(np.float32)
    spectrum_s = LOOKS * SPECTRUM_S
    band = Band(8420.0, FINE_HZ * fine, 1, fine)
    tones = []
    for number in range(TONES):
        place = (number + 0.5 + generator.uniform(-0.2, 0.2)) * fine / TONES
        drift = generator.uniform(0.1, 0.5) * (-1) ** number
        add_tone(power, place, drift * spectrum_s / FINE_HZ, 10 ** generator.uniform(0.5, 1.5))
        tones.append((band.frequency_mhz(place), drift))
    cards: dict[str, Value] = {"SRC_NAME": "tones", "RA_STR": "17:10:03.9", "DEC_STR": "12:10:58.8", "STT_IMJD": 59046}
    header = Header(cards, "noise.raw")
    attributes = band_attributes(header, band, spectrum_s, 6)
    with FilterbankWriter(directory / "file", (INCOHERENT,), band, SPECTRA, header, attributes) as writer:
        writer.write(0, 0, power)
    return beam_file(directory / "file", INCOHERENT), tones


def add_tone(power: npt.NDArray[np.float32], place: float, rate: float, strength: float) -> None:
    """Add a tone of `strength` times the noise power that begins at `place` and crosses `rate` channels a spectrum."""
    offsets, profile = chirp_template(rate)
    for row in range(power.shape[0]):
        middle = place + rate * (row + 0.5)
        columns = np.arange(int(middle) - 20, int(middle) + 21)
        power[row, columns] += (strength * np.interp(columns - middle, offsets, profile)).astype(np.float32)


def environment() -> str:
    """Make turbo_seti's environment; returns why there is none."""
    python = ENVIRONMENT / "bin" / "python"
    if python.exists() and not subprocess.run([python, "-c", "import turbo_seti"], capture_output=True).returncode:
        return ""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    make: list[Any] = (
        [uv, "venv", "--clear", "--python", sys.executable] if uv else [sys.executable, "-m", "venv", "--clear"]
    )
    install: list[Any] = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    commands: list[list[Any]] = [[*make, ENVIRONMENT], [*install, *PACKAGES]]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return (done.stderr.strip() or "no reason given").splitlines()[-1]
    return ""


def theirs(path: Path, directory: Path, times: int) -> float:
    """turbo_seti's processor time for the file, seconds."""
    out = directory / "theirs"
    out.mkdir()
    command: list[Any] = [
        ENVIRONMENT / "bin" / "python",
        "-c",
        THEIRS,
        path,
        out,
        "1",
        str(MAX_DRIFT),
        str(SNR),
        str(times),
    ]
    # Its compiled loops take the one core given; the libraries below it are told so as well.
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=quiet)
    if done.returncode:
        raise RuntimeError(f"turbo_seti failed: {done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def same_hits(path: Path, tones: list[tuple[float, float]], step: float) -> bool:
    """Whether a hit list holds each tone once, and nothing else."""
    hits = read_dat(path).hits
    near = [
        [h for h in hits if abs(h.frequency_mhz - f) * 1e6 <= 2 * FINE_HZ and abs(h.drift_hz_s - d) <= 2 * step]
        for f, d in tones
    ]
    return len(hits) == len(tones) and all(len(found) == 1 for found in near)


def whole_search(directory: Path, fine: int, times: int) -> Figure:
    """Ours against turbo_seti's."""
    path, tones = write_filterbank(directory, fine)
    config = SearchConfig(snr=SNR, max_drift_hz_s=MAX_DRIFT, min_duration_s=0.0, plots=0)
    dat = directory / "ours.dat"

    def ours() -> None:
        write_dat(dat, search_filterbank(path, config, lambda step, done, total: None), MAX_DRIFT, path.name)

    taken = cpu_seconds(ours, times)
    step = FINE_HZ / ((SPECTRA - 1) * LOOKS * SPECTRUM_S)
    right = same_hits(dat, tones, step)
    name = f"whole search of {fine} channels x {SPECTRA} spectra, {TONES} tones"
    why = environment()
    if why:
        return Figure(f"{name}; turbo_seti cannot be had: {why}", taken, float("nan"), float("nan"), "", "CPU s", None)
    reference = theirs(path, directory, times)
    same = right and same_hits(next((directory / "theirs").glob("*.dat")), tones, step)
    ratio = reference / taken
    return Figure(
        f"{name}; {'same hits' if same else 'OTHER HITS'}", taken, reference, ratio,
        ">= 5 x turbo_seti's speed", "CPU s", same and ratio >= 5,
    )  # fmt: skip


def main() -> None:
    """Run the benchmark."""
    options = arguments(__doc__.splitlines()[0] if __doc__ else "")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    times = 2 if options.quick else 5
    figures = []
    with tempfile.TemporaryDirectory(prefix="socs_bl-bench-") as name:
        directory = Path(name)
        for fine, spectra in ((4096, 64), (1 << 17, 8)):
            figures.append(upchannelisation(directory, fine, spectra // 2 if options.quick else spectra, times))
        figures.append(whole_search(directory, 1 << (18 if options.quick else 20), min(times, 3)))
    publish(figures, options.json)


if __name__ == "__main__":
    main()
