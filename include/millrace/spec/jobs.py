"""The one table of jobs: what each reaches, where it may run, and what an orchestrator need know of it beside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

TaskJob = Literal[
    "land",
    "validate",
    "transform",
    "materialize",
    "parity",
    "score",
    "build_training_set",
    "train",
    "evaluate",
    "register",
    "sign",
    "deploy",
    "promote",
    "withdraw",
    "reconcile",
    "drift",
    "performance",
    "probe",
    "collect",
    "skew",
]
"""Jobs that Airflow's tasks run."""
Service = Literal["registry", "online", "mlflow", "spark", "signing"]
"""What a job may reach beside the store and its sources."""


@dataclass(frozen=True)
class Job:
    """What is true of a job wherever it runs."""

    reaches: tuple[Service, ...] = ()
    reusable: bool = True
    """Whether a stored result of the same request is taken instead of running again."""
    in_pods: bool = False
    """Whether it may run in a pod: it reads and writes the store, and what it makes is the same wherever it runs."""
    runs_code: bool = False
    """Whether it executes a pipeline's own code (learner `custom`): it trains or predicts."""
    computes: bool = False
    """Whether it calls the functions of on-demand features."""
    warm: tuple[str, ...] = ()
    """Modules it imports late, for a process that imports before it forks."""


_GX = ("great_expectations",)
_FEAST = ("feast", "feast.infra.online_stores.sqlite", "feast.infra.offline_stores.duckdb")
# onnxruntime (40 ms and 29 MB to import) and onnx (130 ms, 20 MB) are not warm: few models are graphs.
_MODELS = ("xgboost", "torch", "safetensors.torch", "millrace.models.torch.mlp", "millrace.models.xgboost")
_LEARNERS = (*_MODELS, "millrace.learners.torch.mlp", "millrace.learners.xgboost")
_MLFLOW = ("mlflow", "mlflow.data.meta_dataset")

TABLE: dict[str, Job] = {
    # What the source holds is no part of the request, so an earlier result says nothing about it now.
    "land": Job(reusable=False, warm=("boto3", "pyarrow.csv")),
    "validate": Job(reaches=("spark",), warm=_GX),
    "transform": Job(reaches=("spark",), in_pods=True, warm=("duckdb",)),
    # The online store may have been emptied or replaced; writing again is the point of a replay.
    "materialize": Job(reaches=("registry", "online"), reusable=False, warm=_FEAST),
    # It looks at the online store as it is now.
    "parity": Job(reaches=("registry", "online"), reusable=False, warm=_FEAST),
    "build_training_set": Job(reaches=("registry", "online"), in_pods=True, computes=True, warm=_FEAST),
    "train": Job(
        reaches=("mlflow",), in_pods=True, runs_code=True, warm=(*_LEARNERS, *_MLFLOW, "millrace.evaluation.plots")
    ),
    "evaluate": Job(reaches=("mlflow",), in_pods=True, runs_code=True, computes=True, warm=(*_MODELS, *_MLFLOW)),
    "score": Job(in_pods=True, runs_code=True, computes=True, warm=_MODELS),
    # The registry may have lost what an earlier result speaks of, and aliases may have been moved since.
    "register": Job(reaches=("mlflow",), reusable=False, warm=_MLFLOW),
    # Not warm: model-signing takes a second and 70 MB to import, and signs once a promotion.
    "sign": Job(reaches=("signing",), reusable=False),
    # What the registry holds follows from the bundle, which is part of the request.
    "deploy": Job(
        reaches=("registry", "online"), in_pods=True, runs_code=True, computes=True, warm=(*_MODELS, *_FEAST)
    ),
    "promote": Job(reaches=("mlflow",), reusable=False, warm=_MLFLOW),
    "withdraw": Job(reaches=("mlflow",), reusable=False, warm=_MLFLOW),
    "reconcile": Job(reaches=("mlflow",), reusable=False, warm=_MLFLOW),
    "drift": Job(in_pods=True, computes=True, warm=("evidently",)),
    "performance": Job(in_pods=True),
    "probe": Job(in_pods=True, runs_code=True, computes=True, warm=_LEARNERS),
    "collect": Job(),
    "skew": Job(reaches=("registry", "online"), warm=_FEAST),
    "fit_embedding": Job(),
    "import_model": Job(reaches=("mlflow",)),
}
JOBS = tuple(TABLE)
POD_JOBS = tuple(name for name, job in TABLE.items() if job.in_pods)
CODE_JOBS = tuple(name for name, job in TABLE.items() if job.runs_code)
COMPUTING_JOBS = tuple(name for name, job in TABLE.items() if job.computes)
TASK_JOBS: tuple[str, ...] = get_args(TaskJob)
"""All but those that the command line runs."""
WARM = tuple(dict.fromkeys(module for name in TASK_JOBS for module in (*TABLE[name].warm, f"millrace.jobs.{name}")))
"""What the jobs of tasks import, libraries before the modules that use them."""
