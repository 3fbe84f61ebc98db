"""On-demand feature views of a FeatureService, read from the text of the Feast file that defines them.

Feast's registry keeps a function as bytes of dill and as text, and executes one of them when a view is read from it.
What is executed here is the text in the pipeline's Feast file alone, which the bundle carries and its digest covers.
"""

from __future__ import annotations

import ast
import builtins
import symtable
from collections import Counter
from collections.abc import Iterator
from typing import Any

from feast import FeatureService
from feast.on_demand_feature_view import OnDemandFeatureView

from millrace.core.errors import SpecError
from millrace.feast_stores.definitions import objects_in
from millrace.online.on_demand import KINDS, OnDemandView, Typed


def on_demand_views(features_text: str, service: str, where: str) -> tuple[OnDemandView, ...]:
    """The on-demand views of a service, in its order; none for a service that has none.

    `where` names the Feast file. Raises SpecError with the line for a view that cannot be computed for one row alone.
    """
    if "on_demand_feature_view" not in features_text:
        return ()
    objects = objects_in(features_text, where)
    found = next((o for o in objects if isinstance(o, FeatureService) and o.name == service), None)
    views = {o.name: o for o in objects if isinstance(o, OnDemandFeatureView)}
    if found is None:
        return ()
    used = [p for p in found.feature_view_projections if p.name in views]
    sources = [p for each in used for p in views[each.name].source_feature_view_projections.values()]
    if renamed := [p.name_to_use() for p in (*found.feature_view_projections, *sources)
                   if used and (p.name_alias or p.join_key_map)]:  # fmt: skip
        raise SpecError(f"FeatureService '{service}' has on-demand features, and views under other names or join keys",
                        where=f"{where}:1", given=", ".join(renamed), allowed="views as they are defined",
                        next_step="Take out with_name and with_join_key_map")  # fmt: skip
    functions = {node.name: node for node in ast.parse(features_text).body if isinstance(node, ast.FunctionDef)}
    made = tuple(_view(views[p.name], p, functions, features_text, where) for p in used)
    plain = {f.name for p in found.feature_view_projections if p.name not in views for f in p.features}
    _check_names(made, plain, where)
    return made


def _check_names(made: tuple[OnDemandView, ...], plain: set[str], where: str) -> None:
    """A name means one thing: a feature that is read, one that is computed, or a field of a request."""
    read = plain | {each.name for view in made for each in view.inputs}
    asked = {each.name for view in made for each in view.request}
    features = Counter(each.name for view in made for each in view.features)
    twice = {name for name, times in features.items() if times > 1}
    types = {(each.name, each.view, each.type) for view in made for each in (*view.inputs, *view.request)}
    twice |= {name for name, times in Counter(name for name, *_ in types).items() if times > 1}
    if wrong := sorted(twice | (asked & (read | features.keys())) | (features.keys() & read)):
        line = made[0].line if made else 1
        raise SpecError("a name stands for two of: a feature that is read, a feature on demand, a field of a request",
                        where=f"{where}:{line}", given=", ".join(wrong), next_step="Rename one of them")  # fmt: skip


def _view(view: Any, projection: Any, functions: dict[str, Any], text: str, where: str) -> OnDemandView:
    function = functions.get(getattr(view.udf, "__name__", ""))
    if function is None:
        raise SpecError("the function of an on-demand feature view is not in this file", where=f"{where}:1",
                        given=view.name, next_step="Define it with 'def' at the top level of the file")  # fmt: skip
    at = f"{where}:{function.lineno}"
    if view.mode != "python":
        raise SpecError(f"on-demand feature view '{view.name}' is not computed for one row at a time", where=at,
                        given=f'mode="{view.mode}"', allowed='mode="python"',
                        next_step='Say mode="python" and singleton=True, and take and return plain values')  # fmt: skip
    if view.write_to_online_store or view.aggregations or view.input_schema:
        raise SpecError(f"on-demand feature view '{view.name}' asks for more than a function of a row", where=at,
                        allowed="neither write_to_online_store nor aggregations nor input_schema",
                        next_step="Make such features in transform.sql")  # fmt: skip
    if lacking := sorted(set(_outside(ast.get_source_segment(text, function) or "")) - set(dir(builtins))):
        raise SpecError(f"{function.name} uses names from outside of it", where=at, given=", ".join(lacking),
                        next_step="Import and define inside the function what it uses: its text is kept alone",
                        )  # fmt: skip
    inputs = [(s.name_to_use(), f) for s in view.source_feature_view_projections.values() for f in s.features]
    request = [("", f) for source in view.source_request_sources.values() for f in source.schema]
    return OnDemandView(
        name=projection.name_to_use(), file=where, function=function.name, line=function.lineno,
        text="\n".join(text.splitlines()[function.lineno - 1 : function.end_lineno]) + "\n",
        singleton=bool(view.singleton),
        inputs=_typed(inputs, at), request=_typed(request, at),
        features=_typed([("", f) for f in projection.features], at),
    )  # fmt: skip


def _typed(fields: Any, where: str) -> tuple[Typed, ...]:
    kinds = [(view, field.name, field.dtype.to_value_type().name) for view, field in fields]
    if wrong := [f"{name}: {kind}" for _, name, kind in kinds if kind not in KINDS]:
        raise SpecError("a type that on-demand features cannot have", where=where, given=", ".join(wrong),
                        allowed=KINDS)  # fmt: skip
    return tuple(Typed.model_validate({"view": view, "name": name, "type": kind}) for view, name, kind in kinds)


def _outside(text: str) -> Iterator[str]:
    """Names that a function takes from around it."""
    waiting = symtable.symtable(text, "function", "exec").get_children()
    while waiting:
        table = waiting.pop()
        waiting += table.get_children()
        yield from (s.get_name() for s in table.get_symbols() if s.is_global() and s.is_referenced())
