"""The table of jobs: each row has its module, and each module its row."""

from __future__ import annotations

from pathlib import Path

import millrace
from millrace.spec.jobs import CODE_JOBS, JOBS, POD_JOBS, TABLE, TASK_JOBS


def test_every_job_has_a_module_and_every_module_that_runs_is_a_job():
    folder = Path(millrace.__file__).parent / "jobs"
    modules = {p.stem for p in folder.glob("*.py") if "\ndef run(work: Work," in p.read_text()}
    assert modules == set(JOBS)


def test_tasks_run_all_jobs_but_those_of_the_command_line():
    assert set(TASK_JOBS) == set(TABLE) - {"fit_embedding", "import_model"}


def test_what_runs_a_pipelines_own_code_can_be_moved_away_from_the_credentials_of_tasks():
    assert set(CODE_JOBS) <= set(POD_JOBS)


def test_what_changes_something_outside_the_store_is_never_taken_from_an_earlier_result():
    changing = {name for name, job in TABLE.items() if not job.reusable}
    assert changing == {"land", "materialize", "parity", "register", "sign", "promote", "withdraw", "reconcile"}
    assert not changing & set(POD_JOBS)
