"""How often the degradation test alarms without cause, by blocks of a window and by how much they remember.

`python -m bench.drift_memory` prints the table of docs/drift.md. Streams are those of a loss per day: a level that
each day shares and that remembers the day before (first-order autoregression), 600 to 1,200 rows a day.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from millrace.rules.blocks import Blocks
from millrace.rules.degradation import degradation

BLOCKS, MEMORIES = (5, 6, 7, 10, 14, 20, 30, 60), (0.0, 0.3, 0.6, 0.8)
REFERENCE, HELD = 60, 0.2
"""Days of the reference, and the share of days that is held out: its days lie some days apart."""
RATE, STREAMS = 0.01, 10_000
WORSE = 0.2
"""Rise of a mean loss of 0.5 for the share that is found; a day's level has a standard deviation of 0.08."""


def streams(rng: np.random.Generator, count: int, days: int, memory: float, *, held: float = 1.0) -> Any:
    """Sums of losses and rows, shape (2, streams, days); of all days, or of the share `held` of them."""
    level = rng.normal(size=(count, days))
    for day in range(1, days):
        shared = memory ** rng.geometric(held, size=count)
        level[:, day] = shared * level[:, day - 1] + np.sqrt(1 - shared**2) * level[:, day]
    rows = rng.integers(600, 1200, size=(count, days))
    return np.array([(0.5 + 0.08 * level + 0.6 * rng.normal(size=rows.shape) / np.sqrt(rows)) * rows, rows])


def blocks(stream: Any) -> Blocks:
    """As the degradation test takes them."""
    return {f"{day:03d}": (loss, rows) for day, (loss, rows) in enumerate(stream.T.tolist())}


def alarms(days: int, memory: float, count: int = STREAMS, *, worse: float = 0.0, seed: int = 1) -> float:
    """Share of windows of `days` days that are judged degraded."""
    rng = np.random.default_rng(seed)
    windows = streams(rng, count, days, memory)
    windows[0] += worse * windows[1]
    references = streams(rng, count, REFERENCE, memory, held=HELD)
    return sum(
        bool(degradation(blocks(windows[:, n]), blocks(references[:, n]), RATE).degraded) for n in range(count)
    ) / count  # fmt: skip


def table() -> str:
    """The table of docs/drift.md."""
    lines = [f"| days in the window | {' | '.join(f'remember {m:.1f}' for m in MEMORIES)} |"]
    lines.append("|---|" + "---|" * len(MEMORIES))
    for days in BLOCKS:
        cells = (f"{alarms(days, m):.1%} ({alarms(days, m, STREAMS // 5, worse=WORSE):.0%})" for m in MEMORIES)
        lines.append(f"| {days} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    began = time.monotonic()
    print(table())
    sys.exit(print(f"({time.monotonic() - began:.0f} s)"))
