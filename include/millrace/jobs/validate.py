"""validate: run a gate on a Snapshot. A failed gate is an outcome; the data docs page and the result are stored."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from millrace.canonical import canonical_json
from millrace.contract import Outcome
from millrace.errors import SpecError
from millrace.jobs.work import STATIC, Work

REACHES: tuple[str, ...] = ()
REUSABLE = True
"""Scope of a source that belongs to no partition."""


class Params(BaseModel):
    """Which suite, and which column dates a row."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: str = Field(description="Path as the spec names it, a key of the bundle's suites.")
    event_time: str | None = Field(default=None, description="Column whose times must lie in the partition in scope.")


def run(work: Work, params: Params) -> Outcome:
    """Validate the input `data` and return the verdict with `report` (HTML) and `result` (JSON, GX's names).

    Raises SpecError when the bundle has no such suite; everything else that is wrong is a failed check.
    """
    from millrace.gates import builtin, engine, page

    suites = work.bundle.suites
    if params.suite not in suites:
        raise SpecError("the pipeline has no such suite", where=work.spec.name, given=params.suite, allowed=suites)
    within = None
    if params.event_time is not None and work.partition != STATIC:
        cut = work.spec.partitioning
        within = builtin.Within(params.event_time, work.partition, cut.start(work.partition), cut.end(work.partition))
    item = work.request.input("data")
    table = work.read(item)
    gate = engine.validate(table, suites[params.suite], params.suite, work.spec.classification, within)
    title = f"{work.spec.name}, {work.partition}, {params.suite}"
    return Outcome(
        outputs={
            "report": work.put("reports", "gate.html", page.render(gate, title), "report", "text/html"),
            "result": work.put("reports", "gate.json", canonical_json(gate.to_json()), "result", "application/json"),
        },
        facts={"rows": table.num_rows, "suite": params.suite},
        verdict=gate.verdict,
    )
