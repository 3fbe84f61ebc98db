"""The materialize task keeps the online store whole: gaps, killed runs and corrected partitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from airflow.sdk.exceptions import AirflowFailException
from support.ledger import verdict
from support.task import running

from millrace.airflow.runtime.run import outcome_of
from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import online as tasks
from millrace.cli.scaffold import init, new
from millrace.contract import Artifact
from millrace.core.settings import Settings
from millrace.feast_stores.apply import apply
from millrace.spec import ProjectTree
from millrace.store import SnapshotStore

DAYS = ("2024-01-01", "2024-01-02", "2024-01-03")


class Shop:
    """A new project with the features of three days, as the features DAG leaves them before it materialises."""

    def __init__(self, root: Path) -> None:
        init(root)
        tree = ProjectTree(root)
        new(tree, "orders")
        apply(tree, Settings.load(root, {}))
        self.root = str(root)
        self.site = Site.at(self.root, "orders")
        self.made = {day: self.features(day) for day in DAYS}

    def features(self, day: str) -> Artifact:
        land = self.site.request("land", scope=(day,), params={"source": "visits"})
        landed = outcome_of(land)[0].outputs["data"]
        request = self.site.request("transform", scope=(day,), inputs=[("visits", landed, day)])
        return outcome_of(request)[0].outputs["data"]

    def gate(self, day: str, artifact: Artifact) -> None:
        self.site.ledger.record(verdict(1, pipeline="orders", partition=day, snapshot=artifact.digest))

    def publish(self, day: str, artifact: Artifact | None = None) -> Artifact:
        found = artifact or self.made[day]
        self.gate(day, found)
        self.site.tables.move("orders/features", day, found)
        return found

    def corrected(self, day: str) -> Artifact:
        """The day's features with one value changed, and the same times."""
        snapshots = SnapshotStore(self.site.objects)
        table = snapshots.read(self.made[day].uri, self.made[day].digest)
        index = next(
            i for i, f in enumerate(table.schema) if pa.types.is_floating(f.type) or pa.types.is_integer(f.type)
        )
        field = table.schema.field(index)
        table = table.set_column(index, field, pa.array([0] * table.num_rows, field.type))
        return snapshots.write(table, pipeline="orders", dataset="features", partition=day)

    def materialize(self, day: str) -> dict[str, Any]:
        with running("orders__features", "materialize", partition_key=day):
            return tasks.materialize(self.root, "orders")

    def online(self) -> dict[str, str]:
        return {w.partition: w.snapshot for w in self.site.ledger.windows("orders", "features")}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop")


def parity(site: Site, day: str, artifact: Artifact) -> None:
    with running("orders__features", "materialize", partition_key=day):
        tasks.parity(site, day, artifact)


def test_what_a_killed_run_left_undone_is_done_by_the_next(shop: Shop) -> None:
    for day in DAYS:
        shop.publish(day)
    shop.materialize(DAYS[2])
    assert shop.online() == {day: shop.made[day].digest for day in DAYS}
    # and once only
    before = len(shop.site.ledger.entries("orders", "materialized"))
    shop.materialize(DAYS[2])
    assert len(shop.site.ledger.entries("orders", "materialized")) == before


def test_a_corrected_partition_is_written_again(shop: Shop) -> None:
    for day in DAYS[:2]:
        shop.publish(day)
    shop.materialize(DAYS[1])
    corrected = shop.publish(DAYS[0], shop.corrected(DAYS[0]))
    shop.publish(DAYS[2])
    shop.materialize(DAYS[2])
    assert shop.online()[DAYS[0]] == corrected.digest
    # and what is served is the correction, though its times are those of what it corrects
    parity(shop.site, DAYS[0], corrected)
    with pytest.raises(AirflowFailException, match="differ"):
        shop.site.tables.move("orders/features", DAYS[0], shop.made[DAYS[0]])
        parity(shop.site, DAYS[0], shop.made[DAYS[0]])


def test_what_was_gated_and_never_published_stays_offline(shop: Shop) -> None:
    shop.gate(DAYS[0], shop.made[DAYS[0]])
    shop.publish(DAYS[1])
    shop.materialize(DAYS[1])
    assert set(shop.online()) == {DAYS[1]}


def test_a_difference_of_a_partition_that_moved_on_is_its_own_runs_to_check(shop: Shop) -> None:
    shop.publish(DAYS[0])
    shop.materialize(DAYS[0])
    shop.publish(DAYS[0], shop.corrected(DAYS[0]))
    shop.materialize(DAYS[0])
    parity(shop.site, DAYS[0], shop.made[DAYS[0]])
