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
        "include/millrace/feast_stores/asof.py",
        'f"a.{MOMENT} >= {when}"',
        'f"a.{MOMENT} <= {when}"',
        ("tests/feast_stores/test_feast_stores_asof.py",),
    ),
    Mutant(
        4,
        "a late write replaces a newer value",
        "include/millrace/feast_stores/sqlite.py",
        'f"> ({t}.event_us, {t}.created_us, {t}.revision, {t}.features)"',
        'f"IS NOT ({t}.event_us, {t}.created_us, {t}.revision, {t}.features)"',
        ("tests/feast_stores/test_feast_stores_online.py", "-k", "sqlite"),
    ),
    Mutant(
        5,
        "a gate passes without rows",
        "include/millrace/gates/builtin.py",
        "passed=table.num_rows > 0, message=message, total=table.num_rows)",
        "passed=True, message=message, total=table.num_rows)",
        ("tests/gates/test_gates_vacuous.py",),
    ),
    Mutant(
        5,
        "a gate passes with an empty suite",
        "include/millrace/gates/builtin.py",
        'name="suite", passed=bool(entries)',
        'name="suite", passed=True',
        ("tests/gates/test_gates_vacuous.py",),
    ),
    Mutant(
        5,
        "a gate passes with a column of nulls",
        "include/millrace/gates/builtin.py",
        "if nulls[name] == table.num_rows and name not in waived",
        "if nulls[name] > table.num_rows and name not in waived",
        ("tests/gates/test_gates_vacuous.py",),
    ),
    Mutant(
        5,
        "a failed verdict goes on",
        "include/millrace/airflow/gate.py",
        "if not verdict.passed:",
        "if verdict.passed is None:",
        ("tests/airflow/test_airflow_features.py",),
    ),
]
