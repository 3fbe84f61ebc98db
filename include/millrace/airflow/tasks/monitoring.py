"""Tasks of the monitoring DAG."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException

from millrace.airflow.runtime import decided, since
from millrace.airflow.runtime.form import known_fields
from millrace.airflow.runtime.notes import note
from millrace.airflow.runtime.run import Done, JobTask
from millrace.airflow.runtime.site import Site
from millrace.airflow.runtime.tell import tell
from millrace.airflow.tasks.partition import partition_of
from millrace.airflow.tasks.rollback import veto
from millrace.airflow.tasks.served import served_in
from millrace.contract import Artifact, JobRequest
from millrace.ledger import Champion, JobDone, MonitoredWindow, Unmonitored
from millrace.rules.gain import HALF_LIFE, Gain
from millrace.rules.governor import decide as govern
from millrace.rules.labels import all_known
from millrace.rules.window import Window

log = logging.getLogger(__name__)


@JobTask
def drift(root: str, pipeline: str) -> JobRequest | None:
    """Compare the window with the sketch of what the champion was trained on (an Evidently report)."""
    site = Site.at(root, pipeline)
    known_fields(site)
    champion, partition = site.ledger.champion(pipeline), partition_of(site)
    if champion is None:
        log.info("%s %s: no champion yet, nothing to compare with", pipeline, partition)
        return None
    window = _window(site, partition)
    current = _current(site, "features", window)
    inputs: list[tuple[str, Artifact, str | None]] = [("model", champion.trained.model, None)]
    inputs += [("current", artifact, key) for key, artifact in current]
    inputs += [("predictions", artifact, key) for key, artifact in _current(site, "predictions", window)]
    inputs += [("served", artifact, key) for key, artifact in served_in(site, window)]
    return site.request(
        "drift",
        scope=tuple(key for key, _ in current),
        inputs=inputs,
        params={"as_of": _as_of(site, partition).isoformat()},
        context=get_current_context(),
    )


@drift.then
def _compared(done: Done | None, root: str, pipeline: str) -> str | None:
    if done is None:
        return None
    _explain(partition_of(Site.at(root, pipeline)), pipeline, done.outcome.facts)
    return done.result.observed.links.get("report")


@JobTask
def performance(root: str, pipeline: str) -> JobRequest | None:
    """Compare the champion's loss on the window with its own holdout loss, on labels known by now."""
    site = Site.at(root, pipeline)
    champion, partition = site.ledger.champion(pipeline), partition_of(site)
    found = _outcomes_of(site) if champion is not None else None
    if champion is None or found is None:
        log.info("%s %s: no predictions to compare with outcomes", pipeline, partition)
        return None
    scored = tuple(str(key) for role, _, key in found if role == "predictions")
    return site.request(
        "performance",
        scope=scored or tuple(str(key) for role, _, key in found if role == "served"),
        inputs=[*found, ("evaluation", champion.trained.evaluation, None)],
        params={"as_of": _as_of(site, partition).isoformat()},
        context=get_current_context(),
    )


@performance.then
def _measured(done: Done | None, root: str, pipeline: str) -> dict[str, Any] | None:
    if done is None:
        return None
    return {name: metric.value for name, metric in done.outcome.metrics.items()}


def _outcomes_of(site: Site) -> list[tuple[str, Artifact, str | None]] | None:
    """The window's predictions, scored and served, with the features that hold their outcomes; None where there are
    neither. What was served is mostly of features that are a partition older."""
    window = _window(site, partition_of(site))
    features = dict(_current(site, "features", window))
    predictions = [(k, a) for k, a in _current(site, "predictions", list(features)) if k in features]
    served = served_in(site, window)
    if served:
        features = dict(_current(site, "features", [site.partitioning.previous(window[0]), *window]))
        served = served if features else []
    found: list[tuple[str, Artifact, str | None]] = [("predictions", artifact, key) for key, artifact in predictions]
    found += [("served", artifact, key) for key, artifact in served]
    held = features if served else [key for key, _ in predictions]
    return [*found, *(("features", features[key], key) for key in held)] or None


