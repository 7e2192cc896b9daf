"""Receive the multicast groups of an instance: spead2 fills blocks, one stream a group, several groups a block.

Memory is allocated once. A block is filled by spead2's threads and handed over through a bounded ring; when nobody
takes blocks, the kernel drops packets, and the heaps they belonged to are missing from the blocks: counted.
"""

from __future__ import annotations

import select
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

try:
    import spead2
    import spead2.recv
except ImportError as error:
    raise ImportError("recording heaps needs spead2; install it with: pip install 'socs_bl[spead]'") from error

from socs_bl.capture.config import CaptureConfig
from socs_bl.capture.model import Target
from socs_bl.capture.placement import ITEMS, STATISTICS, Blame, Kind, Placement

MAX_PACKET_BYTES = 65536
LIVE_HEAPS_PER_ANTENNA = 4


@dataclass
class Heaps:
    """Heaps by what became of them.

    Attributes
    ----------
    received : int
        Complete and in their place.
    missing : int
        Never came, or not completely: zeros in the block.
    late : int
        Came when their block was gone.
    incomplete : int
        Of which some packets were lost; they are among the missing.
    rejected : dict[str, int]
        By `Kind`: wrong size or items, timestamp, antenna, frequency; a place in time not yet believed; duplicates.
    antennas : dict[str, list[int]]
        For each antenna by itself: heaps ``missing``, ``wrong_timestamp`` (misaligned, far in the future, long past) and
        ``duplicate``.
    last_wrong : dict[str, int]
        The last heap with a wrong timestamp: ``stream``, ``antenna``, ``timestamp``; empty before the first.
    """

    received: int = 0
    missing: int = 0
    late: int = 0
    incomplete: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    antennas: dict[str, list[int]] = field(default_factory=dict)
    last_wrong: dict[str, int] = field(default_factory=dict)


@dataclass
class Received:
    """A block as it was received.

    Attributes
    ----------
    pktidx : int
        Packet index of its first samples.
    data : numpy.ndarray
        int8 (packet indices, antennas, streams, channels of a heap, bytes of a heap's channel). What belongs to
        heaps that are not present is undefined.
    present : numpy.ndarray
        bool (packet indices, antennas, streams).
    chunk : spead2.recv.Chunk
        To be given back with `Receiver.release`.
    """

    pktidx: int
    data: npt.NDArray[np.int8]
    present: npt.NDArray[np.bool_]
    chunk: spead2.recv.Chunk


