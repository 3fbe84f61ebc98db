"""What people write: project, environments, pipelines; loading, validation and JSON Schema."""

from millrace.spec.bundle import Bundle
from millrace.spec.durations import Duration
from millrace.spec.environment import Environment, Project
from millrace.spec.partitions import Partitioning
from millrace.spec.pipeline import PipelineSpec
from millrace.spec.placed import Placed
from millrace.spec.project import ProjectTree

__all__ = ["Bundle", "Duration", "Environment", "Partitioning", "PipelineSpec", "Placed", "Project", "ProjectTree"]