@JobTask
def probe(root: str, pipeline: str) -> JobRequest | None:
    """Find out what a retraining would win on this partition, on labels known by now."""
    site, monitoring = Site.at(root, pipeline), Site.at(root, pipeline).spec.monitoring
    assert monitoring is not None
    champion, partition = site.ledger.champion(pipeline), partition_of(site)
    newer = _since(site, champion) if champion is not None else None
    if champion is None or newer is None:
        log.info("%s %s: nothing that a champion was not trained on, to probe with", pipeline, partition)
        return None
    trained = champion.trained
    return site.request(
        "probe",
        scope=tuple(str(key) for _, _, key in newer),
        inputs=[
            ("model", trained.model, None),
            ("training_set", trained.training_set, None),
            ("evaluation", trained.evaluation, None),
            *newer,
        ],
        params={"as_of": _as_of(site, partition).isoformat(), "form": monitoring.retrain.probe},
        context=get_current_context(),
    )


@probe.then
def _probed(done: Done | None, root: str, pipeline: str) -> dict[str, Any] | None:
    if done is None:
        return None
    gain, why = done.outcome.facts["gain"], done.outcome.facts["why"]
    if why:
        partition = partition_of(Site.at(root, pipeline))
        log.info("%s %s: a probe cannot say what a retraining would win: %s", pipeline, partition, why)
    return gain


def _since(site: Site, champion: Champion) -> list[tuple[str, Artifact, str | None]] | None:
    """Features since the champion's training that a retraining would have, None where this partition's are not."""
    training, cut, partition = site.spec.training, site.partitioning, partition_of(site)
    assert training is not None
    begin = cut.start(champion.trained.trained_to)
    found = _current(site, "features", [k for k in cut.window(partition, training.window) if cut.start(k) > begin])
    return [("features", artifact, key) for key, artifact in found] if found and found[-1][0] == partition else None


def decide(root: str, pipeline: str) -> dict[str, Any] | None:
    """Ask the governor about what this run's jobs found; where it says retrain, claim the one waiting slot.

    What they found is read from their stored results, as the ledger names them. Returns the run to start, or None.
    """
    site = Site.at(root, pipeline)
    champion, spec, partition = site.ledger.champion(pipeline), site.spec.monitoring, partition_of(site)
    assert spec is not None
    jobs = site.ledger.jobs_of(pipeline, decided.this_run())
    if champion is None:
        log.info("%s %s: nothing (no champion yet)", pipeline, partition)
        site.ledger.record(Unmonitored(pipeline=pipeline, partition=partition))
        return None
    if _another(champion, jobs):
        log.info("%s %s: nothing (version %s was promoted meanwhile)", pipeline, partition, champion.version)
        site.ledger.record(Unmonitored(pipeline=pipeline, partition=partition, reason="champion_changed"))
        return None
    drift = _drift(site)
    performance = _performance(site) if "performance" in jobs or _outcomes_of(site) is not None else None
    probed = _probe(site) if "probe" in jobs or (spec.probes and _since(site, champion) is not None) else None
    known = performance is not None and performance.get("degraded") is not None
    now = Window(
        partition=partition,
        rows=int(drift["rows"]),
        drifted=drift.get("drifted"),
        degraded=performance.get("degraded") if performance else None,
        excess=performance.get("excess") if performance else None,
        broken=tuple(f"{name} ({why})" for name, why in sorted(drift["broken"].items())),
        outcomes_known=known,
        gain=Gain(**probed["gain"]) if probed and probed["gain"] else None,
        new=since.published(site, champion, partition) if spec.new_partitions else None,
        changed=since.worth_a_training(site, champion, partition) if spec.retrain_on.changed else (),
    )
    others = [seen for seen in site.ledger.monitoring(pipeline) if seen.champion != champion.version]
    own = [seen for seen in site.ledger.monitoring(pipeline, champion.version) if seen.partition != partition]
    answer = govern(
        spec,
        site.partitioning,
        now,
        [Window.of(seen.window) for seen in own],
        before=[Window.of(seen.window) for seen in others if seen.partition != partition],
        trained_to=champion.trained.trained_to,
        retrained=[made.partition for made in site.ledger.standing(pipeline, partition)],
    )
    site.ledger.record(
        MonitoredWindow(
            pipeline=pipeline,
            partition=partition,
            champion=champion.version,
            window=now.facts,
            action=answer.action,
            reason=answer.reason,
            message=answer.message,
            drift=drift,
            performance=performance,
            probe=probed,
        )
    )
    level = logging.WARNING if answer.action == "alert" else logging.INFO
    log.log(level, "%s %s: %s (%s): %s", pipeline, partition, answer.action, answer.reason, answer.message)
    if answer.action == "alert":
        said = note(f"{pipeline} {partition}: {answer.reason}: {answer.message}")
        tell(site, "alert", f"{pipeline} {partition}: {answer.reason}", said)
        if site.placed.environment.alerts == "fail":
            raise AirflowFailException(said)
    if answer.reason == "degraded":
        _speak_against(site, champion, f"monitoring of {partition}: {answer.message}")
    if answer.action != "retrain":
        return None
    half_life = HALF_LIFE if now.gain and now.gain.recent else None
    decision = site.ledger.claim(pipeline, partition, answer.reason, answer.message, half_life)
    if decision is None:
        log.info("%s %s: a retraining for this is waiting or was made already", pipeline, partition)
        return None
    return {"decision": decision.id, "reason": f"{answer.reason}: {answer.message}", "until": partition}


