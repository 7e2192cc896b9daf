#!/usr/bin/env python3
"""A seticore nobody needs a graphics processor for: its command line, its exits and its products, and what can go wrong.

It stands alone, on the standard library. Like the real one it needs a recipe, ``<recipe_dir>/<OBSID with - for :>.bfr5``,
here JSON: ``{"nants": 1, "hits": 2, "stamps": 1, "behaviour": ""}``. Behaviours: ``cuda`` (exit 2), ``exit 70``, ``segv``,
``abort`` (an exception nobody caught), ``hang``, ``deaf`` (hangs and ignores SIGTERM), ``garbage``, ``cut`` (a hit list cut
off), ``no products``, ``short``, ``fill`` (writes until the disk is full, and fails as the real one does), ``flood`` (says
much), ``once`` (dies at its first call only).

Source: lacker/seticore, ``main.cpp`` (arguments), ``util.cpp`` (``fatal``: exit 1), ``cuda_util.cu`` (exit 2),
``hit_file_writer.cpp`` (``.hits.tmp`` renamed at the end; one unpacked Cap'n Proto message a hit).
"""

import argparse
import json
import os
import signal
import struct
import sys
import time
from pathlib import Path


def main() -> int:
    """Run as seticore does."""
    parser = argparse.ArgumentParser(prog="seticore")
    for name, kind in (("input", Path), ("output", Path), ("recipe_dir", Path), ("h5_dir", Path)):
        parser.add_argument(f"--{name}", type=kind)
    for name in ("snr", "max_drift"):
        parser.add_argument(f"--{name}", type=float)
    for name in ("num_bands", "fine_channels", "telescope_id"):
        parser.add_argument(f"--{name}", type=int)
    try:
        given = parser.parse_args()
    except SystemExit:
        return 1
    print("welcome to seticore, version 1.0.0\nrunning in beamforming mode.", flush=True)
    files = sorted(given.input.glob("*.0000.raw"))
    print(f"found {len(files)} groups of raw files.", flush=True)
    for path in files:
        status = search(path, given)
        if status:
            return status
    return 0


def search(path: Path, given: argparse.Namespace) -> int:
    """One group of raw files; returns the exit status."""
    cards = header(path)
    stem = path.name.removesuffix(".0000.raw")
    recipe_path = given.recipe_dir / (cards["OBSID"].replace(":", "-") + ".bfr5")
    print(f"using beamforming recipe from {recipe_path}", flush=True)
    if not recipe_path.exists():
        return fatal(f"could not open {recipe_path}")
    recipe = json.loads(recipe_path.read_text(encoding="utf-8"))
    behaviour = recipe.get("behaviour", "")
    if recipe["nants"] != int(cards["NANTS"]):
        return fatal(f"the raw file has nants = {cards['NANTS']} but the recipe has nants = {recipe['nants']}")
    if behaviour == "short":
        print("this recording is too short to process. the output would only have 1 timestep.", flush=True)
        return 0
    temporary = given.output / f"{stem}.hits.tmp"
    for band in range(given.num_bands):
        print(f"beamforming band {band}...", flush=True)
    status = misbehave(behaviour, temporary, given.recipe_dir / "called")
    if status is not None:
        return status
    temporary.write_bytes(b"".join(message(number, given.fine_channels) for number in range(recipe.get("hits", 0))))
    if behaviour == "cut":
        os.truncate(temporary, temporary.stat().st_size - 8)
    if behaviour == "garbage":
        temporary.write_bytes(b"\x1f\x8b\x08 no Cap'n Proto at all \xff" * 50)
    temporary.rename(given.output / f"{stem}.hits")
    if given.h5_dir is not None:
        (given.h5_dir / f"{stem}.band0.beam00.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    stamps = b"".join(message(number, given.fine_channels) for number in range(recipe.get("stamps", 0)))
    (given.output / f"{stem}.stamps").write_bytes(stamps)
    print(f"saved {recipe.get('stamps', 0)} stamps", flush=True)
    return 0


def misbehave(behaviour: str, temporary: Path, called: Path) -> int | None:
    """What goes wrong before anything is written; the exit status, or None to go on."""
    if behaviour == "cuda":
        print("cudaMalloc: cuda error 2: out of memory", file=sys.stderr, flush=True)
        return 2
    if behaviour.startswith("exit "):
        return int(behaviour.removeprefix("exit "))
    if behaviour in ("segv", "abort"):
        os.kill(os.getpid(), signal.SIGSEGV if behaviour == "segv" else signal.SIGABRT)
    if behaviour == "once" and not called.exists():
        called.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour in ("hang", "deaf"):
        if behaviour == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        temporary.touch()
        while True:
            time.sleep(60)
    if behaviour == "flood":
        for _ in range(200):
            os.write(1, b"x" * 9999 + b"\n")
        os.write(1, b"y" * 200_000)
    if behaviour == "no products":
        return 0
    if behaviour == "fill":
        try:
            with open(temporary, "wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 16))
        except OSError as error:
            print(f"terminate called after throwing: write(fd): {error.strerror}", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGABRT)
    return None


def header(path: Path) -> dict[str, str]:
    """The cards of the first header of a GUPPI RAW file."""
    cards: dict[str, str] = {}
    with open(path, "rb") as file:
        while (card := file.read(80).decode("ascii")) and not card.startswith("END "):
            key, _, value = card.partition("=")
            cards[key.strip()] = value.strip().strip("'").strip()
    return cards


def message(number: int, channels: int) -> bytes:
    """A Cap'n Proto message with a struct of two pointers, like a Hit: a signal of one data word, and no filterbank."""
    words = [
        struct.pack("<iHH", 0 << 2, 0, 2),  # root: struct at once behind, no data, two pointers
        struct.pack("<iHH", 1 << 2, 1, 0),  # signal: struct behind the pointers, one word of data
        bytes(8),
        struct.pack("<d", 1400.0 + number / channels),
    ]
    return struct.pack("<II", 0, len(words)) + b"".join(words)


def fatal(text: str) -> int:
    """As seticore's own: a line with the time on standard error, and status 1."""
    print(f"[2026-11-21 04:00:00 UTC] {text}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
