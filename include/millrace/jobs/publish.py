"""publish: point a Table's partition at a Snapshot."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Outcome
from millrace.jobs.work import Work

REACHES: tuple[str, ...] = ()
REUSABLE = False  # the pointer may have moved on since; moving it again is the point of a replay


class Params(BaseModel):
    """Which Table of the pipeline."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = Field(description="raw.<source>, features or predictions.")


def run(work: Work, params: Params) -> Outcome:
    """Move the pointer of the partition in scope to the input `data` by compare-and-set; no move if it is there."""
    item = work.request.input("data")
    snapshot = work.snapshots.artifact(work.spec.name, params.dataset, item.digest)
    pointer, moved = work.tables.move(f"{work.spec.name}/{params.dataset}", work.partition, snapshot)
    return Outcome(
        outputs={"data": snapshot},
        facts={"table": pointer.table, "generation": pointer.generation, "moved": moved, "rows": snapshot.rows},
    )