def _speak_against(site: Site, champion: Champion, why: str) -> None:
    """A champion that is still watched is rolled back where its outcomes show it to be worse: the veto starts that."""
    rollout = site.ledger.rollout(site.name)
    if rollout is not None and rollout.state == "full" and rollout.version == champion.version:
        veto(site, champion.version, guard="performance", why=why, server="monitoring")
        log.warning("%s version %s is watched, and spoken against: %s", site.name, champion.version, why)


def _another(champion: Champion, jobs: Mapping[str, JobDone]) -> bool:
    """Whether the champion of now is not the one that this run compared the window with, or began without."""
    compared = [jobs[name].took("model") for name in ("drift", "probe") if name in jobs]
    if compared:
        return any(model != {None: champion.model_digest} for model in compared)
    began = get_current_context()["dag_run"].start_date
    return began is not None and champion.since > began


def _drift(site: Site) -> dict[str, Any]:
    ended = decided.result(site, decided.done(site, "drift"))
    assert ended.outcome is not None
    model = decided.done(site, "drift").took("model")[None]
    return {**ended.outcome.facts, "model": model, "report": ended.observed.links.get("report")}


def _performance(site: Site) -> dict[str, Any]:
    outcome = decided.result(site, decided.done(site, "performance")).outcome
    assert outcome is not None
    metrics = {name: metric.value for name, metric in outcome.metrics.items()}
    return {**{k: v for k, v in outcome.facts.items() if k != "blocks"}, "metrics": metrics}


def _probe(site: Site) -> dict[str, Any]:
    ended = decided.result(site, decided.done(site, "probe"))
    assert ended.outcome is not None
    return {**ended.outcome.facts, "cpu_seconds": ended.observed.cpu_seconds}


def _explain(partition: str, pipeline: str, facts: dict[str, Any]) -> None:
    """Say in the log what moved, ranked by what it means to the model. Values of public columns only are in it."""
    for name, why in sorted((facts["broken"]).items()):
        log.warning("%s %s: column %s is broken: %s", pipeline, partition, name, why)
    for cause in facts.get("causes", ()):
        segments = "; ".join(f"{s['segment']} {s['before']:.1%} to {s['after']:.1%}" for s in cause["segments"])
        share = f"{cause['part']:.0%} of the change, {cause['weight']:.0%} of the model's attributions"
        log.info("%s %s: %s moved (%s): %s", pipeline, partition, cause["column"], share, segments)


def _as_of(site: Site, partition: str) -> datetime:
    """Until when labels count as known. A replay long after gives the same answer as the first run: when the last
    label is due, or now if that is earlier."""
    label = site.spec.label
    assert label is not None
    due = all_known(site.partitioning.end(partition), label.known_after)
    return min(due, datetime.now(UTC).replace(minute=0, second=0, microsecond=0))


def _window(site: Site, partition: str) -> list[str]:
    spec = site.spec.monitoring
    assert spec is not None
    return site.partitioning.window(partition, spec.window) if spec.window else [partition]


def _current(site: Site, dataset: str, keys: list[str]) -> list[tuple[str, Artifact]]:
    found = []
    for key in keys:
        pointer = site.tables.get(f"{site.name}/{dataset}", key)
        if pointer is not None:
            found.append((key, pointer.current.artifact))
    return found
