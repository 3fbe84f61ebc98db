"""JobPod: a KubernetesPodOperator that makes at most one pod for a request, and deletes none that is at work.

The stock operator finds its pod again by labels and by what an earlier try remembered; a killed worker leaves it with
two pods or deletes a healthy one. Here the pod's name is the request, so the API server itself refuses a second one.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLaunchFailedException, PodLaunchTimeoutException
from airflow.sdk.exceptions import AirflowFailException
from kubernetes.client.exceptions import ApiException  # type: ignore[import-untyped]
from urllib3.exceptions import HTTPError

from millrace.airflow.pods.causes import NoCapacity, OutOfSight, PodFailed, cause_of
from millrace.airflow.pods.image import built_otherwise
from millrace.airflow.pods.preflight import GPU, too_large, without_gpu
from millrace.airflow.pods.restricted import loosened
from millrace.contract import JobRequest

OUTAGE = 120
"""Seconds that the API server may be away while a pod is looked for or made."""
SETTLING = 5
"""Seconds after the end of a log in which a pod is expected to end."""
ENDED = ("Succeeded", "Failed")
OVER = {"failed", "success", "skipped", "upstream_failed", "removed"}


class JobPod(KubernetesPodOperator):
    """Runs one request in one pod. After `execute_sync` or `trigger_reentry`, `cause` says why it ended badly and
    `seen` is the pod as it was last seen, before it was deleted."""

    def __init__(self, *, request: JobRequest, allow_privileged: bool, quota_wait: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.request = request
        self.allow_privileged = allow_privileged
        self.quota_wait = quota_wait
        self.cause: Exception | None = None
        self.seen: Any = None
        self.left = False
        self.timed_out = False

    def build_pod_request_obj(self, context: Any = None, **more: Any) -> Any:
        """The pod merged from profile and site template, after Airflow's mutation hook; refused where it is loose."""
        pod = super().build_pod_request_obj(context, **more)
        pod.metadata.name = self.name  # a template's or hook's name would make a second pod possible
        if not self.allow_privileged and (problems := loosened(pod)):
            raise AirflowFailException(
                f"The pod for {self.request.identity.job} is looser than the restricted standard: "
                f"{'; '.join(problems)}. Mend the pod template, or let the site say 'allow_privileged: true' in "
                "include/compute.yaml"
            )
        return pod

    def convert_config_file_to_dict(self) -> None:
        """The Connection alone says where the cluster is: with KUBECONFIG set the triggerer would be told twice."""
        self._config_dict = None

    def find_pod(self, namespace: str, context: Any, *, exclude_checked: bool = True) -> Any:
        """The request's pod, whichever run or try made it; None where there is none."""
        return self._patiently(lambda: self._read(str(self.name), namespace))

    def get_or_create_pod(self, pod_request_obj: Any, context: Any) -> Any:
        """Take up the request's pod, or make it. Raises what `cause_of` says of one that ended badly."""
        name, namespace = pod_request_obj.metadata.name, pod_request_obj.metadata.namespace
        began = time.monotonic()
        looked = told = False
        while True:
            pod = self.find_pod(namespace, context)
            if pod is None:
                if not looked:
                    self._preflight(pod_request_obj)
                    looked = True
                made, full = self._create(pod_request_obj)
                if made is not None:
                    return made
                if full and time.monotonic() - began > self.quota_wait:
                    raise NoCapacity(f"Pod {name} does not fit into the namespace's quota: {full}")
                if full and not told:
                    self.log.warning("Waiting up to %s s for quota: %s", self.quota_wait, full)
                    told = True
                time.sleep(5 if full else 1)
            elif pod.metadata.deletion_timestamp is not None:
                time.sleep(1)
            elif pod.status.phase in ENDED:
                self.log.info("Pod %s ended while nobody looked", name)
                return pod
            else:
                self.log.info("Taking up pod %s, which is at work on this request", name)
                return pod

    def _preflight(self, pod: Any) -> None:
        """Say what is known before the pod is made. Raises PodFailed where waiting could not help.

        A cluster may add nodes only once a pod waits for one, so a missing GPU is said and not judged.
        """
        namespace, name = pod.metadata.namespace, pod.metadata.name
        if why := built_otherwise(str(self.image), self.request.identity.code_digest):
            raise PodFailed(why)
        if (quotas := self._may(lambda: self.client.list_namespaced_resource_quota(namespace))) and (
            why := too_large(pod, quotas.items)
        ):
            raise NoCapacity(f"Pod {name} cannot fit into namespace {namespace}: {why}")
        asked = any(GPU in (c.resources.limits or {}) for c in pod.spec.containers)
        if asked and (nodes := self._may(self.client.list_node)) and (why := without_gpu(pod, nodes.items)):
            self.log.warning("%s; waiting up to %s s for one", why, self.quota_wait)

    def _may(self, call: Any) -> Any:
        """The answer, None where this account may not ask."""
        try:
            return self._patiently(call)
        except ApiException as err:
            if err.status in (401, 403):
                return None
            raise

    def _create(self, pod: Any) -> tuple[Any, str]:
        """The pod, or why it does not fit; neither where somebody else made it first."""

        def create() -> tuple[Any, str]:
            try:
                return self.client.create_namespaced_pod(pod.metadata.namespace, pod), ""
            except ApiException as err:
                if err.status == 409:
                    return None, ""
                if err.status == 403 and "exceeded quota" in (err.body or ""):
                    return None, _said(err)
                if err.status is not None and 400 <= err.status < 500 and err.status != 429:
                    raise AirflowFailException(f"The cluster refuses pod {pod.metadata.name}: {_said(err)}") from None
                raise

        made, full = self._patiently(create)
        if made is not None:
            self.log.info("Made pod %s in namespace %s", made.metadata.name, made.metadata.namespace)
        return made, full

    def _read(self, name: str, namespace: str) -> Any:
        try:
            return self.client.read_namespaced_pod(name, namespace)
        except ApiException as err:
            if err.status == 404:
                return None
            raise

    def _patiently(self, call: Any) -> Any:
        """Call again while the API server is away. Raises OutOfSight when it stays away."""
        until = time.monotonic() + OUTAGE
        while True:
            try:
                return call()
            except (HTTPError, ApiException, OSError) as err:
                status = getattr(err, "status", None)
                if isinstance(status, int) and 400 <= status < 500 and status != 429:
                    raise
                if time.monotonic() > until:
                    raise OutOfSight(f"The cluster does not answer ({type(err).__name__})") from None
                time.sleep(2)

    def await_pod_completion(self, pod: Any) -> None:
        """As the stock operator; then look five times a second for the end of a pod whose log has ended, which it does
        every two seconds."""
        super().await_pod_completion(pod)
        until = time.monotonic() + SETTLING
        while time.monotonic() < until:
            seen = self._patiently(lambda: self._read(pod.metadata.name, pod.metadata.namespace))
            if seen is None or seen.status.phase in ENDED:
                return
            time.sleep(0.2)

    def trigger_reentry(self, context: Any, event: dict[str, Any]) -> Any:
        """As the stock operator; a pod that did not start in time is known as such."""
        self.timed_out = event.get("status") == "timeout"
        return super().trigger_reentry(context, event)

    def cleanup(self, pod: Any, remote_pod: Any, xcom_result: Any = None, context: Any = None) -> None:
        """Note why the pod ended, then delete it. Raises OutOfSight where one that is at work is left to the next
        try."""
        if self.left:
            raise OutOfSight(f"Pod {self.name} is left to the next try") from None
        if self._killed or pod is None:
            return
        name, namespace = pod.metadata.name, pod.metadata.namespace
        seen = self._patiently(lambda: self._read(name, namespace))
        if seen is None:
            return
        self.seen = seen
        failed = sys.exc_info()[1]
        late = self.timed_out or isinstance(failed, PodLaunchTimeoutException)
        self.cause = cause_of(seen, self.base_container_name)
        hopeless = isinstance(self.cause, PodFailed) and not isinstance(self.cause, NoCapacity)  # it never starts
        refused = isinstance(failed, PodLaunchFailedException)
        if seen.status.phase not in ENDED and not (late or hopeless or refused):
            raise OutOfSight(f"Lost sight of pod {name}, which is still at work; the next try takes it up") from None
        if late and self.cause is None:
            self.cause = NoCapacity(f"Pod {name} did not start in time")
        if self.cause is not None:
            self._read_pod_events(seen, reraise=False)
        self._patiently(lambda: self._delete(name, namespace))

    def take_away(self) -> None:
        """Delete the request's pod, whose result is in the store; `seen` is the pod as it was."""
        name, namespace = str(self.name), str(self.namespace)
        self.seen = self._patiently(lambda: self._read(name, namespace))
        if self.seen is not None:
            self._patiently(lambda: self._delete(name, namespace))

    def _delete(self, name: str, namespace: str) -> None:
        try:
            self.client.delete_namespaced_pod(name, namespace)
        except ApiException as err:
            if err.status != 404:
                raise

    def on_kill(self) -> None:
        """Delete the pod where a person ended the task; keep it where Airflow only lost or reset the task.

        A new scheduler resets tasks whose worker lives on, and the worker then ends them: the pod is healthy, and the
        next try takes it up.
        """
        if self.pod is None:
            return
        if (state := self._state()) in OVER:
            super().on_kill()
        else:
            self._killed = self.left = True
            self.log.warning("The task is %s, not ended by a person: pod %s stays", state, self.pod.metadata.name)

    def _state(self) -> str:
        """The task's state as Airflow has it, or that it cannot be known."""
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        run = self.request.run
        try:
            states = RuntimeTaskInstance.get_task_states(
                dag_id=run.dag_id, task_ids=[run.task_id], run_ids=[run.run_id]
            )
            return str(next(iter(states[run.run_id].values())))
        except Exception as err:
            return f"in a state that cannot be read ({type(err).__name__})"


def _said(err: ApiException) -> str:
    import json

    try:
        return str(json.loads(err.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(err.reason)
