"""A project's tree: found from its root, its spec digest, its environments."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from millrace.core.errors import SpecError
from millrace.spec import Bundle, Placed, ProjectTree
from millrace.spec.yaml_file import read_yaml

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = "city_temperature"


@pytest.fixture
def tree(tmp_path) -> ProjectTree:
    """A copy of the reference project that a test may change."""
    shutil.copytree(ROOT / "feature_repo", tmp_path / "feature_repo", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pipelines", "environments"):
        shutil.copytree(ROOT / "include" / name, tmp_path / "include" / name)
    for name in ("project.yaml", "compute.yaml"):
        shutil.copy(ROOT / "include" / name, tmp_path / "include")
    return ProjectTree(tmp_path)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def overlay(tree: ProjectTree, text: str) -> None:
    path = tree.root / "include" / "environments" / "dev.yaml"
    path.write_text(f"version: 1\nname: dev\npipelines:\n{text}")


def test_a_project_is_found_from_any_folder_below_it(tree, monkeypatch, tmp_path_factory):
    inside = tree.folder(PIPELINE) / "suites"
    assert ProjectTree.at(inside).root == tree.root
    monkeypatch.chdir(inside)
    monkeypatch.delenv("MILLRACE_PROJECT", raising=False)
    assert ProjectTree.at().root == tree.root
    # elsewhere, the environment says which
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(SpecError, match="no project here.*millrace init"):
        ProjectTree.at()
    monkeypatch.setenv("MILLRACE_PROJECT", str(tree.root))
    assert ProjectTree.at().root == tree.root


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("include/pipelines/city_temperature/pipeline.yaml", "seed: 7", "seed: 8"),
        ("include/pipelines/city_temperature/transform.sql", "INTERVAL 6 HOUR", "INTERVAL 7 HOUR"),
        ("include/pipelines/city_temperature/suites/features.yaml", "expectations:", "notes: changed\nexpectations:"),
        ("include/pipelines/city_temperature/suites/temperatures.yaml", "expectations:", "notes: n\nexpectations:"),
        ("feature_repo/city_temperature.py", "days=1", "days=2"),
        ("feature_repo/feature_store.yaml", "project: reference", "project: other"),
    ],
)
def test_the_spec_digest_moves_with_what_is_approved(tree, file, old, new):
    before = tree.bundle(PIPELINE).digest
    change(tree.root / file, old, new)
    assert tree.bundle(PIPELINE).digest != before


def test_the_spec_digest_moves_with_custom_code(tree):
    before = tree.bundle(PIPELINE).digest
    (tree.folder(PIPELINE) / "trainer.py").write_text("RATE = 1\n")
    added = tree.bundle(PIPELINE).digest
    (tree.folder(PIPELINE) / "trainer.py").write_text("RATE = 2\n")
    assert len({before, added, tree.bundle(PIPELINE).digest}) == 3


def test_the_spec_digest_stays_with_place_and_form(tree, tmp_path_factory):
    before = tree.bundle(PIPELINE).digest
    # Given another place for the data, a README, comments, another order of keys, another pipeline, other line ends
    overlay(tree, f"  {PIPELINE}: {{locations: {{temperatures: 'elsewhere/{{year}}{{month}}{{day}}.csv'}}}}\n")
    (tree.folder(PIPELINE) / "README.md").write_text("changed")
    path = tree.folder(PIPELINE) / "pipeline.yaml"
    change(path, "name: city_temperature\nowner: weather-desk", "owner: weather-desk  # ours\nname: city_temperature")
    shutil.rmtree(tree.folder("flight_delays"))
    sql = tree.folder(PIPELINE) / "transform.sql"
    sql.write_bytes(sql.read_bytes().replace(b"\n", b"\r\n"))
    # Then it is the same pipeline, here and in another folder
    assert tree.bundle(PIPELINE).digest == before
    other = tmp_path_factory.mktemp("other") / "project"
    shutil.copytree(tree.root, other)
    assert ProjectTree(other).bundle(PIPELINE).digest == before


def test_a_bundle_read_back_is_the_same(tree):
    bundle = tree.bundle(PIPELINE)
    again = Bundle.model_validate_json(bundle.to_bytes())
    assert again.digest == bundle.digest


@pytest.mark.parametrize("file", ["transform.sql", "suites/features.yaml", "suites/temperatures.yaml", "pipeline.yaml"])
def test_a_missing_file_is_named(tree, file):
    path = tree.folder(PIPELINE) / file
    path.unlink()
    with pytest.raises(SpecError) as found:
        tree.bundle(PIPELINE)
    assert str(found.value).startswith(f"{path}: there is no such file")


def test_a_pipeline_or_environment_that_is_not_there(tree):
    with pytest.raises(SpecError, match="no such pipeline.*did you mean 'flight_delays'"):
        tree.spec("flight_delay")
    with pytest.raises(SpecError, match="no such environment.*given: 'prd'.*allowed: dev, prod"):
        tree.environment("prd")


def test_names_of_folder_and_file_are_those_inside(tree):
    path = tree.folder(PIPELINE) / "pipeline.yaml"
    change(path, "name: city_temperature", "name: city_temperatur")
    with pytest.raises(SpecError) as found:
        tree.spec(PIPELINE)
    assert str(found.value).startswith(f"{path}:3: the folder's name and the pipeline's differ")
    path = tree.root / "include" / "environments" / "prod.yaml"
    change(path, "name: prod", "name: production")
    with pytest.raises(SpecError) as found:
        tree.environment("prod")
    assert str(found.value).startswith(f"{path}:3: the file's name and the environment's differ (given: 'production')")


def test_an_environment_places_sources_and_leaves_the_spec_alone(tree, monkeypatch):
    as_written = Placed.of(tree, "prod", PIPELINE)
    assert as_written.locations() == {
        "temperatures": f"{tree.root}/.millrace/incoming/temperatures/{{year}}-{{month}}-{{day}}.csv"
    }
    monkeypatch.setenv("DROP", "/mnt/drop")
    overlay(tree, f"  {PIPELINE}:\n    locations: {{temperatures: '$DROP/{{year}}{{month}}{{day}}.csv'}}\n"
                  "    scheduled: false\n    compute: {train: gpu}\n    approval: {by: auto}\n")  # fmt: skip
    placed = Placed.of(tree, "dev", PIPELINE)
    assert placed.locations() == {"temperatures": "/mnt/drop/{year}{month}{day}.csv"}
    assert (placed.scheduled, placed.approval.by, placed.profile("train"), placed.profile("land")) == (
        False, "auto", "gpu", "process",
    )  # fmt: skip
    assert placed.spec == as_written.spec


def refused_at_line_6(tree, words):
    with pytest.raises(SpecError) as found:
        Placed.of(tree, "dev", PIPELINE)
    assert str(found.value).startswith(f"{tree.root}/include/environments/dev.yaml:6: ")
    for word in words:
        assert word in str(found.value)


@pytest.mark.parametrize(("compute", "words"), [
    ("train: gpuu", ["no such compute profile", "did you mean 'gpu'?"]),
    ("land: gpu", ["runs in its task's process", "Jobs that run in pods: transform"]),
])  # fmt: skip
def test_a_compute_profile_that_cannot_be_is_named_with_its_line(tree, compute, words):
    overlay(tree, f"  {PIPELINE}:\n    compute:\n      {compute}\n")
    refused_at_line_6(tree, words)


STAGING = """
compute:
  connection: kubernetes_staging
  namespace: jobs-staging
  image: registry.example/millrace-jobs:staging
  service_account: job-staging
  env: {AWS_REGION: eu-south-1, AWS_SESSION: none}
  secrets:
    AWS_ACCESS_KEY_ID: {secret: s3-staging, key: id}
    AWS_ENDPOINT_URL: {secret: s3-staging, key: url}
  profiles:
    gpu: {node_selector: {gpu: a10}, secrets: {LICENCE: {secret: gpu, key: licence}}, tolerations: []}
