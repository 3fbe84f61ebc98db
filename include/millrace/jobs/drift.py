"""drift: compare a window of features with what the champion was trained on."""

from __future__ import annotations

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from millrace.canonical import canonical_json
from millrace.contract import Outcome
from millrace.drift.report import build, sample
from millrace.errors import DataError
from millrace.jobs.work import Work

REACHES: tuple[str, ...] = ()
REUSABLE = True


class Params(BaseModel):
    """Nothing: what to watch is in the spec."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def run(work: Work, params: Params) -> Outcome:
    """Write the report and return its facts; with fewer than the minimum of rows `drifted` stays None.

    Raises DataError for a watched column that the window or the reference lacks.
    """
    spec = work.spec
    monitoring, label = spec.monitoring, spec.label
    assert monitoring is not None and label is not None
    reference = work.read(work.request.input("reference"))
    current = pa.concat_tables([work.read(item) for item in work.request.inputs("current")])
    left_out = {*spec.features.entity, spec.features.event_time, spec.features.created_time, label.column}
    columns = list(monitoring.columns) or [c for c in reference.column_names if c not in left_out]
    for column in columns:
        for side, table in (("reference", reference), ("window", current)):
            if column not in table.column_names:
                raise DataError(f"the {side} lacks a watched column", given=column, allowed=table.column_names)
    seed, most = work.request.identity.seed, monitoring.sample
    report = build(
        sample(reference, most, seed),
        sample(current, most, seed),
        columns,
        lambda column: spec.classification(column) == "public",
    )
    enough = current.num_rows >= monitoring.minimum_rows
    facts = {
        "rows": current.num_rows,
        "reference_rows": reference.num_rows,
        "enough_rows": enough,
        "columns": report.columns,
        "broken": report.broken,
        "share": round(report.share, 6),
        "drifted": report.share >= monitoring.drift_share if enough else None,
    }
    # The page carries random ids, so it is no part of the outcome; its place follows from the request.
    key = f"reports/{spec.name}/{work.request.request_digest.removeprefix('sha256:')}/drift.html"
    work.objects.put(key, report.page.encode())
    work.links["report"] = work.objects.url(key)
    stored = work.put("reports", "drift.json", canonical_json(facts), "report", "application/json")
    return Outcome(outputs={"result": stored}, facts=facts)
