"""Tasks of a rollout: the deployment of a version, its stages, and the watch after its promotion.

What a stage decides rests on the ledger and the store alone. Every task of a run drives the rollout on from where it
stands, up to its own stage, so that a task that somebody marked as done has moved nothing.
"""

from __future__ import annotations

from typing import Any, ClassVar

from airflow.sdk import BaseOperator, get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from millrace.airflow.runtime import decided
from millrace.airflow.runtime.notes import note
from millrace.airflow.runtime.run import Done, JobTask
from millrace.airflow.runtime.site import Site
from millrace.airflow.runtime.stage import Look, look
from millrace.airflow.runtime.tell import tell
from millrace.airflow.runtime.traffic import mirror_plan
from millrace.airflow.runtime.triggers import RolloutTrigger
from millrace.airflow.tasks.release import carried_out, ended, evidence_of, registered_of, request_of
from millrace.airflow.tasks.rollback import roll_back
from millrace.contract import Artifact, JobRequest
from millrace.core.errors import Conflict, LedgerError
from millrace.ledger import ArmRecord, Champion, ReleaseRequest, Rollout, rollout_words
from millrace.rules.rollout import shares
from millrace.spec.serving import ServingSpec


@JobTask
def deploy(root: str, pipeline: str) -> JobRequest | None:
    """Write down what a server needs to answer with the version, and with the champion where no plan has named it."""
    site = Site.at(root, pipeline)
    request = request_of(site)
    registered, champion = registered_of(site, request), site.ledger.champion(pipeline)
    evidence_of(site, registered)  # the model that is asked about is still there
    table = f"{pipeline}/features"
    newest = max(site.tables.partitions(table), key=site.partitioning.start, default=None)
    if newest is None:
        raise AirflowFailException(f"No features of {pipeline} are published. Run {pipeline}__features first")
    inputs: list[tuple[str, Artifact, str | None]] = [
        ("features", site.tables.resolve(table, newest).artifact, newest),
        ("model", registered.model, None),
    ]
    versions = {"model": request.version}
    if champion is not None and champion.version != request.version and _unserved(site, champion):
        inputs.append(("champion", champion.trained.model, None))
        versions["champion"] = champion.version
    return site.request(
        "deploy", scope=(newest,), inputs=inputs, params={"versions": versions}, context=get_current_context()
    )


@deploy.then
def _deployed(done: Done | None, root: str, pipeline: str) -> dict[str, str]:
    assert done is not None
    return {role: artifact.uri for role, artifact in done.outcome.outputs.items()}


def promote(root: str, pipeline: str) -> dict[str, Any]:
    """Make a version champion that has passed its stages, and let it answer everything.

    What it passed is judged again here, so that no state of a task stands for it.
    """
    site = Site.at(root, pipeline)
    request = request_of(site)
    seen = check_stages(site, request) if request.state != "promoted" else {}
    made = carried_out(site, request)
    complete(site, request, seen)
    return made


