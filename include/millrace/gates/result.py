"""What a gate found: the Verdict, and GX's results as far as they may be stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from millrace.contract import Check, Verdict


@dataclass(frozen=True)
class CheckResult:
    """One Check with what GX said: type and kwargs as far as they may be shown, result scrubbed."""

    check: Check
    type: str
    kwargs: dict[str, Any]
    result: dict[str, Any]
    error: str | None = None


@dataclass(frozen=True)
class GateResult:
    """A Verdict and the scrubbed results behind it, in the same order."""

    suite: str
    verdict: Verdict
    results: tuple[CheckResult, ...]

    def with_checks(self, more: Sequence[CheckResult]) -> GateResult:
        """The result with further checks; it passes only if they do."""
        results = (*self.results, *more)
        verdict = Verdict(passed=all(f.check.passed for f in results), checks=tuple(f.check for f in results))
        return GateResult(self.suite, verdict, results)

    def to_json(self) -> dict[str, Any]:
        """The result as JSON, in GX's names, without run times, ids or versions."""
        return {
            "suite_name": self.suite,
            "success": self.verdict.passed,
            "statistics": {
                "evaluated_expectations": len(self.results),
                "successful_expectations": sum(f.check.passed for f in self.results),
                "unsuccessful_expectations": len(self.verdict.failures),
            },
            "results": [
                {
                    "success": f.check.passed,
                    "expectation_config": {"type": f.type, "kwargs": f.kwargs},
                    "result": f.result,
                    "exception_info": {"raised_exception": f.error is not None, "exception_message": f.error},
                    "check": f.check.model_dump(mode="json"),
                }
                for f in self.results
            ],
        }
