"""JobRequest: what its digest depends on, and what a reader refuses."""

from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.contract import CONTRACT_VERSION, Identity, Input, JobRequest, Means, Place, Run, Service
from millrace.core.errors import ContractError
from millrace.spec import schema

SHA = "sha256:" + "0" * 64
OTHER = "sha256:" + "1" * 64


def request(**identity) -> JobRequest:
    """A request to land nothing in particular."""
    base = {
        "job": "land",
        "params": {"source": "a", "n": 1},
        "scope": ("2024-01",),
        "spec_digest": SHA,
        "code_digest": SHA,
        "inputs": (Input(role="data", kind="snapshot", digest=SHA), Input(role="data", kind="snapshot", digest=OTHER)),
    }
    return JobRequest(
        identity=Identity(**{**base, **identity}), place=Place(store="/store", inputs={SHA: "snapshots/a/"})
    )


def test_the_digest_is_the_same_wherever_and_whenever_it_runs():
    here = request()
    there = here.model_copy(update={
        "place": Place(store="s3://bucket/x", inputs={SHA: "else/"}, result="results/r.json", checkpoint="c"),
        "run": Run(project="p", environment="prod", pipeline="q", run_id="r", try_number=3, url="http://localhost"),
        "means": Means(profile="gpu", services={"mlflow": Service(uri="http://m", secret="TOKEN")}),
    })  # fmt: skip
    assert here.request_digest == there.request_digest == JobRequest.parse(there.model_dump_json()).request_digest
    # nor does the order of keys matter
    assert request(params={"n": 1, "source": "a"}).request_digest == here.request_digest


@pytest.mark.parametrize(
    "identity",
    [
        {"job": "score"}, {"params": {"source": "b", "n": 1}}, {"params": {"source": "a", "n": "1"}}, {"params": {}},
        {"scope": ("2024-02",)}, {"scope": ("2024-01", "2024-02")}, {"inputs": ()}, {"spec_digest": OTHER},
        {"code_digest": OTHER}, {"seed": 1}, {"threads": 1}, {"contract": "1.1"},
        {"inputs": (Input(role="data", kind="snapshot", digest=OTHER),
                    Input(role="data", kind="snapshot", digest=SHA))},
        {"inputs": (Input(role="data", kind="snapshot", digest=SHA, partition="2024-01"),
                    Input(role="data", kind="snapshot", digest=OTHER))},
    ],
)  # fmt: skip
def test_the_digest_moves_with_all_that_decides_the_outcome(identity):
    assert request(**identity).request_digest != request().request_digest


def test_the_digest_is_pinned():
    """Changing how identity is computed disowns every stored result: this test must then be changed on purpose."""
    assert request().request_digest == "sha256:b39eff8c744f1f42d74fa510859a47149d687b8aba12ececfe4ee785e855e920"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.floats(-1e300, 1e300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(params=st.dictionaries(st.text(max_size=5), json_values, max_size=3))
def test_any_params_travel_unchanged(params):
    sent = request(params=params)
    read = JobRequest.parse(sent.model_dump_json())
    assert read == sent and read.request_digest == sent.request_digest


@pytest.mark.parametrize("section", [None, "identity", "place", "run", "means"])
def test_an_unknown_field_is_refused(section):
    # Given a request with a field that this code does not know
    value = json.loads(request().model_dump_json())
    (value if section is None else value[section])["hurry"] = True
    # Then it is not run as if the field were not there
    with pytest.raises(ContractError, match=r"request field (\w+\.)?hurry: Extra inputs are not permitted"):
        JobRequest.parse(json.dumps(value))
    # and a sender cannot write one
    with pytest.raises(ValueError, match="hurry"):
        Identity(job="land", spec_digest=SHA, code_digest=SHA, hurry=True)


def test_an_unknown_field_of_an_input_is_refused():
    value = json.loads(request().model_dump_json())
    value["identity"]["inputs"][1]["path"] = "/tmp/x"
    with pytest.raises(ContractError, match=r"identity\.inputs\.1\.path"):
        JobRequest.parse(json.dumps(value))


@pytest.mark.parametrize(
    ("version", "read"),
    [("1.0", True), ("1.1", False), ("1.10", False), ("2.0", False), ("0.9", False), ("1", False), ("one", False),
     ("1.0.0", False), ("", False)],
)  # fmt: skip
def test_a_higher_minor_or_another_major_is_refused(version, read):
    text = request(contract=version).model_dump_json()
    if read:
        assert JobRequest.parse(text).identity.contract == CONTRACT_VERSION
    else:
        with pytest.raises(ContractError, match="version"):
            JobRequest.parse(text)


def test_the_version_is_judged_before_fields_that_only_a_later_one_knows():
    value = json.loads(request(contract="1.7").model_dump_json())
    value["identity"]["hurry"] = True
    with pytest.raises(ContractError, match=r"given: '1\.7'.*Run the job with the millrace version that wrote"):
        JobRequest.parse(json.dumps(value))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"x"', "{}", '{"identity": 1}', b"\xff\xfe", '{"identity": {}}']
)
def test_what_is_no_request_is_refused(text):
    with pytest.raises(ContractError, match="the request is not JSON with `identity.contract`"):
        JobRequest.parse(text)


@pytest.mark.parametrize("digest", ["", "sha256:", "md5:" + "0" * 64, "sha256:" + "G" * 64, SHA + "\n", SHA + "0"])
def test_a_digest_has_one_form(digest):
    with pytest.raises(ValueError, match="pattern"):
        Input(role="data", kind="snapshot", digest=digest)


def test_a_request_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        request().identity.seed = 3


def test_inputs_by_role():
    both = request()
    assert [i.digest for i in both.inputs("data")] == [SHA, OTHER]
    assert both.key(both.inputs("data")[0]) == "snapshots/a/"
    with pytest.raises(ContractError, match="has no place in the request"):
        both.key(both.inputs("data")[1])
    with pytest.raises(ContractError, match="exactly one input of role 'data', found 2"):
        both.input("data")
    with pytest.raises(ContractError, match="did you mean 'data'"):
        both.input("dta")


def test_the_committed_schema_says_what_the_reader_says():
    from millrace import contract

    path = schema.Path(contract.__file__).parent / "schemas" / "job_request.schema.json"
    validator = jsonschema.Draft202012Validator(json.loads(path.read_text()))
    value = json.loads(request().model_dump_json())
    assert list(validator.iter_errors(value)) == []
    value["identity"]["hurry"] = True
    assert list(validator.iter_errors(value))
