"""Infrastructure is retried, verdicts and wrong input never."""

from __future__ import annotations

import pytest
from airflow.sdk import RetryAction

from millrace.airflow.runtime.retry import InfrastructureError, NotYet, retry_policy
from millrace.core.errors import Conflict, ContractError, DataError, NotFound, SpecError, StoreError, Unavailable


@pytest.mark.parametrize(
    "error",
    [
        InfrastructureError("x"),
        NotYet("x"),
        Unavailable("x"),
        StoreError("x"),
        Conflict("x"),
        ConnectionError("x"),
        TimeoutError("x"),
    ],
)
def test_what_may_heal_is_retried(error):
    assert retry_policy().evaluate(error, 1, 3).action is RetryAction.RETRY


@pytest.mark.parametrize("error", [DataError("x"), SpecError("x"), ContractError("x"), ValueError("x"), KeyError("x")])
def test_what_cannot_heal_fails_at_once(error):
    assert retry_policy().evaluate(error, 1, 3).action is RetryAction.FAIL


def test_a_file_that_is_not_there_yet_waits_longer_than_a_broken_connection():
    policy = retry_policy()
    assert policy.evaluate(NotYet("x"), 1, 3).retry_delay is not None
    assert policy.evaluate(InfrastructureError("x"), 1, 3).retry_delay is None


def test_a_missing_object_is_not_infrastructure():
    assert retry_policy().evaluate(NotFound("x"), 1, 3).action is RetryAction.FAIL
