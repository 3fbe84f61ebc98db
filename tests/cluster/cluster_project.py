"""The project that the tests run: two pipelines, their heavy jobs in pods, and profiles that cannot work."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import yaml
from chart_services import Services

from millrace import __version__

ROOT = Path(__file__).resolve().parents[2]
PIPELINES = ("flight_delays", "digits")
PARTS = ("features", "training", "release", "monitoring")
JOBS = ("transform", "build_training_set", "train", "evaluate")
IMAGE = f"{os.environ.get('MILLRACE_JOBS_IMAGE', 'millrace-jobs')}:{__version__}"
"""The variable is that of docker-compose.yaml."""


def profiles(image: str = IMAGE) -> dict[str, dict[str, Any]]:
    """The ComputeProfiles of the project under test: one that works, and one for each way not to."""
    small = {"cpu": "100m", "memory": "2Gi", "schedule_timeout": "PT1M", "startup_timeout": "PT2M"}
    return {
        "small": small,
        "sync": {**small, "deferrable": False},
        "tight": {**small, "memory": "150Mi", "larger": "small"},
        "nowhere": {**small, "image": f"{image}-that-nobody-built"},
        "huge": {**small, "memory": "90Gi", "schedule_timeout": "PT6S"},
        "gpu": {**small, "gpu": 1, "schedule_timeout": "PT6S"},
        "gpu-or-not": {**small, "gpu": 1, "schedule_timeout": "PT6S", "fallback": "small"},
    }


def recovery() -> dict[str, str]:
    """The settings that docker-compose.yaml ships for what happens when a component dies."""
    common = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["x-environment"]
    return {n: v for n, v in common.items() if n.startswith("AIRFLOW__WORKERS__") or "HEARTBEAT" in n or "ORPHAN" in n}


def write_project(folder: Path, namespace: str, services: Services) -> None:
    """The reference project with two pipelines, one of them with a trainer of its own, and their jobs in pods."""
    from demo import data, media

    for name in ("dags", "plugins", "feature_repo"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (folder / "dags").glob("*.py"):
        if path.stem not in PIPELINES:
            path.unlink()
    for name in PIPELINES:
        shutil.copytree(ROOT / "include" / "pipelines" / name, folder / "include" / "pipelines" / name)
    shutil.copy(ROOT / "include" / "project.yaml", folder / "include")
    own = folder / "include" / "pipelines" / "digits"
    spec = yaml.safe_load((own / "pipeline.yaml").read_text())
    spec["training"]["learner"] = {"kind": "custom"}
    (own / "pipeline.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    shutil.copy(Path(__file__).with_name("trainer.py"), own)
    write_compute(folder, namespace, services, "kubernetes_default")
    environments = folder / "include" / "environments"
    environments.mkdir()
    placed = {"compute": dict.fromkeys((*JOBS, "score", "probe"), "small")}
    environment = {
        "version": 1, "name": "dev", "approval": {"by": "auto"}, "pipelines": dict.fromkeys(PIPELINES, placed),
    }  # fmt: skip
    (environments / "dev.yaml").write_text(yaml.safe_dump(environment))
    admin = folder.with_name("admin")
    shutil.copytree(folder, admin)
    write_compute(admin, namespace, services, "kubernetes_admin")
    shutil.copy(Path(__file__).with_name("probe_dag.py"), folder / "dags" / "probe.py")
    incoming = folder / data.INCOMING
    data.write_planes(incoming)
    for month in ("2013-01", "2013-02", "2013-03", "2013-04"):
        data.write_flights(incoming, month)
        data.write_weather(incoming, month)
    for month in ("2024-01", "2024-02", "2024-03"):
        media.write_digits(incoming, month)


def write_compute(folder: Path, namespace: str, services: Services, connection: str) -> None:
    """The project's compute.yaml."""
    compute = {
        "version": 1, "image": IMAGE, "image_pull_policy": "Never", "namespace": namespace, "connection": connection,
        "service_account": "millrace-job",
        "env": {"AWS_ENDPOINT_URL": services.addresses["s3"], "AWS_REGION": "us-east-1", "TZ": "Pacific/Auckland",
                "LANG": "de_DE.UTF-8"},
        "secrets": {name: {"secret": "keys", "key": name}
                    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD")},
        "profiles": profiles(),
    }  # fmt: skip
    (folder / "include" / "compute.yaml").write_text(yaml.safe_dump(compute))
