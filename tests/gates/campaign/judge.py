"""Take a mutant through the pipeline as a features run would, say what caught it, and what harm it does if nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mutators import Files, Mutant, to_bytes

from demo import data
from demo.baseline import Bare
from millrace.contract import Artifact
from millrace.core.errors import MillraceError
from millrace.core.settings import Settings
from millrace.spec import ProjectTree
from millrace.spec.gate import gate_checks, references
from millrace.store import SnapshotStore

ROOT = Path(__file__).resolve().parents[3]
LAST, NOW, NEXT = "2013-05", "2013-06", "2013-07"
SOURCES = ("flights", "weather", "planes")
ROUNDS = 60


@dataclass(frozen=True)
class Caught:
    """What stopped a mutant: land, gate, transform or features, and the check's name; `by` None: nothing."""

    mutant: Mutant
    by: str | None
    check: str = ""
    features: Artifact | None = None


class Campaign:
    """The flights of May to July 2013 in a store of their own; June is what mutants corrupt."""

    def __init__(self, folder: Path) -> None:
        import pandas as pd

        self.folder = folder
        settings = Settings.load(ROOT, {"MILLRACE_HOME": str(folder / "home")})
        self.bare = Bare(ProjectTree(ROOT), settings, "flight_delays")
        incoming = folder / "incoming"
        data.write_planes(incoming)
        self.months: dict[str, Files] = {}
        for name, key in (("last", LAST), ("now", NOW), ("next", NEXT)):
            data.write_flights(incoming, key)
            data.write_weather(incoming, key)
            paths = {"flights": f"flights/{key}.csv", "weather": f"weather/{key}.csv", "planes": "planes.csv"}
            self.months[name] = {
                source: pd.read_csv(incoming / path, dtype=str, keep_default_na=False) for source, path in paths.items()
            }
        self.raw: dict[tuple[str, str], Artifact] = {}
        for name, key in (("last", LAST), ("now", NOW), ("next", NEXT)):
            for source in SOURCES:
                at = "static" if source == "planes" else key
                if (source, at) not in self.raw:
                    self.raw[source, at] = self._land(source, at, self.months[name][source])
        self.clean = {key: self._transform(key, {}) for key in (LAST, NOW, NEXT)}

    def judge(self, mutant: Mutant) -> Caught:
        """Land what the mutant changed, gate it, transform, gate the features; stop where something stops it."""
        spec = self.bare.spec
        files = mutant.apply(self.months)
        changed: dict[str, Artifact] = {}
        for source in SOURCES:
            if files[source] is self.months["now"][source]:
                continue
            key = "static" if source == "planes" else NOW
            try:
                changed[source] = self._land(source, key, files[source])
            except MillraceError:
                return Caught(mutant, "land")
        for source, artifact in changed.items():
            key = "static" if source == "planes" else NOW
            failed = self._gate(spec.sources[source].gate, f"raw.{source}", key, artifact, changed)
            if failed:
                return Caught(mutant, "gate", failed[0])
        try:
            made = self._transform(NOW, changed)
        except MillraceError:
            return Caught(mutant, "transform")
        failed = self._gate(spec.features.gate, "features", NOW, made, changed)
        return Caught(mutant, "features", failed[0]) if failed else Caught(mutant, None, features=made)

    def harm(self, features: Artifact) -> str | None:
        """What a survivor does to the model, None where it does no harm; raises nothing."""
        mine, clean = (self._rows(artifact) for artifact in (features, self.clean[NOW]))
        if features.digest == self.clean[NOW].digest:
            return None
        if set(mine["flight_id"].to_pylist()) != set(clean["flight_id"].to_pylist()):
            return "the keys changed"
        from millrace.rules.duel import Terms, duel

        before, after = self._rows(self.clean[LAST]), self._rows(self.clean[NEXT])
        losses, blocks = [], None
        for june in (mine, clean):
            loss, blocks = _loss([before, june], after)
            losses.append(loss)
        found = duel(losses[0], losses[1], blocks, Terms())
        if found.low is not None and found.low > 0:
            return f"the loss of July rises by {found.difference:.4f} ({found.low:.4f} to {found.high:.4f})"
        return None

    def _land(self, source: str, key: str, file: Any) -> Artifact:
        path = self.folder / "mutant" / f"{key}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(file if isinstance(file, bytes) else to_bytes(file))
        params = {"source": source}
        return self.bare.run("land", (key,), [], params, locations={source: str(path)}).outputs["data"]

    def _gate(self, suite: str, dataset: str, key: str, artifact: Artifact, changed: dict[str, Artifact]) -> list[str]:
        """Names of the failed checks, with the column where there is one."""
        held = self.bare.bundle.suites[suite]
        trailing = self.clean[LAST] if dataset == "features" else self.raw.get((dataset.removeprefix("raw."), LAST))
        if key == "static":
            trailing = self.raw["planes", "static"]
        inputs: list[tuple[str, Artifact, str | None]] = [("data", artifact, key)]
        inputs += [("trailing", trailing, LAST if key != "static" else key)] if trailing else []
        for source in references(gate_checks(held, suite)):
            at = "static" if source == "planes" else NOW
            inputs.append((f"reference.{source}", changed.get(source, self.raw[source, at]), at))
        spec = self.bare.spec
        source_spec = spec.sources.get(dataset.removeprefix("raw."))
        event = spec.features.event_time if source_spec is None else source_spec.event_time
        params = {"suite": suite, "event_time": None if key == "static" else event}
        verdict = self.bare.run("validate", (key,), inputs, params).verdict
        assert verdict is not None
        return [f"{c.name} {c.column or ''}".strip() for c in verdict.failures]

    def _transform(self, key: str, changed: dict[str, Artifact]) -> Artifact:
        keys = self.bare.spec.partitioning.lookback(key, self.bare.spec.sources["flights"].lookback, LAST)
        inputs: list[tuple[str, Artifact, str | None]] = []
        for source in SOURCES:
            at = "static" if source == "planes" else key
            inputs += [(source, self.raw[source, k], k) for k in keys if at != "static"]
            inputs.append((source, changed.get(source, self.raw[source, at]), at))
        return self.bare.run("transform", (key,), inputs).outputs["data"]

    def _rows(self, artifact: Artifact) -> Any:
        return SnapshotStore(self.bare.objects).read(artifact.uri, artifact.digest)


def _loss(train: Iterable[Any], test: Any) -> tuple[Any, Any]:
    """Losses on `test` of a small XGBoost model of `train`, and the day of each row."""
    import pandas as pd
    import xgboost

    from millrace.models.metrics import block_keys, row_losses

    frames = [table.to_pandas() for table in (*train, test)]
    rows = pd.concat(frames, keys=range(len(frames)))
    features = rows.drop(columns=["flight_id", "event_timestamp", "late"])
    for column in features.columns:
        if features[column].dtype == object:
            features[column] = features[column].astype("category").cat.codes
    last = len(frames) - 1
    label = rows["late"]
    known = label.notna()
    learn, judge = known & (rows.index.get_level_values(0) < last), known & (rows.index.get_level_values(0) == last)
    matrix = xgboost.DMatrix(features[learn], label[learn])
    params = {"objective": "binary:logistic", "max_depth": 5, "eta": 0.1, "nthread": 2, "seed": 7}
    model = xgboost.train(params, matrix, ROUNDS)
    prediction = model.predict(xgboost.DMatrix(features[judge]))
    held = test.filter(np.asarray(label[rows.index.get_level_values(0) == last].notna()))
    days = block_keys(held["event_timestamp"], "day", "America/New_York")
    return row_losses("binary", label[judge].to_numpy(), prediction), days