class RolloutStage(BaseOperator):
    """Waits until the rollout of its run has passed a stage, and does what its rule says meanwhile."""

    template_fields: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, root: str, pipeline: str, stage: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root, self.pipeline, self.stage = root, pipeline, stage

    def execute(self, context: Any, event: Any = None) -> str:
        """Drive the rollout on, and park while it waits; what a trigger says counts for nothing."""
        site = Site.at(self.root, self.pipeline)
        request = request_of(site)
        rollout = self._begun(site, request)
        if rollout is None:
            return note(
                f"{site.name} version {request.version} is promoted without this stage: {_why_not(site, request)}"
            )
        while True:
            if not rollout.open:
                raise AirflowSkipException(note(_ended(rollout)))
            if rollout.stage > self.stage:
                return self._passed(rollout)
            seen = look(site, rollout)
            self.log.info("%s version %s: %s", site.name, rollout.version, "\n  ".join([seen.words, *seen.lines]))
            if seen.waits:
                self._park(rollout)
            if seen.answer is None or seen.answer.action == "stop":
                rollout = stopped(site, seen)
            elif rollout.stage == self.stage:
                return self._passed(rollout)
            else:
                rollout = site.ledger.advance_rollout(
                    site.name, rollout.id, rollout.stage + 1, seen=seen.answer.seen, reason=seen.answer.why
                )
                mirror_plan(site)

    def _begun(self, site: Site, request: ReleaseRequest) -> Rollout | None:
        """The rollout of this run, begun where it can be; None where there is nothing to compare with."""
        if request.state == "promoted" or not compared(site, request):
            return None
        shadow, steps = shares(serving_of(site))
        try:
            rollout = site.ledger.begin_rollout(
                site.name, request.id, arm(site, request), serving=serving_of(site).model_dump(mode="json"),
                shadow=shadow, steps=steps,
            )  # fmt: skip
        except (Conflict, LedgerError) as err:
            site.ledger.refuse(site.name, request.id, err.message)
            raise AirflowSkipException(note(str(err))) from err
        mirror_plan(site)
        return rollout

    def _park(self, rollout: Rollout) -> None:
        self.defer(trigger=RolloutTrigger(self.root, self.pipeline, rollout.id), method_name="execute")

    def _passed(self, rollout: Rollout) -> str:
        self.log.info(
            "%s version %s has passed this stage: %s", rollout.pipeline, rollout.version, rollout_words(rollout)
        )
        return rollout.state


class RolloutWatch(RolloutStage):
    """Watches a version that has become champion, and ends its rollout; or takes it back."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(stage=0, **kwargs)

    def execute(self, context: Any, event: Any = None) -> str:
        """See RolloutStage."""
        site = Site.at(self.root, self.pipeline)
        request = request_of(site)
        rollout = site.ledger.rollout(site.name, request.id)
        if rollout is None:
            return note(f"{site.name} version {request.version} is watched by nobody: no rollout of it has begun")
        seen = look(site, rollout)
        if rollout.state in ("shadow", "step"):
            decided.deny(site, f"{site.name} version {rollout.version} is not champion: its rollout is "
                               f"{rollout_words(rollout)}. Clear the task 'promote'")  # fmt: skip
        self.log.info("%s version %s: %s", site.name, rollout.version, seen.words)
        if seen.waits:
            self._park(rollout)
        if seen.answer is None:
            if rollout.state != "done":
                raise AirflowSkipException(note(_ended(rollout)))
            mirror_plan(site)  # where a try before this was killed between the two
            return rollout.state
        if seen.answer.action == "stop":
            raise AirflowFailException(note(_ended(stopped(site, seen))))
        rollout = site.ledger.end_rollout(site.name, rollout.id, seen=seen.answer.seen, reason=seen.answer.why)
        if rollout.open:  # paused meanwhile
            self._park(rollout)
        mirror_plan(site)
        tell(site, "decision", f"{site.name}: version {rollout.version} answers all", rollout.reason)
        return note(f"{site.name} version {rollout.version} answers all: {rollout.reason}")


def stopped(site: Site, seen: Look) -> Rollout:
    """Carry out what the rule said: a version that did harm is rolled back, one that knows too little ends."""
    rollout, answer = seen.rollout, seen.answer
    if answer is not None and answer.harm:
        roll_back(site, rollout.version, why=answer.why, by="the guards of its rollout", how="guard")
    elif answer is not None:
        site.ledger.steer(site.name, "abort", by="its rules", reason=answer.why, how="automatic",
                          rollout_id=rollout.id, seen=answer.seen)  # fmt: skip
    mirror_plan(site)
    now = site.ledger.rollout(site.name, rollout.id)
    assert now is not None
    if answer is not None:
        tell(site, "alert" if answer.harm else "decision", f"{site.name}: {_ended(now)}", answer.why)
    return now


def serving_of(site: Site) -> ServingSpec:
    """The spec's section. Raises AirflowFailException where it is gone."""
    if site.spec.serving is None:
        raise AirflowFailException(f"{site.name} has no section 'serving' any more: start the release again")
    return site.spec.serving


