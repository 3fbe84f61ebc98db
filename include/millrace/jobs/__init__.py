"""Jobs: units of payload, one flat module each. A job knows no Airflow: a request comes in, an outcome goes out.

A job module has `REACHES` (what it may reach beside the store), `REUSABLE` (whether an earlier result of the same
request may be taken instead of running again), a `Params` model, and `run(work, params) -> Outcome`.
"""

from millrace.spec.jobs import JOBS

__all__ = ["JOBS"]
