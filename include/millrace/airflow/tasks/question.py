"""What whoever approves is shown: champion and challenger side by side, from the documents that were judged."""

from __future__ import annotations

import json
from typing import Any

from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks.release import evidence_of, registered_of
from millrace.core.canonical import digest
from millrace.core.errors import NotFound
from millrace.ledger import Champion, ReleaseRequest
from millrace.rules.evidence import Evidence

Document = dict[str, Any]


def question(site: Site, request: ReleaseRequest) -> tuple[str, str]:
    """Subject and Markdown body of a request, from the Evidence in the store: nothing in it is from an XCom or conf
    but the reason, which is quoted."""
    evidence = evidence_of(site, registered_of(site, request))
    champion = site.ledger.champion(site.name)
    mine = _document(site, evidence.evaluation.uri, evidence.evaluation.digest)
    theirs = _champions_document(site, champion)
    if request.rollback and champion is not None:
        subject = f"Roll {site.name} back from version {champion.version} to version {request.version}?"
    else:
        subject = f"Promote {site.name} version {request.version} to champion?"
    body = [
        _summary(site, request, evidence, champion),
        _metrics(mine, theirs, champion),
        _checks(mine),
        _changes(evidence, champion),
        _links(site, request, evidence),
    ]
    return subject, "\n\n".join(part for part in body if part)


def _summary(site: Site, request: ReleaseRequest, evidence: Evidence, champion: Champion | None) -> str:
    who = ", ".join(request.requesters) or "no person (by the clock or by monitoring)"
    needed = site.placed.approval.needed
    now = f"version {champion.version}, trained to {champion.trained.trained_to}" if champion else "none yet"
    lines = [
        f"**Environment** {site.settings.environment}",
        f"**Asked for by** {who}" + (", who cannot approve it" if request.requesters else ""),
        f"**Because** {_plain(request.reason)}",
        f"**Trained** on {evidence.partitions[0]} to {evidence.trained_to} because {_plain(evidence.reason)}",
        f"**Now champion** {now}",
        f"**Expires** {request.expires or 'never'}",
    ]
    if needed > 1:  # Airflow keeps a request's text as it was first asked, so how many have come is in the log
        lines.append(f"**Approvals** {needed} distinct persons must approve")
    if systems := ", ".join(system.name for system in site.placed.approval.external):
        lines.append(f"**Waits for** a signed statement of {systems} too")
    return "\n".join(f"- {line}" for line in lines)


def _metrics(mine: Document, theirs: Document | None, champion: Champion | None) -> str:
    """Every metric with its interval. Each model on the rows that it held out; the duel is on the same rows."""
    other = f"champion (version {champion.version})" if champion else "champion"
    rows = [f"| metric | challenger | {other} |", "|---|---|---|"]
    known = (theirs or {}).get("metrics", {})
    for name, metric in sorted(mine.get("metrics", {}).items()):
        rows.append(f"| {name} | {_metric(metric)} | {_metric(known.get(name))} |")
    duel = mine.get("duel") or {}
    if isinstance(difference := duel.get("difference"), int | float):
        whom = "the best constant" if duel.get("against") == "constant" else "the champion"
        same = f"duel: mean loss less that of {whom} on the same {duel.get('rows')} rows"
        rows.append(f"| {same} | {difference:+.5f}{_interval(duel, '+.5f')} | 0 |")
    return "\n".join(rows)


def _checks(mine: Document) -> str:
    """Each model check with its threshold, in words: thresholds, duel, slices, fairness, robustness and the others."""
    checks = mine.get("checks", [])
    return "\n".join(f"- {'passed' if check['passed'] else 'FAILED'}: {_plain(check['message'])}" for check in checks)


def _changes(evidence: Evidence, champion: Champion | None) -> str:
    if champion is None:
        return ""
    before, now = set(champion.trained.partitions), set(evidence.partitions)
    parts = []
    if new := sorted(now - before):
        parts.append(f"{len(new)} new partitions ({new[0]} to {new[-1]})")
    if gone := sorted(before - now):
        parts.append(f"{len(gone)} no longer ({gone[0]} to {gone[-1]})")
    return f"**Changed data** {', '.join(parts) or 'none: the same partitions'}"


def _links(site: Site, request: ReleaseRequest, evidence: Evidence) -> str:
    lines = [f"Evidence `{request.evidence}`, release `{request.id}`."]
    url = site.objects.url(evidence.evaluation.uri)
    if url:
        lines.append(f"Evaluation: {url}")
    return " ".join(lines)


def _champions_document(site: Site, champion: Champion | None) -> Document | None:
    if champion is None:
        return None
    stored = champion.trained.evaluation
    return _document(site, stored.uri, stored.digest)


def _document(site: Site, uri: str, wanted: str) -> Document:
    """An evaluation as it was stored; empty where it is gone or another one, which `promote` refuses."""
    try:
        data = site.objects.get(uri)
    except NotFound:
        return {}
    return dict(json.loads(data)) if digest(data) == wanted else {}


def _metric(value: Document | None) -> str:
    if not value:
        return "-"
    return f"{value['value']:.4f}{_interval(value, '.4f')}"


def _interval(value: Document, form: str) -> str:
    """A one-sided interval has one end; one that could not be made has none."""
    low, high = value.get("low"), value.get("high")
    if low is None and high is None:
        return ""
    ends = ["-" if end is None else format(end, form) for end in (low, high)]
    return f" ({ends[0]} to {ends[1]})"


def _plain(text: str) -> str:
    """Text that somebody typed, as one line without markup: it must not look like more than it is."""
    line = " ".join(str(text).split())[:300]
    return "".join("\\" + c if c in "\\`*_{}[]()<>#+!|~" else c for c in line)
