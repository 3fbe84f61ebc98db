"""What whoever approves is shown: champion and challenger side by side, from the documents that were judged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from millrace.airflow.runtime import since
from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import compared
from millrace.airflow.tasks.compared import interval
from millrace.airflow.tasks.release import evidence_of, registered_of, review_overdue
from millrace.contract import JobResult
from millrace.core.canonical import digest
from millrace.core.errors import ContractError, NotFound
from millrace.ledger import Champion, Registered, ReleaseRequest
from millrace.rules.evidence import Evidence
from millrace.store import layout

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
        _metrics(mine, theirs, champion, compared.bounds(site, evidence)),
        _checks(mine),
        compared.slices(mine, _plain),
        compared.figures(mine, _plain),
        _changes(site, (request.version, evidence), champion),
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
    if why := review_overdue(site, request):
        lines.append(f"**Cannot be promoted now** {why}")
    if needed > 1:  # Airflow keeps a request's text as it was first asked, so how many have come is in the log
        lines.append(f"**Approvals** {needed} distinct persons must approve")
    if systems := ", ".join(system.name for system in site.placed.approval.external):
        lines.append(f"**Waits for** a signed statement of {systems} too")
    return "\n".join(f"- {line}" for line in lines)


def _metrics(mine: Document, theirs: Document | None, champion: Champion | None, bounds: Mapping[str, str]) -> str:
    """Every metric with its interval. Each model on the rows that it held out; the duel is on the same rows."""
    other = f"champion (version {champion.version})" if champion else "champion"
    rows = [f"| metric | challenger | must be | {other} |", "|---|---|---|---|"]
    known = (theirs or {}).get("metrics", {})
    for name, metric in sorted(mine.get("metrics", {}).items()):
        rows.append(f"| {name} | {_metric(metric)} | {bounds.get(name, '-')} | {_metric(known.get(name))} |")
    duel = mine.get("duel") or {}
    if isinstance(difference := duel.get("difference"), int | float):
        whom = "the best constant" if duel.get("against") == "constant" else "the champion"
        same = f"duel: mean loss less that of {whom} on the same {duel.get('rows')} rows"
        rows.append(f"| {same} | {difference:+.5f}{interval(duel, '+.5f')} | {_bar(duel)} | 0 |")
    return "\n".join(rows)


def _bar(duel: Document) -> str:
    """What the upper end of the duel's interval had to lie below."""
    if not isinstance(duel.get("tolerance"), int | float):
        return "-"
    return "must end below 0" if duel.get("better") else f"may end at {duel['tolerance']:+g} at most"


def _checks(mine: Document) -> str:
    """Each model check with its threshold, in words: thresholds, duel, slices, fairness, robustness and the others."""
    checks = mine.get("checks", [])
    return "\n".join(f"- {'passed' if check['passed'] else 'FAILED'}: {_plain(check['message'])}" for check in checks)


def _changes(site: Site, mine: tuple[int, Evidence], champion: Champion | None) -> str:
    """What is not as it was when the champion was trained: parameters and data."""
    if champion is None:
        return ""
    before = since.evidence_of(site, champion)
    if before is None:
        return "**Changed** cannot be said: the champion's Evidence cannot be read"
    found = compared.parameters(site, mine, (champion.version, before), _plain)
    return f"{compared.data(mine[1], before)}\n\n{found}"


def _links(site: Site, request: ReleaseRequest, evidence: Evidence) -> str:
    registered = site.ledger.registered(site.name, request.version)
    lines = [f"Evidence `{request.evidence}`, release `{request.id}`."]
    places = {
        "Evidence": registered.evidence.uri if registered else "",
        "Evaluation": evidence.evaluation.uri,
        "Model card": layout.card(site.name, request.evidence),
    }
    lines += [f"{name}: {url}" for name, uri in places.items() if uri and (url := site.objects.url(uri))]
    lines += [f"{name}: {_plain(url)}" for name, url in sorted(_reports(site, registered).items())]
    return "\n".join(f"- {line}" for line in lines)


def _reports(site: Site, registered: Registered | None) -> dict[str, str]:
    """Pages and plots that the jobs of its training left, by name."""
    found: dict[str, str] = {}
    jobs = site.ledger.jobs_of(site.name, registered.run) if registered and registered.run else {}
    for job in ("evaluate", "train"):
        if job not in jobs:
            continue
        try:
            done = JobResult.parse(site.objects.get(layout.result(site.name, job, jobs[job].request)))
        except (NotFound, ContractError):
            continue
        found |= {f"{job}, {name}": link for name, link in done.observed.links.items() if link}
    return found


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
    return f"{value['value']:.4f}{interval(value, '.4f')}"


def _plain(text: str) -> str:
    """Text that somebody typed, as one line without markup: it must not look like more than it is."""
    line = " ".join(str(text).split())[:300]
    return "".join("\\" + c if c in "\\`*_{}[]()<>#+!|~" else c for c in line)
