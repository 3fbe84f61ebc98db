"""Inventory: what a model inventory says of a pipeline's model, beside the pipeline's owner."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field

from millrace.spec.base import Model


class Inventory(Model):
    """For whom and what the model is, how much hangs on it, and until when that was looked at."""

    tier: Literal[1, 2, 3] = Field(description="How much hangs on it; 1: most.")
    intended_use: str = Field(min_length=1, description="What its predictions may be used for, in words.")
    limitations: str = Field(default="", description="What they may not be used for, and where it is known to fail.")
    review_by: date = Field(
        description="The day until which the model must be reviewed again, UTC. From the next day on no new version is "
        "promoted; training and rollbacks go on."
    )

    def overdue(self, today: date) -> str | None:
        """Why nothing is promoted on a day, None where the review is not overdue."""
        if today <= self.review_by:
            return None
        return (
            f"the review of its model was due on {self.review_by.isoformat()}: review it, and set inventory.review_by "
            "in its pipeline.yaml"
        )
