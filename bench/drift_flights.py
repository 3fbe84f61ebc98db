"""The flights of 2013 replayed under policies of retraining, by the jobs of the loop without an orchestrator."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

from demo import data
from demo.baseline import Bare
from millrace.contract import Artifact, Outcome
from millrace.core.settings import Settings
from millrace.feast_stores.apply import apply
from millrace.jobs.work import STATIC
from millrace.rules.gain import HALF_LIFE, Gain
from millrace.rules.governor import decide
from millrace.rules.window import Window
from millrace.spec import Placed, ProjectTree

ROOT, PIPELINE = Path(__file__).resolve().parents[1], "flight_delays"
HISTORY, LATER = data.MONTHS[:4], data.MONTHS[4:]


class Trained(NamedTuple):
    """A model: its last month, and whether recent rows counted for more."""

    until: str
    recent: bool = False


FIRST = Trained(HISTORY[-1])


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
        self.landed: dict[tuple[str, str], Artifact] = {}
        incoming = folder / data.INCOMING
        data.write_planes(incoming)
        locations = Placed.of(tree, settings.environment, PIPELINE).locations()
        for month in data.MONTHS:
            data.write_flights(incoming, month)
            data.write_weather(incoming, month)
            self._publish(month, locations)
        self.trained = cache(self._trained)
        self.scored = cache(self._score)
        self.drift = cache(self._drift)
        self.performance = cache(self._performance)
        self.probe = cache(self._probe)

    def mean(self, retrains: Sequence[Trained]) -> float:
        """Mean log loss over the later flights with the newest model before each month."""
        total, rows = 0.0, 0
        for month in LATER:
            outcome = self.performance(max([r for r in retrains if r.until < month], default=FIRST), month)
            total += outcome.metrics["log_loss"].value * outcome.facts["labelled"]
            rows += outcome.facts["labelled"]
        return total / rows

    def _publish(self, month: str, locations: dict[str, str]) -> None:
        """Land and transform a month as the features DAG does, with the partitions that its sources look back to."""
        raw: list[tuple[str, Artifact, str | None]] = []
        for name, source in self.bare.spec.sources.items():
            key = month if source.partitioned else STATIC
            landed = self.bare.run("land", (key,), [], {"source": name}, locations=locations).outputs["data"]
            self.landed[name, key] = landed
            first = self.bare.spec.partition.start
            before = self.partitioning.lookback(month, source.lookback, first) if source.partitioned else []
            raw += [(name, self.landed[name, earlier], earlier) for earlier in (*before, key)]
        made = self.bare.run("transform", (month,), raw).outputs["data"]
        self.bare.tables.move(f"{self.bare.spec.name}/features", month, made)

    def _trained(self, what: Trained) -> tuple[Artifact, Artifact, Artifact]:
        months = [m for m in data.MONTHS if m <= what.until]
        return self.bare.train(months, HALF_LIFE if what.recent else None)

    def _score(self, what: Trained, month: str) -> Artifact:
        inputs: list[Any] = [("features", self.bare.features(month), month), ("model", self.trained(what)[1], None)]
        return self.bare.run("score", (month,), inputs, {"version": "0"}).outputs["data"]

    def _as_of(self, month: str) -> dict[str, str]:
        label = self.bare.spec.label
        assert label is not None
        return {"as_of": label.known_after.after(self.partitioning.end(month)).isoformat()}

    def _performance(self, what: Trained, month: str) -> Outcome:
        inputs: list[Any] = [
            ("predictions", self.scored(what, month), month),
            ("features", self.bare.features(month), month),
            ("evaluation", self.trained(what)[2], None),
        ]
        return self.bare.run("performance", (month,), inputs, self._as_of(month))

    def _drift(self, what: Trained, month: str) -> Outcome:
        inputs: list[Any] = [
            ("model", self.trained(what)[1], None),
            ("current", self.bare.features(month), month),
            ("predictions", self.scored(what, month), month),
        ]
        return self.bare.run("drift", (month,), inputs, self._as_of(month))

    def _probe(self, what: Trained, month: str, form: Literal["sampled", "full"]) -> Outcome:
        joined, model, evaluation = self.trained(what)
        since = [m for m in LATER if what.until < m <= month]
        inputs: list[Any] = [("model", model, None), ("training_set", joined, None), ("evaluation", evaluation, None)]
        inputs += [("features", self.bare.features(m), m) for m in since]
        return self.bare.run("probe", tuple(since), inputs, self._as_of(month) | {"form": form})


def governed(flights: Flights, *, outcomes: bool = True, **changes: Any) -> list[tuple[Trained, str]]:
    """Each retraining, with its reason, by the pipeline's own rule, `changes` to its monitoring aside.

    Without `outcomes` the rule decides as if no label were known yet.
    """
    base = flights.bare.spec.monitoring
    assert base is not None
    spec = type(base).model_validate({**base.model_dump(mode="json", exclude_unset=True), **changes})
    what = FIRST
    found: list[tuple[Trained, str]] = []
    history: list[Window] = []
    before: list[Window] = []
    for month in LATER:
        judged, seen = flights.performance(what, month).facts, flights.drift(what, month).facts
        asked = outcomes and spec.retrain_on.gain
        probed = flights.probe(what, month, spec.retrain.probe).facts["gain"] if asked else None
        now = Window(month, judged["rows"], seen["drifted"], judged["degraded"] if outcomes else None,
                     judged["excess"] if outcomes else None, tuple(seen["broken"]), outcomes,
                     probed and Gain(**probed))  # fmt: skip
        last = found[-1][0].until if found else None
        answer = decide(spec, flights.partitioning, now, history, before=before, trained_to=what.until,
                        retrained=[last] if last else [])  # fmt: skip
        history.append(now)
        if answer.action == "retrain":
            what = Trained(month, bool(now.gain and now.gain.recent))
            found.append((what, answer.reason))
            before, history = [*before, *history], []
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
        seen, judged = flights.drift(FIRST, month).facts, flights.performance(FIRST, month).facts
        moved = [c for c in seen["columns"].values() if c["drifted"]]
        causes = ", ".join(f"{c['column']} {c['part']:.0%}" for c in seen["causes"][:3])
        side = {k: f"{seen[k]['score']:.2f} / {seen[k]['threshold']:.2f}" for k in ("prediction", "label")}
        cells = (month, f"{len(moved)} of {len(seen['columns'])}", f"{seen['share']:.0%}", side["prediction"],
                 side["label"], f"{judged['degraded']} ({judged['bound']:+.3f})", causes)  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _policies(flights: Flights) -> str:
    months = [Trained(month) for month in LATER]
    frozen, monthly = flights.mean([]), flights.mean(months)
    rows: list[tuple[str, list[Trained]]] = []
    no_gain = {"retrain_on": {"gain": False}}
    for name, found in (
        ("the pipeline's rule: gain by sampled probes", governed(flights)),
        ("without probes: degraded, or two months old", governed(flights, max_age="P2M", **no_gain)),
        ("degraded alone", governed(flights, **no_gain)),
        ("drift alone, as if no label were known", governed(flights, outcomes=False)),
    ):
        said = ", ".join(f"{what.until[5:]} {reason}{' (recency)' * what.recent}" for what, reason in found)
        rows.append((f"{name}: {said}", [what for what, _ in found]))
    rows += [("calendar, every two months", months[1::2]), ("calendar, every three months", months[2::3])]
    lines = ["| policy | retrainings that count | mean log loss | recovered | a calendar of equal count: best, mean | ",
             "|---|---|---|---|---|"]  # fmt: skip
    for name, chosen in rows:
        useful = [what for what in chosen if what.until != LATER[-1]]  # that of December comes too late for 2013
        others = [flights.mean(c) for c in combinations(months[:-1], len(useful))]

        def share(loss: float) -> str:
            return f"{(frozen - loss) / (frozen - monthly):.0%}"

        lines.append(f"| {name} | {len(useful)} | {flights.mean(useful):.4f} | {share(flights.mean(useful))} | "
                     f"{share(min(others))}, {share(sum(others) / len(others))} |")  # fmt: skip
    lines += [f"| never | 0 | {frozen:.4f} | 0% | |", f"| every month | 7 | {monthly:.4f} | 100% | |"]
    return "\n".join(lines)
