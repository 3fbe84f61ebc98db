"""Blocks of time: how long they are in a sketch, and which rows lie in each."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Block = Literal["hour", "day", "week"]

BLOCKS = 400
"""Most blocks of a sketch."""
_COARSER: dict[str, tuple[Block, ...]] = {"hour": ("hour", "day", "week"), "day": ("day", "week"), "week": ("week",)}


def coarser(keys: NDArray[np.str_], block: Block) -> NDArray[np.str_]:
    """Keys of blocks ('2013-05-01T13', '2013-05-01' or a Monday) as keys of a longer block."""
    if block == "hour" or not len(keys):
        return keys
    days = np.array([str(k)[:10] for k in keys])
    if block == "day":
        return days
    found = [date.fromisoformat(str(d)) for d in days]
    return np.array([(d - timedelta(days=d.weekday())).isoformat() for d in found])


def block_for(keys: NDArray[np.str_], block: Block) -> Block:
    """The shortest block, from `block` on, of which a reference has no more than `BLOCKS`."""
    names, _ = _unique(keys)
    for longer in _COARSER[block]:
        if len(np.unique(coarser(names, longer))) <= BLOCKS:
            return longer
    return "week"


def index_of(keys: NDArray[np.str_], block: Block) -> tuple[list[str], Counts]:
    """Names of the blocks in order, and the block of each row."""
    names, index = _unique(keys)
    longer, again = np.unique(coarser(names, block), return_inverse=True)
    return [str(n) for n in longer], again.ravel()[index]


def _unique(keys: NDArray[np.str_]) -> tuple[NDArray[np.str_], Counts]:
    """As np.unique with its inverse, over runs of equal keys: rows mostly come in order of time."""
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
    names, runs = np.unique(keys[starts], return_inverse=True)
    return names, np.repeat(runs.ravel(), np.diff(np.append(starts, len(keys))))


def sample(table: pa.Table, most: int, seed: int) -> pa.Table:
    """At most `most` rows, the same ones for the same table and seed, in their order."""
    if table.num_rows <= most:
        return table
    chosen = np.random.default_rng(seed).choice(table.num_rows, most, replace=False)
    return table.take(pa.array(np.sort(chosen)))
