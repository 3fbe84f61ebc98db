"""The sweep: at the end of a run no pod of it is left, whatever happened to the tasks that should have removed it."""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import get_current_context

from millrace.airflow.pods.labels import RUN_LABEL, run_label
from millrace.airflow.runtime.site import Site

log = logging.getLogger(__name__)


def sweep(root: str, pipeline: str) -> int:
    """Delete the pods that carry this run's label, in every namespace that profiles name; returns how many."""
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook

    compute = Site.at(root, pipeline).placed.compute
    context: Any = get_current_context()
    selector = f"{RUN_LABEL}={run_label(context['ti'].dag_id, context['ti'].run_id)}"
    client = KubernetesHook(conn_id=compute.connection).core_v1_client
    found = 0
    for namespace in sorted({compute.namespace, *(p.namespace for p in compute.profiles.values() if p.namespace)}):
        for pod in client.list_namespaced_pod(namespace, label_selector=selector).items:
            if pod.metadata.deletion_timestamp is None:
                log.warning("Pod %s was left behind; it is removed", pod.metadata.name)
                _delete(client, pod.metadata.name, namespace)
                found += 1
    return found


def _delete(client: Any, name: str, namespace: str) -> None:
    from kubernetes.client.exceptions import ApiException  # type: ignore[import-untyped]

    try:
        client.delete_namespaced_pod(name, namespace)
    except ApiException as err:
        if err.status != 404:
            raise
