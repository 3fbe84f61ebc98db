"""The partitioned Assets of a pipeline: who emits them names the partition, who listens runs for it."""

from __future__ import annotations

from airflow.sdk import Asset

from millrace.airflow.runtime.site import Site


def features_asset(site: Site) -> Asset:
    """Emitted with the partition when features are published."""
    # By name alone: a URI with a scheme makes Airflow import every provider's asset handler, boto3 too, at each parse.
    return Asset(name=f"{site.tree.project.name}.{site.name}.features")


def scored_asset(site: Site) -> Asset:
    """Emitted with the partition when the champion has scored it (or there is none): monitoring listens to it."""
    return Asset(name=f"{site.tree.project.name}.{site.name}.scored")
