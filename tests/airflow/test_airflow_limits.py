"""How long a job may run, from the spec to process and pod; and a task that native code may end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from kubernetes.client import models as k8s
from support.project import sample

from millrace.airflow.pods.causes import PodFailed, cause_of
from millrace.airflow.pods.manifest import pod_operator
from millrace.airflow.runtime.run import step
from millrace.airflow.runtime.site import Site
from millrace.core.errors import ContractError, SpecError
from millrace.spec.compute import Compute


@pytest.fixture
def limited(tmp_path: Path) -> Callable[[str], Site]:
    """The sample's site with these `time_limits`."""
    path = sample(tmp_path / "shop").tree.folder("orders") / "pipeline.yaml"
    text = path.read_text()

    def write(limits: str) -> Site:
        path.write_text(f"{text}\ntime_limits: {limits}\n")
        Site.at.cache_clear()
        return Site.at(str(tmp_path / "shop"), "orders")

    return write


def test_each_job_has_a_limit_which_is_no_part_of_its_identity(limited: Callable[[str], Site]) -> None:
    site = limited("{train: PT12H, land: P1D}")
    limits = {job: site.request(job, scope=()).means.time_limit for job in ("train", "land", "validate")}
    assert limits == {"train": 12 * 3600, "land": 86400, "validate": 6 * 3600}
    asked = site.request("train", scope=())
    assert asked.model_copy(update={"means": limited("{}").request("train", scope=()).means}).request_digest == (
        asked.request_digest
    )


def test_a_pod_has_the_limit_of_its_job(limited: Callable[[str], Site]) -> None:
    asked = limited("{train: PT90S}").request("train", scope=())
    compute = Compute.model_validate({"version": 1, "profiles": {"small": {}}})
    operator = pod_operator(asked, "small", compute.profiles["small"], compute, Path("/"))
    assert operator.active_deadline_seconds == 90


@pytest.mark.parametrize(("limits", "said"), [
    ("{trian: PT1H}", "did you mean 'train'"),
    ("{fit_embedding: PT1H}", "unknown key 'time_limits.fit_embedding'; allowed here: land,"),
    ("{train: PT0S}", "no job is done in no time"),
    ("{train: 3 hours}", "ISO 8601"),
])  # fmt: skip
def test_a_limit_that_cannot_be_is_refused(limited: Callable[[str], Site], limits: str, said: str) -> None:
    with pytest.raises(SpecError, match="pipeline.yaml:[0-9]+") as refused:
        limited(limits)
    assert said in str(refused.value)


def test_a_request_with_no_number_for_a_limit_is_refused(limited: Callable[[str], Site]) -> None:
    means = limited("{}").request("train", scope=()).means
    assert means.model_copy(update={"limits": {}}).time_limit is None
    for given in ("0", "-1", "an hour"):
        with pytest.raises(ContractError, match=r"means\.limits\.seconds"):
            _ = means.model_copy(update={"limits": {"seconds": given}}).time_limit


def test_a_crash_in_a_pod_has_its_name() -> None:
    state = k8s.V1ContainerState(terminated=k8s.V1ContainerStateTerminated(exit_code=139))
    held = k8s.V1ContainerStatus(name="job", image="", image_id="i", ready=False, restart_count=0, state=state)
    pod = k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name="p"), status=k8s.V1PodStatus(phase="Failed", container_statuses=[held])
    )
    found = cause_of(pod, "job")
    assert isinstance(found, PodFailed) and "exit 139, which is SIGSEGV" in str(found)


def test_a_crash_ends_a_task_though_airflow_has_handled_it() -> None:
    # Given the handler that Airflow's importer of DAG files leaves behind
    before = signal.signal(signal.SIGSEGV, lambda number, frame: None)
    try:
        made = step(lambda: signal.getsignal(signal.SIGSEGV), task_id="any")
        assert made.function() == signal.SIG_DFL  # type: ignore[attr-defined]
    finally:
        signal.signal(signal.SIGSEGV, before)
