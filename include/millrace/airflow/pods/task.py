"""PodTask: the task of a job that runs in a pod. It asks, waits without a worker, and takes the stored result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from millrace.airflow.pods.attempts import Attempts, gpu_limits
from millrace.airflow.pods.causes import Interrupted, NoCapacity, OutOfMemory, OutOfSight, PodFailed
from millrace.airflow.pods.preflight import out_of_reach
from millrace.airflow.pods.tracked import note
from millrace.airflow.runtime.run import Done, JobTask, crashes_end_it, report, settled
from millrace.airflow.runtime.site import Site
from millrace.contract import JobRequest, JobResult
from millrace.core.errors import ContractError, NotFound


class PodTask(BaseOperator):
    """Runs `work`, whose job goes to a pod of a compute profile.

    It holds no Kubernetes at parse time: the operator that does the work is made when the request is known. Only the
    store carries the result; a stored one that answers the request is taken before a pod is made and after it is gone.
    While the pod is at work, its request is what was asked, whatever has changed since: it is read from the store.
    """

    template_fields: Sequence[str] = ("arguments",)

    def __init__(self, *, work: JobTask, arguments: dict[str, Any], profile: str, **more: Any) -> None:
        super().__init__(**more)
        self.work = work
        self.arguments = arguments
        self.profile = profile
        self._pod: Any = None

    def execute(self, context: Any) -> Any:
        """Ask, and wait: deferred where the profile says so."""
        crashes_end_it()
        request = self.work.ask(**self.arguments)
        if request is None:
            return self.work.taken(None, **self.arguments)
        site = self._site()
        attempts = Attempts.of(site.objects, request)
        if (result := _answer(site, request)) is not None and result.outcome is not None:
            self.log.info("The store has this request's result already; no pod is made")
            if attempts.open and (used := attempts.made[-1]["profile"]) in site.placed.compute.profiles:
                self._operator(site, request, used).take_away()  # it ended while nobody looked
                self._note(site, attempts, request, result)
            return self._close(request, result)
        if (why := attempts.given_up(context["ti"].max_tries)) is not None:
            raise AirflowFailException(f"{why}. No pod is made until somebody clears the task")
        if problems := out_of_reach(
            request.place.store, {n: s.uri for n, s in request.means.services.items()}, site.placed.compute.env
        ):
            raise AirflowFailException(f"{request.identity.job} cannot run in a pod: {'; '.join(problems)}")
        profile = attempts.profile(self.profile, site.placed.compute)
        pod = self._operator(site, request, profile)
        attempts.ask(request, profile, gpu_limits(self.profile, profile, site.placed.compute))
        failure = _ended_badly(lambda: pod.execute_async(context) if pod.deferrable else pod.execute_sync(context))
        return self._finish(site, request, failure, context)

    def trigger_reentry(self, context: Any, event: dict[str, Any]) -> Any:
        """The triggerer saw something: more log, or the end."""
        crashes_end_it()
        site = self._site()
        name = event.get("request")
        request = site.asked(name, context) if name else None
        if request is None:
            raise OutOfSight("What was asked of the pod is not in the store any more; asking again")
        attempts = Attempts.of(site.objects, request)
        pod = self._operator(site, request, attempts.profile(self.profile, site.placed.compute))
        failure = _ended_badly(lambda: pod.trigger_reentry(context, event))
        return self._finish(site, request, failure, context)

    def on_kill(self) -> None:
        """A person or Airflow ends the task."""
        if self._pod is not None:
            self._pod.on_kill()

    def _site(self) -> Site:
        return Site.at(self.arguments["root"], self.arguments["pipeline"])

    def _operator(self, site: Site, request: JobRequest, profile: str) -> Any:
        from millrace.airflow.pods.manifest import pod_operator

        compute = site.placed.compute
        self._pod = pod_operator(request, profile, compute.profiles[profile], compute, site.tree.root)
        return self._pod

    def _finish(self, site: Site, request: JobRequest, failure: Exception | None, context: Any) -> Any:
        """The task's value from the stored result, or the reason why there is none."""
        result = _answer(site, request)
        attempts = Attempts.of(site.objects, request)
        if result is not None and result.outcome is not None:
            self._note(site, attempts, request, result)
            return self._close(request, result)
        try:
            self._end_badly(site, request, attempts, result, failure)
        except AirflowFailException as err:
            attempts.give_up(str(err), context["ti"].max_tries)
            raise

    def _end_badly(
        self, site: Site, request: JobRequest, attempts: Attempts, result: JobResult | None, failure: Exception | None
    ) -> NoReturn:
        """Note how the pod ended, and raise what says whether Airflow tries again."""
        cause = self._pod.cause or (failure if isinstance(failure, AirflowFailException) else None)
        attempts.end(self._pod.seen, cause, result)
        if isinstance(cause, OutOfMemory) or (result and result.error and result.error.retry == "larger"):
            raise attempts.after_memory(self.profile, site.placed.compute, str(cause or "the job ran out of memory"))
        if isinstance(cause, NoCapacity):
            raise attempts.after_capacity(self.profile, site.placed.compute, cause)
        if result is not None and result.error is not None:
            report(request, result)
            if result.error.retry == "resume" and not isinstance(cause, PodFailed):
                raise Interrupted(f"{request.identity.job} was asked to leave: {result.error.message}")
            if result.error.retry != "resume":
                settled(request, result)
        if cause is not None:
            raise cause
        if self._pod.seen is None:
            raise Interrupted(f"The pod of {request.identity.job} is gone and left no result")
        if failure is not None:
            raise OutOfSight(f"{type(failure).__name__}: {failure}")
        raise PodFailed(f"The pod of {request.identity.job} succeeded and left no result in the store")

    def _note(self, site: Site, attempts: Attempts, request: JobRequest, result: JobResult) -> None:
        """Put on record how the last pod ended, and in the MLflow run what it was."""
        attempts.end(self._pod.seen, None, result)
        if self._pod.seen is not None and attempts.made:
            used = attempts.made[-1]["profile"]
            if profile := site.placed.compute.profiles.get(used):
                note(request, result, self._pod.seen, used, profile)

    def _close(self, request: JobRequest, result: JobResult) -> Any:
        report(request, result)
        outcome, result = settled(request, result)
        return self.work.taken(Done(request, outcome, result), **self.arguments)


def _ended_badly(run: Callable[[], Any]) -> Exception | None:
    """Run the operator; what it raises at the pod's end is looked at together with the result. Deferral goes on, and
    so does a pod that was lost sight of."""
    try:
        run()
    except OutOfSight:
        raise
    except Exception as err:
        return err
    return None


def _answer(site: Site, request: JobRequest) -> JobResult | None:
    """The stored result of exactly this request."""
    assert request.place.result is not None
    try:
        result = JobResult.parse(site.objects.get(request.place.result))
    except (NotFound, ContractError):
        return None
    return result if result.request_digest == request.request_digest else None
