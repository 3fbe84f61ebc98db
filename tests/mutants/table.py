"""The mutants: for each invariant of docs/architecture.md a change of the code that breaks it, and the fast tests that
must see it. `old` stands exactly once in `file`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One change that must not go unseen. `tests` are pytest's arguments."""

    invariant: int
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = [
    Mutant(
        1,
        "objects are written in place",
        "include/millrace/store/local.py",
        'temporary = target.parent / f"{TEMPORARY}{uuid.uuid4().hex}"',
        "temporary = target",
        ("tests/store/test_store_objects.py", "-k", "not s3"),
    ),
    Mutant(
        1,
        "the manifest comes before the data",
        "include/millrace/store/snapshots.py",
        "                self.objects.put_file(prefix + DATA, path)\n                try:\n"
        "                    self.objects.put_if(prefix + MANIFEST, canonical_json(manifest), None)\n",
        "                try:\n"
        "                    self.objects.put_if(prefix + MANIFEST, canonical_json(manifest), None)\n"
        "                    self.objects.put_file(prefix + DATA, path)\n",
        ("tests/store/test_store_snapshots.py", "-k", "not s3"),
    ),
    Mutant(
        2,
        "a changed Snapshot is read",
        "include/millrace/store/snapshots.py",
        "if verify and file_digest(path) != manifest.data:",
        "if not verify and file_digest(path) != manifest.data:",
        ("tests/store/test_store_snapshots.py", "-k", "not s3"),
    ),
    Mutant(
        3,
        "features of the future are joined",
        "include/millrace/feast_stores/offline_stores/asof.py",
        'f"a.{MOMENT} >= {when}"',
        'f"a.{MOMENT} <= {when}"',
        ("tests/feast_stores/test_feast_stores_asof.py",),
    ),
    Mutant(
        4,
        "a late write replaces a newer value",
        "include/millrace/feast_stores/online_stores/sqlite.py",
        'f"> ({t}.event_us, {t}.created_us, {t}.revision, {t}.features)"',
        'f"IS NOT ({t}.event_us, {t}.created_us, {t}.revision, {t}.features)"',
        ("tests/feast_stores/test_feast_stores_online.py", "-k", "sqlite"),
    ),
    Mutant(
        5,
        "a gate passes without rows",
        "include/millrace/gates/checks/builtin.py",
        "passed=table.num_rows > 0, message=message, total=table.num_rows)",
        "passed=True, message=message, total=table.num_rows)",
        ("tests/gates/test_gates_engine.py",),
    ),
    Mutant(
        5,
        "a gate passes with an empty suite",
        "include/millrace/gates/checks/builtin.py",
        'name="suite", passed=bool(entries)',
        'name="suite", passed=True',
        ("tests/gates/test_gates_engine.py",),
    ),
    Mutant(
        5,
        "a gate passes with a column of nulls",
        "include/millrace/gates/checks/builtin.py",
        "if nulls[name] == table.num_rows and name not in waived",
        "if nulls[name] > table.num_rows and name not in waived",
        ("tests/gates/test_gates_engine.py",),
    ),
    Mutant(
        5,
        "a failed verdict goes on",
        "include/millrace/airflow/runtime/gate.py",
        "if not verdict.passed:",
        "if verdict.passed is None:",
        ("tests/airflow/test_airflow_features.py",),
    ),
    Mutant(
        6,
        "a release is not checked before it is carried out",
        "include/millrace/airflow/tasks/release.py",
        "    _check(registered, evidence, site.ledger.champion(site.name), request.rollback, request.reason)\n",
        "",
        ("tests/airflow/test_airflow_release.py",),
    ),
    Mutant(
        6,
        "what nobody approved is carried out",
        "include/millrace/airflow/tasks/release.py",
        'needs_approval = site.placed.approval.by == "human"',
        "needs_approval = False",
        ("tests/airflow/test_airflow_release.py",),
    ),
    Mutant(
        6,
        "Evidence of other bytes is believed",
        "include/millrace/airflow/tasks/release.py",
        "    if digest(data) != stored.digest:",
        "    if not data:",
        ("tests/airflow/test_airflow_release.py",),
    ),
    Mutant(
        6,
        "an approval counts for every later release of the version",
        "include/millrace/ledger/releases.py",
        "digest([pipeline, version, evidence_digest, generation])",
        "digest([pipeline, version, evidence_digest])",
        ("tests/ledger/test_ledger_releases.py", "-k", "sqlite"),
    ),
    Mutant(
        6,
        "the gate of any Snapshot counts",
        "include/millrace/ledger/verdicts.py",
        "if each.snapshot == snapshot",
        "if each.snapshot",
        ("tests/ledger/test_ledger_events.py", "-k", "sqlite"),
    ),
    Mutant(
        7,
        "a promotion is made after any generation",
        "include/millrace/ledger/champions.py",
        "if generation != request.expected_generation:",
        "if generation < (request.expected_generation or 0):",
        ("tests/ledger/test_ledger_champions.py", "-k", "sqlite"),
    ),
    Mutant(
        6,
        "a model check that cannot be computed is left out",
        "include/millrace/evaluation/checks/__init__.py",
        'return Judged((Check(name=asked.name, passed=False, message=f"{asked.type} could not be computed: {why}"),))',
        "return Judged(())",
        ("tests/evaluation/test_evaluation_checks.py",),
    ),
    Mutant(
        7,
        "the copy of the champion goes back",
        "include/millrace/store/champions.py",
        "if stands is not None and stands.generation >= champion.generation:",
        "if stands == champion:",
        ("tests/store/test_store_champions.py", "-k", "not s3"),
    ),
    Mutant(
        8,
        "a superseded or ended decision trains",
        "include/millrace/ledger/retrains.py",
        '    if not again and decision.state != "waiting":\n        return False\n',
        "",
        ("tests/airflow/test_airflow_training.py",),
    ),
    Mutant(
        8,
        "a replay of old partitions retrains",
        "include/millrace/rules/governor.py",
        "    if newer:\n",
        "    if not history:\n",
        ("tests/rules/test_rules_governor.py",),
    ),
    Mutant(
        9,
        "a retry appends its fact again",
        "include/millrace/ledger/chain.py",
        "    if stands and _text(stands[0].event) == text:\n        return stands[0]\n",
        "",
        ("tests/ledger/test_ledger_chain.py", "-k", "sqlite"),
    ),
    Mutant(
        13,
        "an answer is not recorded by the task that waited for it",
        "include/millrace/airflow/tasks/approval.py",
        'if "error" not in event:',
        "if not event:",
        ("tests/airflow/test_airflow_release.py",),
    ),
    Mutant(
        3,
        "features of two recipes make one training set",
        "include/millrace/airflow/tasks/training.py",
        "    stale = [key for key, made_by in recipes.items() if not recipe.takes(made_by)]\n",
        "    stale: list[str] = []\n",
        ("tests/airflow/test_airflow_training.py", "-k", "recipe"),
    ),
    Mutant(
        13,
        "a recipe is believed of any Snapshot",
        "include/millrace/airflow/tasks/features.py",
        'if made is None or made.outputs["data"].digest != features["digest"]:',
        "if made is None:",
        ("tests/airflow/test_airflow_features.py", "-k", "recipe"),
    ),
    Mutant(
        15,
        "NaN of the SQL stays in features",
        "include/millrace/sql/result.py",
        "values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)",
        "values = pc.if_else(pc.is_nan(values), values, values)",
        ("tests/jobs/test_jobs_transform_rows.py", "-k", "nan"),
    ),
    Mutant(
        10,
        "weights of any format are loaded",
        "include/millrace/models/files.py",
        "    if not good:\n",
        "    if good is None:\n",
        ("tests/models/test_models_files.py",),
    ),
    Mutant(
        11,
        "a DAG file imports an ML library",
        "include/millrace/airflow/dags/features.py",
        "from datetime import UTC, datetime\n",
        "from datetime import UTC, datetime\n\nimport pandas  # noqa\n",
        ("tests/dags/test_dags_parse.py",),
    ),
    Mutant(
        12,
        "an address may hold a password",
        "include/millrace/core/settings.py",
        'if ":" in rest.partition("/")[0].rpartition("@")[0]:',
        'if ":" in "":',
        ("tests/core/test_core_settings.py",),
    ),
    Mutant(
        12,
        "values of any column are shown",
        "include/millrace/gates/engine.py",
        'return all(self.classify(column) == "public" for column in touched)',
        "return bool(touched)",
        ("tests/gates/test_gates_private.py",),
    ),
    Mutant(
        15,
        "statistics are written that leave NaN out",
        "include/millrace/store/snapshots.py",
        "if not (is_.is_floating(field.type) or is_.is_nested(field.type))",
        "if not is_.is_nested(field.type)",
        ("tests/store/test_store_snapshots.py", "-k", "not s3"),
    ),
    Mutant(
        16,
        "MLflow is left to call home",
        "include/millrace/airflow/runtime/run.py",
        "        os.environ.setdefault(name, value)\n",
        "        del name, value\n",
        ("tests/airflow/test_airflow_quiet.py",),
    ),
]
