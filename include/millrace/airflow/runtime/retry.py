"""Which failures Airflow retries: infrastructure may heal, verdicts and wrong input never do."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.sdk.exceptions import AirflowException

from millrace.core.errors import Conflict, Corrupt, NotFound, Retry, StoreError, Unavailable

RETRIES = 3
RETRY_DELAY = timedelta(seconds=10)
WAIT_DELAY = timedelta(minutes=10)


class InfrastructureError(AirflowException):
    """A job failed for a reason that may be gone at the next try."""


class NotYet(AirflowException):
    """What the task needs is not there yet (a source file before its time); tried again later."""


def retry_policy() -> ExceptionRetryPolicy:
    """Retry by exception class. What no rule names is a fault in code or input and fails at once.

    AirflowFailException never reaches the policy; a killed task has no exception and follows `retries`.
    """
    return ExceptionRetryPolicy(
        rules=[
            RetryRule(exception=[NotFound, Corrupt], action=RetryAction.FAIL, reason="Another try finds the same"),
            RetryRule(exception=NotYet, action=RetryAction.RETRY, retry_delay=WAIT_DELAY, reason="Not there yet"),
            RetryRule(
                exception=[InfrastructureError, Unavailable, StoreError, Conflict, ConnectionError, TimeoutError],
                action=RetryAction.RETRY,
                reason="Infrastructure failed",
            ),
        ],
        default=RetryAction.FAIL,
    )


def may_retry(advice: Retry) -> bool:
    """Whether a job's own advice asks for another try."""
    return advice != "never"
