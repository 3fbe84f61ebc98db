"""Which partition a run is for."""

from __future__ import annotations

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException

from millrace.airflow.runtime.site import Site
from millrace.core.errors import SpecError


def partition_of(site: Site) -> str:
    """The partition of the run that this task belongs to: Airflow's partition key, or the form's `partition`.

    Every task asks the run itself, so that all speak of one partition. Raises AirflowFailException, which says how to
    start a run, where there is none or it is not the pipeline's.
    """
    context, spec = get_current_context(), site.spec.partition
    key, field = context["dag_run"].partition_key, context["params"].get("partition")
    if key and field and key != field:
        raise AirflowFailException(
            f"This run says both: its partition key is {key}, the field 'partition' {field}. Leave the field empty, "
            "which is for the command line"
        )
    key = key or field
    example = f'airflow dags trigger {context["ti"].dag_id} --conf \'{{"partition": "{spec.start}"}}\''
    if not key:
        raise AirflowFailException(
            f"This run does not say which {spec.grain} it is for. Trigger it with the field 'partition' "
            f"(for example: {example}), through REST with a partition_key, by backfill, or let the schedule run it."
        )
    try:
        site.partitioning.check(str(key))
    except SpecError as err:
        raise AirflowFailException(f"{err}. For example: {example}") from err
    if site.partitioning.start(key) < site.partitioning.start(spec.start) or (
        spec.end and site.partitioning.start(key) > site.partitioning.start(spec.end)
    ):
        raise AirflowFailException(
            f"Partition {key} lies outside the pipeline's {spec.start} to {spec.end or 'now'} "
            f"(partition.start and partition.end in include/pipelines/{site.name}/pipeline.yaml)"
        )
    return str(key)
