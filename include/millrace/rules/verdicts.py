"""Verdicts in words: what a task log says of a Gate, an evaluation or a Duel."""

from __future__ import annotations

from millrace.contract import Check, Verdict

SHOWN = 10
"""Failures listed before the rest is counted: a verdict fits on one screen."""


def summary(verdict: Verdict, pipeline: str, partition: str, dataset: str, report_url: str | None) -> str:
    """One screen of plain text: passed or failed with counts, the first failures, where the report is."""
    failures, total = verdict.failures, len(verdict.checks)
    subject = f"{pipeline}, partition {partition}, {dataset}"
    if verdict.passed:
        lines = [f"PASSED: {subject}: all {total} checks passed"]
    else:
        lines = [f"FAILED: {subject}: {len(failures)} of {total} checks failed"]
        lines += [_line(check) for check in failures[:SHOWN]]
        if len(failures) > SHOWN:
            lines.append(f"  .. and {len(failures) - SHOWN} more in the report")
        if not failures:
            lines.append("  no check is named; a verdict without checks does not pass")
    if report_url:
        lines.append(f"Report: {report_url}")
    return "\n".join(lines)


def _line(check: Check) -> str:
    examples = f" (such as {', '.join(check.examples)})" if check.examples else ""
    return f"  - {check.message}{examples}"
