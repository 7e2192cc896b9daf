"""From a frame's header to its place: the products of a configuration as flat tables for a compiled loop.

Word 1 of a frame (the two streams) leads through a hash table with open addressing to a product; products of the same two
streams are chained and told apart by chip and cell. The cost of a look-up does not depend on the number of products.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from socs_bl.core.errors import Refused
from socs_bl.correlator.configuration import Configuration, Product
from socs_bl.correlator.plan import Plan
from socs_bl.correlator.wire import CELLS, FIELD

HASH_FACTOR = 2654435761  # 2**32 divided by the golden ratio: Knuth, The Art of Computer Programming 3, section 6.4
# Columns of `Lookup.products`.
PLACE, LAGS, BLOCKS, RECIRCULATION, BINS, PIPE, FIRST_CELL, STATE_AT, COUNTS_AT, LAGS_AT, NEXT = range(11)
COLUMNS = 11
ROW_BYTES = 8  # of a row of `Lookup.table`
PIPE_CELLS, PIPE_FIRST, PIPE_LAST = range(3)  # columns of `Lookup.pipes`


class Lookup:
    """The tables of one configuration.

    Parameters
    ----------
    configuration : Configuration
    plans : mapping
        The plan of each pipe.

    Attributes
    ----------
    names : list of str
        Products that enter a pipe, by number.
    products : numpy.ndarray
        int32 (products, `COLUMNS`): small, so that they stay in the processor's cache. Lags begin at 64 times `LAGS_AT`,
        counts at 8 times `COUNTS_AT`.
    table : numpy.ndarray
        uint32 (2**n, 2): word 1, and one more than the first product of its chain; 0: nothing here.
    shift : int
        The hash is the upper bits of ``word 1 * HASH_FACTOR``, from this one.
    cells : int
        Frames of one dump of all products.
    pipes : numpy.ndarray
        int64 (pipes, 3): the frames of one dump of each pipe's products, the first of these and the one behind the last.

    Raises
    ------
    Refused
        When two products cannot be told apart, or one enters two pipes.
    """

    def __init__(self, configuration: Configuration, plans: Mapping[str, Plan]) -> None:
        self.names: list[str] = []
        rows: list[list[int]] = []
        words: list[int] = []
        self.cells = 0
        self.pipes: npt.NDArray[np.int64] = np.zeros((len(plans), 3), np.int64)
        for pipe, plan in enumerate(plans.values()):
            first = len(rows)
            for group in plan.groups:
                per_product = group.bins * group.frames
                for number, product in enumerate(group.products):
                    self.names.append(product.name)
                    words.append(stream_word(product))
                    rows.append(
                        [
                            -1 if product.chip < 0 or product.cell < 0 else product.chip * CELLS + product.cell,
                            group.lags_per_frame, product.frames, product.recirculation, group.bins, pipe, self.cells,
                            group.state_at + number * per_product,
                            group.counts_at // 8 + number * per_product,
                            (group.lags_at + number * per_product * group.lags_per_frame * 8) // 64,
                            -1,
                        ]
                    )  # fmt: skip
                    self.cells += per_product
            self.pipes[pipe] = plan.frames, first, len(rows)
        if len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise Refused(f"configuration {configuration.name}: product {twice} enters two pipes; it can enter one")
        self.products: npt.NDArray[np.int32] = np.array(rows, np.int32).reshape(-1, COLUMNS)
        self._hash(configuration.name, words)

    def _hash(self, configuration: str, words: list[int]) -> None:
        bits = max(1, (2 * len(words)).bit_length())
        self.shift = 32 - bits
        self.table = np.zeros((1 << bits, 2), np.uint32)
        tails: dict[int, list[int]] = {}
        for number, word in enumerate(words):
            tails.setdefault(word, []).append(number)
        for word, chain in tails.items():
            places = self.products[chain, PLACE]
            if len(chain) > 1 and ((places < 0).any() or len(set(places.tolist())) < len(chain)):
                names = ", ".join(self.names[number] for number in chain)
                raise Refused(
                    f"configuration {configuration}: products {names} have the same two streams; give each its chip and ccc"
                )
            self.products[chain[:-1], NEXT] = chain[1:]
            at = (word * HASH_FACTOR & 0xFFFFFFFF) >> self.shift
            while self.table[at, 1]:
                at = (at + 1) & (len(self.table) - 1)
            self.table[at] = word, chain[0] + 1

    @property
    def size_bytes(self) -> int:
        """Memory of the tables."""
        return self.products.nbytes + self.table.nbytes


def stream_word(product: Product) -> int:
    """Word 1 of the product's frames."""
    x, y = product.x, product.y
    values = {
        "bbid_x": x.baseband, "sbid_x": x.subband, "sid_x": x.station,
        "bbid_y": y.baseband, "sbid_y": y.subband, "sid_y": y.station,
    }  # fmt: skip
    return sum(value << FIELD[name].low for name, value in values.items())
