"""Embeddings: the same numbers for the same file whatever stands beside it, and files that hold no code."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from millrace.core.errors import DataError, SpecError
from millrace.embeddings.files import About, Fitted, load, save
from millrace.embeddings.protocol import engine_of
from millrace.models.files import check_weights
from millrace.spec.embedding import EMBEDDINGS, ImagePCA, TextNgrams

IMAGES = ImagePCA(source="s", dimensions=5, width=8, height=8)
TEXTS = TextNgrams(source="s", dimensions=8, buckets=128)


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def pictures(count: int = 60, seed: int = 0) -> list[bytes]:
    """Mixtures of four patterns."""
    random = np.random.default_rng(seed)
    basis = np.random.default_rng(9).integers(0, 64, (4, 8, 8))
    return [png(np.tensordot(random.random(4), basis, 1)) for _ in range(count)]


def sentences(count: int = 80, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    words = [w.split() for w in ("the house which thing", "das haus welches ding", "la maison quelle chose")]
    return [" ".join(random.choice(words[n % 3], 9)) for n in range(count)]


def fitted(params: ImagePCA | TextNgrams, contents: list[bytes] | list[str]) -> Fitted:
    about = About(pipeline="p", embedding=params.model_dump(mode="json"), fitted_on={"2024-01": "sha256:1"}, rows=1)
    return load(save(about, engine_of(params).fit(contents, params)), params)


def embed(made: Fitted, contents: list[bytes] | list[str]) -> np.ndarray:
    points, shares = made.engine.embed(made.tensors, contents, made.params)
    return np.column_stack([points, shares])


CASES = pytest.mark.parametrize(
    ("params", "contents"), [(IMAGES, pictures()), (TEXTS, sentences())], ids=["images", "texts"]
)


def test_image_coordinates_are_those_of_principal_components() -> None:
    from sklearn.decomposition import PCA

    contents = pictures()
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(c))).ravel() for c in contents]).astype(float)
    theirs = PCA(5).fit(pixels).transform(pixels) / 255
    ours = embed(fitted(IMAGES, contents), contents)
    # up to the sign of each, which is settled here, and the mean in whole grey values
    signs = np.sign((ours[:, :5] * theirs).sum(axis=0))
    np.testing.assert_allclose(ours[:, :4], (theirs * signs)[:, :4], atol=0.02)
    assert ours[:, 5].max() < 0.01, "four patterns are explained by five components"


def test_texts_of_one_language_lie_together() -> None:
    made = fitted(TEXTS, sentences())
    later = sentences(30, seed=5)
    points = embed(made, later)[:, :8]
    close = points @ points.T
    same = np.equal.outer(np.arange(30) % 3, np.arange(30) % 3)
    assert close[same].min() > close[~same].max()


@CASES
def test_what_was_never_seen_is_unexplained(params: ImagePCA | TextNgrams, contents: list) -> None:
    made = fitted(params, contents)
    known = pictures(20, seed=3) if params is IMAGES else sentences(20, seed=3)
    random = np.random.default_rng(1)
    strange = ([png(random.integers(0, 255, (8, 8))) for _ in range(20)] if params is IMAGES
               else ["kvittra zyx jumbo", "0815 4711 42"])  # fmt: skip
    assert embed(made, known)[:, -1].max() < embed(made, strange)[:, -1].min()


@CASES
def test_a_file_has_the_same_numbers_whatever_stands_beside_it(params: ImagePCA | TextNgrams, contents: list) -> None:
    made = fitted(params, contents)
    together = embed(made, contents)
    alone = np.concatenate([embed(made, [c]) for c in contents])
    backwards = embed(made, contents[::-1])[::-1]
    assert together.tobytes() == alone.tobytes() == np.ascontiguousarray(backwards).tobytes()


@CASES
def test_the_same_fit_is_the_same_file_and_reads_back(params: ImagePCA | TextNgrams, contents: list) -> None:
    engine = engine_of(params)
    about = About(pipeline="p", embedding=params.model_dump(mode="json"), fitted_on={"a": "1", "b": "2"}, rows=3)
    tensors = engine.fit(contents, params)
    data = save(about, tensors)
    assert data == save(about, engine.fit(contents, params))
    check_weights("embedding.safetensors", data)
    made = load(data, params)
    assert made.about == about
    for name, value in tensors.items():
        np.testing.assert_array_equal(made.tensors[name], value)


THREADS = """
import sys, hashlib
sys.path.insert(0, {folder!r})
from test_embeddings_engines import *
made = load(open({file!r}, "rb").read(), {params})
print(hashlib.sha256(embed(made, {contents}).tobytes()).hexdigest())
"""


@pytest.mark.parametrize(
    ("params", "contents", "words"),
    [(IMAGES, pictures(), ("IMAGES", "pictures(400, 7)")), (TEXTS, sentences(), ("TEXTS", "sentences(400, 7)"))],
    ids=["images", "texts"],
)
def test_threads_and_kernels_of_the_machine_do_not_change_a_bit(
    tmp_path, params: ImagePCA | TextNgrams, contents: list, words: tuple[str, str]
) -> None:
    made = fitted(params, contents)
    file = tmp_path / "embedding.safetensors"
    file.write_bytes(save(made.about, made.tensors))
    code = THREADS.format(folder=os.path.dirname(__file__), file=str(file), params=words[0], contents=words[1])
    seen = set()
    for threads, core in (("1", "Prescott"), ("2", "Haswell")):  # OpenBLAS takes other kernels, sums in other orders
        env = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OPENBLAS_CORETYPE": core}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        seen.add(done.stdout.strip())
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("params", "contents", "words"),
    [
        (IMAGES, pictures(5), "too few images"),
        (IMAGES, [png(np.zeros((8, 8)))] * 9, "all images are alike"),
        (TEXTS, sentences(8), "too few texts"),
        (TEXTS, ["a b c"] * 20, "all texts are alike"),
        (IMAGES, [*pictures(20), b"broken"], "an image cannot be decoded .*the 21. of 21"),
    ],
)
def test_what_cannot_be_fitted_is_said(params: ImagePCA | TextNgrams, contents: list, words: str) -> None:
    with pytest.raises(DataError, match=words):
        engine_of(params).fit(contents, params)


def test_an_embedding_of_another_spec_or_no_embedding_is_refused() -> None:
    made = fitted(TEXTS, sentences())
    data = save(made.about, made.tensors)
    with pytest.raises(SpecError, match="fitted with another 'buckets'.*given: 256.*allowed: 128"):
        load(data, TEXTS.model_copy(update={"buckets": 256}))
    for broken in (b"", data[:100], json.dumps({}).encode()):
        with pytest.raises(SpecError, match="this is no embedding"):
            load(broken, TEXTS)
    floats = {**made.tensors, "weights": np.full(128, np.nan)}
    with pytest.raises(SpecError, match="holds 'weights' as float64.*allowed: int16"):
        load(save(made.about, floats), TEXTS)


def test_an_image_of_another_size_is_scaled_and_an_empty_text_is_nowhere() -> None:
    made = fitted(IMAGES, pictures())
    small = np.asarray(Image.open(io.BytesIO(pictures(1, 4)[0])))
    large = png(np.kron(small, np.ones((3, 3))))
    assert embed(made, [large]).tobytes() == embed(made, [png(small)]).tobytes()
    assert embed(fitted(TEXTS, sentences()), [""]).tolist() == [[0.0] * 9]


def test_kinds_are_found_by_name() -> None:
    assert EMBEDDINGS.kinds() == ["image_pca", "text_ngrams"]
    with pytest.raises(SpecError, match="cannot be imported"):
        engine_of(type("Other", (), {"engine": "nowhere:Nothing", "kind": "other"})())
