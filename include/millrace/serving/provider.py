"""OpenFeature provider over traffic plans: an application asks its SDK which version a unit meets, and hears of change.

    from openfeature import api
    api.set_provider_and_wait(TrafficProvider(open_store("s3://bucket/prefix")))
    api.get_client().get_integer_details("trips/version", 0, EvaluationContext("user-7"))

It reads plans and vetoes in the store as servers do, answers from memory, and can change nothing. Its thread does not
survive a fork: each process makes a provider of its own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata

from millrace.serving.flags import FLAGS, FlagRefused, evaluate, keys, pipeline_of
from millrace.serving.following import PlanFollower
from millrace.store import ObjectStore

log = logging.getLogger(__name__)
EVERY_S = 0.5
"""Seconds between two looks at the store, so that a change is seen within one."""


class TrafficProvider(AbstractProvider):
    """Evaluates the flags of all pipelines that have a plan, or of `only` some; see `flags`.

    While the store is away the last plans stay, the reason is STALE and so is the provider. One that has read no plan
    yet is in error, answers PROVIDER_NOT_READY, and goes on trying.
    """

    def __init__(self, objects: ObjectStore, *, only: Collection[str] = ()) -> None:
        super().__init__()
        self.follower = PlanFollower(objects, only=only)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._told: dict[str, tuple[int, frozenset[int]]] = {}
        self._status = "error"

    def get_metadata(self) -> Metadata:
        """Its name."""
        return Metadata("millrace")

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        """Read the plans, and follow them from now on. Raises ProviderNotReadyError where the store is away."""
        self.follower.look()
        self._told, self._status = self._plans(), "error" if self.follower.looked is None else "ready"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, args=(self._stop,), name="millrace-flags", daemon=True)
        self._thread.start()
        if self._status == "error":
            raise ProviderNotReadyError("the store of the traffic plans does not answer; it is asked again by and by")

    def shutdown(self) -> None:
        """Follow no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        """`PIPELINE/stopped`. Raises OpenFeatureError, as do all."""
        return self._resolve(bool, flag_key, default_value, evaluation_context)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        """`PIPELINE/version`."""
        return self._resolve(int, flag_key, default_value, evaluation_context)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """`PIPELINE/role`."""
        return self._resolve(str, flag_key, default_value, evaluation_context)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        """None is of this type."""
        return self._resolve(float, flag_key, default_value, evaluation_context)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """None is of this type."""
        return self._resolve(dict, flag_key, default_value, evaluation_context)

    def _resolve(
        self, kind: type, flag_key: str, default_value: Any, context: EvaluationContext | None
    ) -> FlagResolutionDetails[Any]:
        try:
            found = evaluate(self.follower, flag_key, context.targeting_key if context is not None else None)
            if (own := FLAGS[pipeline_of(flag_key)[1]]) is not kind:
                raise FlagRefused("TYPE_MISMATCH", "the flag is of another type", where=flag_key,
                                  given=kind.__name__, allowed=[own.__name__])  # fmt: skip
        except FlagRefused as err:
            raise ErrorCode.to_exception(ErrorCode(err.code), str(err)) from err
        return FlagResolutionDetails(
            value=default_value if found.value is None else found.value, reason=Reason(found.reason),
            variant=found.variant, flag_metadata=found.metadata,
        )  # fmt: skip

    def _follow(self, stop: threading.Event) -> None:
        while not stop.wait(EVERY_S):
            try:
                self.follower.look()
                self._tell()
            except Exception:
                log.exception("the traffic plans cannot be followed, and are looked at again")

    def _tell(self) -> None:
        """Let the SDK's handlers hear what has changed since the last look."""
        if self.follower.looked is None:
            return
        status = "stale" if self.follower.stale() else "ready"
        before, self._status = self._status, status
        if status != before:
            if status == "ready":
                self.emit_provider_ready(ProviderEventDetails(message="the traffic plans are followed"))
            else:
                self.emit_provider_stale(ProviderEventDetails(message="the store of the traffic plans does not answer"))
        told, self._told = self._told, self._plans()
        changed = [pipeline for pipeline, plan in self._told.items() if told.get(pipeline) != plan]
        if changed:
            flags = [key for pipeline in sorted(changed) for key in keys(pipeline)]
            self.emit_provider_configuration_changed(ProviderEventDetails(flags_changed=flags))

    def _plans(self) -> dict[str, tuple[int, frozenset[int]]]:
        """Generation and vetoes of each pipeline: what they say changes with nothing else."""
        return {now.plan.pipeline: (now.plan.generation, now.vetoed) for now in self.follower.all()}
