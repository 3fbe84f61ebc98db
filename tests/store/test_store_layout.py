"""One module knows where things lie in the store; a pointer says of its Snapshot what the Snapshot says of itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pyarrow as pa
import pytest
from support.requests import digest_of, request

import millrace
from millrace.contract import Artifact, Run
from millrace.core.errors import Corrupt, NotFound
from millrace.spec import Bundle
from millrace.store import SnapshotStore, Tables, bundles, layout, open_store

PACKAGE = Path(millrace.__file__).parent
SHA, HEX = digest_of("a"), "a" * 64
KEYS = ("snapshots", "tables", "bundles", "results", "checkpoints", "models", "embeddings", "evaluations", "evidence",
        "reports", "champions", "requests", "statements", "promotions", "imports")  # fmt: skip
HISTORY = {"rules/evidence.py", "ledger/events/models.py"}
"""Where the first version of a record kept things is past: these do not follow the layout."""


@pytest.fixture
def objects(tmp_path):
    return open_store(str(tmp_path / "store"))


def test_the_keys_are_pinned():
    """What is stored is found by these for ever: a change needs a migration."""
    asked = request("train", run=Run(pipeline="p"))
    mine = asked.request_digest.removeprefix("sha256:")
    assert layout.bundle(SHA) == f"bundles/{HEX}.json"
    assert layout.snapshot("p", "raw.x", SHA) == f"snapshots/p/raw.x/{HEX}/"
    assert layout.table("p/features") == "tables/p/features/"
    assert layout.pointer("p/features", "2024-01-01") == "tables/p/features/2024-01-01.json"
    assert layout.partition("tables/p/features/2024-01-01.json") == "2024-01-01"
    assert layout.experiment("p", 3) == "experiments/p/3.json"
    assert layout.model("p", SHA) == f"models/p/{HEX}/"
    assert layout.document("evidence", "p", SHA, "evidence.json") == f"evidence/p/{HEX}/evidence.json"
    assert layout.card("p", SHA) == f"reports/p/{HEX}/card.html"
    promotion = layout.document("promotions", "p", SHA, "promotion.json")
    assert promotion == f"promotions/p/{HEX}/promotion.json"
    assert layout.model_signature(promotion) == f"promotions/p/{HEX}/model.sig"
    assert layout.champion("p") == "champions/p.json"
    assert layout.result("p", "train", SHA) == f"results/p/train/{HEX}.json"
    assert layout.checkpoint("p", SHA) == f"checkpoints/p/{HEX}"
    assert layout.request("p", asked.request_digest) == f"requests/p/{mine}/request.json"
    assert layout.attempts("p", asked.request_digest) == f"requests/p/{mine}/attempts.json"


def test_no_other_module_writes_a_key():
    spelled = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name == "store/layout.py" or name in HISTORY:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(
                tuple(f"{key}/" for key in KEYS)
            ):  # fmt: skip
                spelled.append(f"{name}:{node.lineno}: {node.value!r}")
    assert spelled == []


@pytest.mark.parametrize(
    ("kind", "last"), [("snapshot", "x/manifest.json"), ("model", "x/model.json"), ("report", "x/")]
)
def test_what_makes_an_artifact_exist(kind, last):
    assert layout.last_written(Artifact(uri="x/", digest=SHA, kind=kind)) == last


@pytest.mark.parametrize("classification", ["public", "internal", "personal"])
def test_a_pointer_gives_the_artifact_that_the_snapshot_has(objects, classification):
    written = SnapshotStore(objects).write(
        pa.table({"v": [1, 2]}), pipeline="p", dataset="features", partition="d", classification=classification
    )
    Tables(objects).move("p/features", "d", written)
    assert Tables(objects).resolve("p/features", "d").artifact == written


def test_a_pointer_of_before_classifications_is_read(objects):
    old = f'{{"table":"t","partition":"d","generation":1,"history":[{{"snapshot":"{SHA}","uri":"x/","rows":2}}]}}'
    objects.put(layout.pointer("t", "d"), old.encode())
    assert Tables(objects).resolve("t", "d").artifact == layout.snapshot_artifact("x/", SHA, rows=2)


def test_a_bundle_is_found_by_its_digest_and_believed_by_it(objects):
    bundle = Bundle(spec={}, sql="select 1", suites={})
    with pytest.raises(NotFound):
        bundles.read(objects, bundle.digest)
    bundles.keep(objects, bundle)
    bundles.keep(objects, bundle)
    assert bundles.read(objects, bundle.digest) == bundle
    # Given bytes of another
    objects.put(layout.bundle(bundle.digest), Bundle(spec={}, sql="select 2", suites={}).to_bytes())
    with pytest.raises(Corrupt, match="not the one its name says"):
        bundles.read(objects, bundle.digest)
