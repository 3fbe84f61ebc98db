"""What a pipeline's Feast file says, in plain values that can be compared with SQL, a Snapshot or the registry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from millrace.core.errors import SpecError


@dataclass(frozen=True)
class Source:
    """Where a feature view's rows come from: `millrace://<pipeline>/<dataset>` or any path Feast knows."""

    path: str
    timestamp_field: str
    created_timestamp_column: str | None = None


@dataclass(frozen=True)
class Definitions:
    """Feast objects as names and types; a view's fields exclude its join keys."""

    entities: dict[str, str] = field(default_factory=dict)
    """Entity -> join key."""
    views: dict[str, dict[str, str]] = field(default_factory=dict)
    """Feature view -> feature -> Feast type, such as Int64."""
    join_keys: dict[str, dict[str, str]] = field(default_factory=dict)
    """Feature view -> join key -> Feast type."""
    services: dict[str, list[str]] = field(default_factory=dict)
    """FeatureService -> `view:feature`, in the order in which it serves them."""
    sources: dict[str, Source] = field(default_factory=dict)
    """Feature view -> source."""
    ttl: dict[str, float] = field(default_factory=dict)
    """Feature view -> seconds a value lives; 0 for ever."""

    made_from: dict[str, list[str]] = field(default_factory=dict)
    """FeatureService -> what its on-demand features are made from: features of views, fields of a request."""
    computed: dict[str, list[str]] = field(default_factory=dict)
    """FeatureService -> its on-demand features."""
    refused: dict[str, str] = field(default_factory=dict)
    """FeatureService -> why its on-demand features cannot be computed."""

    def features(self, service: str) -> list[str]:
        """Feature names of a service, in order. Raises SpecError with the services that exist."""
        return [ref.partition(":")[2] for ref in self.service(service)]

    def service(self, service: str) -> list[str]:
        """`view:feature` of a service, in order. Raises SpecError with the services that exist."""
        if service not in self.services:
            raise SpecError("no such FeatureService", given=service, allowed=sorted(self.services))
        return self.services[service]

    def view(self, view: str) -> tuple[Any, ...]:
        """All that decides what a view holds; two definitions of it are alike when these are equal."""
        return self.views.get(view), sorted(self.join_keys.get(view, {})), self.sources.get(view), self.ttl.get(view)
