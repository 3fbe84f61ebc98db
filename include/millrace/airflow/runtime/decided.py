"""What was decided, read from the ledger and the store where it is used: no task believes another's state or XCom.

Whoever may edit a run may mark any task as done and add any XCom. So what a task needs of an earlier one it looks up
here, by digest; what was never decided is denied, for good, and the attempt is on record.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NoReturn

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException

from millrace.airflow.runtime.notes import note
from millrace.airflow.runtime.site import Site
from millrace.contract import JobRequest, JobResult
from millrace.core.errors import ContractError, NotFound
from millrace.ledger import Denied, GateVerdict, JobDone, JobInput, Source
from millrace.store import layout


def this_run() -> str:
    """The run of this task, as the ledger names it."""
    ti = get_current_context()["ti"]
    return f"{ti.dag_id}/{ti.run_id}"


def requester() -> str | None:
    """Who started this run, as Airflow authenticated it; None for the clock, backfills and other DAGs."""
    return getattr(get_current_context()["dag_run"], "triggering_user_name", None)


def deny(site: Site, why: str) -> NoReturn:
    """End the task for good, and keep on record that it was asked to go on without a decision."""
    note_denied(site, why)
    raise AirflowFailException(note(why))


def note_denied(site: Site, why: str) -> None:
    """Keep on record that this task was given what was never decided so."""
    task = get_current_context()["ti"].task_id
    site.ledger.record(Denied(pipeline=site.name, run=this_run(), task=task, why=why))


def passed(site: Site, snapshots: Collection[Source]) -> list[GateVerdict]:
    """The newest verdict on exactly each of these Snapshots, where all are passes; denied otherwise."""
    found = site.ledger.verdicts_on(site.name, snapshots)
    for each in snapshots:
        if each not in found or not found[each].passed:
            how = "failed its gate" if each in found else "has no verdict of its gate on record"
            again = "land and check" if each.dataset.startswith("raw.") else "make and check"
            deny(
                site,
                f"{site.name}: {each.dataset} of {each.partition} ({each.snapshot[:19]}) {how}, and no state or XCom "
                f"of a task can say otherwise. Run {site.name}__features for {each.partition} again to {again} it",
            )
    return [found[each] for each in snapshots]


def features_of(parts: Iterable[tuple[str, str]]) -> list[Source]:
    """Features Snapshots, given as partition and digest."""
    return [Source(dataset="features", partition=key, snapshot=snapshot) for key, snapshot in parts]


def done(site: Site, job: str) -> JobDone:
    """How a job of this run ended last, whatever its task's state and XCom say; denied where it never did."""
    found = site.ledger.jobs_of(site.name, this_run()).get(job)
    if found is None:
        deny(site, f"{site.name}: no job '{job}' of this run is on record. Clear its task, to have it done")
    return found


def result(site: Site, ended: JobDone) -> JobResult:
    """The stored result of a job on record; denied where the store has another one, or none."""
    try:
        found = JobResult.parse(site.objects.get(layout.result(site.name, ended.job, ended.request)))
    except (NotFound, ContractError) as err:
        deny(site, f"{site.name}: the result of '{ended.job}' cannot be read ({err}). Clear its task")
    if found.outcome is None or found.outcome_digest != ended.outcome:
        deny(site, f"{site.name}: the stored result of '{ended.job}' is not what is on record. Clear its task")
    return found


def keep(site: Site, request: JobRequest, ended: JobResult) -> None:
    """Put on record how a job of a run ended."""
    outcome, run = ended.outcome, request.run
    if outcome is None or not run.run_id:
        return
    assert ended.outcome_digest is not None
    read = request.identity.inputs
    site.ledger.record(
        JobDone(
            pipeline=site.name,
            run=f"{run.dag_id}/{run.run_id}",
            job=request.identity.job,
            request=request.request_digest,
            outcome=ended.outcome_digest,
            scope=request.identity.scope,
            inputs=tuple(JobInput(role=i.role, digest=i.digest, partition=i.partition) for i in read),
            outputs=dict(outcome.outputs),
            passed=outcome.verdict.passed if outcome.verdict else None,
        )
    )