"""


def test_an_environment_has_another_cluster_and_the_same_sizes(tree):
    path = tree.root / "include" / "environments" / "dev.yaml"
    path.write_text("version: 1\nname: dev\ncustom_code: process\n" + STAGING)
    file, here = tree.compute, Placed.of(tree, "dev", PIPELINE).compute
    assert (here.connection, here.namespace, here.service_account) == (
        "kubernetes_staging",
        "jobs-staging",
        "job-staging",
    )
    assert here.image == "registry.example/millrace-jobs:staging"
    # Variables are taken over one by one, and each has one value
    assert here.env == {"AWS_REGION": "eu-south-1", "AWS_SESSION": "none"}
    assert {name: (key.secret, key.key) for name, key in here.secrets.items()} == {
        "AWS_SECRET_ACCESS_KEY": ("millrace-s3", "secret_key"),
        "AWS_ACCESS_KEY_ID": ("s3-staging", "id"),
        "AWS_ENDPOINT_URL": ("s3-staging", "url"),
    }
    gpu = here.profiles["gpu"]
    assert (gpu.node_selector, gpu.tolerations, sorted(gpu.secrets)) == ({"gpu": "a10"}, (), ["LICENCE"])
    # What decides how much a job is given stays, and so do the profiles that are not named, and the other environment
    for size in ("cpu", "cpu_limit", "memory", "gpu", "shm", "scratch", "larger", "fallback", "cost_per_hour"):
        assert getattr(gpu, size) == getattr(file.profiles["gpu"], size)
    assert here.profiles["cpu-small"] == file.profiles["cpu-small"]
    assert Placed.of(tree, "prod", PIPELINE).compute == file
    # and the spec digest knows nothing of it
    assert Placed.of(tree, "dev", PIPELINE).spec == Placed.of(tree, "prod", PIPELINE).spec


@pytest.mark.parametrize(("compute", "words"), [
    ("profiles: {gpuu: {}}", [":5: include/compute.yaml has no such compute profile", "did you mean 'gpu'?"]),
    ("profiles: {gpu: {memory: 64Gi}}", [":5: ", "memory", "node_selector"]),
    ("profiles: {gpu: {gpu: 4}}", [":5: ", "node_selector"]),
    ("pod_template: t.yaml", [":5: ", "pod_template", "namespace"]),
    ("env: {DB_PASSWORD: x}", [":5: ", "a secret has no place here", "'DB_PASSWORD'"]),
    ("namespace: Jobs", [":5: ", "namespace"]),
])  # fmt: skip
def test_what_an_environment_may_not_say_of_compute_is_named_with_its_line(tree, compute, words):
    path = tree.root / "include" / "environments" / "dev.yaml"
    path.write_text(f"version: 1\nname: dev\ncustom_code: process\ncompute:\n  {compute}\n")
    with pytest.raises(SpecError) as found:
        Placed.of(tree, "dev", PIPELINE)
    assert str(found.value).startswith(str(path))
    for word in words:
        assert word in str(found.value)


@pytest.mark.parametrize(
    ("source", "location", "words"),
    [
        ("temperature", "x/{year}{month}{day}.csv", ["does not have", "did you mean 'temperatures'?"]),
        ("temperatures", "x/{yaer}{month}{day}.csv", ["unknown fields '{yaer}'"]),
        ("temperatures", "x/{year}{month}.csv", ["every day would read the same file", "{day}"]),
        ("temperatures", "x.csv", ["needs a field such as {year}"]),
        ("temperatures", "s3://b/{year}{month}{day}.csv", ["'files' is a path"]),
    ],
)
def test_an_overlay_that_cannot_be_is_named_with_its_line(tree, source, location, words):
    overlay(tree, f"  {PIPELINE}:\n    locations:\n      {source}: '{location}'\n")
    refused_at_line_6(tree, words)


def test_a_project_without_pipelines_is_a_project(tree):
    shutil.rmtree(tree.root / "include" / "pipelines")
    assert tree.pipelines() == []


def test_the_two_yaml_loaders_say_the_same(tree, monkeypatch):
    """Where PyYAML has no libyaml the slow loader takes over: same values, same refusals."""
    import importlib

    import yaml

    from millrace.spec import yaml_file

    path = tree.folder(PIPELINE) / "pipeline.yaml"
    fast = read_yaml(path)
    monkeypatch.delattr(yaml, "CSafeLoader")
    try:
        slow = importlib.reload(yaml_file)
        assert slow._Base is yaml.SafeLoader
        assert slow.read_yaml(path) == fast
        for text, line in (("a: 1\na: 2\n", 2), ("a: 1\nb: \x07\n", 2), ("a:\n  - .nan\n", 2), ("a: [1\n", 2)):
            path.write_text(text)
            with pytest.raises(SpecError, match=f"pipeline.yaml:{line}: not valid YAML"):
                slow.read_yaml(path)
    finally:
        monkeypatch.undo()
        importlib.reload(yaml_file)


GOOD = "def fit(train, params, settings): ...\ndef predict(weights, rows, params, settings): ...\n"


@pytest.fixture
def custom(tree) -> ProjectTree:
    """The pipeline with a trainer of its own."""
    path = tree.folder(PIPELINE) / "pipeline.yaml"
    text = path.read_text()
    start, end = text.index("    kind: torch_mlp"), text.index("  window: P60D")
    path.write_text(text[:start] + "    kind: custom\n    params: {penalty: 2}\n" + text[end:])
    (tree.folder(PIPELINE) / "trainer.py").write_text(GOOD)
    return tree


def test_custom_code_is_in_the_spec_digest(custom):
    before = custom.bundle(PIPELINE)
    assert before.code == {"trainer.py": GOOD}
    (custom.folder(PIPELINE) / "trainer.py").write_text(GOOD + "\n")
    assert custom.bundle(PIPELINE).digest != before.digest


def test_a_probe_of_custom_code_needs_a_pod_where_there_are_probes(custom):
    prod = custom.root / "include" / "environments" / "prod.yaml"
    compute = "".join(f"      {job}: cpu-small\n" for job in ("train", "evaluate", "score"))
    prod.write_text(prod.read_text() + f"custom_code: pods\npipelines:\n  {PIPELINE}:\n    compute:\n{compute}")
    path = custom.folder(PIPELINE) / "pipeline.yaml"
    text = path.read_text()
    path.write_text(text[: text.index("  window: P28D")] + text[text.index("  window: P28D") + len("  window: P28D") :])
    with pytest.raises(SpecError, match="has probe in the task's process"):
        Placed.of(custom, "prod", PIPELINE)
    path.write_text(text)
    Placed.of(custom, "prod", PIPELINE)


def test_custom_code_runs_where_the_environment_lets_it(custom):
    assert Placed.of(custom, "dev", PIPELINE).environment.custom_code == "process"
    # the default is pods: every job that executes the code is asked for
    path = custom.root / "include" / "environments" / "prod.yaml"
    with pytest.raises(SpecError) as found:
        Placed.of(custom, "prod", PIPELINE)
    said = str(found.value)
    assert said.startswith(f"{path}:1: environment 'prod' runs custom code in pods only")
    for words in ("train, evaluate, score in the task's process (given: 'process'); allowed: cpu-large, cpu-small, gpu",
                  f"pipelines: {PIPELINE}: compute:", "'custom_code: process'"):  # fmt: skip
        assert words in said
    # and with each of them in a pod, whoever says so, it is good
    text = path.read_text() + f"custom_code: pods\npipelines:\n  {PIPELINE}:\n    compute:\n"
    path.write_text(text + "      train: cpu-small\n      evaluate: process\n")
    with pytest.raises(SpecError, match=r"has evaluate, score in the task's process") as found:
        Placed.of(custom, "prod", PIPELINE)
    line = path.read_text().splitlines().index("      evaluate: process") + 1
    assert str(found.value).startswith(f"{path}:{line}: ")
    path.write_text(text + "      train: cpu-small\n      evaluate: cpu-small\n      score: cpu-small\n")
    assert Placed.of(custom, "prod", PIPELINE).profile("score") == "cpu-small"


def test_code_and_learner_belong_together(custom):
    written, trainer = (custom.folder(PIPELINE) / name for name in ("pipeline.yaml", "trainer.py"))
    line = written.read_text().splitlines().index("    kind: custom") + 1
    trainer.unlink()
    with pytest.raises(SpecError, match=r"trainer\.py, which is not there .*allowed: custom, torch_mlp") as found:
        Placed.of(custom, "dev", PIPELINE)
    assert str(found.value).startswith(f"{written}:{line}: ")
    trainer.write_text("def fit(train, params, settings): ...\n")
    with pytest.raises(SpecError, match="there is no function 'predict'") as found:
        Placed.of(custom, "dev", PIPELINE)
    assert str(found.value).startswith(f"{trainer}:1: ")
    trainer.write_text(GOOD)
    change(written, "    kind: custom\n    params: {penalty: 2}", "    kind: xgboost")
    with pytest.raises(SpecError, match=rf"nothing uses this file.*pipeline.yaml:{line}.*given: 'xgboost'") as found:
        Placed.of(custom, "prod", PIPELINE)
    assert str(found.value).startswith(f"{trainer}:1: ")


def test_code_does_not_run_when_it_is_checked(custom):
    (custom.folder(PIPELINE) / "trainer.py").write_text("raise SystemExit\n" + GOOD)
    assert Placed.of(custom, "dev", PIPELINE)
