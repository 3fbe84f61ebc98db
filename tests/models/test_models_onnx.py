"""ONNX: what predicts by a graph, and what a graph may not be. No refused file is seen by onnxruntime."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from support import graphs
from support.graphs import data

from millrace.core.errors import DataError
from millrace.models.formats import check_weights
from millrace.models.onnx import BLOCK, Onnx
from millrace.models.onnx_graph import DEEPEST_TREE, input_names
from millrace.models.protocol import Column, Matrix, Settings
from millrace.spec.learner import KINDS, LEARNERS, OnnxModel

NAN = float("nan")
COLUMNS = (Column("distance", "number"), Column("hour", "number"))
VALUES = np.array([[800.0, 6.0], [1000.0, 18.0], [NAN, NAN]])


def predicted(
    made: Any,
    values: Any = VALUES,
    *,
    task: Any = "regression",
    classes: int = 0,
    threads: int = 2,
    columns: Any = COLUMNS,
) -> Any:
    weights = data(made)
    check_weights("weights.onnx", weights)
    settings = Settings(task, 7, threads, classes)
    return Onnx().predictor(weights, columns, OnnxModel(), settings)(Matrix(columns, values))


def test_trees_predict_and_send_what_is_missing_where_they_say() -> None:
    assert predicted(graphs.trees()).tolist() == [-1 + 0.25, 1 + 0.5, 1 + 0.25]
    assert predicted(graphs.flat_trees(), VALUES[:2]).tolist() == [1.0, 3.0]


def test_a_logistic_regression_gives_the_probability_of_1() -> None:
    filled = np.nan_to_num(VALUES)
    expected = 1 / (1 + np.exp(-(filled @ [0.002, -0.1] + 0.5)))
    found = predicted(graphs.logistic([0.002, -0.1], 0.5), task="binary")
    assert found == pytest.approx(expected, abs=1e-6) and found.dtype == np.float64


def test_inputs_by_name_are_given_in_whatever_order_they_stand() -> None:
    matrix, named = graphs.logistic([0.002, -0.1], 0.5), graphs.logistic([0.002, -0.1], 0.5, names=["distance", "hour"])
    assert input_names(data(matrix)) == ["X"] and input_names(data(named)) == ["distance", "hour"]
    turned = VALUES[:, ::-1].copy()
    found = predicted(named, turned, task="binary", columns=COLUMNS[::-1])
    assert (found == predicted(matrix, task="binary")).all()
    with pytest.raises(DataError, match="inputs are not the features"):
        predicted(graphs.logistic([0.002, -0.1], 0.5, names=["distance", "minute"]), task="binary")


def test_classes_have_a_probability_each() -> None:
    found = predicted(graphs.network(), VALUES[:2], task="multiclass", classes=3)
    assert found.shape == (2, 3) and found.sum(axis=1) == pytest.approx([1, 1]) and (found[:, 2] > found[:, 0]).all()
    with pytest.raises(DataError, match="does not give what a multiclass label asks for"):
        predicted(graphs.network(), VALUES[:2], task="multiclass", classes=4)
    with pytest.raises(DataError, match="does not give what a regression label asks for"):
        predicted(graphs.network(), VALUES[:2])


def test_the_same_rows_give_the_same_bytes_however_many_there_are() -> None:
    values = np.random.default_rng(1).normal(900, 300, (100 * BLOCK + 5, 2))
    first, again = (predicted(graphs.trees(), values) for _ in range(2))
    assert len(first) == len(values) and first.tobytes() == again.tobytes()


def test_a_graph_that_takes_or_gives_something_else_is_refused_in_words() -> None:
    with pytest.raises(DataError, match="of another width than the features: 3; allowed: 2|another width"):
        predicted(graphs.trees(3))
    fixed = graphs.trees()
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    with pytest.raises(DataError, match="takes a fixed number of rows"):
        predicted(fixed)
    text = graphs.model([helper.make_node("Cast", ["X"], ["Y"], to=graphs.FLOAT)], {"X": [None, 2]}, ["Y"])
    text.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(DataError, match="is no matrix of floating point"):
        predicted(text)
    two = graphs.network()
    two.graph.output.append(helper.make_tensor_value_info("raw", TensorProto.FLOAT, None))
    with pytest.raises(DataError, match="several outputs that could be the prediction"):
        predicted(two, task="multiclass", classes=3)
    features = graphs.trees(nodes_featureids=[1 << 20, 0, 0, 1, 0, 0])
    with pytest.raises(DataError, match="cannot compute this graph"):
        predicted(features)


def test_what_a_graph_takes_while_it_computes_has_an_end() -> None:
    ones = helper.make_tensor("ones", TensorProto.FLOAT, [1, 10_000_000], b"\0" * 40_000_000, raw=True)
    nodes = [
        helper.make_node("Reshape", ["X", "column"], ["c"]),
        helper.make_node("MatMul", ["c", "ones"], ["wide"]),
        helper.make_node("ReduceSum", ["wide"], ["Y"]),
    ]
    column = helper.make_tensor("column", TensorProto.INT64, [2], [-1, 1])
    made = graphs.model(nodes, {"X": [None, 2]}, ["Y"], ones, column)
    with pytest.raises(DataError, match="cannot compute this graph") as said:
        predicted(made, np.ones((1000, 2)))
    assert "memory" in str(said.value.__cause__)


def changed(made: Any, change: Any) -> bytes:
    change(made)
    return data(made)


IDENTITY = helper.make_node("Identity", ["X"], ["inside"])
REFUSED = {
    "no ONNX model": (b"\x80\x04\x95pickle", "does not hold an ONNX model"),
    "nothing": (b"", "holds more than an ONNX model"),
    "cut off": (data(graphs.trees())[:-9], "does not hold an ONNX model|holds more than"),
    "bytes after it": (data(graphs.trees()) + b"\x00\x01", "does not hold|holds more than"),
    "a second model after it": (data(graphs.trees()) * 2, "holds more than an ONNX model"),
    "a field that nobody knows": (data(graphs.trees()) + b"\xfa\x3f\x01x", "holds more than an ONNX model"),
    "a name that is no text": (data(graphs.trees()).replace(b"graph", b"\xf4raph"), "not UTF-8"),
    "values in another file": (data(graphs.with_external(graphs.trees())), "values of 'outside' are in another file"),
    "values of an attribute in another file": (
        changed(graphs.flat_trees(), lambda m: graphs._outside(m.graph.node[0].attribute[-1].t, "x")),
        "are in another file",
    ),
    "values of a subgraph in another file": (
        changed(
            graphs.in_a_subgraph(IDENTITY, helper.make_tensor("inner", TensorProto.FLOAT, [1], [1.0])),
            lambda m: graphs._outside(m.graph.node[0].attribute[0].g.initializer[0], "x"),
        ),
        "operator If is none of those",
    ),
    "sparse values in another file": (
        changed(graphs.trees(), lambda m: graphs._outside(m.graph.sparse_initializer.add().values, "x")),
        "are in another file",
    ),
    "another domain": (data(graphs.of_domain("com.evil")), "operator Execute is of the domain 'com.evil'"),
    "onnxruntime's own domain": (data(graphs.of_domain("com.microsoft")), "of the domain 'com.microsoft'"),
    "another domain in a subgraph": (
        data(graphs.in_a_subgraph(helper.make_node("Execute", ["X"], ["inside"], domain="com.evil"))),
        "operator If is none of those",
    ),
    "a branch": (data(graphs.in_a_subgraph(IDENTITY)), "operator If is none of those"),
    "a loop": (data(graphs.loop()), "operator Loop is none of those"),
    "chance": (
        data(graphs.model([helper.make_node("RandomNormalLike", ["X"], ["Y"])], {"X": [None, 2]}, ["Y"])),
        "operator RandomNormalLike is none of those",
    ),
    "a function": (data(graphs.with_function()), "functions of its own"),
    "a configuration": (
        changed(graphs.trees(), lambda m: m.metadata_props.add(key="ort_config", value="{}")),
        "would configure what executes it",
    ),
    "maps": (data(graphs.logistic([1.0, 1.0], 0.0, zipmap=True)), "zipmap=False"),
    "a sequence without ZipMap": (
        changed(graphs.trees(), lambda m: m.graph.output[0].type.sequence_type.SetInParent()),
        "zipmap=False",
    ),
    "a terabyte": (data(graphs.large()), "does not have as many values|a dimension that is none"),
    "a wide input": (data(graphs.trees(1 << 40)), "says a dimension that is none, or larger"),
    "integers divided": (data(graphs.divided()), "divides what is not known to be floating point"),
    "trees too deep": (data(graphs.chain(DEEPEST_TREE + 1)), "deeper than"),
    "a tree that turns back": (data(graphs.trees(nodes_falsenodeids=[0, 0, 0, 2, 0, 0])), "deeper than|turn back"),
    "a node under two": (data(graphs.trees(nodes_falsenodeids=[1, 0, 0, 2, 0, 0])), "hangs on two"),
    "a child that is not there": (
        data(graphs.trees(nodes_truenodeids=[7, 0, 0, 1, 0, 0])),
        "children that do not exist",
    ),
    "a node twice": (data(graphs.trees(nodes_nodeids=[0, 1, 1, 0, 1, 2])), "a node of its trees stands twice"),
    "shorter arrays": (data(graphs.trees(nodes_modes=["LEAF"])), "arrays of other lengths"),
    "a flat tree's child that is not there": (data(graphs.flat_trees(nodes_falsenodeids=[9, 2])), "do not exist"),
    "a flat tree that turns back": (data(graphs.flat_trees(nodes_falsenodeids=[0, 2])), "deeper than|turn back"),
    "a flat tree's leaf that is not there": (data(graphs.flat_trees(nodes_truenodeids=[0, 9])), "do not exist"),
    "a name twice": (
        changed(graphs.network(), lambda m: m.graph.initializer.append(m.graph.initializer[0])),
        "a name is given twice",
    ),
    "an attribute twice": (
        changed(graphs.trees(), lambda m: m.graph.node[0].attribute.append(m.graph.node[0].attribute[0])),
        "stands twice",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_graph_that_may_do_more_is_refused(name: str) -> None:
    given, words = REFUSED[name]
    with pytest.raises(DataError, match="not in a format that holds no code") as said:
        check_weights("weights.onnx", given)
    assert any(word in str(said.value) for word in words.split("|")), said.value


def test_what_is_refused_for_what_it_could_do_would_be_none_without_it() -> None:
    check_weights("weights.onnx", data(graphs.chain(DEEPEST_TREE)))
    check_weights("weights.onnx", data(graphs.divided(TensorProto.FLOAT)))
    assert predicted(graphs.divided(TensorProto.FLOAT), VALUES[:1, :1], columns=COLUMNS[:1])[0] == 808
    assert predicted(graphs.chain(DEEPEST_TREE)).tolist() == [1, 1, 1]


FLIPS = """
import sys
import numpy as np
from millrace.core.errors import MillraceError
from millrace.models.formats import check_weights
from millrace.models.onnx import Onnx
from millrace.models.protocol import Column, Matrix, Settings
data, width = sys.stdin.buffer.read(), 2
columns = tuple(Column(name, "number") for name in ("distance", "hour"))
rows = Matrix(columns, np.array([[800.0, 6.0], [np.nan, np.nan]]))
refused, predicted = 0, 0
for at in range(len(data)):
    flipped = bytearray(data)
    flipped[at] ^= 1 << (at * 5 % 8)
    try:
        check_weights("weights.onnx", bytes(flipped))
        Onnx().predictor(bytes(flipped), columns, None, Settings("binary", 7, 1))(rows)
        predicted += 1
    except MillraceError:
        refused += 1
print(refused, predicted)
"""


@pytest.mark.parametrize(
    "made", [graphs.trees(), graphs.flat_trees(), graphs.logistic([0.1, 0.2], 0)], ids=["trees", "flat", "logistic"]
)
def test_no_flipped_bit_makes_native_code_fail(made: Any) -> None:
    """A bit of each byte of the file. Where a flip is not refused it changed a number or a name. In a process of its
    own, which may die."""
    assert predicted(made, VALUES[:2], task="binary").shape == (2,)
    done = subprocess.run([sys.executable, "-c", FLIPS], input=data(made), capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    refused, still = map(int, done.stdout.split())
    assert refused > 100 and still > 10 and not done.stderr, done.stderr[-500:]


def test_nobody_trains_a_graph_and_a_model_may_be_one() -> None:
    assert isinstance(KINDS.resolve("onnx")(), OnnxModel) and "onnx" not in LEARNERS.kinds()
    with pytest.raises(
        ValueError, match="only predicts, and comes by `millrace import`; allowed: custom, torch_mlp, xgb"
    ):
        LEARNERS.resolve("onnx")
