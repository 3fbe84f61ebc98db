"""ReleaseApproval: Airflow's ApprovalOperator that an environment may answer by itself, and that records its answer."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator

from millrace.airflow.tasks.release import record_answer

NOBODY = "nobody"
"""Who refuses a request that expired."""


class ReleaseApproval(ApprovalOperator):
    """Waits for a human, or returns at once where the environment says approval is automatic.

    The DAG has the same structure in every environment. An answer that never comes ends as Reject. The task writes the
    answer into the ledger itself, where promotion reads it: a rejection skips what follows, and anybody who may edit a
    run may edit what a task returned.
    """

    def __init__(self, *, root: str, pipeline: str, automatic: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = root
        self.pipeline = pipeline
        self.automatic = automatic

    def execute(self, context: Any) -> Any:
        """Park the task until somebody answers, or return at once."""
        if self.automatic:
            self.log.info("This environment promotes without a human (approval: auto)")
            return None
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Take up the answer: record it, then go on or skip."""
        if "error" not in event:
            record_answer(
                self.root,
                self.pipeline,
                context["ti"].run_id,
                approved=event["chosen_options"] == [self.APPROVE],
                by=str((event.get("responded_by_user") or {}).get("name", NOBODY)),
            )
        return super().execute_complete(context, event)
