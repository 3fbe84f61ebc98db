"""The model card of a version: one HTML page, made from its Evidence, the evaluation document and the spec.

It holds names of columns, numbers, and what checks have said, which names values of public columns only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from millrace.contract import Artifact, Metric
from millrace.core.canonical import digest
from millrace.core.errors import Corrupt, NotFound
from millrace.evidence import page
from millrace.evidence.finding import Finding
from millrace.evidence.page import Html
from millrace.rules.evidence import Evidence
from millrace.rules.promotion import Promotion
from millrace.spec import PipelineSpec
from millrace.store import ObjectStore, layout

Document = dict[str, Any]


@dataclass(frozen=True)
class Card:
    """What a card is made of. Without a promotion it is that of a version which nobody has approved yet."""

    evidence: Evidence
    spec: PipelineSpec
    evaluation: Document
    explanations: Document | None = None
    version: int | None = None
    promotion: Promotion | None = None
    findings: list[Finding] = field(default_factory=list)


def read(objects: ObjectStore, evidence: Evidence, spec: PipelineSpec, **more: Any) -> Card:
    """What the store has for a card. Raises NotFound, and Corrupt for an evaluation of other bytes."""
    evaluation = json.loads(_verified(objects, evidence.evaluation.uri, evidence.evaluation.digest))
    explanations = None
    if wanted := (evaluation.get("files") or {}).get("explanations.json"):
        try:
            key = layout.document("evaluations", evidence.pipeline, wanted, "explanations.json")
            explanations = json.loads(_verified(objects, key, wanted))
        except NotFound:
            pass  # a plot less; what decides is in the document above
    return Card(evidence, spec, evaluation, explanations, **more)


def render(card: Card) -> bytes:
    """The page."""
    evidence, version = card.evidence, "" if card.version is None else f" version {card.version}"
    found = ((f.what, _holds(f), f.said) for f in card.findings)
    return page.page(
        f"Model card: {evidence.pipeline}{version}",
        page.paragraph(card.spec.description, "lead"),
        _use(card),
        page.section(
            "Metrics",
            page.paragraph("On held out rows, with 95 % intervals."),
            _metrics(evidence.metrics),
            *_plots(card),
        ),
        page.section("Duel", _duel(evidence)),
        page.section("Model checks", _checks(card)),
        *(page.section(name, part) for name, part in _groups(card.evaluation)),
        page.section("Data", _data(evidence)),
        page.section("Training", _training(card)),
        page.section("Approval", _approval(card)),
        page.section("Verified", page.table(("what", "", "found"), found)),
        page.section("Digests", _digests(card)),
    )


def _use(card: Card) -> Html:
    spec, inventory = card.spec, card.spec.inventory
    label = spec.label
    pairs: list[tuple[str, Any]] = [
        ("Owner", spec.owner),
        ("Predicts", f"{label.column} ({label.task})" if label else None),
    ]
    if inventory is not None:
        pairs += [
            ("Tier", f"{inventory.tier} of 3; 1: most hangs on it"),
            ("Intended use", inventory.intended_use),
            ("Limitations", inventory.limitations),
            ("Review by", inventory.review_by.isoformat()),
        ]
    else:
        pairs.append(("Intended use", "not stated: the spec has no inventory"))
    return page.section("Use", page.facts(pairs))


def _metrics(metrics: dict[str, Metric] | None) -> Html:
    rows = ((name, f"{m.value:.5g}", _interval(m.low, m.high), m.rows) for name, m in sorted((metrics or {}).items()))
    return page.table(("metric", "value", "interval", "rows"), rows)


def _plots(card: Card) -> Iterator[Html]:
    from millrace.evaluation import plots

    if blocks := card.evaluation.get("blocks"):
        means = {name: total / rows for name, (total, rows) in sorted(blocks.items()) if rows}
        yield page.picture(plots.by_block(means, card.evaluation["loss"]), "mean loss of each held out block")
    if card.explanations:

        def sizes(features: Any) -> dict[str, float]:
            return {each["feature"]: each["size"] for each in features}

        champion = card.explanations.get("champion_features")
        png = plots.contributions(
            sizes(card.explanations["features"]), sizes(champion) if champion else None, card.explanations["unit"]
        )
        yield page.picture(png, "SHAP values of features")


def _duel(evidence: Evidence) -> Html:
    duel = evidence.duel
    if not duel or not isinstance(duel.get("difference"), int | float):
        return Html("")
    whom = "the best constant" if duel.get("against") == "constant" else "the champion of then"
    return page.facts(
        [
            ("Against", whom),
            ("Mean loss less its", f"{duel['difference']:+.5g}"),
            ("Interval", _interval(duel.get("low"), duel.get("high"))),
            ("Rows, the same for both", duel.get("rows")),
            ("Result", duel.get("result")),
        ]
    )


def _checks(card: Card) -> Html:
    return page.table(
        ("check", "", "said"), ((c.name, page.passed(c.passed), c.message) for c in card.evidence.checks or ())
    )


def _groups(evaluation: Document) -> Iterator[tuple[str, Html]]:
    """What fairness checks have measured in each group, and the duel in each slice."""
    for check in evaluation.get("fairness") or ():
        rows = [
            (column, one["group"], one["rows"], "-" if one["value"] is None else f"{one['value']:.5g}")
            for column, groups in (check.get("groups") or {}).items()
            for one in groups
        ]
        name = f"Fairness: {check.get('metric') or check.get('name')}"
        yield name, page.table(("column", "group", "rows", "value"), rows)
    slices = (evaluation.get("duel") or {}).get("slices") or {}
    rows = [(name, one.get("rows"), "-" if one.get("difference") is None else f"{one['difference']:+.5g}",
             _interval(one.get("low"), one.get("high"))) for name, one in slices.items()]  # fmt: skip
    yield "Slices of the duel", page.table(("slice", "rows", "mean loss less the other's", "interval"), rows)


def _data(evidence: Evidence) -> Html:
    first, last = (evidence.partitions[0], evidence.partitions[-1]) if evidence.partitions else ("-", "-")
    parity = f"{len(evidence.parity)} partitions agree" if evidence.parity else "not compared"
    return page.facts(
        [
            ("Partitions", f"{len(evidence.partitions)}, {first} to {last}"),
            ("Feature service", evidence.feature_service),
            ("Rows", evidence.training_set.rows),
            ("Gates", f"{sum(g.passed for g in evidence.gates)} of {len(evidence.gates)} passed, raw and features"),
            ("Online and offline features", parity),
        ]
    )


def _training(card: Card) -> Html:
    evidence, made, brought = card.evidence, card.evidence.training, card.evidence.imported
    pairs: list[tuple[str, Any]] = [
        ("Reason", evidence.reason),
        ("Decision", evidence.decided.words if evidence.decided else "none: asked for by hand or by the clock"),
        ("Asked for by", evidence.requester or "no person"),
    ]
    if brought is not None:
        pairs.append(("Imported", f"trained elsewhere; a file of format {brought.format}, brought in by {brought.by}"))
    if made is not None:
        pairs += [(f"Learner: {name}", value) for name, value in made.learner.items()]
        pairs += [
            ("Weights of rows", f"half after {made.half_life:g} partitions" if made.half_life else "all alike"),
            ("Seed, threads", f"{made.seed}, {made.threads}"),
            ("Machine", ", ".join(filter(None, (made.architecture, made.device, made.image)))),
        ]
    pairs += [
        (f"Cost of {c.job}", f"{c.seconds or 0:.1f} s, {c.cpu_seconds or 0:.1f} CPU-s") for c in evidence.cost or ()
    ]
    return page.facts(pairs)


def _approval(card: Card) -> Html:
    promotion = card.promotion
    if promotion is None:
        return page.paragraph("Not promoted when this was written.")
    release = promotion.release
    rows = [(a.get("by"), a.get("verdict"), a.get("how"), a.get("at") or "-") for a in release.answers]
    before = promotion.before
    return Html(
        page.facts(
            [
                ("Environment", promotion.environment),
                ("Because", release.reason),
                ("Asked for by", ", ".join(release.requesters) or "no person"),
                ("Follows", f"version {before.version}" if before else "no champion"),
            ]
        )
        + page.table(("who", "answer", "how", "when"), rows)
    )


def _holds(finding: Finding) -> Html:
    if finding.holds is None:
        return Html("-")
    return Html('<span class="yes">holds</span>' if finding.holds else '<span class="no">WRONG</span>')


def _digests(card: Card) -> Html:
    evidence = card.evidence
    pairs: list[tuple[str, Any]] = [
        ("Evidence", evidence.digest),
        ("Model", evidence.model.digest),
        ("Training set", evidence.training_set.digest),
        ("Evaluation", evidence.evaluation.digest),
        ("Pipeline's folder", evidence.spec_digest),
        ("Code", evidence.code_digest),
        ("Packages", evidence.training.lock if evidence.training else None),
        ("Imported file", evidence.imported.file if evidence.imported else None),
        ("Promotion", card.promotion.digest if card.promotion else None),
    ]
    return page.facts((name, page.code(value)) for name, value in pairs if value)


def _interval(low: Any, high: Any) -> str:
    ends = ["-" if end is None else f"{end:.5g}" for end in (low, high)]
    return "-" if ends == ["-", "-"] else f"{ends[0]} to {ends[1]}"


def _verified(objects: ObjectStore, key: str, wanted: str) -> bytes:
    data = objects.get(key)
    if digest(data) != wanted:
        raise Corrupt("the stored bytes do not have their digest", where=objects.url(key), given=wanted)
    return data


def keep(objects: ObjectStore, evidence: Artifact, pipeline: str, html: bytes) -> str:
    """Store a card where the Evidence's digest leads to; returns its key."""
    key = layout.card(pipeline, evidence.digest)
    objects.put(key, html)
    return key
