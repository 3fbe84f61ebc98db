"""Where a rollout stands and what comes next, read from the ledger and the store at each look."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from millrace.airflow.runtime.outcomes import outcomes_of
from millrace.airflow.runtime.site import Site
from millrace.airflow.runtime.traffic import counts, vetoes_against, words_of
from millrace.core.canonical import canonical_json
from millrace.ledger import Rollout, rollout_words
from millrace.rules.experiment import told
from millrace.rules.rollout import Answer, Standing, decide, stage_at
from millrace.spec.serving import ServingSpec
from millrace.store.plans import Plans


@dataclass(frozen=True)
class Look:
    """A rollout as it stands, and what its rule says; `answer` is None where it has ended."""

    rollout: Rollout
    answer: Answer | None

    @property
    def waits(self) -> bool:
        """Whether there is nothing to do yet."""
        return self.answer is not None and self.answer.action == "wait"

    @property
    def words(self) -> str:
        """For a person."""
        return rollout_words(self.rollout) if self.answer is None else self.answer.why

    @property
    def lines(self) -> list[str]:
        """The report of an experiment, line by line."""
        return [] if self.answer is None else told(self.answer.seen)


def look(site: Site, rollout: Rollout) -> Look:
    """What the rule says of a rollout now, by the spec that it began with.

    The report of an experiment is left in the store, where `millrace rollout status` reads it.
    """
    planned = site.ledger.plan(site.name)
    if not rollout.open or planned is None:
        return Look(rollout, None)
    serving = ServingSpec.model_validate(planned.serving)
    stage = None if rollout.state == "full" else rollout.stage
    standing = Standing(
        version=rollout.version,
        former=rollout.former,
        stage=stage,
        planned=rollout.planned,
        began=datetime.fromisoformat(rollout.began),
        paused=rollout.paused,
        hastened=rollout.hastened,
        paused_by=f"{rollout.by} ({rollout.reason})",
    )
    asked = stage_at(serving, stage).outcomes
    outcomes = outcomes_of(site, serving, rollout) if asked else None
    if outcomes is not None and outcomes.report:
        Plans(site.objects).put_experiment(site.name, rollout.since, canonical_json(outcomes.report))
    answer = decide(
        serving,
        standing,
        counts(site, rollout.since, planned.generation),
        vetoes=[words_of(veto) for veto in vetoes_against(site, planned, rollout.version)],
        outcomes=outcomes,
        now=datetime.now(UTC),
    )
    return Look(rollout, answer)


def look_again(site: Site, rollout_id: str) -> Look | None:
    """The same of a rollout by its id; None where it has not begun."""
    rollout = site.ledger.rollout(site.name, rollout_id)
    return None if rollout is None else look(site, rollout)
