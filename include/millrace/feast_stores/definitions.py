"""Definitions: a Feast file read into plain values."""

from __future__ import annotations

import linecache
import traceback
import types
from collections.abc import Iterable
from typing import Any

from feast import Entity, FeatureService
from feast.base_feature_view import BaseFeatureView
from feast.data_source import DataSource
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.permissions.permission import Permission

from millrace.core.errors import SpecError
from millrace.spec.feast_file import Definitions, Source

OBJECTS = (Entity, BaseFeatureView, FeatureService, DataSource, Permission)


def describe(features_text: str, where: str) -> Definitions:
    """Read the text of a Feast file without touching any registry.

    For `millrace check`, and for a job that compares what was approved with what is registered. `where` names the
    file in errors. Raises SpecError with file and line.
    """
    return define(objects_in(features_text, where), where)


def objects_in(features_text: str, where: str) -> list[Any]:
    """Run a Feast file by itself and return its Feast objects in the order of their names in the file.

    Raises SpecError naming file and line, whatever the file raises.
    """
    module = types.ModuleType("feature_definitions")
    module.__file__ = where
    # Feast takes the text of on-demand functions from there; the file itself may lie elsewhere, or have changed.
    linecache.cache[where] = (len(features_text), None, features_text.splitlines(keepends=True), where)
    try:
        exec(compile(features_text, where, "exec"), module.__dict__)
    except SyntaxError as err:
        raise SpecError(f"not valid Python: {err.msg}", where=f"{where}:{err.lineno}") from err
    except ImportError as err:
        raise SpecError(
            f"cannot import: {err}",
            where=_line(err, where),
            next_step="Each file in feature_repo/ stands alone: it imports feast and installed packages only",
        ) from err
    except Exception as err:
        raise SpecError(f"{type(err).__name__}: {err}", where=_line(err, where)) from err
    found: list[Any] = []
    for value in vars(module).values():
        if isinstance(value, OBJECTS) and not any(value is other for other in found):
            found.append(value)
    return found


def define(objects: Iterable[Any], where: str) -> Definitions:
    """Turn Feast objects into Definitions. Raises SpecError for a service of a view that nobody defines."""
    found, services = Definitions(), []
    for item in objects:
        if isinstance(item, Entity) and item.name != "__dummy":
            found.entities[item.name] = item.join_key
        elif isinstance(item, BaseFeatureView):
            _add_view(found, item)
        elif isinstance(item, FeatureService):
            services.append(item)
    for service in services:
        refs = [f"{p.name}:{f.name}" for p in service.feature_view_projections for f in p.features]
        for ref in service._pending_feature_refs:  # string references, which Feast resolves at apply
            view, _, feature = ref.partition(":")
            if view not in found.views:
                raise SpecError(
                    f"FeatureService '{service.name}' names a feature view that this file does not define",
                    where=where,
                    given=view,
                    allowed=sorted(found.views),
                )
            refs += [ref] if feature else [f"{view}:{name}" for name in found.views[view]]
        found.services[service.name] = refs
    return found


def _add_view(definitions: Definitions, view: Any) -> None:
    # What is computed on demand is of no entity; Feast writes one that stands for none into the registry.
    columns = [] if isinstance(view, OnDemandFeatureView) else getattr(view, "entity_columns", None) or []
    keys = {column.name: str(column.dtype) for column in columns}
    definitions.views[view.name] = {f.name: str(f.dtype) for f in view.features if f.name not in keys}
    names = [
        definitions.entities[name] for name in getattr(view, "entities", None) or [] if name in definitions.entities
    ]
    definitions.join_keys[view.name] = {**dict.fromkeys(names, ""), **keys}
    source = getattr(view, "batch_source", None)
    if source is not None:
        definitions.sources[view.name] = Source(
            path=str(getattr(source, "path", source.name)),
            timestamp_field=source.timestamp_field or "",
            created_timestamp_column=source.created_timestamp_column or None,
        )
    ttl = getattr(view, "ttl", None)
    definitions.ttl[view.name] = ttl.total_seconds() if ttl else 0.0


def _line(err: BaseException, where: str) -> str:
    """The last line of the file that had a part in the error."""
    lines = [frame.lineno for frame in traceback.extract_tb(err.__traceback__) if frame.filename == where]
    return f"{where}:{lines[-1]}" if lines else where
