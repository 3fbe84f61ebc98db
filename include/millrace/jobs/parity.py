"""parity: sampled entities of a materialised Snapshot must be served online as they are offline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Check, Outcome, Verdict
from millrace.core.canonical import digest
from millrace.jobs.work import Work

if TYPE_CHECKING:
    from millrace.feast_stores.materialize import Difference


SHOWN = 5


class Params(BaseModel):
    """How many entities are compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entities: int = Field(default=500, ge=1, description="Most entities per feature view, chosen by the seed.")


def run(work: Work, params: Params) -> Outcome:
    """Compare what Feast serves online with what it joins offline from the input `data`, view by view.

    Fails for an entity that is missing online or older there, and for every value that differs; names the columns
    and the keys (their digest where a key is not public), and values of public columns. An entity that a newer
    partition has overwritten is not compared.
    """
    from millrace.feast_stores import materialize
    from millrace.feast_stores.repo import open_feature_store, views_of_table

    spec, bundle, item = work.spec, work.bundle, work.request.input("data")
    table = f"{spec.name}/features"
    store = open_feature_store(
        bundle.feature_store,
        registry=work.service("registry"),
        online=work.service("online"),
        store=work.request.place.store,
        pinned={table: [{"partition": work.partition, "snapshot": item.digest, "uri": work.request.key(item)}]},
    )
    data = work.read(item)
    checks, compared = [], {}
    for view in views_of_table(store, table, bundle.features, f"feature_repo/{spec.name}.py"):
        rows = materialize.sample(materialize.latest_rows(view, data), params.entities, work.request.identity.seed)
        found, moved = materialize.differences(store, view, rows)
        wrong = len({difference.entity for difference in found})
        checks.append(
            Check(
                name="parity",
                passed=not found,
                message=f"feature view '{view.name}': online as offline expected; "
                f"{wrong:,} of {rows.num_rows - moved:,} entities differ" + _details(work, found),
                unexpected=wrong,
                total=rows.num_rows - moved,
            )
        )
        compared[view.name] = rows.num_rows - moved
    verdict = Verdict(passed=all(check.passed for check in checks), checks=tuple(checks))
    return Outcome(facts={"partition": work.partition, "compared": compared}, verdict=verdict)


def _details(work: Work, differences: list[Difference]) -> str:
    """The first differences in words."""
    spec = work.spec
    said = []
    open_keys = all(spec.classification(key) == "public" for key in spec.features.entity)
    for difference in differences[:SHOWN]:
        values = [str(value) for value in difference.entity]
        key = " ".join(values) if open_keys else f"with key digest {digest(values)[7:19]}"
        if difference.column is None:
            said.append(f"entity {key} is missing online, or older there")
        elif spec.classification(difference.column) == "public":
            said.append(f"entity {key}, {difference.column}: {difference.offline} offline, {difference.online} online")
        else:
            said.append(f"entity {key}, {difference.column}")
    more = f"; and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
    return f": {'; '.join(said)}{more}" if said else ""
