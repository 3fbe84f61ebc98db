"""The files of a pipeline agree with one another: spec, SQL, suites and Feast definitions."""

from __future__ import annotations

import pytest

from millrace.spec import Placed

PIPELINES = {
    "flight_delays": "2013-02", "city_temperature": "2010-02-15", "digits": "2024-02", "languages": "2024-03-04",
}  # fmt: skip
FIXTURES = {"flight_delays": "flights", "city_temperature": "temperatures", "digits": "digits", "languages": "texts"}
TYPES = {"string": "String", "int64": "Int64", "double": "Float64"}


@pytest.fixture(params=PIPELINES)
def pipeline(request):
    """A pipeline and one partition's features."""
    found = request.getfixturevalue(FIXTURES[request.param])
    return found, found.transform(PIPELINES[request.param])


def test_these_are_the_pipelines(tree):
    assert tree.pipelines() == sorted(PIPELINES)


def test_feast_serves_what_the_sql_makes_and_never_the_label(pipeline):
    from millrace.feast_stores.definitions import describe

    # Given the Feast file
    found, made = pipeline
    spec = found.spec
    text = found.tree.features_file(spec.name).read_text()
    definitions = describe(text, f"{spec.name}.py")
    # Then it defines the service that the spec names, over the pipeline's own Table
    assert set(definitions.services) == {spec.features.service}
    (source,) = definitions.sources.values()
    assert (source.path, source.timestamp_field) == (f"millrace://{spec.name}/features", spec.features.event_time)
    # with every column the SQL makes, in its type, but for keys, event time and label
    (fields,) = definitions.views.values()
    served = {f.name: TYPES[str(f.type)] for f in made.schema
              if f.name not in {*spec.features.entity, spec.features.event_time, spec.label.column}}  # fmt: skip
    assert fields == served
    assert definitions.features(spec.features.service) == list(served)
    # joined on the spec's entity
    (keys,) = definitions.join_keys.values()
    assert set(keys) == set(spec.features.entity)
    assert set(spec.monitoring.columns) <= set(served)


def test_the_suite_demands_the_columns_that_the_sql_makes(pipeline):
    found, made = pipeline
    tables = {found.spec.features.gate: made.column_names}
    tables |= {source.gate: source.columns for source in found.spec.sources.values()}
    for name, columns in tables.items():
        suite = found.tree.suite(found.spec.name, name)["expectations"]
        assert len(suite) >= 8, name
        demanded = [e["kwargs"] for e in suite if e["type"] == "expect_table_columns_to_match_set"]
        assert demanded == [{"column_set": demanded[0]["column_set"], "exact_match": True}]
        assert set(demanded[0]["column_set"]) == set(columns), name


def test_every_column_is_classified(pipeline):
    found, made = pipeline
    columns = {*made.column_names, *(c for source in found.spec.sources.values() for c in source.columns)}
    assert columns == set(found.spec.columns)
    internal = {c for c in columns if found.spec.classification(c) != "public"}
    assert internal == ({"flight", "flight_id", "tailnum"} if found.spec.name == "flight_delays" else set())


@pytest.mark.parametrize("name", PIPELINES)
def test_a_person_approves_in_production_only(tree, name):
    dev, prod = (Placed.of(tree, environment, name) for environment in ("dev", "prod"))
    assert dev.approval.by == "auto"
    assert prod.approval.by == "human" and str(prod.approval.expires_after) == "P7D"
    assert prod.scheduled
    # and nothing else differs: what was checked in one place is what runs in the other
    assert dev.spec == prod.spec and dev.locations() == prod.locations()


def test_editors_find_the_schemas(tree):
    folder = tree.root / "include"
    written = [folder / "project.yaml", *folder.glob("environments/*.yaml"), *folder.glob("pipelines/*/pipeline.yaml")]
    assert len(written) == 3 + len(PIPELINES)
    for path in written:
        first = path.read_text().splitlines()[0]
        schema = (path.parent / first.removeprefix("# yaml-language-server: $schema=")).resolve()
        kind = {"project": "project", "pipeline": "pipeline"}.get(path.stem, "environment")
        assert schema == folder / "millrace" / "spec" / "schemas" / f"{kind}.schema.json"
