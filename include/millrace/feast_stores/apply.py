"""apply: the explicit step that brings a project's Feast files into the registry and never deletes unasked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feast import Entity, FeatureService, FeatureStore
from feast.base_feature_view import BaseFeatureView
from feast.data_source import DataSource
from feast.errors import FeastError
from sqlalchemy.exc import DBAPIError

from millrace.core.errors import SpecError, Unavailable
from millrace.core.settings import Settings
from millrace.feast_stores.definitions import define, describe, objects_in
from millrace.feast_stores.repo import open_feature_store, registry_lock, registry_objects
from millrace.spec import ProjectTree
from millrace.spec.feast_file import Definitions, Source

__all__ = ["Definitions", "Report", "Source", "apply", "describe"]

_KINDS: tuple[tuple[type, str], ...] = (
    (Entity, "entity"),
    (BaseFeatureView, "feature view"),
    (FeatureService, "feature service"),
    (DataSource, "source"),
)
_SHARED = (Entity, DataSource)
"""Kinds that several files may define, if alike; a view or service belongs to one file."""


@dataclass(frozen=True)
class Report:
    """What apply did, in words such as `feature view flight_features`, sorted.

    `absent` are objects that the registry holds and no file defines: another checkout's, or left behind. `deleted`
    says whether they were removed.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    deleted: bool = False


def apply(tree: ProjectTree, settings: Settings, *, delete: bool = False) -> Report:
    """Register what the project's feature_repo/*.py define and make the online tables.

    With `delete`, objects that no file defines are removed from the registry, and their online tables with them.
    Applying twice changes nothing. Raises SpecError naming file and line for a file that is wrong, Unavailable when
    the registry does not answer.
    """
    folder = tree.root / "feature_repo"
    config = folder / "feature_store.yaml"
    try:
        text = config.read_text(encoding="utf-8")
    except OSError as err:
        raise SpecError(
            "there is no feature_store.yaml", where=str(folder), next_step="'millrace init' writes one"
        ) from err
    objects = repo_objects(folder)
    store = open_feature_store(
        text,
        registry=settings.feast_registry,
        online=settings.feast_online,
        store=settings.store,
        folder=folder,
        where=str(config),
    )
    with registry_lock(store.config.registry.path):
        try:
            return _apply(store, objects, delete)
        except (FeastError, ValueError) as err:
            raise SpecError(f"Feast refuses the definitions: {err}", where=str(folder)) from err
        except DBAPIError as err:
            raise Unavailable(f"the Feast registry failed ({type(err).__name__})", where=str(config)) from err


def register(feature_store: str, features: str, registry: str, online: str, store: str) -> None:
    """Register what one Feast file, given as text, defines: for a registry of its own that a bundle is read with."""
    opened = open_feature_store(feature_store, registry=registry, online=online, store=store)
    objects = objects_in(features, "the bundle's Feast file")
    define(objects, "the bundle's Feast file")
    with registry_lock(opened.config.registry.path):
        _apply(opened, objects, delete=False)


def repo_objects(folder: Path) -> list[Any]:
    """Objects of all Feast files in a folder, each file by itself. Raises SpecError when two files disagree."""
    found: dict[tuple[str, str], tuple[Any, Path]] = {}
    for path in sorted(folder.glob("*.py")):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as err:
            raise SpecError(f"cannot be read: {err}", where=str(path)) from err
        objects = objects_in(text, str(path))
        define(objects, str(path))
        for item in objects:
            key = (_kind(item), item.name)
            earlier, owner = found.setdefault(key, (item, path))
            if earlier is item or (isinstance(item, _SHARED) and earlier == item):
                continue
            raise SpecError(
                f"{' '.join(key)} is already defined in {owner.name}",
                where=str(path),
                next_step="Give one of them another name, or make them alike",
            )
    return [item for item, _ in found.values()]


def _apply(store: FeatureStore, objects: list[Any], delete: bool) -> Report:
    store.refresh_registry()
    before = _specs(store)
    if objects:
        store.apply(objects, partial=True)
    after = _specs(store)
    wanted = {(_kind(item), item.name) for item in objects}
    for item in objects:  # the source of a view is registered with it
        for name in ("batch_source", "stream_source"):
            if (source := getattr(item, name, None)) is not None:
                wanted.add((_kind(source), source.name))
    absent = sorted(set(after) - wanted)
    if delete and absent:
        leaving = [item for item in registry_objects(store) if (_kind(item), item.name) in set(absent)]
        store.apply([], objects_to_delete=leaving, partial=False)
    return Report(
        added=_words(set(after) - set(before)),
        changed=_words({key for key in before if key in after and before[key] != after[key]}),
        absent=_words(absent),
        deleted=bool(delete and absent),
    )


def _specs(store: FeatureStore) -> dict[tuple[str, str], bytes]:
    """Every registered object's definition without its times and versions, to see what an apply changed."""
    found = {}
    for item in registry_objects(store):
        if item.name == "__dummy":
            continue
        proto = item.to_proto()
        proto.ClearField("meta")
        found[(_kind(item), item.name)] = proto.SerializeToString(deterministic=True)
    return found


def _kind(item: Any) -> str:
    return next((word for kind, word in _KINDS if isinstance(item, kind)), type(item).__name__.lower())


def _words(keys: Any) -> tuple[str, ...]:
    return tuple(" ".join(key) for key in sorted(keys))
