"""Sixteen processes write to a ledger on PostgreSQL at once: each of its own pipeline, against all of one, who wait for
each other as all did while one chain held all pipelines."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from bench.row import Row
from millrace.ledger import Ledger, MaterializedWindow

WRITERS, ENTRIES, ROUNDS = 16, 15, 3


def measure(root: Path, folder: Path) -> list[Row]:
    """Seconds until all have written; a median of rounds. None where there is no PostgreSQL server."""
    sys.path.insert(0, str(root / "tests"))
    from support.ledger_cluster import INITDB, cluster

    if INITDB is None:
        print("  no PostgreSQL server: install it (Debian package postgresql)")
        return []
    with cluster(durable=True) as address:
        url = address.replace("postgresql://", "postgresql+psycopg://")
        Ledger.open(url)
        seen = [(_seconds(url, f"own{n}", own=True), _seconds(url, f"one{n}", own=False)) for n in range(ROUNDS)]
    own, one = (sorted(times)[ROUNDS // 2] for times in zip(*seen, strict=True))
    return [
        Row(f"{WRITERS} writers of their own pipelines, {ENTRIES} entries each, against one pipeline", own, one, "s",
            "do not wait for each other"),
    ]  # fmt: skip


def _seconds(url: str, name: str, *, own: bool) -> float:
    from support.ledger_cluster import together

    writers = [f"{name}-{n}" if own else f"{name}#{n}" for n in range(WRITERS)]
    took = together(_write, url, writers)
    return max(end for _, end in took) - min(begin for begin, _ in took)


def _write(url: str, name: str, go: Any) -> tuple[float, float]:
    ledger, pipeline = Ledger.open(url), name.partition("#")[0]
    go()
    began = time.monotonic()
    for number in range(ENTRIES):
        ledger.record(
            MaterializedWindow(pipeline=pipeline, view=name, partition=str(number), snapshot="x" * 71, rows=number)
        )
    return began, time.monotonic()
