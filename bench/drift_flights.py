"""The flights of 2013 replayed under policies of retraining, by the jobs of the loop without an orchestrator."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

from demo import data
from demo.baseline import Bare
from millrace.contract import Artifact, Outcome
from millrace.core.settings import Settings
from millrace.feast_stores.apply import apply
from millrace.rules.governor import decide
from millrace.rules.window import Window
from millrace.spec import Placed, ProjectTree

ROOT, PIPELINE = Path(__file__).resolve().parents[1], "flight_delays"
HISTORY, LATER = data.MONTHS[:4], data.MONTHS[4:]


class Flights:
    """The published features of a year, and what jobs say of models trained to any month; each is asked once."""

    def __init__(self, folder: Path) -> None:
        ignored = shutil.ignore_patterns(".millrace", "__pycache__", "millrace")
        for name in ("feature_repo", "include"):
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        tree = ProjectTree(folder)
        settings = Settings.load(folder, {})
        apply(tree, settings)
        self.bare = Bare(tree, settings, PIPELINE)
        self.partitioning = self.bare.spec.partitioning
        incoming = folder / data.INCOMING
        data.write_planes(incoming)
        locations = Placed.of(tree, settings.environment, PIPELINE).locations()
        for month in data.MONTHS:
            data.write_flights(incoming, month)
            data.write_weather(incoming, month)
            self._publish(month, locations)
        self.model = cache(self._model)
        self.scored = cache(self._score)
        self.drift = cache(self._drift)
        self.performance = cache(self._performance)

    def loss(self, until: str, month: str) -> float:
        """Mean log loss of a month under the model trained to `until`."""
        return self.performance(until, month).metrics["log_loss"].value

    def mean(self, retrains: list[str]) -> float:
        """Mean log loss over the later flights with the newest model before each month."""
        total, rows = 0.0, 0
        for month in LATER:
            outcome = self.performance(max([r for r in retrains if r < month], default=HISTORY[-1]), month)
            total += outcome.metrics["log_loss"].value * outcome.facts["labelled"]
            rows += outcome.facts["labelled"]
        return total / rows

    def _publish(self, month: str, locations: dict[str, str]) -> None:
        raw: list[tuple[str, Artifact, str | None]] = []
        for name, source in self.bare.spec.sources.items():
            key = month if source.partitioned else "static"
            landed = self.bare.run("land", (key,), [], {"source": name}, locations=locations).outputs["data"]
            raw.append((name, landed, key))
        made = self.bare.run("transform", (month,), raw).outputs["data"]
        self.bare.tables.move(f"{self.bare.spec.name}/features", month, made)

    def _model(self, until: str) -> tuple[Artifact, Artifact]:
        _, model, evaluation = self.bare.train([m for m in data.MONTHS if m <= until])
        return model, evaluation

    def _score(self, until: str, month: str) -> Artifact:
        inputs: list[Any] = [("features", self.bare.features(month), month), ("model", self.model(until)[0], None)]
        return self.bare.run("score", (month,), inputs, {"version": "0"}).outputs["data"]

    def _as_of(self, month: str) -> dict[str, str]:
        label = self.bare.spec.label
        assert label is not None
        return {"as_of": label.known_after.after(self.partitioning.end(month)).isoformat()}

    def _performance(self, until: str, month: str) -> Outcome:
        inputs: list[Any] = [
            ("predictions", self.scored(until, month), month),
            ("features", self.bare.features(month), month),
            ("evaluation", self.model(until)[1], None),
        ]
        return self.bare.run("performance", (month,), inputs, self._as_of(month))

    def _drift(self, until: str, month: str) -> Outcome:
        inputs: list[Any] = [
            ("model", self.model(until)[0], None),
            ("current", self.bare.features(month), month),
            ("predictions", self.scored(until, month), month),
        ]
        return self.bare.run("drift", (month,), inputs, self._as_of(month))


def governed(flights: Flights, *, outcomes: bool = True, **changes: Any) -> list[tuple[str, str]]:
    """Month and reason of each retraining by the pipeline's own rule, `changes` to its monitoring aside.

    Without `outcomes` the rule decides as if no label were known yet.
    """
    base = flights.bare.spec.monitoring
    assert base is not None
    spec = type(base).model_validate({**base.model_dump(mode="json", exclude_unset=True), **changes})
    trained, found, history = HISTORY[-1], [], []
    for month in LATER:
        judged, seen = flights.performance(trained, month).facts, flights.drift(trained, month).facts
        now = Window(month, judged["rows"], seen["drifted"], judged["degraded"] if outcomes else None,
                     judged["excess"] if outcomes else None, tuple(seen["broken"]), outcomes)  # fmt: skip
        last = found[-1][0] if found else None
        answer = decide(spec, flights.partitioning, now, history, trained_to=trained, last_retrain=last)
        history.append(now)
        if answer.action == "retrain":
            found.append((month, answer.reason))
            trained, history = month, []
    return found


def table() -> str:
    """Two tables: the months as the first model sees them, and the policies."""
    with tempfile.TemporaryDirectory(prefix="millrace-flights-") as folder:
        flights = Flights(Path(folder))
        return f"{_months(flights)}\n\n{_policies(flights)}"


def _months(flights: Flights) -> str:
    lines = ["| month | columns that drift | of the model's attributions | prediction | label | degraded (bound) | "
             "what moved most |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    for month in LATER:
        seen, judged = flights.drift(HISTORY[-1], month).facts, flights.performance(HISTORY[-1], month).facts
        moved = [c for c in seen["columns"].values() if c["drifted"]]
        causes = ", ".join(f"{c['column']} {c['part']:.0%}" for c in seen["causes"][:3])
        side = {k: f"{seen[k]['score']:.2f} / {seen[k]['threshold']:.2f}" for k in ("prediction", "label")}
        cells = (month, f"{len(moved)} of {len(seen['columns'])}", f"{seen['share']:.0%}", side["prediction"],
                 side["label"], f"{judged['degraded']} ({judged['bound']:+.3f})", causes)  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _policies(flights: Flights) -> str:
    frozen, monthly = flights.mean([]), flights.mean(list(LATER))
    rows: list[tuple[str, list[str]]] = []
    for name, found in (
        ("the pipeline's rule: degraded, or two months old", governed(flights)),
        ("degraded alone", governed(flights, max_age=None)),
        ("drift alone, as if no label were known", governed(flights, outcomes=False, max_age=None)),
    ):
        rows.append((f"{name}: " + ", ".join(f"{m[5:]} {r}" for m, r in found), [m for m, _ in found]))
    rows += [("calendar, every two months", list(LATER[1::2])), ("calendar, every three months", list(LATER[2::3]))]
    lines = ["| policy | retrainings that count | mean log loss | recovered | a calendar of equal count: best, mean | ",
             "|---|---|---|---|---|"]  # fmt: skip
    for name, months in rows:
        useful = [m for m in months if m != LATER[-1]]  # what December sets off comes too late for 2013
        others = [flights.mean(list(c)) for c in combinations(LATER[:-1], len(useful))]

        def share(loss: float) -> str:
            return f"{(frozen - loss) / (frozen - monthly):.0%}"

        lines.append(f"| {name} | {len(useful)} | {flights.mean(useful):.4f} | {share(flights.mean(useful))} | "
                     f"{share(min(others))}, {share(sum(others) / len(others))} |")  # fmt: skip
    lines += [f"| never | 0 | {frozen:.4f} | 0% | |", f"| every month | 7 | {monthly:.4f} | 100% | |"]
    return "\n".join(lines)
