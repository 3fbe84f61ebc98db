"""A Site reads; what it writes is written where a request is made."""

from __future__ import annotations

from pathlib import Path

from support.project import sample

from millrace.store import bundles


def test_looking_writes_nothing_and_asking_keeps_the_bundle(tmp_path: Path) -> None:
    # Given a project whose store holds nothing
    site = sample(tmp_path / "project")
    # When its pipeline is looked at, nothing is written
    assert site.bundle.digest and site.spec.name and site.partitioning
    assert list(site.objects.list("")) == []
    # When a job is asked for, its bundle is where the job looks
    request = site.request("transform", scope=("2024-01-01",))
    assert bundles.read(site.objects, request.identity.spec_digest) == site.bundle
    # and it is again, where somebody emptied the store meanwhile
    for item in list(site.objects.list("")):
        site.objects.delete(item.key)
    site.request("transform", scope=("2024-01-01",))
    assert bundles.read(site.objects, request.identity.spec_digest) == site.bundle