class Receiver:
    """Joins the groups of a target when made, leaves them with `stop`.

    Parameters
    ----------
    target : Target
        What to receive.
    config : CaptureConfig
        Interface, ring and socket sizes.

    Raises
    ------
    OSError, RuntimeError
        When the sockets cannot be made.
    """

    def __init__(self, target: Target, config: CaptureConfig) -> None:
        self.target = target
        geometry = target.geometry
        blocks = config.ring_blocks + config.window_blocks
        ring = spead2.recv.ChunkRingbuffer(blocks)
        group = spead2.recv.ChunkStreamRingGroup(
            spead2.recv.ChunkStreamGroupConfig(max_chunks=config.window_blocks),
            ring,
            spead2.recv.ChunkRingbuffer(blocks),
        )
        self._group: spead2.recv.ChunkStreamRingGroup | None = group
        self._final = Heaps()
        heaps = target.piperblk * geometry.heaps_per_time
        for _ in range(blocks):
            chunk = spead2.recv.Chunk(data=np.zeros(target.block_bytes, np.int8), present=np.zeros(heaps, np.uint8))
            group.add_free_chunk(chunk)
        self._poll = select.poll()
        self._poll.register(ring.data_fd, select.POLLIN)
        self._placements: list[Placement] = []
        try:
            for stream, address in enumerate(target.groups):
                self._add_stream(group, stream, address, config)
            for member in group:
                member.start()
        except BaseException:  # whatever stops us half way, even an interrupt: streams that have begun are ended
            self.stop()
            raise

    def _add_stream(
        self, group: spead2.recv.ChunkStreamRingGroup, stream: int, address: str, config: CaptureConfig
    ) -> None:
        """One multicast group: a stream of its own, since heap numbers are unique only within a group."""
        geometry = self.target.geometry
        stream_config = spead2.recv.StreamConfig(
            max_heaps=LIVE_HEAPS_PER_ANTENNA * geometry.nants, allow_out_of_order=True, explicit_start=True
        )
        first = [stream_config.add_stat(name) for name in STATISTICS][0]
        placement = Placement(geometry, self.target.piperblk, stream, first, config.window_blocks)
        chunk_config = spead2.recv.ChunkStreamConfig(
            items=ITEMS, max_chunks=config.window_blocks, place=placement.callback()
        )
        # A stream may wait for another one of its group. With threads in common they would wait for each other for ever.
        member = group.emplace_back(spead2.ThreadPool(1), stream_config, chunk_config)
        self._placements.append(placement)
        member.add_udp_reader(
            address,
            self.target.port,
            max_size=MAX_PACKET_BYTES,
            buffer_size=config.socket_bytes,
            interface_address=str(config.interface),
        )

    def fileno(self) -> int:
        """Readable when a block is ready."""
        assert self._group is not None, "asked after stop"
        return int(self._group.data_ringbuffer.data_fd)

    def get(self, timeout: float) -> Received | None:
        """The next block, None when there is none within `timeout` seconds or ever again."""
        if self._group is None:
            return None
        self._poll.poll(max(timeout, 0) * 1000)
        try:
            chunk = self._group.data_ringbuffer.get_nowait()
        except (spead2.Empty, spead2.Stopped):
            return None
        target, geometry = self.target, self.target.geometry
        shape = (target.piperblk, geometry.nants, geometry.nstrm)
        return Received(
            chunk.chunk_id * target.piperblk,
            np.asarray(chunk.data).reshape(*shape, geometry.hnchan, -1),
            np.asarray(chunk.present).view(np.bool_).reshape(shape),
            chunk,
        )

    def release(self, block: Received) -> None:
        """Give the memory of a block back; after `stop` this does nothing."""
        if self._group is not None:
            self._group.add_free_chunk(block.chunk)

    @property
    def newest_packet(self) -> int:
        """Highest packet index seen so far, -1 before the first."""
        return max((placement.newest_packet for placement in self._placements), default=-1)

    @property
    def late(self) -> int:
        """Heaps that came when their block was gone."""
        return 0 if self._group is None else sum(member.stats["too_old_heaps"] for member in self._group)

    def heaps(self) -> Heaps:
        """Heaps that did not get into a block, by kind. `received` and `missing` are counted by who takes blocks."""
        group = self._group
        if group is None:
            return self._final
        counted = Heaps(rejected={kind.name.lower(): 0 for kind in Kind})
        for member in group:
            stats = member.stats
            counted.late += stats["too_old_heaps"]
            counted.incomplete += stats["incomplete_heaps_evicted"] + stats["incomplete_heaps_flushed"]
            for kind, name in zip(Kind, STATISTICS, strict=True):
                counted.rejected[kind.name.lower()] += stats[name]
        for blame in Blame:
            total = sum(placement.blame(blame) for placement in self._placements)
            counted.antennas[blame.name.lower()] = np.asarray(total).tolist()
        for stream, placement in enumerate(self._placements):
            if placement.last_wrong is not None:
                timestamp, antenna = placement.last_wrong
                counted.last_wrong = {"stream": stream, "antenna": antenna, "timestamp": timestamp}
        return counted

    def stop(self) -> None:
        """Leave the groups and close the sockets. The blocks being filled are given up."""
        group = self._group
        if group is not None:
            group.stop()
            self._final = self.heaps()
            # Memory and descriptors go with the last reference.
            self._group = None
