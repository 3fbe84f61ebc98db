"""Jobs in pods, as far as no cluster is needed: what a pod may be, why one ended, what is tried next."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from kubernetes.client import models as k8s
from support import requests
from support.project import PIPELINE, sample

from millrace.airflow.pods import causes
from millrace.airflow.pods.attempts import Attempts, gpu_limits
from millrace.airflow.pods.causes import cause_of
from millrace.airflow.pods.labels import label
from millrace.airflow.pods.manifest import pod_name, pod_operator
from millrace.airflow.pods.preflight import out_of_reach, too_large, without_gpu
from millrace.airflow.pods.restricted import loosened
from millrace.airflow.pods.task import PodTask
from millrace.airflow.runtime.run import JobTask
from millrace.airflow.runtime.site import Site
from millrace.contract import JobError, JobRequest, JobResult, Run
from millrace.spec.compute import Compute
from millrace.store import layout, open_store

D = requests.digest_of("1")
COMPUTE = Compute.model_validate({
    "version": 1, "image": "jobs@sha256:0", "env": {"AWS_REGION": "r"},
    "secrets": {"AWS_SECRET_ACCESS_KEY": {"secret": "s3", "key": "secret"}},
    "profiles": {
        "small": {"memory": "1Gi", "larger": "large", "scratch": "3Gi"}, "large": {"memory": "8Gi"},
        "gpu": {"gpu": 2, "shm": "1Gi", "fallback": "large", "node_selector": {"kind": "gpu"},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}], "cpu_limit": "4"},
    },
})  # fmt: skip


def request(run_id: str = "r1", **more: Any) -> JobRequest:
    asking = Run(pipeline="my_flights", dag_id="my_flights__training", run_id=run_id, task_id="train")
    made = requests.request("train", store="s3://b/p", spec_digest=D, code=D, run=asking, **more)
    name = made.request_digest.removeprefix("sha256:")
    return made.model_copy(update={"place": made.place.model_copy(update={"result": f"results/{name}.json"})})


def pod(profile: str = "small", given: JobRequest | None = None, **changes: Any) -> Any:
    """The pod of a profile as the API server gets it, less what needs a cluster."""
    given = given or request()
    operator = pod_operator(given, profile, COMPUTE.profiles[profile], COMPUTE, Path("/"))
    made = super(type(operator), operator).build_pod_request_obj(dry_run=True)
    for path, value in changes.items():
        target = made
        *steps, last = path.split("__")
        for step in steps:
            target = target[int(step)] if step.isdigit() else getattr(target, step)
        setattr(target, last, value)
    return made


def test_a_pod_of_each_profile_is_restricted_and_sized_as_said() -> None:
    for profile in COMPUTE.profiles:
        assert loosened(pod(profile)) == []
    small, gpu = pod("small").spec, pod("gpu").spec
    assert small.containers[0].resources.requests == {"cpu": "1", "memory": "1Gi"}
    assert small.containers[0].resources.limits == {"memory": "1Gi"}
    assert gpu.containers[0].resources.limits == {"memory": "2Gi", "cpu": "4", "nvidia.com/gpu": "2"}
    assert {v.name: (v.empty_dir.medium, v.empty_dir.size_limit) for v in gpu.volumes} == {
        "tmp": (None, "10Gi"), "shm": ("Memory", "1Gi"),
    }  # fmt: skip
    assert (gpu.node_selector, gpu.tolerations[0].key) == ({"kind": "gpu"}, "nvidia.com/gpu")
    secret = next(e for e in small.containers[0].env if e.name == "AWS_SECRET_ACCESS_KEY")
    assert secret.value is None and secret.value_from.secret_key_ref.name == "s3"
    args = small.containers[0].args
    assert args[:4] == ["train", "--store", "s3://b/p", "--request"] and args[4].endswith("request.json")


@pytest.mark.parametrize(("change", "value", "said"), [
    ("spec__host_network", True, "host_network"),
    ("spec__host_pid", True, "host_pid"),
    ("spec__automount_service_account_token", None, "token"),
    ("spec__containers__0__security_context", None, "escalation"),
    ("spec__containers__0__security_context__privileged", True, "privileged"),
    ("spec__containers__0__security_context__run_as_user", 0, "root"),
    ("spec__containers__0__security_context__read_only_root_filesystem", False, "root filesystem"),
    ("spec__containers__0__security_context__allow_privilege_escalation", None, "escalation"),
    ("spec__containers__0__security_context__capabilities", k8s.V1Capabilities(drop=["ALL"], add=["SYS_ADMIN"]), "SYS"),
    ("spec__containers__0__ports", [k8s.V1ContainerPort(container_port=1, host_port=1)], "port"),
    ("spec__containers__0__env", [k8s.V1EnvVar(name="DB_PASSWORD", value="x")], "literal secret"),
    ("spec__containers__0__security_context__se_linux_options", k8s.V1SELinuxOptions(type="spc_t"), "SELinux"),
    ("spec__security_context__app_armor_profile", k8s.V1AppArmorProfile(type="Unconfined"), "AppArmor"),
    ("spec__security_context__windows_options", k8s.V1WindowsSecurityContextOptions(host_process=True), "host"),
    ("spec__init_containers", [k8s.V1Container(name="site")], "container 'site'"),
    ("spec__volumes", [k8s.V1Volume(name="v", host_path=k8s.V1HostPathVolumeSource(path="/"))], "reaches the node"),
])  # fmt: skip
def test_a_merged_pod_that_is_looser_is_named(change: str, value: Any, said: str) -> None:
    found = loosened(pod(**{change: value}))
    assert any(said in line for line in found), found


def test_the_name_is_the_request_and_nothing_else() -> None:
    assert pod_name(request("r1")) == pod_name(request("another run")) != pod_name(request(seed=1))
    name = pod().metadata.name
    assert name.startswith("my-flights-train-") and len(name) <= 63 and name == pod_name(request())
    assert pod(given=request("manual__2013-01-01T00:00:00+00:00")).metadata.labels["millrace.io/run"].isalnum()


@pytest.mark.parametrize("name", ["flights", "flights_", "f" * 63, "f" * 64, "Flüge", ""])
def test_a_label_holds_any_name(name: str) -> None:
    held = label(name)
    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", held)
    assert (held == name) == (name in ("flights", "f" * 63))


def status(
    phase: str, reason: str | None = None, conditions: tuple[tuple[str, str, str], ...] = (), **state: Any
) -> Any:
    kinds = {"terminated": k8s.V1ContainerStateTerminated, "waiting": k8s.V1ContainerStateWaiting}
    held_state = k8s.V1ContainerState(**{kind: kinds[kind](**value) for kind, value in state.items()})
    held = [k8s.V1ContainerStatus(name="job", image="", image_id="i", ready=False, restart_count=0,
                                  state=held_state)]  # fmt: skip
    made = pod()
    made.status = k8s.V1PodStatus(
        phase=phase, reason=reason, message="m", container_statuses=held if state else None,
        conditions=[k8s.V1PodCondition(type=t, status=s, reason=r, message="0/1 nodes") for t, s, r in conditions],
    )  # fmt: skip
    return made


@pytest.mark.parametrize(("given", "cause"), [
    (status("Succeeded", terminated={"exit_code": 0}), None),
    (status("Running"), None),
    (status("Failed", terminated={"exit_code": 137, "reason": "OOMKilled"}), causes.OutOfMemory),
    (status("Failed", "DeadlineExceeded"), causes.PodFailed),
    (status("Failed", conditions=(("DisruptionTarget", "True", "EvictionByEvictionAPI"),),
            terminated={"exit_code": 137}), causes.Interrupted),
    (status("Failed", "Evicted"), causes.Interrupted),
    (status("Failed", terminated={"exit_code": 137, "reason": "Error"}), causes.Interrupted),
    (status("Failed", terminated={"exit_code": 3, "message": "x\nKeyError: y"}), causes.PodFailed),
    (status("Failed", terminated={"exit_code": 4, "message": "no answer"}), causes.OutOfReach),
    (status("Pending", waiting={"reason": "ErrImageNeverPull"}), causes.PodFailed),
    (status("Pending", waiting={"reason": "CreateContainerConfigError"}), causes.PodFailed),
    (status("Pending", conditions=(("PodScheduled", "False", "Unschedulable"),)), causes.NoCapacity),
])  # fmt: skip
def test_each_cause_has_its_own_exception(given: Any, cause: type[Exception] | None) -> None:
    found = cause_of(given, "job")
    assert type(found) is (cause or type(None)), found


def test_memory_is_enlarged_once_and_a_gpu_has_its_fallback(tmp_path: Path) -> None:
    objects = open_store(tmp_path)
    tries = [Attempts.of(objects, request())]
    assert tries[0].profile("small", COMPUTE) == "small"
    tries[0].ask(request(), "small", {})
    tries[0].end(None, causes.OutOfMemory("x"), None)
    again = Attempts.of(objects, request())
    assert again.profile("small", COMPUTE) == "large"
    assert isinstance(again.after_memory("small", COMPUTE, "x"), causes.OutOfMemory)
    again.ask(request(), "large", {})
    again.end(None, causes.OutOfMemory("x"), None)
    assert isinstance(Attempts.of(objects, request()).after_memory("small", COMPUTE, "x"), causes.PodFailed)
    # another run begins anew
    assert Attempts.of(objects, request("r2")).profile("small", COMPUTE) == "small"
    # and what no node could give is asked of the fallback, which the job is told
    gpu = Attempts.of(objects, request(seed=2))
    gpu.ask(request(seed=2), "gpu", gpu_limits("gpu", "gpu", COMPUTE))
    gpu.end(None, causes.NoCapacity("x"), None)
    assert isinstance(gpu.after_capacity("gpu", COMPUTE, causes.NoCapacity("x")), causes.NoGPU)
    assert gpu.profile("gpu", COMPUTE) == "large"
    assert gpu_limits("gpu", "large", COMPUTE) == {"gpus": "2", "gpu_fallback": "cpu"}
    stored = json.loads(objects.get(layout.request("my_flights", request(seed=2).request_digest)))
    assert stored["means"]["limits"] == {"gpus": "2"}


def test_asking_again_forgets_an_error_but_never_an_outcome(tmp_path: Path) -> None:
    objects, asked = open_store(tmp_path), request()
    key = asked.place.result
    assert key is not None
    wrong = JobResult(job="train", request_digest=asked.request_digest, error=JobError(type="E", message="m"))
    objects.put(key, wrong.to_json().encode())
    Attempts.of(objects, asked).ask(asked, "small", {})
    assert not objects.exists(key)
    # a pod that nobody saw end may be at work: what it says stays
    objects.put(key, wrong.to_json().encode())
    Attempts.of(objects, asked).ask(asked, "small", {})
    assert objects.exists(key)


def test_a_pipeline_in_pods_is_parsed_without_kubernetes(tmp_path: Path) -> None:
    """Given an environment that puts training into pods, then its DAG is parsed without a word of Kubernetes."""
    import shutil

    root = Path(__file__).resolve().parents[2]
    for name in ("dags", "feature_repo"):
        shutil.copytree(root / name, tmp_path / name)
    shutil.copytree(root / "include" / "pipelines", tmp_path / "include" / "pipelines")
    (tmp_path / "include" / "environments").mkdir()
    for name in ("project.yaml", "compute.yaml"):
        shutil.copy(root / "include" / name, tmp_path / "include")
    placed = {"flight_delays": {"compute": {"train": "cpu-small"}}}
    environment = {"version": 1, "name": "dev", "pipelines": placed}
    (tmp_path / "include" / "environments" / "dev.yaml").write_text(json.dumps(environment))
    code = (
        "import sys; sys.path.insert(0, 'dags'); from millrace.airflow import build_dags\n"
        "dags = {d.dag_id: d for d in build_dags('flight_delays', 'dags/flight_delays.py')}\n"
        "task = dags['flight_delays__training'].get_task('train')\n"
        "print(type(task).__name__, task.profile, sorted(task.upstream_task_ids), 'kubernetes' in sys.modules)\n"
        "swept = dags['flight_delays__training'].get_task('sweep_pods')\n"
        "others = 'sweep_pods' in dags['flight_delays__features'].task_ids\n"
        "print(swept.is_teardown, sorted(swept.upstream_task_ids), others)"
    )
    home = {"AIRFLOW_HOME": str(tmp_path / "home"), "PATH": "/usr/bin", "MILLRACE_HOME": str(tmp_path / "state")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=home, capture_output=True, text=True,
                          timeout=120)  # fmt: skip
    assert done.stdout.splitlines()[-2:] == [
        "PodTask cpu-small ['training_set'] False",
        "True ['train'] False",  # a teardown, after what runs in pods, and only where something does
    ], done.stderr[-2000:]


def test_a_profile_may_have_keys_of_its_own() -> None:
    own = {"own": {"secrets": {"A_KEY": {"secret": "few", "key": "k"}}}, "none": {"secrets": {}}, "usual": {}}
    given = {"version": 1, "secrets": {"A_KEY": {"secret": "all", "key": "k"}}, "profiles": own}
    compute, found = Compute.model_validate(given), {}
    for name, profile in compute.profiles.items():
        env = pod_operator(request(), name, profile, compute, Path("/")).env_vars
        found[name] = [e.value_from.secret_key_ref.name for e in env if e.name == "A_KEY"]
    assert found == {"own": ["few"], "none": [], "usual": ["all"]}


@pytest.mark.parametrize(("change", "said"), [
    ({"env": {"DB_PASSWORD": "x"}}, "no place here"),
    ({"profiles": {"a": {"larger": "b"}}}, "no such other profile"),
    ({"profiles": {"process": {}}}, "own process"),
    ({"profiles": {"a": {"fallback": "b"}, "b": {}}}, "for profiles with a gpu"),
    ({"profiles": {"a": {"memory": "4GB"}}}, "pattern"),
])  # fmt: skip
def test_a_wrong_compute_file_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Compute.model_validate({"version": 1, **change})


@pytest.mark.parametrize(("store", "services", "env", "said"), [
    ("s3://b/p", {"mlflow": "http://mlflow:5000", "spark": "local[2]"}, {"AWS_ENDPOINT_URL": "http://s3:7070"}, []),
    ("s3://b/p", {}, {}, []),
    ("/data/store", {}, {}, ["MILLRACE_STORE"]),
    ("s3://b/p", {}, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"}, ["the pod itself"]),
    ("s3://b/p", {"mlflow": "sqlite:////m.db", "registry": "postgresql+psycopg://pg/feast"}, {}, ["'mlflow'"]),
    ("s3://b/p", {"mlflow": "http://localhost:5000"}, {}, ["'mlflow'"]),
])  # fmt: skip
def test_what_a_pod_could_not_reach_is_said_before_it_is_made(
    store: str, services: dict[str, str], env: dict[str, str], said: list[str]
) -> None:
    found = out_of_reach(store, services, env)
    assert len(found) == len(said)
    assert all(word in line for word, line in zip(said, found, strict=True))


def quota(scopes: list[str] | None = None, **hard: str) -> Any:
    given = {name.replace("__", "."): value for name, value in hard.items()}
    return k8s.V1ResourceQuota(
        metadata=k8s.V1ObjectMeta(name="q"), spec=k8s.V1ResourceQuotaSpec(hard=given, scopes=scopes)
    )


@pytest.mark.parametrize(("profile", "quotas", "said"), [
    ("small", [], None),
    ("small", [quota(pods="1", requests__memory="1Gi", limits__memory="1073741824", memory="1Gi")], None),
    ("large", [quota(memory="2Gi")], "memory=8589934592, and quota 'q' allows 2Gi"),
    ("large", [quota(requests__cpu="900m")], "requests.cpu=1, and quota 'q' allows 900m"),
    ("large", [quota(["NotTerminating"], memory="2Gi")], None),
    ("small", [quota(pods="0")], "pods=1"),
    ("gpu", [quota(**{"requests__nvidia.com/gpu": "1"})], "requests.nvidia.com/gpu=2"),
])  # fmt: skip
def test_a_pod_that_no_waiting_would_make_fit_is_refused(profile: str, quotas: list[Any], said: str | None) -> None:
    why = too_large(pod(profile), quotas)
    assert (why is None) if said is None else said in str(why)


def test_a_missing_gpu_is_said() -> None:
    def node(gpus: str, **labels: str) -> Any:
        status = k8s.V1NodeStatus(allocatable={"nvidia.com/gpu": gpus})
        return k8s.V1Node(metadata=k8s.V1ObjectMeta(name="n", labels=labels), status=status)

    assert without_gpu(pod("small"), []) is None
    assert without_gpu(pod("gpu"), [node("1", kind="gpu"), node("2", kind="gpu")]) is None
    for nodes in ([], [node("1", kind="gpu")], [node("8", kind="other")]):
        assert without_gpu(pod("gpu"), nodes) == "No node among those with kind=gpu has 2 nvidia.com/gpu now"


def test_a_pod_goes_where_the_environment_says(tmp_path: Path) -> None:
    # Given an environment with a cluster, an image and keys of its own
    site = sample(tmp_path / "project")
    include = site.tree.root / "include"
    (include / "compute.yaml").write_text(
        "version: 1\nenv: {AWS_REGION: a}\nprofiles:\n  small: {cpu: 500m, memory: 1Gi, larger: big}\n  big: {}\n"
    )
    path = include / "environments" / f"{site.settings.environment}.yaml"
    path.write_text(
        path.read_text() + "\ncompute:\n  connection: staging\n  namespace: jobs-staging\n  image: jobs:staging\n"
        "  env: {AWS_REGION: b}\n  profiles: {small: {node_selector: {pool: a}}}\n"
    )
    Site.at.cache_clear()
    placed = Site.at(str(site.tree.root), PIPELINE)
    # When a task makes a pod there
    task = PodTask(task_id="train", work=JobTask(lambda: None), arguments={}, profile="small")
    operator = task._operator(placed, request(), "small")
    # Then it is of that environment, and of the project's size
    assert (operator.kubernetes_conn_id, operator.namespace, operator.image) == (
        "staging",
        "jobs-staging",
        "jobs:staging",
    )
    assert operator.node_selector == {"pool": "a"}
    assert {v.name: v.value for v in operator.env_vars}["AWS_REGION"] == "b"
    assert operator.container_resources.requests == {"cpu": "500m", "memory": "1Gi"}


@pytest.mark.parametrize(("state", "deleted"), [("running", []), ("failed", ["pod"])])
def test_a_pod_stays_where_only_its_task_was_lost_and_goes_where_a_person_ended_it(
    monkeypatch: pytest.MonkeyPatch, state: str, deleted: list[str]
) -> None:
    # Given a task that waits for its pod, and is told to end: by whoever starts a lost scheduler anew, or by a person
    class Client:
        gone: ClassVar[list[str]] = []

        def delete_namespaced_pod(self, name: str, namespace: str, **more: Any) -> None:
            self.gone.append("pod")

    operator = pod_operator(request(), "small", COMPUTE.profiles["small"], COMPUTE, Path("/"))
    operator.pod = k8s.V1Pod(metadata=k8s.V1ObjectMeta(name="p", namespace="n"), status=k8s.V1PodStatus())
    Client.gone = []
    operator.__dict__["client"] = Client()
    monkeypatch.setattr(operator, "_state", lambda: state)
    operator.on_kill()
    assert Client.gone == deleted
    # Then the end of the wait is not the pod's
    if deleted:
        operator.cleanup(operator.pod, None)
    else:
        with pytest.raises(causes.OutOfSight, match="left to the next try"):
            operator.cleanup(operator.pod, None)
