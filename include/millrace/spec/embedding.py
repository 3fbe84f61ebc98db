"""What turns images and texts into numbers: parameters of each embedding, and the union that others can extend.

An embedding is fitted once, on named partitions, by `millrace embed`, and is a file of the pipeline's folder: the spec
digest pins it, so that all features come from one, and another one is a change that people see.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from millrace.spec.base import Model, Name
from millrace.spec.extension import Extensible

FILE = r"^[a-z][a-z0-9_]*\.safetensors$"


class _Embedding(Model):
    source: Name = Field(description="Source whose files are embedded.")
    dimensions: int = Field(ge=1, le=99, description="Coordinates of a file: e_00, e_01 .. in the view 'embedded'.")
    file: str = Field(default="embedding.safetensors", pattern=FILE, description="Inside the pipeline's folder.")


class ImagePCA(_Embedding):
    """Principal components of grey pixels; an image of another size is scaled to this one."""

    kind: Literal["image_pca"] = "image_pca"
    width: int = Field(ge=1, le=64, description="Pixels that an image is scaled to.")
    height: int = Field(ge=1, le=64, description="Pixels that an image is scaled to.")
    takes: ClassVar[str] = "images"
    engine: ClassVar[str] = "millrace.embeddings.images:PrincipalComponents"


class TextNgrams(_Embedding):
    """Truncated SVD of hashed character n-grams, 1 to `longest` characters, weighted by how rare they are."""

    kind: Literal["text_ngrams"] = "text_ngrams"
    longest: int = Field(default=3, ge=1, le=5, description="Characters of the longest n-gram.")
    buckets: int = Field(default=1024, ge=16, le=4096, description="What n-grams are hashed into.")
    takes: ClassVar[str] = "texts"
    engine: ClassVar[str] = "millrace.embeddings.texts:HashedNgrams"


EMBEDDINGS = Extensible("millrace.embeddings", ImagePCA, TextNgrams)
Embedding = Annotated[Any, EMBEDDINGS]
