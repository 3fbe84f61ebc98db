"""Serving on one machine: which servers a project needs, what each is told, and what it sees of this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from millrace.core.errors import SpecError, StoreError, Unavailable
from millrace.core.settings import Settings
from millrace.models.deployment import load_deployment
from millrace.spec import ProjectTree
from millrace.spec.compute import PROCESS
from millrace.spec.learner import CustomLearner
from millrace.store import open_store
from millrace.store.plans import Plans

SHARED = "serving"
"""Process of the server that answers for all pipelines without code of their own."""
_SEEN = frozenset((
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "SSL_CERT_FILE",
    "MILLRACE_CACHE", "MILLRACE_SERVING_TOKENS", "MILLRACE_SERVING_OIDC",
))  # fmt: skip
"""What a server sees of its starter's environment; credentials of the store and the online store beside it."""


def apart(trees: Iterable[ProjectTree], settings: Settings) -> list[str]:
    """Pipelines that bring code of their own (trainer.py, on-demand features), or have a version in their plan that
    does, and so have a server of their own. None of a project whose environment lets no code run in processes of this
    machine."""
    return sorted(
        name
        for tree in trees
        if _may_execute(tree, settings)
        for name in _serving(tree)
        if _is_custom(tree, name) or _planned_code(settings, name)
    )


def serves(trees: Iterable[ProjectTree]) -> bool:
    """Whether a pipeline of the projects has a section `serving`."""
    return any(_serving(tree) for tree in trees)


def servers(trees: Sequence[ProjectTree], settings: Settings) -> dict[str, tuple[str, ...]]:
    """Name of each server's process -> the pipelines that it serves alone, none of the shared one."""
    if not serves(trees):
        return {}
    return {SHARED: (), **{server_of(name): (name,) for name in apart(trees, settings)}}


def serving_command(
    trees: Sequence[ProjectTree], settings: Settings, *, port: int, only: Sequence[str] = (),
    further: Sequence[str] = (),
) -> list[str]:  # fmt: skip
    """What serves pipelines on this machine: one that has a server of its own where it alone is named, else the others.
    `further` are arguments of `python -m millrace.serving`."""
    others = apart(trees, settings)
    alone = len(only) == 1 and only[0] in others
    return [
        sys.executable, "-m", "millrace.serving", "--store", settings.store, "--online", settings.feast_online,
        "--log", str(settings.home / (server_of(only[0]) if alone else SHARED)), "--port", str(port),
        *(["--code"] if alone else [part for name in others for part in ("--except", name)]),
        *(part for name in only for part in ("--only", name)), *further,
    ]  # fmt: skip


def server_of(pipeline: str) -> str:
    """The process, and the folder of the prediction log, of a pipeline's own server."""
    return f"{SHARED}-{pipeline}"


def serving_environment(settings: Settings, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a server sees: nothing of Airflow's or of the ledger's, and credentials only of what it reaches."""
    prefixes = []
    if settings.store.startswith("s3://"):
        prefixes.append("AWS_")
    if settings.feast_online.startswith("redis"):
        prefixes.append("REDISCLI_AUTH")
    if settings.feast_online.startswith("postgres"):
        prefixes.append("PG")
    return {name: text for name, text in environ.items() if name in _SEEN or name.startswith(tuple(prefixes))}


def _serving(tree: ProjectTree) -> list[str]:
    """Pipelines with a section `serving`; a spec that is broken breaks its own DAG file only."""
    found = []
    for name in tree.pipelines():
        with suppress(SpecError):
            if tree.spec(name).serving is not None:
                found.append(name)
    return found


def _is_custom(tree: ProjectTree, name: str) -> bool:
    """Whether the pipeline trains by trainer.py, or its Feast file has on-demand features: known before any version."""
    training, features = tree.spec(name).training, tree.features_file(name)
    if training is not None and isinstance(training.learner, CustomLearner):
        return True
    return features.is_file() and "on_demand_feature_view" in features.read_text(errors="replace")


def _planned_code(settings: Settings, name: str) -> bool:
    """Whether a version in the pipeline's plan has code, whatever its spec says by now."""
    objects = open_store(settings.store)
    with suppress(StoreError, Unavailable):
        plan = Plans(objects).get(name)
        return plan is not None and any(load_deployment(objects, arm.deployment).code for arm in plan.versions)
    return False


def _may_execute(tree: ProjectTree, settings: Settings) -> bool:
    """Whether the environment lets code of pipelines run in processes of this machine."""
    with suppress(SpecError):
        return tree.environment(settings.environment).custom_code == PROCESS
    return False
