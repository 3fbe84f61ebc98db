"""`millrace promote` and `millrace champion`: ask for a release, and say who is or was champion.

Promotion and rollback are one mechanism, the release DAG: this starts a run of it and decides nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from millrace.core.errors import LedgerError, MillraceError
from millrace.core.settings import Settings
from millrace.ledger import Champion, Ledger
from millrace.local.stack import current
from millrace.spec import Placed, ProjectTree


@dataclass(frozen=True)
class Started:
    """A run of the release DAG. `rollback`: the version was champion before; `by` is who lets it become champion."""

    dag_id: str
    run_id: str
    url: str
    rollback: bool
    by: str
    paused: bool


def promote(tree: ProjectTree, settings: Settings, ledger: Ledger, pipeline: str, version: int, reason: str) -> Started:
    """Start a run of the release DAG for a version.

    Raises MillraceError for a version that the run could not promote, and where no Airflow of this project runs.
    """
    placed = Placed.of(tree, settings.environment, pipeline)
    if not reason.strip():
        raise MillraceError("a promotion by hand needs a reason", next_step="Say why, with --reason")
    rollback = _was_champion(ledger, pipeline, version)
    dag_id, conf = f"{pipeline}__release", {"version": str(version), "reason": reason}
    running = current(settings)
    if running is None or not running.alive():
        raise MillraceError(
            "no Airflow that 'millrace up' started for this project is running",
            where=str(settings.home),
            next_step=f"Start it, or trigger the DAG {dag_id} in the Airflow that runs this project, with the fields "
            f"{', '.join(f'{name}: {value}' for name, value in conf.items())}",
        )
    run_id = f"promote__v{version}__{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    api = running.api
    return Started(
        dag_id=dag_id,
        run_id=api.trigger(dag_id, conf, run_id),
        url=f"{running.airflow_url}/dags/{dag_id}/runs/{run_id}",
        rollback=rollback,
        by=placed.approval.by,
        paused=bool(api.call("GET", f"/dags/{dag_id}")["is_paused"]),
    )


def champion_at(ledger: Ledger, pipeline: str, at: str | None) -> tuple[Champion | None, datetime | None]:
    """The champion now, or at a moment given as text with its zone, and that moment. Raises MillraceError."""
    when = moment("--at", at) if at is not None else None
    return ledger.champion(pipeline, when), when


def _was_champion(ledger: Ledger, pipeline: str, version: int) -> bool:
    registered, champions = ledger.registered(pipeline, version), ledger.champions(pipeline)
    if registered is None:
        known = [each.version for each in ledger.versions(pipeline)]
        raise LedgerError(f"no such version of {pipeline} was registered", given=version, allowed=known)
    mine = [c.generation for c in champions if (c.version, c.evidence) == (version, registered.evidence)]
    now = champions[-1] if champions else None
    if now is not None and now.generation in mine:
        raise MillraceError(f"{pipeline} version {version} is champion already", given=version)
    if now is not None and now.version > version and not mine:
        raise MillraceError(
            f"version {now.version} of {pipeline} is champion; version {version} is older and never was",
            given=version,
            allowed=sorted({c.version for c in champions} - {now.version}),
            next_step="Roll back to a version that was champion, or train again",
        )
    return bool(mine)


def moment(option: str, text: str) -> datetime:
    """The moment that an option names. Raises MillraceError."""
    example = "2013-05-01T12:00+02:00 or 2013-05-01T10:00Z"
    try:
        found = datetime.fromisoformat(text)
    except ValueError as err:
        raise MillraceError("not a time", where=option, given=text, allowed=f"ISO 8601, such as {example}") from err
    if found.tzinfo is None:
        raise MillraceError("a time needs its zone: which moment it is differs between zones", where=option, given=text,
                            allowed=f"such as {example}")  # fmt: skip
    return found
