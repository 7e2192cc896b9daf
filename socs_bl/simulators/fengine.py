"""F-engines of one subarray: real SPEAD multicast in real time, from every antenna, all channels.

``python -m socs_bl.simulators.fengine --config FILE`` sends until SIGTERM and then prints what it has sent as one line
of JSON. It dies with the process that started it. Packet index ``p`` holds the samples from
``sync_time + p * heap_seconds`` on and is sent when the last of them exists.

Channel ``c`` is centred at ``centre + (c - channels / 2) * width``.

Delays are tracked at the phase centre, ideally: what is there is left only of signals from elsewhere
(`socs_bl.simulators.signal`).
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import threading
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import Field, model_validator

try:
    import spead2
    import spead2.send
except ImportError as error:
    raise ImportError("sending heaps needs spead2; install it with: pip install 'socs_bl[spead]'") from error

from socs_bl.capture import wire
from socs_bl.core.config import Config, load
from socs_bl.services.process import die_with_parent
from socs_bl.simulators.faults import Fault, Faults
from socs_bl.simulators.signal import Sky, Tone

FLAVOUR = spead2.Flavour(4, 64, wire.HEAP_ADDRESS_BITS)
_IMMEDIATE = [("u", wire.HEAP_ADDRESS_BITS)]
# After a pause of the machine longer than this many heap times, go on with the present instead of catching up.
MAX_BEHIND = 32


class Loss(Config):
    """Heaps that are not sent: number `first` and every `every`-th after it.

    Heaps are numbered ``(pktidx * antennas + antenna) * streams + stream``.
    """

    first: int = Field(ge=0)
    every: int = Field(ge=1)

    def hits(self, number: int) -> bool:
        """Whether heap `number` is lost."""
        return number >= self.first and (number - self.first) % self.every == 0


class FEngineConfig(Config):
    """F-engines of one subarray.

    Attributes
    ----------
    name : str
        Of the subarray.
    sync_time : float
        Unix time of digitiser sample 0.
    adc_sample_rate_hz : float
        MeerKAT's L band has 1712e6; the default is scaled down.
    centre_frequency_hz : float
    n_channels, spectra_per_heap, n_antennas : int
        ``FENCHAN``, ``HNTIME``, ``NANTS``.
    first_group : IPv4Address
        Multicast address of the first stream; the others follow.
    n_groups : int
        Streams; each carries ``n_channels / n_groups`` channels.
    port : int
    interface : IPv4Address
        Interface that sends.
    ttl : int
        0 stays on this machine.
    seed : int
        Of the noise and the phases.
    tones : tuple of Tone
    ripple : float
        Largest deviation of an antenna's voltage gain from the common passband.
    loss : Loss or None
        Heaps left out on purpose, by number.
    faults : Faults
        What goes wrong, at random.
    first_pktidx : int or None
        Where to begin; None: the present.
    last_pktidx : int or None
        Where to end; None: never.
    packet_bytes : int
        Upper limit of a UDP payload.
    """

    name: str = ""
    sync_time: float
    adc_sample_rate_hz: float = Field(default=1.024e6, gt=0)
    centre_frequency_hz: float = 1284e6
    n_channels: int = Field(default=128, ge=1)
    spectra_per_heap: int = Field(default=256, ge=1)
    n_antennas: int = Field(default=4, ge=1)
    first_group: IPv4Address = IPv4Address("239.9.0.0")
    n_groups: int = Field(default=8, ge=1)
    port: int = Field(default=wire.DEFAULT_PORT, ge=1, le=65535)
    interface: IPv4Address = IPv4Address("127.0.0.1")
    ttl: int = Field(default=0, ge=0, le=255)
    seed: int = 0
    tones: tuple[Tone, ...] = ()
    ripple: float = Field(default=0.0, ge=0, le=0.5)
    loss: Loss | None = None
    faults: Faults = Faults()
    first_pktidx: int | None = Field(default=None, ge=0)
    last_pktidx: int | None = Field(default=None, ge=0)
    packet_bytes: int = Field(default=32768, ge=512, le=65000)

    @model_validator(mode="after")
    def _whole_streams(self) -> Self:
        if self.n_channels % self.n_groups:
            raise ValueError(f"n_channels {self.n_channels} is not a multiple of n_groups {self.n_groups}")
        return self

    @property
    def channels_per_stream(self) -> int:
        """``HNCHAN``."""
        return self.n_channels // self.n_groups

    @property
    def width(self) -> float:
        """Channel width, Hz."""
        return self.adc_sample_rate_hz / 2 / self.n_channels

    @property
    def samples_between_spectra(self) -> int:
        """Digitiser samples from one spectrum to the next; critically sampled."""
        return 2 * self.n_channels

    @property
    def heap_clocks(self) -> int:
        """``HCLOCKS``: digitiser samples of one heap."""
        return self.samples_between_spectra * self.spectra_per_heap

    @property
    def heap_seconds(self) -> float:
        """Duration of one heap."""
        return self.heap_clocks / self.adc_sample_rate_hz

    def sky(self) -> Sky:
        """The signal these F-engines see."""
        return Sky(
            antennas=self.n_antennas,
            channels=self.n_channels,
            times=self.spectra_per_heap,
            lowest=wire.channel_frequency(0, self.centre_frequency_hz, self.n_channels, self.width),
            width=self.width,
            tones=self.tones,
            sync_time=self.sync_time,
            ripple=self.ripple,
            seed=self.seed,
        )


class FEngines:
    """Sends the heaps of a subarray.

    Parameters
    ----------
    config : FEngineConfig
        What to send.
    """

    def __init__(self, config: FEngineConfig) -> None:
        self.config = config
        self.sent = 0
        self.lost = 0
        self.skipped = 0
        self.suffered = np.zeros((len(Fault), config.n_antennas), np.int64)
        self._held: dict[int, list[spead2.send.HeapReference]] = {}
        self._sky = config.sky()
        endpoints = [(str(config.first_group + stream), config.port) for stream in range(config.n_groups)]
        self._pool = spead2.ThreadPool()
        self._stream = spead2.send.UdpStream(
            self._pool,
            endpoints,
            spead2.send.StreamConfig(
                max_packet_size=config.packet_bytes, max_heaps=config.n_antennas * config.n_groups + 1, rate=0.0
            ),
            ttl=config.ttl,
            interface_address=str(config.interface),
        )

    def heap(self, timestamp: int, antenna: int, stream: int, raw: np.ndarray) -> spead2.send.Heap:
        """One heap; its placing items are in every packet."""
        config = self.config
        heap = spead2.send.Heap(FLAVOUR)
        heap.repeat_pointers = True
        for number, value in (
            (wire.TIMESTAMP_ID, timestamp),
            (wire.FENG_ID, antenna),
            (wire.FREQUENCY_ID, stream * config.channels_per_stream),
        ):
            heap.add_item(spead2.Item(number, "", "", (), format=_IMMEDIATE, value=value))
        heap.add_item(spead2.Item(wire.FENG_RAW_ID, "", "", raw.shape, raw.dtype, value=raw))
        return heap

    def send(self, pktidx: int) -> None:
        """Send all heaps of one packet index, but for what goes wrong."""
        config = self.config
        samples = self._sky.samples(pktidx)
        faults = config.faults.of(pktidx, config.n_antennas, config.n_groups)
        references = self._held.pop(pktidx, [])
        for antenna in range(config.n_antennas):
            for stream in range(config.n_groups):
                number = (pktidx * config.n_antennas + antenna) * config.n_groups + stream
                if config.loss is not None and config.loss.hits(number):
                    self.lost += 1
                    continue
                fault = int(faults[antenna, stream])
                self.suffered[fault, antenna] += 1
                if fault in (Fault.STALLED, Fault.DROPPED):
                    continue
                first = stream * config.channels_per_stream
                raw = samples[antenna, first : first + config.channels_per_stream]
                heap = self.heap(config.faults.timestamp(fault, pktidx, config.heap_clocks), antenna, stream, raw)
                reference = spead2.send.HeapReference(heap, cnt=(number + 1) % (1 << 47), substream_index=stream)
                if fault == Fault.REORDERED:
                    self._held.setdefault(pktidx + config.faults.reorder_depth, []).append(reference)
                    continue
                references += [reference] * (2 if fault == Fault.DUPLICATED else 1)
        self._send(references)

    def flush(self) -> None:
        """Send what is still held back to be reordered."""
        for pktidx in sorted(self._held):
            self._send(self._held.pop(pktidx))

    def _send(self, references: list[spead2.send.HeapReference]) -> None:
        # A stream takes so many heaps at once.
        most = self.config.n_antennas * self.config.n_groups
        for start in range(0, len(references), most):
            self._stream.send_heaps(references[start : start + most], spead2.send.GroupMode.ROUND_ROBIN)
        self.sent += len(references)

    def run(self, stop: threading.Event) -> None:
        """Send in real time until `stop` is set or the last packet index is sent."""
        config = self.config
        present = (time.time() - config.sync_time) / config.heap_seconds
        pktidx = config.first_pktidx if config.first_pktidx is not None else max(math.ceil(present), 0)
        while not stop.is_set() and (config.last_pktidx is None or pktidx <= config.last_pktidx):
            behind = (time.time() - config.sync_time) / config.heap_seconds - (pktidx + 1)
            if behind > MAX_BEHIND:
                self.skipped += int(behind)
                pktidx += int(behind)
            elif behind < 0 and stop.wait(-behind * config.heap_seconds):
                return
            self.send(pktidx)
            pktidx += 1

    def summary(self) -> dict[str, int]:
        """Heaps sent, heaps left out by number, packet indices skipped because the machine was too slow; then how many
        heaps suffered each `Fault`."""
        faults = {fault.name.lower(): int(self.suffered[fault].sum()) for fault in Fault if fault != Fault.NONE}
        return {"sent": self.sent, "lost": self.lost, "skipped": self.skipped, **faults}


def main(args: list[str] | None = None) -> int:
    """Run the F-engines of one subarray until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m socs_bl.simulators.fengine", description=main.__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON or YAML file, see FEngineConfig")
    config = load(parser.parse_args(args).config, FEngineConfig)
    die_with_parent()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    engines = FEngines(config)
    engines.run(stop)
    engines.flush()
    print(json.dumps(engines.summary()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
