"""On-demand features of a pipeline's FeatureService: what they are made from, and where their functions may run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from millrace.checks.words import near
from millrace.spec import PipelineSpec, Placed, ProjectTree
from millrace.spec.compute import PROCESS
from millrace.spec.feast_file import Definitions
from millrace.spec.jobs import COMPUTING_JOBS
from millrace.spec.yaml_file import line_of


def check_on_demand(
    tree: ProjectTree, spec: PipelineSpec, found: Definitions, made: dict[str, str] | None, placed: Sequence[Placed]
) -> Iterator[str]:
    """One line for each mistake; none for a service without on-demand features."""
    path, service = tree.features_file(spec.name), spec.features.service
    if service in found.refused:
        yield found.refused[service]
    needed = found.made_from.get(service)
    if not needed:
        return
    for name in needed:
        if spec.label is not None and name == spec.label.column:
            yield f"{path}:1: an on-demand feature is made from '{name}', the label, which nobody knows in a request"
        elif made is not None and name not in made:
            yield (f"{path}:1: on-demand features are made from '{name}', which is no column of transform.sql: what a "
                   "request carries is a column in the batch" + near(name, list(made)))  # fmt: skip
    computed = [ref.partition(":")[2] for ref in found.services[service]]
    for name in spec.serving.defaults if spec.serving is not None else ():
        if name in computed and name in found.computed.get(service, ()):
            file = tree.folder(spec.name) / "pipeline.yaml"
            yield (f"{file}:{line_of(file, 'serving', 'defaults', name)}: serving.defaults: '{name}' is computed from "
                   f"the defaults of other features; allowed: {', '.join(needed)}")  # fmt: skip
    asked = {
        "drift": spec.monitoring is not None,
        "probe": spec.monitoring is not None and spec.monitoring.probes,
        "deploy": spec.serving is not None,
    }
    for here in placed:
        jobs = [job for job in COMPUTING_JOBS if asked.get(job, True) and here.profile(job) == PROCESS]
        if here.environment.custom_code != PROCESS and jobs and spec.training is not None:
            name = here.environment.name
            file = tree.root / "include" / "environments" / f"{name}.yaml"
            yield (f"{file}:{line_of(file, 'custom_code')}: environment '{name}' runs custom code in pods only, and "
                   f"pipeline '{spec.name}' (on-demand features of {path.name}) has {', '.join(jobs)} in the task's "
                   f"process; give each a compute profile, or say 'custom_code: process'")  # fmt: skip
