"""`millrace rollout`: how a rollout stands, and what a person may do to it. Every step is an event with a name.

It writes the ledger, and lets the plan's copy in the store follow; a rollback speaks first to the servers, in the
store, and what it needs of Airflow the rollback DAG does by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

from millrace.core.errors import LedgerError, MillraceError
from millrace.ledger import ArmRecord, Ledger, Planned, RolledBack, Rollout, rollout_words
from millrace.ledger.rollouts import Steering
from millrace.rules.experiment import told
from millrace.store import ObjectStore
from millrace.store.plans import Plans, TrafficPlan, Veto


def status(ledger: Ledger, objects: ObjectStore, pipeline: str) -> Iterator[str]:
    """Lines about the plan in force, the rollout under way, the last one, and vetoes."""
    planned = ledger.plan(pipeline)
    if planned is None:
        yield f"{pipeline}: nothing is served yet"
        return
    yield f"{pipeline}: plan {planned.generation} ({planned.by}: {planned.reason})"
    yield from (f"  {line}" for line in _traffic(planned))
    rollout = ledger.rollout(pipeline) or (ledger.rollout(pipeline, planned.rollout) if planned.rollout else None)
    if rollout is not None:
        since = f"since {rollout.began[:19]} UTC"
        yield f"rollout {rollout.id} of version {rollout.version}: {rollout_words(rollout)}, {since}"
        seen = {name: value for name, value in rollout.seen.items() if name not in ("guards", "experiment")}
        if seen:
            yield f"  moved here on: {', '.join(f'{name} {value}' for name, value in seen.items())}"
        yield from (f"  {guard}" for guard in rollout.seen.get("guards", ()))
        yield from _experiment(rollout, Plans(objects).experiment(pipeline, rollout.since))
    plans = Plans(objects)
    copy = plans.get(pipeline)
    if copy is None or copy.generation != planned.generation:
        yield f"THE COPY IN THE STORE IS OF PLAN {copy.generation if copy else 'none'}: servers follow that"
    for veto in plans.vetoes(copy) if copy is not None else ():
        yield f"VETO against version {veto.version}: {veto.why} (guard {veto.guard}, {veto.server or 'no server'})"


def steer(ledger: Ledger, objects: ObjectStore, pipeline: str, what: Steering, *, by: str, reason: str) -> Rollout:
    """Pause, resume, hasten or abort. Raises LedgerError where no rollout is under way."""
    made = ledger.steer(pipeline, what, by=by, reason=_said(reason))
    _mirror(ledger, objects, pipeline)
    return made


def toggle(
    ledger: Ledger, objects: ObjectStore, pipeline: str, *, by: str, reason: str, stopped: bool = False,
    version: int | None = None,
) -> Planned:  # fmt: skip
    """Stop all models, let one version answer everything, or take that back. Raises LedgerError."""
    made = ledger.toggle(pipeline, by=by, reason=_said(reason), stopped=stopped, version=version)
    _mirror(ledger, objects, pipeline)
    return made


def roll_back(
    ledger: Ledger, objects: ObjectStore, pipeline: str, version: int | None, *, by: str, reason: str, approval: bool
) -> RolledBack:
    """Take a version out of the traffic: the one on its way where none is given, else the champion.

    Servers hear it first, as a veto in the store. Raises LedgerError for a version that is not served.
    """
    why, planned = _said(reason), ledger.plan(pipeline)
    if planned is None:
        back = f"Release the version before with 'millrace promote {pipeline} --to VERSION --reason ..'"
        raise LedgerError(f"{pipeline} has no traffic plan: nothing of it is served yet", next_step=back)
    bad = version if version is not None else _on_its_way(planned)
    if bad in {arm.version for arm in planned.versions}:
        Plans(objects).veto(
            Veto(pipeline=pipeline, generation=planned.generation, version=bad, guard="person", why=why, server=by,
                 at=datetime.now(UTC).isoformat())
        )  # fmt: skip
    made = ledger.roll_back(pipeline, bad, why=why, by=by, how="person", approval=approval)
    _mirror(ledger, objects, pipeline)
    return made


def _on_its_way(planned: Planned) -> int:
    """The version that is on trial, or the champion."""
    arms = [arm for arm in (planned.shadow, *reversed(planned.arms)) if arm is not None]
    if not arms:
        raise LedgerError(f"the plan of {planned.pipeline} names no model")
    return arms[0].version


def _traffic(planned: Planned) -> Iterator[str]:
    for arm in planned.arms:
        yield f"{arm.role}: {_arm(arm)}, {arm.share:.1%} of the units"
    if not planned.arms:
        yield "no model answers"
    if planned.shadow is not None:
        yield f"in shadow: {_arm(planned.shadow)}, {planned.shadow.share:.1%} of the requests"
    if planned.former is not None:
        yield f"kept warm: {_arm(planned.former)}"
    if planned.toggles.stopped:
        yield "STOPPED: no model answers"
    if planned.toggles.version is not None:
        yield f"FORCED: version {planned.toggles.version} answers everything"


def _experiment(rollout: Rollout, standing: bytes | None) -> Iterator[str]:
    """The report of an experiment: that which the rollout was moved on, or else how it stands."""
    kept = rollout.seen
    if rollout.state == "step" and standing is not None:
        kept = {"experiment": json.loads(standing)}
    found = told(kept)
    if found:
        yield "  experiment: " + found[0]
        yield from (f"    {line}" for line in found[1:])


def _arm(arm: ArmRecord) -> str:
    return f"version {arm.version} ({arm.model[7:19]})"


def _mirror(ledger: Ledger, objects: ObjectStore, pipeline: str) -> None:
    planned = ledger.plan(pipeline)
    if planned is not None:
        Plans(objects).follow(TrafficPlan.model_validate(planned.in_store()))


def _said(reason: str) -> str:
    if not reason.strip():
        raise MillraceError("it needs a reason, which the ledger keeps", next_step="Say why, with --reason")
    return reason.strip()
