"""Rollouts: how often one that does no harm is stopped, and how soon one that does; by the guards as servers run them.

python -m bench.rollouts [RUNS] [SEED]     the same as a table for a person; 1,000 runs of each kind

Requests of units come to several servers, each of which counts (`serving.in_force.Counter`) what the version that the
unit meets (`rules.traffic`) makes of it, judges (`rules.guards`) at each event of its own, and tells the others every
EVERY requests. Half of the runs have a balancer that keeps a unit on its server; half have units that come again and
again, half new ones with two requests each on average; half compare a version with itself, half with another that is
as good: it fails for other units, and gives them other predictions.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from scipy import stats

from bench.row import Row
from millrace.contract import Artifact
from millrace.rules.guards import Counts, Side, judge, merge
from millrace.rules.traffic import point
from millrace.serving.in_force import Counter, InForce
from millrace.spec.serving import CanaryRollout, ServingSpec
from millrace.store.plans import Arm, TrafficPlan

RUNS = 1000
EVERY = 120
"""Requests between two times at which servers tell each other what they count: a second's, of a busy pipeline."""
SERVERS, FLEET = 3, 4000
OLD, NEW = 1, 2
ERRORS, SLOW = 0.005, 0.01
DECILES = tuple(n / 10 for n in range(1, 10))
MOST = 12_000
"""Requests after which a rollout that does harm has not been stopped."""


@dataclass(frozen=True)
class Given:
    """What a version made of a request: a prediction, or none."""

    prediction: float | None
    slow: bool = False


Model = Callable[[str, random.Random], Given]


@dataclass(frozen=True)
class Kind:
    """A kind of rollout: where the new version stands, and what it does. `steps`: the default spec's, from the shadow
    to its answering all; else a tenth of the units throughout."""

    name: str
    new: Model | None = None
    steps: bool = False
    shadow: bool = False


@dataclass(frozen=True)
class Run:
    """What came of one: the requests, and the units that met the new version, until it was stopped; or it was not."""

    stopped: str | None
    requests: int
    units: int


def model(seed: str, errors: float = ERRORS, slow: float = SLOW) -> Model:
    """A version that fails for half of its `errors` whatever it is asked, and always for a few units; a unit has its
    prediction."""

    def predict(unit: str, chance: random.Random) -> Given:
        own = random.Random(f"{seed} {unit}")
        if own.random() < errors / 2 or chance.random() < errors / 2:
            return Given(None)
        return Given(own.random(), chance.random() < slow)

    return predict


def shifted(unit: str, chance: random.Random) -> Given:
    """One carrier's faults: a tenth of the units get predictions from the top tenth."""
    given = model("good")(unit, chance)
    if given.prediction is None or random.Random(f"carrier {unit}").random() >= 0.1:
        return given
    return Given(0.95, given.slow)


def shuffled(unit: str, chance: random.Random) -> Given:
    """What was trained on labels of other rows predicts their mean, whatever it is asked."""
    return Given(0.5 + chance.gauss(0, 0.03))


HARM = (
    Kind("dead", lambda unit, chance: Given(None)),
    Kind("5 % errors beside 0.5 %", model("bad", errors=0.05)),
    Kind("slow for half of the requests", model("good", slow=0.5)),
    Kind("NaN for a tenth of the requests", model("bad", errors=0.1)),
    Kind("a tenth of the units in the top bin", shifted),
    Kind("shuffled labels", shuffled),
    Kind("a tenth of the units in the top bin, in shadow", shifted, shadow=True),
    Kind("shuffled labels, in shadow", shuffled, shadow=True),
)
EQUAL = Kind("equal", steps=True)


