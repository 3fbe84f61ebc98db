"""Open a FeatureStore from the text of feature_store.yaml, and hold it against what the project says."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from feast import FeatureStore
from feast.feature_view import FeatureView
from feast.repo_config import RepoConfig
from pydantic import ValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from millrace.core.errors import SpecError, Unavailable
from millrace.feast_stores.definitions import define, describe
from millrace.feast_stores.tables import table_of
from millrace.spec.feast_file import Definitions

APPLY = "Run 'millrace apply'"
_LIMITS = {"threads": "duckdb_threads", "memory_limit": "duckdb_memory", "temp_directory": "duckdb_temp"}
"""Key of the offline store -> limit of a request."""
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


def open_feature_store(
    text: str,
    *,
    registry: str,
    online: str,
    store: str,
    pinned: Mapping[str, list[dict[str, str]]] | None = None,
    limits: Mapping[str, str] | None = None,
    folder: Path | None = None,
    where: str = "feature_store.yaml",
) -> FeatureStore:
    """Open the feature store that `text` describes, with its registry open.

    `registry`, `online` and `store` take the place of ${MILLRACE_FEAST_REGISTRY}, ${MILLRACE_FEAST_ONLINE} and
    ${MILLRACE_STORE_ROOT}; other variables come from the environment, as in Feast. `pinned` makes the offline store
    read these Snapshots (Table -> partition, snapshot, uri) and no others; `limits` are those of a request, for what
    the file leaves open. Raises SpecError for a file that is wrong or names an unset variable, Unavailable when the
    registry cannot be opened.
    """
    variables = {
        **os.environ,
        "MILLRACE_FEAST_REGISTRY": registry,
        "MILLRACE_FEAST_ONLINE": online,
        "MILLRACE_STORE_ROOT": store,
    }
    raw = _parse(text, variables, where)
    if pinned is not None:
        offline = raw.get("offline_store")
        if not isinstance(offline, dict) or not str(offline.get("type", "")).endswith(".TableOfflineStore"):
            raise SpecError(
                "a training set can be repeated only through Millrace's offline store",
                where=where,
                allowed="offline_store: {type: millrace.feast_stores.offline_stores.duckdb.TableOfflineStore, "
                "store: ...}",
            )
        offline["pinned"] = {table: list(pins) for table, pins in pinned.items()}
    if (
        limits
        and isinstance(offline := raw.get("offline_store"), dict)
        and str(offline.get("type")).startswith("millrace.")
    ):
        for key, name in _LIMITS.items():
            if name in limits:
                offline.setdefault(key, limits[name])
    _wait_for_writers(raw)
    try:
        config = RepoConfig(**raw)
        config.repo_path = folder or Path.cwd()
        if isinstance(raw.get("offline_store"), dict):
            _ = config.offline_store
    except ValidationError as err:
        first = err.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(top level)"
        raise SpecError(f"{key}: {first['msg']}", where=where) from err
    except Exception as err:  # Feast raises errors of many kinds for a class that cannot be found
        raise SpecError(f"not a feature store: {err}", where=where) from err
    opened = FeatureStore(config=config)
    with registry_lock(config.registry.path):
        try:
            _ = opened.registry
        except (DBAPIError, ArgumentError) as err:
            raise Unavailable(f"the Feast registry cannot be opened ({type(err).__name__})", where=where) from err
    return opened


def registered(store: FeatureStore) -> Definitions:
    """What the registry holds for the store's project."""
    return define(registry_objects(store), "the Feast registry")


def registry_objects(store: FeatureStore) -> list[Any]:
    """Feast objects in the registry: entities, feature views of all kinds, services, sources."""
    registry, project = store.registry, store.project
    # Without what on-demand views execute: the registry holds it as bytes of code.
    return [
        *registry.list_entities(project),
        *registry.list_feature_views(project),
        *registry.list_stream_feature_views(project),
        *registry.list_on_demand_feature_views(project, skip_udf=True),
        *registry.list_feature_services(project),
        *registry.list_data_sources(project),
    ]


