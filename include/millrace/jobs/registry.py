"""The MLflow registry, as register and promote use it."""

from __future__ import annotations

import os
from typing import Any

from millrace.errors import Unavailable

CHALLENGER, CHAMPION = "challenger", "champion"
TAG = "millrace."


def client(uri: str) -> Any:
    """An MLflow client of a tracking server or SQL store. Telemetry is off before MLflow is imported."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def find_version(registry: Any, name: str, model_digest: str, evidence: str) -> Any | None:
    """The lowest version with this model and Evidence: the same answer for all who ask, also after a race."""
    found = [
        v for v in registry.search_model_versions(f"name = '{name}'")
        if (v.tags.get(f"{TAG}model_digest"), v.tags.get(f"{TAG}evidence")) == (model_digest, evidence)
    ]  # fmt: skip
    return min(found, key=lambda v: int(v.version)) if found else None


class guarded:
    """Turn MLflow's 'cannot reach' into Unavailable; everything else passes."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        from mlflow.exceptions import MlflowException

        if isinstance(error, MlflowException) and error.error_code in ("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR"):
            where = self.uri.rpartition("@")[2]
            raise Unavailable(f"MLflow does not answer: {str(error)[:300]}", where=where) from error
