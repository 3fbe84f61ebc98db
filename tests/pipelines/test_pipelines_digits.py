"""digits: images from delivery to promotion job by job, and what is wrong with images is caught and said."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.job_by_job import CODE, JobByJob, project
from support.provenance import PROVENANCE

from demo import media
from millrace.core.errors import MillraceError
from millrace.spec import ProjectTree

Files = dict[str, bytes]
WINDOW, LATER = ["2024-02", "2024-03", "2024-04"], ["2024-05", "2024-06"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> ProjectTree:
    from millrace.core.settings import Settings
    from millrace.feast_stores.apply import apply

    root = tmp_path_factory.mktemp("digits")
    (root / "include").mkdir()
    tree = project(root, "digits")
    apply(tree, Settings.load(root, {}))
    return tree


@pytest.fixture(scope="module")
def line(tree: ProjectTree, tmp_path_factory: pytest.TempPathFactory) -> JobByJob:
    """The pipeline with February to June landed, gated, made into features and published."""
    from millrace.mlflow.registry import ensure_database

    database = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    ensure_database(database)
    line = JobByJob(tree, "digits", mlflow=database)
    for month in [*WINDOW, *LATER]:
        media.write_digits(line.incoming, month)
        line.features(month)
    return line


@pytest.fixture(scope="module")
def trained(line: JobByJob) -> dict[str, Any]:
    rows = line.training_set(WINDOW).outputs["data"]
    result = line.result("train", WINDOW, [("training_set", rows, None)], learner=None)
    assert result.outcome is not None, result.error
    model = result.outcome.outputs["model"]
    judged = line.result("evaluate", WINDOW, [("training_set", rows, None), ("model", model, None)])
    assert judged.outcome is not None, judged.error
    return {"training_set": rows, "model": model, "run": result.observed.mlflow_run, "judged": judged}


def test_features_are_numbers_of_every_image_by_one_embedding(line: JobByJob) -> None:
    table, raw = line.read(line.published["2024-02"]), line.read(line.land("2024-02"))
    assert table.num_rows == raw.num_rows == 300
    assert {str(table[f"e_{n:02d}"].type) for n in range(16)} == {"double"}
    assert not any(column.null_count for column in table.columns)
    assert table["digit"].to_pylist() == raw["digit"].to_pylist()
    embeddings = {line.snapshots.manifest("digits", "features", a.digest).source for a in line.published.values()}
    (embedding,) = embeddings
    fitted = (line.tree.folder("digits") / "embedding.safetensors").read_bytes()
    from millrace.core.canonical import digest

    assert embedding == digest(fitted)
    assert b"2024-01" in fitted and b"2024-02" not in fitted, "it was fitted before the training window"


def test_the_model_reaches_its_thresholds_on_each_digit(trained: dict[str, Any]) -> None:
    outcome = trained["judged"].outcome
    assert outcome.verdict.passed, outcome.verdict.failures
    assert outcome.metrics["accuracy"].value > 0.93
    assert outcome.metrics["macro_f1"].low > 0.85


def test_it_is_registered_with_its_evidence_and_promoted(line: JobByJob, trained: dict[str, Any]) -> None:
    from millrace.mlflow.registry import alias_versions
    from millrace.mlflow.runs import connect

    judged = trained["judged"].outcome
    inputs = {"model": trained["model"], "training_set": trained["training_set"],
              "evaluation": judged.outputs["evaluation"]}  # fmt: skip
    gates = [{"dataset": "features", "partition": k, "snapshot": line.published[k].digest, "outcome": CODE,
              "passed": True} for k in WINDOW]  # fmt: skip
    evidence = {
        "evidence_version": 3, **PROVENANCE, "pipeline": "digits",
        **{role: a.model_dump(mode="json") for role, a in inputs.items()},
        "evaluation_outcome": trained["judged"].outcome_digest, "evaluation_passed": True,
        "spec_digest": line.bundle.digest, "code_digest": CODE, "gates": gates, "duel": None, "decision": "manual",
        "reason": "by hand", "trained_to": WINDOW[-1], "partitions": WINDOW, "feature_service": "digits",
        "mlflow_run": trained["run"],
    }  # fmt: skip
    made = line.job("register", WINDOW, [(r, a, None) for r, a in inputs.items()], mlflow_run=trained["run"],
                    evidence=evidence)  # fmt: skip
    line.job("promote", [], [], version=made.facts["version"], model_digest=trained["model"].digest)
    client = connect(line.mlflow)
    assert alias_versions(client, "digits") == {"champion": 1}
    assert {f.path for f in client.list_artifacts(trained["run"], "plots")} == {
        "plots/confusion.png", "plots/importance.png", "plots/learning_curve.png",
    }  # fmt: skip


def test_coordinates_are_served_online_as_they_are_offline(line: JobByJob) -> None:
    data = [("data", line.published["2024-06"], "2024-06")]
    written = line.job("materialize", ["2024-06"], data, revision=1)
    assert written.facts["views"] == {"image_features": 300}
    found = line.job("parity", ["2024-06"], data)
    assert found.verdict.passed, found.verdict.failures


def scored(line: JobByJob, trained: dict[str, Any], keys: list[str]) -> list[Any]:
    return [
        ("predictions", line.job("score", [k], [("features", line.published[k], k), ("model", trained["model"], None)],
                                 version="1").outputs["data"], k)
        for k in keys
    ]  # fmt: skip


def test_other_hands_are_seen_in_the_loss_though_no_column_drifts(line: JobByJob, trained: dict[str, Any]) -> None:
    # Given May and June, written by people whom the model has not seen
    predictions = scored(line, trained, LATER)
    found = line.read(predictions[0][1])
    assert set(found["prediction"].to_pylist()) == set(range(10)) and "probability_9" in found.column_names
    features = [("features", line.published[k], k) for k in LATER]
    judged = trained["judged"].outcome.outputs["evaluation"]
    seen = line.job("performance", LATER, [*predictions, *features, ("evaluation", judged, None)],
                    as_of="2024-08-01T00:00:00Z")  # fmt: skip
    # Then the loss on their labels tells
    assert seen.facts["degraded"] is True
    assert 0.8 < seen.metrics["accuracy"].value < 0.93
    # and neither what is measured nor the embedding does
    current = [("current", line.published[k], k) for k in LATER]
    calm = line.job("drift", LATER, [*current, *predictions, ("model", trained["model"], None)],
                    as_of="2024-08-01T00:00:00Z")  # fmt: skip
    assert calm.facts["enough_rows"] is True and calm.facts["broken"] == {}
    assert [c for c, facts in calm.facts["columns"].items() if facts["drifted"]] == []
    assert calm.facts["prediction"]["drifted"] is False


def test_pictures_of_something_else_drift_in_the_embedding(line: JobByJob, trained: dict[str, Any]) -> None:
    # Given June's pictures lying on their side: as bright, as rich in contrast, and no digits
    changed(line, "2024-06", turned)
    raw = line.land("2024-06")
    assert line.gate("2024-06", raw, "raw.images") == []
    made = line.job("transform", ["2024-06"], [("images", raw, "2024-06")]).outputs["data"]
    media.write_digits(line.incoming, "2024-06")
    found = line.job("drift", ["2024-06"], [("current", made, "2024-06"), ("model", trained["model"], None)],
                     as_of="2024-08-01T00:00:00Z")  # fmt: skip
    moved = {c for c, facts in found.facts["columns"].items() if facts["drifted"]}
    assert "unexplained" in moved and any(c.startswith("e_") for c in moved)
    assert not moved & {"brightness", "contrast"}
    assert found.facts["drifted"] is True


def changed(line: JobByJob, month: str, change: Callable[[Files], None]) -> None:
    """Deliver a month with its files changed."""
    path = media.write_digits(line.incoming, month)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def names(files: Files) -> list[str]:
    return [name for name in files if name != "index.csv"]


def pixels(data: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)))


def turned(files: Files) -> None:
    for name in names(files):
        files[name] = media.png(np.rot90(pixels(files[name])))


def each(change: Callable[[bytes], bytes], first: int = 1) -> Callable[[Files], None]:
    def apply(files: Files) -> None:
        for name in names(files)[:first]:
            files[name] = change(files[name])

    return apply


def jpeg(data: bytes) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels(data)).save(out, "JPEG")
    return out.getvalue()


def twice(files: Files) -> None:
    one, other = names(files)[:2]
    files[one] = files[other]


def last_month(files: Files) -> None:
    files[names(files)[0]] = media._digits()[0][700]


def relabelled(digit: str) -> Callable[[Files], None]:
    def apply(files: Files) -> None:
        header, first, *rest = files["index.csv"].decode().splitlines()
        first = f"{first.rpartition(',')[0]},{digit}"
        files["index.csv"] = "\n".join([header, first, *rest, ""]).encode()

    return apply


WRONG: dict[str, tuple[Callable[[Files], None], list[str]]] = {
    "cut off": (each(lambda d: d[:50]), ["column 'decoded'", "1 of 299 rows"]),
    "overwritten": (each(lambda d: d[:45] + bytes(8) + d[53:], 3), ["column 'decoded'", "3 of 299 rows"]),
    "a text": (each(lambda d: b"seven"), ["column 'decoded'", "column 'media_type'", "text/plain"]),
    "a JPEG": (each(jpeg), ["column 'media_type'", "image/jpeg"]),
    "larger": (each(lambda d: media.png(np.kron(pixels(d), np.ones((2, 2))))), ["column 'width'", "column 'height'"]),
    "in colour": (each(lambda d: media.png(np.stack([pixels(d)] * 3, 2))), ["column 'channels'", "1 of 299 rows"]),
    "blank": (each(lambda d: media.png(np.full((8, 8), 80))), ["column 'contrast'"]),
    "inverted": (each(lambda d: media.png(255 - pixels(d)), 299), ["column 'brightness'"]),
    "twice": (twice, ["column 'digest'", "2 of 299 rows"]),
    "sent before": (last_month, ["stand in", "2024-03"]),
    "no label": (relabelled(""), ["column 'digit'", "1 of 299 rows"]),
    "no digit": (relabelled("10"), ["column 'digit'", "10"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_an_image_fails_the_gate_with_its_name(line: JobByJob, name: str) -> None:
    change, words = WRONG[name]
    changed(line, "2024-05", change)
    raw = line.land("2024-05")
    failed = "\n".join(line.gate("2024-05", raw, "raw.images"))
    media.write_digits(line.incoming, "2024-05")
    for word in words:
        assert word in failed
    # and what fails is what is wrong: all other checks pass
    assert len(failed.splitlines()) <= 5


def test_features_of_two_embeddings_are_not_trained_on_and_not_scored(
    line: JobByJob, trained: dict[str, Any], tmp_path: Path
) -> None:
    from typer.testing import CliRunner

    from millrace.cli.app import app
    from millrace.cli.embedding import fit

    folder = line.tree.folder("digits") / "embedding.safetensors"
    committed = folder.read_bytes()
    try:
        # Given an embedding fitted anew, on other partitions
        made = fit(line.tree, line.settings, "digits", "2024-02", "2024-03")
        assert (made.partitions, made.rows, made.changed) == (("2024-02", "2024-03"), 599, True)
        assert folder.read_bytes() != committed
        line.reload()
        moved = line.tables.resolve("digits/raw.images", "2024-04").snapshot
        raw = line.snapshots.artifact("digits", "raw.images", moved)
        newer = line.job("transform", ["2024-04"], [("images", raw, "2024-04")]).outputs["data"]
        # Then its features and the earlier ones are told apart, by name
        mixed = [("features", line.published["2024-03"], "2024-03"), ("features", newer, "2024-04")]
        result = line.result("build_training_set", WINDOW[1:], mixed, as_of="2024-08-01T00:00:00Z")
        assert result.error is not None and result.error.retry == "never"
        assert "more than one embedding (given: '2024-03 from another than 2024-04')" in result.error.message
        assert "millrace rebuild digits" in result.error.message
        result = line.result("score", ["2024-04"], [("features", newer, "2024-04"), ("model", trained["model"], None)],
                             version="1")  # fmt: skip
        assert result.error is not None and "another embedding than those the model was trained" in result.error.message
        # The same fit again, by the command, is the same file
        words = ["embed", "digits", "--first", "2024-02", "--last", "2024-03", "--project", str(line.tree.root)]
        said = CliRunner().invoke(app, words)
        assert said.exit_code == 0 and made.digest in said.output and "599 files of 2024-02 to 2024-03" in said.output
        assert "stale" not in said.output
    finally:
        folder.write_bytes(committed)
        line.reload()


def test_without_a_fitted_embedding_the_transform_says_what_to_do(line: JobByJob, tmp_path: Path) -> None:
    from millrace.checks.project import check
    from millrace.cli.embedding import fit

    folder = line.tree.folder("digits") / "embedding.safetensors"
    shutil.move(folder, tmp_path / "kept")
    try:
        line.reload()
        moved = line.tables.resolve("digits/raw.images", "2024-02").snapshot
        raw = line.snapshots.artifact("digits", "raw.images", moved)
        result = line.result("transform", ["2024-02"], [("images", raw, "2024-02")])
        assert result.error is not None
        assert "was not fitted yet" in result.error.message and "millrace embed digits" in result.error.message
        (problem,) = check(line.tree, ["digits"])
        assert "pipeline.yaml:" in problem and "millrace embed digits" in problem
        with pytest.raises(MillraceError, match="no partition of source 'images' is landed"):
            fit(line.tree, line.settings, "digits", "2024-01", "2024-01")
        assert not folder.exists()
    finally:
        shutil.move(tmp_path / "kept", folder)
        line.reload()


@pytest.mark.parametrize(
    ("file", "text", "instead", "words"),
    [
        ("pipeline.yaml", "    source: images", "    source: image",
         "features.embedding.source: 'image_pca' takes a source of images .*did you mean 'images'"),
        ("pipeline.yaml", "    format: images", "    format: texts", "'image_pca' takes a source of images"),
        ("pipeline.yaml", "  service: digits", "  service: digits\n  engine: spark", "needs the engine duckdb"),
        ("pipeline.yaml", "  images:\n", "  embedded:\n", "view 'embedded' already"),
        ("pipeline.yaml", "kind: image_pca", "kind: image_pcs", "did you mean 'image_pca'"),
        ("pipeline.yaml", "    types:", "    types: []\n    tipes:", "unknown key"),
        ("pipeline.yaml", "    dimensions: 16", "    dimensions: 15", "no column that transform.sql makes"),
        ("transform.sql", "    images.digit\n", "    CAST(images.digit AS DOUBLE) AS digit\n",
         "'digit' is DOUBLE in transform.sql; allowed: text or an integer"),
        ("transform.sql", "    images.brightness,", "    images.content,", "'content' is of type BLOB"),
        ("suites/images.yaml", "{column: width,", "{column: widht,", "no column 'widht'.*did you mean 'width'"),
    ],
)  # fmt: skip
def test_check_says_what_does_not_fit(tmp_path: Path, file: str, text: str, instead: str, words: str) -> None:
    import re

    from millrace.checks.project import check

    (tmp_path / "include").mkdir()
    tree = project(tmp_path, "digits")
    path = tree.folder("digits") / file
    before = path.read_text()
    assert text in before
    path.write_text(before.replace(text, instead, 1))
    assert re.search(words, "\n".join(check(tree, ["digits"])))


def test_the_deliveries_hold_every_digit_once(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    seen: list[int] = []
    for month in media.MONTHS:
        with zipfile.ZipFile(media.write_digits(tmp_path, month)) as archive:
            lines = archive.read("index.csv").decode().splitlines()[1:]
            assert all(line.split(",")[1].startswith(month) for line in lines)
            for line in lines:
                name, _, digit = line.split(",")
                seen.append(int(digit))
                if name == "0700.png":
                    values = pixels(archive.read(name))
                    np.testing.assert_array_equal(values, np.rint(load_digits().images[700] * 255 / 16))
    assert seen == load_digits().target.tolist()
    with pytest.raises(ValueError, match="2024-01 to 2024-06"):
        media.write_digits(tmp_path, "2024-07")