def compared(site: Site, request: ReleaseRequest) -> bool:
    """Whether a version meets the champion before it is promoted: not where it comes back, nor where the champion
    answers by no plan, so that there is nothing to compare with. A rollout that has begun goes on."""
    if site.ledger.rollout(site.name, request.id) is not None:
        return True
    shadow, steps = shares(serving_of(site))
    return not request.rollback and (shadow is not None or bool(steps)) and serves_champion(site)


def serves_champion(site: Site) -> bool:
    """Whether the champion of record answers by the plan in force."""
    planned, champion = site.ledger.plan(site.name), site.ledger.champion(site.name)
    arm = planned.champion if planned is not None else None
    return champion is not None and arm is not None and arm.version == champion.version


def arm(site: Site, request: ReleaseRequest) -> ArmRecord:
    """The version of a request with the deployment that this run has made; denied where there is none."""
    registered, made = registered_of(site, request), decided.done(site, "deploy")
    if made.took("model") != {None: registered.model.digest}:
        decided.deny(site, f"{site.name}: 'deploy' was done for another model than this release is about. Clear it")
    return ArmRecord(role="challenger", version=request.version, model=registered.model.digest,
                     deployment=made.outputs["model"], share=1.0)  # fmt: skip


def former(site: Site, request: ReleaseRequest) -> ArmRecord | None:
    """The champion before, with the deployment that this run has made for it; None where it made none."""
    made, champions = decided.done(site, "deploy"), site.ledger.champions(site.name)
    for before in reversed(champions):
        if before.version != request.version and made.took("champion") == {None: before.model_digest}:
            return ArmRecord(role="champion", version=before.version, model=before.model_digest,
                             deployment=made.outputs["champion"], share=1.0)  # fmt: skip
    return None


def check_stages(site: Site, request: ReleaseRequest) -> dict[str, Any]:
    """What was seen of a version at its last stage, which it must have passed; denied where it has not."""
    rollout = site.ledger.rollout(site.name, request.id)
    what = f"{site.name} version {request.version} cannot be promoted"
    if rollout is None:
        if compared(site, request):
            decided.deny(site, f"{what}: it has met nobody yet. Clear the first stage of its rollout")
        return {}
    seen = look(site, rollout)
    if seen.answer is None:
        raise AirflowSkipException(note(_ended(rollout)))
    if seen.answer.action == "stop":
        raise AirflowFailException(note(_ended(stopped(site, seen))))
    if seen.waits or rollout.stage != len(rollout.steps):
        decided.deny(
            site, f"{what}: its rollout is {rollout_words(rollout)} ({seen.words}). Clear the task of that stage"
        )
    return dict(seen.answer.seen)


def complete(site: Site, request: ReleaseRequest, seen: dict[str, Any]) -> None:
    """Let the version that was promoted answer everything, and the store's copy follow."""
    made = site.ledger.complete_rollout(
        site.name, request.id, arm(site, request), serving=serving_of(site).model_dump(mode="json"),
        former=former(site, request), seen=seen,
    )  # fmt: skip
    mirror_plan(site)
    if made is None:
        note(f"{site.name} version {request.version} answers nothing: {ended(request)}")


def _unserved(site: Site, champion: Champion) -> bool:
    return site.ledger.arm_of(site.name, champion.version) is None


def _why_not(site: Site, request: ReleaseRequest) -> str:
    if request.state == "promoted":
        return "it is champion already"
    return "it comes back" if request.rollback else "no champion answers by a plan that it could be compared with"


def _ended(rollout: Rollout) -> str:
    return f"Version {rollout.version} of {rollout.pipeline} goes no further: its rollout is {rollout_words(rollout)}"
