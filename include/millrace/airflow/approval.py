"""ReleaseApproval: Airflow's ApprovalOperator that an environment may answer by itself."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator


class ReleaseApproval(ApprovalOperator):
    """Waits for a human, or returns at once where the environment says approval is automatic.

    The DAG has the same structure in every environment. An answer that never comes ends as Reject.
    """

    def __init__(self, *, automatic: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.automatic = automatic

    def execute(self, context: Any) -> Any:
        """Park the task until somebody answers, or answer at once."""
        if self.automatic:
            self.log.info("This environment promotes without a human (approval: auto)")
            return {"chosen_options": [self.APPROVE], "responded_by_user": None, "automatic": True}
        return super().execute(context)