def service_definitions(store: FeatureStore, service: str, features_text: str, where: str) -> Definitions:
    """The registry's definitions, after making sure that `service` is there and as the project defines it.

    `features_text` is the Feast file of the request's bundle; a registry that says otherwise would make a result
    depend on more than the request. Raises SpecError with what to do.
    """
    held = registered(store)
    if service not in held.services:
        raise SpecError(
            "the FeatureService is not in the registry",
            where=where,
            given=service,
            allowed=sorted(held.services),
            next_step=APPLY,
        )
    if features_text:
        said = describe(features_text, where)
        if service not in said.services:
            raise SpecError(
                "the file defines no such FeatureService", where=where, given=service, allowed=sorted(said.services)
            )
        if differing := _differences(said, held, service):
            raise SpecError(
                f"the registry holds another definition than the project: {', '.join(differing)}",
                where=where,
                given=service,
                next_step=APPLY,
            )
    return held


def views_of_table(store: FeatureStore, table: str, features_text: str, where: str) -> list[FeatureView]:
    """Online feature views that read a Table, sorted by name, each as the project defines it.

    Raises SpecError when there are none or when the registry says otherwise than `features_text`.
    """
    listed: list[FeatureView] = store.registry.list_feature_views(store.project)
    views = [v for v in listed if v.online and table_of(str(getattr(v.batch_source, "path", ""))) == table]
    if not views:
        raise SpecError("the registry has no feature view over this Table", where=where, given=table, next_step=APPLY)
    if features_text:
        said, held = describe(features_text, where), registered(store)
        for view in views:
            if said.views.get(view.name) and said.view(view.name) != held.view(view.name):
                raise SpecError(
                    "the registry holds another definition than the project",
                    where=where,
                    given=view.name,
                    next_step=APPLY,
                )
    return sorted(views, key=lambda view: view.name)


@contextmanager
def registry_lock(url: str) -> Iterator[None]:
    """Let one process at a time create or change a registry in a SQLite file; databases with locks need no help."""
    try:
        database = make_url(url).database if make_url(url).get_backend_name() == "sqlite" else None
    except ArgumentError:
        database = None
    if not database or database == ":memory:":
        yield
        return
    path = Path(f"{database}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _parse(text: str, variables: Mapping[str, str], where: str) -> dict[str, Any]:
    expanded = _VARIABLE.sub(lambda m: variables.get(m[1] or m[2], m[0]), text)
    try:
        raw = yaml.safe_load(expanded)
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        raise SpecError("not valid YAML", where=f"{where}:{mark.line + 1}" if mark else where) from err
    if not isinstance(raw, dict):
        raise SpecError("the file must hold a mapping", where=where, given=type(raw).__name__)
    if unset := sorted(_unset(raw)):
        raise SpecError("variables that are not set", where=where, given=", ".join(unset))
    return raw


def _unset(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set().union(*(_unset(v) for v in value.values())) if value else set()
    if isinstance(value, list):
        return set().union(*(_unset(v) for v in value)) if value else set()
    return {m[2] for m in _VARIABLE.finditer(value) if m[2]} if isinstance(value, str) else set()


def _wait_for_writers(raw: dict[str, Any]) -> None:
    """SQLite's five seconds are too short for a registry that several tasks open at once."""
    registry = raw.get("registry")
    if isinstance(registry, dict) and str(registry.get("path", "")).startswith("sqlite"):
        arguments = registry.setdefault("sqlalchemy_config_kwargs", {"echo": False})
        arguments.setdefault("connect_args", {}).setdefault("timeout", 30)


def _differences(said: Definitions, held: Definitions, service: str) -> list[str]:
    """What the file and the registry say differently about a service; what a file leaves for Feast to infer is not."""
    refs = said.service(service)
    views = sorted({ref.partition(":")[0] for ref in refs})
    if not all(said.views.get(view) for view in views):
        return []
    found = [] if refs == held.service(service) else ["features of the service"]
    return found + [f"view '{view}'" for view in views if said.view(view) != held.view(view)]
