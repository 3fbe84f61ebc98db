"""validate: run a gate on a Snapshot. A failed gate is an outcome; the data docs page and the result are stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Input, Outcome
from millrace.core.canonical import canonical_json
from millrace.core.errors import SpecError
from millrace.jobs.work import STATIC, Work
from millrace.spec.gate import gate_checks

if TYPE_CHECKING:
    import pyarrow as pa

    from millrace.gates.checks.beside import Surroundings
    from millrace.gates.checks.builtin import Within
    from millrace.gates.engine import Spark

TRAILING, REFERENCE = "trailing", "reference."
"""Roles of inputs that checks look at: earlier partitions of the same data, and `reference.<source>`."""


class Params(BaseModel):
    """Which suite, and which column dates a row."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: str = Field(description="Path as the spec names it, a key of the bundle's suites.")
    event_time: str | None = Field(default=None, description="Column whose times must lie in the partition in scope.")


def run(work: Work, params: Params) -> Outcome:
    """Validate the input `data` and return the verdict with `report` (HTML) and `result` (JSON, GX's names).

    Inputs `trailing` (one per earlier partition) and `reference.<source>` are what the suite's checks look at.
    Raises SpecError when the bundle has no such suite, or its checks cannot be read; all else is a failed check.
    """
    from millrace.gates import engine, page
    from millrace.gates.checks import beside, builtin

    suites = work.bundle.suites
    if params.suite not in suites:
        raise SpecError("the pipeline has no such suite", where=work.spec.name, given=params.suite, allowed=suites)
    within = None
    if params.event_time is not None and work.partition != STATIC:
        partitioning = work.spec.partitioning
        within = builtin.Within(
            params.event_time, work.partition, partitioning.start(work.partition), partitioning.end(work.partition)
        )
    item = work.request.input("data")
    table = work.read(item)
    suite = suites[params.suite]
    gate = engine.validate(table, suite, params.suite, work.spec.classification, within, _spark(work, item))
    asked = gate_checks(suite, params.suite)
    gate = gate.with_checks(beside.run(table, asked, work.spec.classification, _surroundings(work, within)))
    title = f"{work.spec.name}, {work.partition}, {params.suite}"
    return Outcome(
        outputs={
            "report": work.put("reports", "gate.html", page.render(gate, title), "report", "text/html"),
            "result": work.put("reports", "gate.json", canonical_json(gate.to_json()), "result", "application/json"),
        },
        facts={"rows": table.num_rows, "suite": params.suite},
        verdict=gate.verdict,
    )


def _spark(work: Work, item: Input) -> Spark | None:
    """Where the pipeline's gates run that are too large for this process, None where its engine is DuckDB."""
    from millrace.gates.engine import Spark

    if work.spec.features.engine != "spark":
        return None
    master = work.spark()
    return Spark(master, work.spark_place(item, master))


def _surroundings(work: Work, within: Within | None) -> Surroundings:
    """What the request gives the checks to look at; Snapshots are read when a check asks for them."""
    from millrace.gates.checks.beside import Surroundings, Trailing

    def rows(item: Input) -> int:
        return work.snapshots.manifest_of(work.request.key(item), item.digest).rows

    def reader(item: Input) -> Callable[[Sequence[str]], pa.Table]:
        return lambda columns: work.read(item, list(columns))

    inputs = work.request.identity.inputs
    return Surroundings(
        event_time=within.column if within else None,
        end=within.end if within else None,
        trailing=tuple(
            Trailing(str(item.partition), rows(item), reader(item)) for item in inputs if item.role == TRAILING
        ),
        sources={item.role.removeprefix(REFERENCE): reader(item) for item in inputs if item.role.startswith(REFERENCE)},
    )
