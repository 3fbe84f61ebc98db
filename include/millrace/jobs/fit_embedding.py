"""fit_embedding: fit the pipeline's embedding on the raw Snapshots of named partitions."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from millrace.contract import Outcome
from millrace.core.errors import ContractError, DataError, SpecError
from millrace.embeddings.files import About, save
from millrace.embeddings.protocol import engine_of
from millrace.jobs.embedded import contents
from millrace.jobs.work import Work


class Params(BaseModel):
    """No parameters: the spec's `features.embedding` says what is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def run(work: Work, params: Params) -> Outcome:
    """Fit on the inputs of the embedding's source, one per partition in scope, and store the file.

    It takes effect when the file stands in the pipeline's folder, from where it travels with every request.
    """
    asked = work.spec.features.embedding
    if asked is None:
        raise SpecError("the pipeline has no embedding (features.embedding)", given=work.spec.name)
    inputs, scope = work.request.inputs(asked.source), work.request.identity.scope
    if not inputs or tuple(i.partition for i in inputs) != tuple(scope):
        raise ContractError(f"fit_embedding needs one input '{asked.source}' per partition in scope, in order",
                            given=[i.partition for i in inputs], allowed=scope)  # fmt: skip
    digests, given = contents(work, inputs, asked.takes)
    if not given:
        raise DataError("no file has a content that can be embedded", given=asked.source)
    about = About(
        pipeline=work.spec.name,
        embedding=asked.model_dump(mode="json"),
        fitted_on={str(i.partition): i.digest for i in inputs},
        rows=len(digests),
    )
    data = save(about, engine_of(asked).fit(given, asked))
    stored = work.put("embeddings", asked.file, data, "embedding", "application/vnd.safetensors")
    return Outcome(outputs={"embedding": stored}, facts={"rows": len(digests), "partitions": list(scope)})
