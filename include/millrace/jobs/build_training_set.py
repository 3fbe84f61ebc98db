"""build_training_set: labelled entity rows with the features known at their event time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Classification, Input, Outcome
from millrace.core.errors import ContractError, DataError, SpecError
from millrace.jobs.embedded import embedding_of
from millrace.jobs.work import Work
from millrace.models.on_demand import with_on_demand
from millrace.models.protocol import permit_code
from millrace.online.on_demand import MADE_FROM, made_from, request_fields
from millrace.rules.labels import absent, check, known, utc
from millrace.spec.model_checks import GROUP
from millrace.spec.training import LabelSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from feast import FeatureStore

    from millrace.online.on_demand import OnDemandView

DATASET = "training_set"
_STRICTNESS: tuple[Classification, ...] = ("public", "internal", "personal")


class Params(BaseModel):
    """The moment from which the training set is seen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    as_of: datetime = Field(description="ISO 8601, UTC where it has no offset; labels known later are left out.")


def run(work: Work, params: Params) -> Outcome:
    """Join the rows of the input Snapshots, and of no others, with the FeatureService of the spec.

    Rows come out ordered by event time and entity, duplicates included: entity columns, event time, features in the
    service's order, columns that model checks only group by, label, and what on-demand features are made from. Left out
    and counted are rows whose label is not known at `as_of`, or null where the spec drops those. Raises DataError for
    labels that the task cannot have, when a row that was asked for does not come back, or when none is left.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from millrace.feast_stores import training
    from millrace.feast_stores.repo import service_definitions

    spec, inputs, label = work.spec, _inputs(work), _label(work)
    keys, event_time, service = list(spec.features.entity), spec.features.event_time, spec.features.service
    where = f"feature_repo/{spec.name}.py"
    store = _store(work, inputs)
    defined = service_definitions(store, service, work.bundle.features, where)
    features, computing = defined.features(service), work.on_demand()
    if computing:
        permit_code(work.request.means, f"the functions of on-demand features ({where})")
    if leaked := sorted({*keys, event_time, label.column} & set(features)):
        raise SpecError(
            "the FeatureService serves the label, a key or the event time as a feature",
            where=where,
            given=", ".join(leaked),
            next_step=f"Take it out of FeatureService '{service}'",
        )

    if label.column in {each.name for each in made_from(computing)}:
        raise SpecError("an on-demand feature is made from the label, which nobody knows when a row is predicted",
                        where=where, given=label.column)  # fmt: skip

    embedding = embedding_of(work, inputs)
    files = [(str(item.partition), work.path(item)) for item in inputs]
    beside = [c for c in _groups(work) if c not in (*keys, event_time, label.column, *features)]
    refs, carried = _plain(defined.service(service), computing)
    carried = [name for name in carried if name not in (*beside, *keys, event_time, label.column)]
    asked = training.entity_rows(files, [*keys, event_time], [*beside, *carried, label.column])
    rows = asked.filter(known(asked, event_time, label.known_after, params.as_of))
    not_yet_known = asked.num_rows - rows.num_rows
    rows, unlabelled = _labelled(rows, label)
    check(rows[label.column], label.column, label.task, public=spec.classification(label.column) == "public")
    if not rows.num_rows:
        raise DataError(
            f"no row has a known label at {params.as_of.isoformat()}: {asked.num_rows} asked for, "
            f"{not_yet_known} not yet known, {unlabelled} without a label",
            where=spec.name,
            next_step="Take later partitions in, or a later moment",
        )
    order = [(event_time, "ascending"), *((key, "ascending") for key in keys)]
    rows = rows.take(pc.sort_indices(rows, sort_keys=order)).combine_chunks()

    plain = [ref.partition(":")[2] for ref in refs] if computing else features
    moments = utc(rows[event_time], event_time)
    joined = training.join(store, service, plain, rows, keys, moments, refs if computing else ())
    joined = training.as_stored(joined, [pq.read_schema(path) for _, path in files])
    if computing:
        asked_for = {each.name: rows[each.name] for each in request_fields(computing)}
        given = {**asked_for, **dict(zip(plain, joined.columns, strict=True))}
        joined = with_on_demand(pa.table(given), computing)
    kept = [each.name for each in made_from(computing) if each.name not in features]
    names = [*keys, event_time, *features, *beside, label.column]
    columns = [joined[n] if n in features else rows[n] for n in names] + [joined[n] for n in kept]
    names = [GROUP.format(n) if n in beside else n for n in names] + [MADE_FROM.format(n) for n in kept]
    snapshot = work.snapshots.write(
        pa.table(dict(zip(names, columns, strict=True))),
        pipeline=spec.name,
        dataset=DATASET,
        partition=work.request.identity.scope[-1],
        classification=_classification(work, inputs),
        source=embedding,
    )
    facts = {
        "asked": asked.num_rows,
        "rows": rows.num_rows,
        "unlabelled": unlabelled,
        "not_yet_known": not_yet_known,
        "features": features,
        "service": service,
    }
    return Outcome(outputs={"data": snapshot}, facts=facts)


def _inputs(work: Work) -> list[Input]:
    """The features Snapshots, one per partition in scope. Raises ContractError for any other set."""
    found, scope = work.request.inputs("features"), work.request.identity.scope
    if not found or tuple(item.partition for item in found) != tuple(scope):
        raise ContractError(
            "build_training_set needs one input 'features' per partition in scope, in order",
            given=[item.partition for item in found],
            allowed=scope,
        )
    return found


def _label(work: Work) -> LabelSpec:
    if work.spec.label is None:
        raise SpecError("a pipeline without a label has no training set", given=work.spec.name)
    return work.spec.label


def _store(work: Work, inputs: list[Input]) -> FeatureStore:
    """The feature store with its offline reads pinned to the inputs, so that the request alone decides the rows."""
    from millrace.feast_stores.repo import open_feature_store

    pins = [{"partition": str(i.partition), "snapshot": i.digest, "uri": work.request.key(i)} for i in inputs]
    return open_feature_store(
        work.bundle.feature_store,
        registry=work.service("registry"),
        online=work.service("online"),
        store=work.request.place.store,
        limits=work.request.means.limits,
        pinned={f"{work.spec.name}/features": pins},
    )


def _plain(refs: list[str], computing: Sequence[OnDemandView]) -> tuple[list[str], list[str]]:
    """`view:feature` that Feast joins: of the service, and what on-demand features are made from; and the columns that
    stand for what a request carries."""
    views = {view.name for view in computing}
    wanted = [ref for ref in refs if ref.partition(":")[0] not in views]
    wanted += [f"{each.view}:{each.name}" for view in computing for each in view.inputs]
    return list(dict.fromkeys(wanted)), list(dict.fromkeys(each.name for view in computing for each in view.request))


def _groups(work: Work) -> tuple[str, ...]:
    return work.spec.evaluation.group_columns if work.spec.evaluation else ()


def _labelled(rows: pa.Table, label: LabelSpec) -> tuple[pa.Table, int]:
    """Rows with a label, and how many have none. Raises DataError where the spec does not let them be dropped."""
    import pyarrow.compute as pc

    empty = absent(rows[label.column])
    nulls = pc.sum(empty).as_py() or 0
    if nulls and label.nulls == "error":
        raise DataError(
            f"{nulls} of {rows.num_rows} rows whose label should be known have none",
            given=label.column,
            next_step="Correct the source, or let the spec drop them (label.nulls: drop)",
        )
    return rows.filter(pc.invert(empty)), nulls


def _classification(work: Work, inputs: list[Input]) -> Classification:
    """The strictest of the inputs."""
    found = [work.snapshots.artifact(work.spec.name, "features", item.digest).classification for item in inputs]
    return max(found, key=_STRICTNESS.index)
