"""A verdict fits on one screen of a task log."""

from __future__ import annotations

from millrace.contract import Check, Verdict
from millrace.rules.verdicts import SHOWN, summary


def check(number: int, passed: bool = False) -> Check:
    return Check(name=f"c{number}", passed=passed, message=f"column 'c{number}': {number} of 9 rows are null",
                 examples=("a", "b") if number == 1 else ())  # fmt: skip


def test_a_failed_gate_names_what_failed_with_counts_and_where_the_report_is() -> None:
    verdict = Verdict(passed=False, checks=(check(0, passed=True), check(1), check(2)))
    assert summary(verdict, "flights", "2013-01", "raw.flights", "http://airflow/report").splitlines() == [
        "FAILED: flights, partition 2013-01, raw.flights: 2 of 3 checks failed",
        "  - column 'c1': 1 of 9 rows are null (such as a, b)",
        "  - column 'c2': 2 of 9 rows are null",
        "Report: http://airflow/report",
    ]


def test_many_failures_are_cut_to_one_screen_and_the_rest_counted() -> None:
    verdict = Verdict(passed=False, checks=tuple(check(n) for n in range(3 * SHOWN)))
    lines = summary(verdict, "flights", "2013-01", "features", None).splitlines()
    assert len(lines) == SHOWN + 2
    assert lines[0].endswith("30 of 30 checks failed")
    assert lines[-1] == "  .. and 20 more in the report"


def test_a_passed_gate_takes_one_line_and_the_report() -> None:
    verdict = Verdict(passed=True, checks=(check(0, passed=True),))
    assert summary(verdict, "flights", "2013-01", "features", "r.html") == (
        "PASSED: flights, partition 2013-01, features: all 1 checks passed\nReport: r.html"
    )


def test_a_verdict_that_failed_without_a_check_still_says_why() -> None:
    text = summary(Verdict(passed=False), "flights", "2013-01", "features", None)
    assert "no check is named" in text
