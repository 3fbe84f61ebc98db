"""What an approver is shown beside metrics: bounds, slices, figures, and what changed since the champion."""

from __future__ import annotations

from typing import Any

import pytest
from support.ledger import verdict
from support.project import DAYS, PIPELINE, stored
from support.releases import House

from millrace.airflow.runtime import decided
from millrace.airflow.tasks.question import question
from millrace.contract import JobResult, Outcome, code_digest
from millrace.core.canonical import canonical_json
from millrace.ledger import TrainingRun
from millrace.store import bundles

FIGURE = {"name": "accuracy between groups of region", "value": 0.03, "low": 0.01, "high": 0.05,
          "min": None, "max": 0.1, "rows": 90, "passed": True}  # fmt: skip
SLICES = {
    "region=north": {"difference": -0.01, "low": -0.02, "high": 0.0, "rows": 50, "blocks": 9, "regressed": False},
    "region=*so|uth*": {"difference": 0.02, "low": 0.01, "high": 0.03, "rows": 40, "blocks": 9, "regressed": True},
    "newest": {"difference": None, "low": None, "high": None, "rows": 3, "blocks": 1, "regressed": None},
}


def trained(
    house: House, version: int, learner: dict[str, Any] | None = None, half_life: float | None = None, **changes: Any
) -> None:
    """A version of the folder as it is now, from a run on record."""
    site = house.site
    bundles.keep(site.objects, site.bundle)
    run = f"{PIPELINE}__training/{version}"
    site.ledger.record(
        TrainingRun(pipeline=PIPELINE, run=run, requester=None, decision=None, reason="r", until=DAYS[0], inputs=(),
                    learner=learner, half_life=half_life, as_of="2024-01-01")
    )  # fmt: skip
    document = {
        "metrics": {"log_loss": {"value": 0.5, "low": 0.4, "high": 0.6, "rows": 90}},
        "checks": [{"name": "log_loss", "passed": True, "message": "fine"}],
        "duel": {"difference": -0.1, "low": -0.2, "high": -0.05, "rows": 90, "tolerance": 0.01, "better": True,
                 "slices": SLICES},
        "fairness": [{"name": "fairness.region", "figures": [FIGURE]}],
    }  # fmt: skip
    evaluation = stored(site, "evaluation", canonical_json({**document, "version": version}).decode())
    house.register(
        version,
        spec_digest=site.bundle.digest,
        code_digest=code_digest(),
        evaluation=evaluation.model_dump(),
        **changes,
    )
    registered = site.ledger.registered(PIPELINE, version)
    site.ledger.record(registered.model_copy(update={"run": run}))


def body(house: House, version: int) -> str:
    house.open(version)
    return question(house.site, house.ledger.release_of(PIPELINE, f"release__v{version}"))[1]


@pytest.fixture
def compared(house: House, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is shown of version 2, trained otherwise and on other data than version 1, which is champion."""
    trained(house, 1)
    house.release(1)
    path = house.site.tree.folder(PIPELINE) / "pipeline.yaml"
    path.write_text(path.read_text().replace("max_depth: 3", "max_depth: 4").replace("P28D", "P21D"))
    later = House(house.site.tree.root, monkeypatch)
    gates = []
    for number, day in enumerate(DAYS[:3]):
        passed = verdict(50 + number, pipeline=PIPELINE, partition=day)
        later.ledger.record(passed)
        gates.append(passed.model_dump(exclude={"pipeline", "made_of"}))
    learner = {
        **later.site.spec.training.learner.model_dump(mode="json"),
        "rounds": 7,
    }
    trained(later, 2, learner, 3.0, gates=gates, partitions=list(DAYS[:3]), trained_to=DAYS[2])
    return body(later, 2)


@pytest.mark.parametrize(
    "line",
    [
        "| training.learner.max\\_depth | 4 | 3 |",
        "| training.learner.rounds | 7 | 60 |",
        "| training.window | P21D | P28D |",
        "| half-life of weights, in partitions | 3 | - |",
    ],
)
def test_each_parameter_that_changed_is_shown_with_both_values(compared, line):
    assert line in compared


def test_parameters_that_did_not_change_are_not_listed(compared):
    assert "learning" not in compared and "seed" not in compared and "code of Millrace" not in compared


def test_data_that_came_and_that_were_made_anew_are_named(compared):
    said = f"**Changed data** 2 new partitions ({DAYS[1]}, {DAYS[2]}); 1 of other features than then ({DAYS[0]})"
    assert said in compared


def test_bounds_slices_and_figures_stand_with_their_intervals(compared):
    for line in (
        "| log_loss | 0.5000 (0.4000 to 0.6000) | at most 0.68 | 0.5000 (0.4000 to 0.6000) |",
        "-0.10000 (-0.20000 to -0.05000) | must end below 0 | 0 |",
        "| region=\\*so\\|uth\\* | 40 | +0.02000 (+0.01000 to +0.03000) | WORSE |",
        "| region=north | 50 | -0.01000 (-0.02000 to +0.00000) | not worse |",
        "| fairness.region | accuracy between groups of region | 0.0300 (0.0100 to 0.0500) | at most 0.1 |",
    ):
        assert line in compared, compared
    assert compared.index("WORSE") < compared.index("not worse"), "the largest difference comes first"


def test_without_a_champion_nothing_has_changed_and_a_folder_that_is_gone_is_said(house, monkeypatch):
    trained(house, 1)
    assert "Changed" not in body(house, 1)
    house.promote(1)
    again = House(house.site.tree.root, monkeypatch)
    again.register(2)  # of a folder that the store does not have
    assert "cannot be listed, as a folder cannot be read; the spec's digest is another" in body(again, 2)


def test_pages_and_plots_of_the_evaluation_are_linked(house):
    trained(house, 1)
    run = f"{PIPELINE}__training"
    request = house.site.request("evaluate", scope=(DAYS[0],))
    request = request.model_copy(update={"run": request.run.model_copy(update={"dag_id": run, "run_id": "1"})})
    ended = JobResult(job="evaluate", request_digest=request.request_digest, outcome=Outcome(),
                      observed={"links": {"explanations": "http://example.org/plot.png"}})  # fmt: skip
    house.site.objects.put(request.place.result, ended.to_json().encode())
    decided.keep(house.site, request, ended)
    assert "- evaluate, explanations: http://example.org/plot.png" in body(house, 1)
