"""threshold: a metric of the rows held out lies within bounds."""

from __future__ import annotations

from millrace.contract import Check, Metric
from millrace.evaluation.checks.subject import Judged, Subject
from millrace.evaluation.measure import Measured
from millrace.spec.evaluation import ThresholdCheck


def run(asked: ThresholdCheck, subject: Subject) -> Judged:
    """One Check per bound. A metric that is not a number, or that this task has not, fails."""
    bounds = (("at least", asked.min), ("at most", asked.max))
    return Judged(tuple(_bound(asked.metric, word, bound, subject.measured) for word, bound in bounds
                        if bound is not None))  # fmt: skip


def _bound(name: str, word: str, bound: float, measured: Measured) -> Check:
    metric = measured.metrics.get(name)
    if metric is None:
        known = ", ".join(sorted(measured.metrics)) or "none"
        why = "is not a number" if name in measured.undefined else f"was not measured (measured: {known})"
        return Check(name=name, passed=False, message=f"{name} must be {word} {bound:g}, but it {why}")
    passed = metric.value >= bound if word == "at least" else metric.value <= bound
    text = f"{name} is {_interval(metric)} on {metric.rows} held out rows; it must be {word} {bound:g}"
    return Check(name=name, passed=passed, message=text)


def _interval(metric: Metric) -> str:
    around = "" if metric.low is None else f" (95 %: {metric.low:.4f} to {metric.high:.4f})"
    return f"{metric.value:.4f}{around}"
