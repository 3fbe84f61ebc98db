"""ReleaseApproval: Airflow's ApprovalOperator that an environment may answer by itself, and that records its answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from millrace.airflow.runtime import decided
from millrace.airflow.runtime.aliases import withdraw
from millrace.airflow.runtime.notes import note
from millrace.airflow.runtime.site import Site
from millrace.airflow.runtime.statements import heard
from millrace.airflow.runtime.tell import tell
from millrace.airflow.tasks.question import question
from millrace.airflow.tasks.release import answer_automatically, ended, request_of
from millrace.ledger import Answer, ReleaseRequest, words
from millrace.rules.approval import barred

SHORTEST = timedelta(seconds=1)


class ReleaseApproval(ApprovalOperator):
    """Waits until the release request of its run is decided, and goes on where it is approved.

    The DAG has the same structure in every environment; where approval is automatic nobody is asked. What was decided
    is in the ledger: this task writes there what Airflow's authenticated users answer, and reads there what it does
    next. It waits in slices of `look_every`, since nothing else may end a task that waits: at the end of each it looks
    whether its request was voided by a newer challenger, has expired, or was decided through another run. An answer
    that Airflow lost before it was recorded is asked for again, never assumed.
    """

    def __init__(self, *, root: str, pipeline: str, **kwargs: Any) -> None:
        super().__init__(subject=f"Promote a version of {pipeline}?", defaults=self.REJECT, **kwargs)
        self.root = root
        self.pipeline = pipeline

    def execute(self, context: Any) -> Any:
        """Return what was decided already; otherwise ask, and park the task."""
        site = Site.at(self.root, self.pipeline)
        request = site.ledger.look(site.name, request_of(site).id)
        if request.state == "waiting" and site.placed.approval.by == "auto":
            self.log.info("This environment promotes without a human (approval: auto)")
            request = answer_automatically(site, request)
        request = heard(site, request)
        if request.state != "waiting":
            return self._end(site, request)
        self._ask(site, request)
        tell(site, "request", self.subject, str(self.body), link=self._link(context))
        return super().execute(context)

    def _ask(self, site: Site, request: ReleaseRequest) -> None:
        """Put together what persons are shown, and for how long the task parks."""
        if conf.getboolean("core", "simple_auth_manager_all_admins", fallback=False):
            raise AirflowFailException(
                f"Environment {site.settings.environment} asks persons to approve, but every user of this Airflow is "
                "admin and nobody is known by name: unset [core] simple_auth_manager_all_admins"
            )
        self.subject, self.body = question(site, request)
        approvers = site.placed.approval.approvers
        self.assigned_users = [{"id": name, "name": name} for name in approvers] or None
        self.response_timeout = _slice(site, request)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Record an answer, or look how the request stands; then go on, end, or wait for another slice."""
        if "error" in event:
            return super().execute_complete(context, event)
        site = Site.at(self.root, self.pipeline)
        request = site.ledger.look(site.name, request_of(site).id)
        user = event.get("responded_by_user")
        if user and request.state == "waiting":
            request = self._answered(site, request, event, str(user["name"]), str(user["id"]))
        request = heard(site, request)
        if request.state == "waiting":
            self._ask(site, request)
            return super().execute(context)
        self._end(site, request)
        approved = user and event["chosen_options"] == [self.APPROVE]
        return super().execute_complete(context, event) if approved else None

    def _link(self, context: Any) -> str | None:
        try:
            return self.generate_link_to_ui(task_instance=context["ti"])
        except ValueError:  # Airflow does not know its own address
            return None

    def _answered(
        self, site: Site, request: ReleaseRequest, event: dict[str, Any], name: str, user_id: str
    ) -> ReleaseRequest:
        approves, policy = event["chosen_options"] == [self.APPROVE], site.placed.approval
        why = barred(name, user_id, approves=approves, approvers=policy.approvers, requesters=request.requesters)
        if why is not None:
            self.log.warning("The answer of %s does not count: %s; the request waits on", name, why)
            decided.note_denied(site, f"the answer of {name} to release {request.id} does not count: {why}")
            return request
        at = event.get("responded_at") or datetime.now(UTC)
        said = Answer(by=name, user_id=user_id if user_id != name else None, at=at.isoformat(),
                      verdict="approve" if approves else "reject")  # fmt: skip
        systems = [system.name for system in policy.external]
        request = site.ledger.answer(site.name, request.id, said, enough=policy.needed, external=systems)
        self.log.info("%s version %s: %s by %s; now %s (%d of %d approvals)", site.name, request.version,
                      said.verdict, name, request.state, len(request.answers), policy.needed)  # fmt: skip
        return request

    def _end(self, site: Site, request: ReleaseRequest) -> None:
        """Go on where the request is approved; otherwise let MLflow's alias follow, and say why in one line."""
        said = f"{site.name} version {request.version}: {words(request)}"
        tell(site, "decision", said, f"{said}. Release {request.id}, asked for because: {request.reason}")
        if request.state in ("approved", "promoted"):
            return
        withdraw(site, request.version)
        raise AirflowSkipException(note(ended(request)))


def _slice(site: Site, request: ReleaseRequest) -> timedelta:
    """How long to park: until the next look, or the request's end if that comes before."""
    every = site.placed.approval.look_every.length
    if request.expires is None:
        return every
    return max(SHORTEST, min(every, datetime.fromisoformat(request.expires) - datetime.now(UTC)))
