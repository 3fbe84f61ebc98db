"""Preflight: what can be known to go wrong before a pod is asked for, said at once instead of by a pod that hangs."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

GPU = "nvidia.com/gpu"
LOOPBACK = ("localhost", "127.", "::1", "0.0.0.0")


def out_of_reach(store: str, services: Mapping[str, str], env: Mapping[str, str]) -> list[str]:
    """What a pod could not reach, by address alone. `services` are those the job is given, `env` is the pod's."""
    found = []
    if not store.startswith("s3://"):
        found.append(
            f"the object store is a folder of this machine ({store}): set MILLRACE_STORE to s3://BUCKET/PREFIX"
        )
    elif _loopback(env.get("AWS_ENDPOINT_URL", "")):
        found.append(f"the object store's address in a pod is the pod itself (env: AWS_ENDPOINT_URL: "
                     f"{env['AWS_ENDPOINT_URL']} in include/compute.yaml)")  # fmt: skip
    for name, address in services.items():
        if name in ("mlflow", "registry") and (not urlsplit(address).hostname or _loopback(address)):
            found.append(f"the service '{name}' is of this machine alone: give it an address that pods reach")
    return found


def _loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    return host.startswith(LOOPBACK)


def too_large(pod: Any, quotas: list[Any]) -> str | None:
    """Why a namespace's quotas could never take the pod, however long it waits; None where they could."""
    from kubernetes.utils.quantity import parse_quantity  # type: ignore[import-untyped]

    asked: dict[str, Decimal] = {"pods": Decimal(1)}
    for container in pod.spec.containers:
        resources = container.resources
        for kind, amounts in (("requests", resources.requests or {}), ("limits", resources.limits or {})):
            for name, amount in amounts.items():
                keys = [f"{kind}.{name}", name] if kind == "requests" else [f"{kind}.{name}"]
                # An extended resource is requested by its limit.
                keys += [f"requests.{name}"] if kind == "limits" and "/" in name else []
                for key in keys:
                    asked[key] = asked.get(key, Decimal(0)) + parse_quantity(amount)
    for quota in quotas:
        if quota.spec.scopes or quota.spec.scope_selector:
            continue  # of some pods only
        for name, hard in (quota.spec.hard or {}).items():
            if asked.get(name, Decimal(0)) > parse_quantity(hard):
                return f"it asks for {name}={asked[name]}, and quota '{quota.metadata.name}' allows {hard} in all"
    return None


def without_gpu(pod: Any, nodes: list[Any]) -> str | None:
    """That no node could give the GPUs now; None where one could, or none are asked for."""
    asked = max((int((c.resources.limits or {}).get(GPU, 0)) for c in pod.spec.containers), default=0)
    chosen = pod.spec.node_selector or {}
    for node in nodes:
        labels = node.metadata.labels or {}
        if (
            all(labels.get(k) == v for k, v in chosen.items())
            and int((node.status.allocatable or {}).get(GPU, 0)) >= asked
        ):
            return None
    if not asked:
        return None
    where = f" among those with {', '.join(f'{k}={v}' for k, v in chosen.items())}" if chosen else ""
    return f"No node{where} has {asked} {GPU} now"