class Rollout:
    """One rollout. `number` says of which kind its balancer, units and equals are."""

    def __init__(self, kind: Kind, number: int, seed: int) -> None:
        sticky, again, same = list(product((True, False), repeat=3))[number % 8]
        self.kind, self.sticky, self.again = kind, sticky, again
        self.chance = random.Random(f"{seed} {kind.name} {number}")
        self.spec = ServingSpec()
        self.models = {OLD: model("good"), NEW: kind.new or model("good" if same else "other")}
        self.salt = f"trips {number}"
        self.asked, self.met = 0, set[str]()
        self.past: list[Counts] = []
        self.counters: list[Counter] = []
        self.told: list[Counts] = []
        self.stopped: str | None = None

    def run(self) -> Run:
        """From its first request to its end."""
        if self.kind.steps:
            rollout = self.spec.rollout
            assert isinstance(rollout, CanaryRollout) and rollout.shadow is not None
            self._stage(self._plan(1, 0.0, shadow=True), units=rollout.shadow.requests)
            for number, step in enumerate(rollout.steps, 2):
                self._stage(self._plan(number, step.share), units=step.units)
            self._stage(self._plan(len(rollout.steps) + 2, 1.0), units=500)
        elif self.kind.shadow:
            self._stage(self._plan(1, 0.0, shadow=True), units=MOST)
        else:
            self._stage(self._plan(1, 0.1), units=MOST)
        return Run(self.stopped, self.asked, len(self.met))

    def _plan(self, generation: int, share: float, shadow: bool = False) -> TrafficPlan:
        def arm(version: int, role: str, of: float) -> Arm:
            made = Artifact(uri=f"{version}.json", digest=f"sha256:{version:064}", kind="deployment")
            return Arm.model_validate(
                {"role": role, "version": version, "model": made.digest, "deployment": made, "share": of}
            )

        arms = (arm(OLD, "champion", 1 - share), arm(NEW, "challenger", share))
        if share in (0.0, 1.0):
            arms = (arm(NEW if share else OLD, "champion", 1.0),)
        return TrafficPlan(
            pipeline="trips", generation=generation, since=1, salt=self.salt, arms=arms, serving=self.spec,
            shadow=arm(NEW, "challenger", 1.0) if shadow else None, former=arm(OLD, "champion", 1.0) if share else None,
        )  # fmt: skip

    def _stage(self, plan: TrafficPlan, units: int) -> None:
        """Until so many units, or requests in shadow, have met the new version under this plan."""
        if self.stopped is not None:
            return
        self.past += _added([counter.counts() for counter in self.counters])
        self.counters = [Counter(plan, DECILES) for _ in range(SERVERS)]
        self.told = [counter.counts() for counter in self.counters]
        self.force = [InForce(plan, plan, frozenset(), counter, ("unit",)) for counter in self.counters]
        met: set[str] = set()
        while len(met) < units and self.asked < MOST and self.stopped is None:
            self.asked += 1
            unit = f"u{self.chance.randrange(FLEET) if self.again else self.asked // 2 - self.chance.randrange(20)}"
            at = int(point("balancer", unit) * SERVERS) if self.sticky else self.chance.randrange(SERVERS)
            changed = self.counters[at].changed
            if self._ask(at, unit):
                met.add(unit if plan.shadow is None else f"{self.asked}")
                self.met.add(unit)
                if self.counters[at].changed != changed:  # events of the old version alone never show harm
                    self._look(at)
            if self.asked % EVERY == 0:
                self.told = [counter.counts() for counter in self.counters]
                self._look(0)

    def _ask(self, at: int, unit: str) -> bool:
        """Have a request answered; whether the new version was asked."""
        now = self.force[at]
        arm = now.arm(unit)
        assert arm is not None
        asked = [arm, *([now.plan.shadow] if now.plan.shadow is not None and now.shadowed(unit) else [])]
        for each in asked:
            given = self.models[each.version](unit, self.chance)
            if given.prediction is None:
                now.counter.failed(each.version, now.named(unit))
            else:
                now.counter.answered(each.version, now.named(unit), given.prediction, given.slow)
        return any(each.version == NEW for each in asked)

    def _look(self, at: int) -> None:
        """As `serving.guarding` does: what this server counts, and what the others last told."""
        suspect = self.force[at].suspect
        assert suspect is not None
        others = [told for n, told in enumerate(self.told) if n != at]
        found = judge(merge([*self.past, *others, self.counters[at].counts()]), *suspect, self.spec.guards)
        harm = [each for each in found if each.harm]
        if harm:
            self.stopped = max(harm, key=lambda each: each.evidence - each.needed).guard


def _added(counts: list[Counts]) -> list[Counts]:
    """What servers have counted, as if one had."""
    return [
        Counts(generation=each.number, share=each.share, level=each.level, sides={
            version: Side(answered=met.answered, errors=tuple(met.errors), slow=tuple(met.slow),
                          predictions=met.predictions) for version, met in each.sides.items()
        }) for each in merge(counts)
    ]  # fmt: skip


def runs(kind: Kind, count: int, seed: int = 1, first: int = 0) -> list[Run]:
    """So many rollouts of a kind."""
    return [Rollout(kind, number, seed).run() for number in range(first, first + count)]


def _some(given: tuple[int, int, int, int]) -> list[Run]:
    return runs((EQUAL, *HARM)[given[0]], *given[1:])


def upper(stopped: int, count: int) -> float:
    """Clopper and Pearson's upper bound of a rate, 95 %, one-sided."""
    return 1.0 if stopped == count else float(stats.beta.ppf(0.95, stopped + 1, count - stopped))


def simulate(count: int, seed: int = 1) -> dict[str, list[Run]]:
    """All kinds, on all processors."""
    block = max(8, count // 40)
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        found = {}
        for place, kind in enumerate((EQUAL, *HARM)):
            parts = [(place, min(block, count - first), seed, first) for first in range(0, count, block)]
            found[kind.name] = [run for some in pool.map(_some, parts) for run in some]
    return found


def measure(root: Path, folder: Path) -> list[Row]:
    """Rows of the bench."""
    found = simulate(RUNS)
    equal = found.pop(EQUAL.name)
    false = sum(run.stopped is not None for run in equal)
    rows = [Row(f"false stops of {RUNS} equal rollouts, upper bound", upper(false, RUNS), 0.01, "rate", "< 1")]
    goals = {"dead": 70, "5 % errors beside 0.5 %": 1700}
    for name, some in found.items():
        asked = [run.requests for run in some]
        last = statistics.quantiles(asked, n=20)[-1]
        goal = goals.get(name)
        rows.append(Row(f"requests until a version is stopped: {name}", statistics.median(asked), goal or last, "",
                        "about 1" if goal else "reported, against the slowest twentieth"))  # fmt: skip
    return rows


def table(found: dict[str, list[Run]]) -> str:
    """For docs/faults.md."""
    lines = ["| new version | stopped | by | requests until then: median, 95 % | its units: median, 95 % |",
             "|---|---|---|---|---|"]  # fmt: skip
    for name, some in found.items():
        stopped = [run for run in some if run.stopped is not None]
        by = ", ".join(sorted({f"{run.stopped}" for run in stopped})) or "-"
        cells = ["-", "-"]
        if name != EQUAL.name:
            cells = [f"{statistics.median(each):,.0f}, {statistics.quantiles(each, n=20)[-1]:,.0f}"
                     for each in ([run.requests for run in some], [run.units for run in some])]  # fmt: skip
        count = f"{len(stopped)} of {len(some)}"
        if name == EQUAL.name:
            count += f", upper bound {upper(len(stopped), len(some)):.2%}"
        lines.append(f"| {name} | {count} | {by} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(simulate(*(int(each) for each in sys.argv[1:3])) if sys.argv[1:] else simulate(RUNS)))
