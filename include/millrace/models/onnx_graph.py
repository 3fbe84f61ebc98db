"""Judges an ONNX file before onnxruntime sees it: one graph of known operators, whole, that leads to no other file.

What is allowed is a list, and short: operators of tables of numbers whose results are no larger than what goes in. An
operator may divide only floating point numbers, as onnxruntime divides integers by the processor's instruction, which
ends the process where -2**63 is divided by -1; and trees are no deeper than onnxruntime, which reads them by recursion,
can read them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError, Message
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, TensorShapeProto

from millrace.models.refused import Bad

LARGEST_FILE, LARGEST_SIZE = 256 * 2**20, 10_000_000
"""Bytes of a file, and the size of any dimension of what it holds."""
MOST_NODES, DEEPEST_TREE = 10_000, 512
_STANDARD, _ML = ("", "ai.onnx"), "ai.onnx.ml"
_LABELS = {"ArgMax", "ArgMin", "Shape", "Not", "And", "Or", "Xor", "Equal", "Less", "LessOrEqual", "Greater",
           "GreaterOrEqual", "IsNaN", "IsInf"}  # fmt: skip
"""Operators whose results are integers or booleans, whatever goes in."""
_NUMBERS = {
    "Abs", "Add", "BatchNormalization", "Ceil", "Celu", "Clip", "Concat", "Div", "Elu", "Erf", "Exp", "Flatten",
    "Floor", "Gather", "Gelu", "Gemm", "HardSigmoid", "HardSwish", "Identity", "LayerNormalization", "LeakyRelu", "Log",
    "LogSoftmax", "MatMul", "Max", "Mean", "Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "Reciprocal", "ReduceL1",
    "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceSumSquare", "Relu",
    "Reshape", "Round", "Selu", "Sigmoid", "Sign", "Slice", "Softmax", "Softplus", "Softsign", "Split", "Sqrt",
    "Squeeze", "Sub", "Sum", "Tanh", "ThresholdedRelu", "Transpose", "Unsqueeze",
}  # fmt: skip
"""Operators whose results are of the type of what goes in first."""
_OPERATORS = _LABELS | _NUMBERS | {"Cast", "Constant", "Where"}
_TREES = {"TreeEnsembleRegressor", "TreeEnsembleClassifier"}
_CLASSIFIERS = {"LinearClassifier", "TreeEnsembleClassifier"}
_ML_OPERATORS = {"ArrayFeatureExtractor", "Binarizer", "Imputer", "LinearRegressor", "Normalizer", "Scaler",
                 "TreeEnsemble"} | _TREES | _CLASSIFIERS  # fmt: skip
_AS_GIVEN = {"ArrayFeatureExtractor", "Binarizer", "Imputer"}
"""Of these the results are of the type of what goes in; of the others floating point, but for a class."""
_FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE}
_VALUES: dict[int, tuple[str, int]] = {
    TensorProto.FLOAT: ("float_data", 4), TensorProto.DOUBLE: ("double_data", 8), TensorProto.INT64: ("int64_data", 8),
    TensorProto.INT32: ("int32_data", 4), TensorProto.BOOL: ("int32_data", 1), TensorProto.UINT8: ("int32_data", 1),
    TensorProto.STRING: ("string_data", 0),
}  # fmt: skip
"""Type of a tensor -> where its values stand, and the bytes of one of them where they stand in `raw_data`."""
_PLAIN = {AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.STRING, AttributeProto.TENSOR, AttributeProto.FLOATS,
          AttributeProto.INTS, AttributeProto.STRINGS}  # fmt: skip
_ZIPMAP = "its probabilities are a sequence of maps; convert the model with the option zipmap=False"


def check_graph(data: bytes) -> None:
    """Raises Bad for a file that is no ONNX model, is not whole, or may do more than compute from rows."""
    if len(data) > LARGEST_FILE:
        raise Bad(f"it is larger than {LARGEST_FILE >> 20} MiB")
    model = read(data)
    for message in _within(model):
        if isinstance(message, TensorProto):
            _check_tensor(message)
        elif isinstance(message, NodeProto):
            _check_operator(message)
        elif isinstance(message, TensorShapeProto.Dimension) and not 0 <= message.dim_value <= LARGEST_SIZE:
            raise Bad(f"it says a dimension that is none, or larger than {LARGEST_SIZE:,}")
    if len(model.functions) or len(model.training_info) or len(model.graph.sparse_initializer):
        raise Bad("it brings functions of its own, a training, or sparse tensors")
    if any(entry.key == "ort_config" for entry in model.metadata_props):
        raise Bad("it would configure what executes it")
    if not 0 < len(model.graph.node) <= MOST_NODES:
        raise Bad(f"it has no operators, or more than {MOST_NODES:,}")
    for value in model.graph.output:
        if value.type.WhichOneof("value") != "tensor_type":
            raise Bad(_ZIPMAP)
    _check_flow(model.graph)


def read(data: bytes) -> ModelProto:
    """The model of a file, whose bytes are just those that say it. Raises Bad."""
    try:
        model = ModelProto.FromString(data)
    except DecodeError as err:
        raise Bad("it does not hold an ONNX model, or not a whole one") from err
    model.DiscardUnknownFields()
    if not model.HasField("graph") or model.SerializeToString(deterministic=True) != data:
        raise Bad("it holds more than an ONNX model, or says it in another way than protobuf does (write it again with "
                  "onnx.save(onnx.load(..)))")  # fmt: skip
    return model


def input_names(data: bytes) -> list[str]:
    """Names of what the model takes, in order. Raises Bad."""
    graph = read(data).graph
    constants = {tensor.name for tensor in graph.initializer}
    return [value.name for value in graph.input if value.name not in constants]


def _within(message: Message) -> Iterator[Message]:
    """A message and all that are in it, however deep: subgraphs, functions, attributes. Raises Bad for a text that is
    none, which protobuf gives as bytes."""
    yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for each in value if not isinstance(value, Message) else (value,):
                yield from _within(each)
        elif field.type == field.TYPE_STRING and not all(
            isinstance(each, str) for each in ((value,) if isinstance(value, str | bytes) else value)
        ):
            raise Bad("a name in it is not UTF-8")


def _check_tensor(tensor: TensorProto) -> None:
    """The tensor's values are in the file, as many as its shape says."""
    if tensor.data_location != TensorProto.DEFAULT or len(tensor.external_data):
        raise Bad(f"the values of '{tensor.name}' are in another file; save it with all its data inside")
    if tensor.data_type not in _VALUES:
        raise Bad(f"tensor '{tensor.name}' is of a type that no operator here takes")
    if any(not 0 <= size <= LARGEST_SIZE for size in tensor.dims):
        raise Bad(f"tensor '{tensor.name}' has a dimension that is none, or larger than {LARGEST_SIZE:,}")
    place, width = _VALUES[tensor.data_type]
    raw, typed = len(tensor.raw_data), len(getattr(tensor, place))
    count = raw / width if raw and width and not typed else typed
    if math.prod(tensor.dims) != count or (raw and (typed or not width)) or tensor.HasField("segment"):
        raise Bad(f"tensor '{tensor.name}' does not have as many values as its shape says")


def _check_operator(node: NodeProto) -> None:
    domain, name = node.domain, node.op_type
    if domain not in (*_STANDARD, _ML):
        raise Bad(f"operator {name} is of the domain '{domain}', not of the standard's")
    if name == "ZipMap":
        raise Bad(_ZIPMAP)
    allowed = _ML_OPERATORS if domain == _ML else _OPERATORS
    if name not in allowed:
        raise Bad(f"operator {name} is none of those that a model may have here: {', '.join(sorted(allowed))}")
    if len({a.name for a in node.attribute}) != len(node.attribute):
        raise Bad(f"an attribute of operator {name} stands twice")
    if any(a.type not in _PLAIN or a.ref_attr_name for a in node.attribute):
        raise Bad(f"operator {name} has an attribute that is no value")
    if name in _TREES:
        _check_trees(_attributes(node))
    elif name == "TreeEnsemble":
        _check_flat_trees(_attributes(node))


def _check_flow(graph: Any) -> None:
    """Each name is given once, and what is divided is floating point."""
    constants = {tensor.name: tensor.data_type in _FLOATS for tensor in graph.initializer}
    given = [v for v in graph.input if v.name not in constants]
    floating = constants | {v.name: v.type.tensor_type.elem_type in _FLOATS for v in given}
    count = len(graph.initializer) + len(given)
    for node in graph.node:
        gives = [each for each in node.output if each]
        if node.op_type == "Div" and not all(floating.get(each, False) for each in node.input):
            raise Bad("operator Div divides what is not known to be floating point")
        first, others = _floating(node, floating)
        floating |= {name: others if at else first for at, name in enumerate(gives)}
        count += len(gives)
        if len(floating) != count:
            raise Bad(f"a name is given twice, the second time by operator {node.op_type}")


def _floating(node: NodeProto, known: dict[str, bool]) -> tuple[bool, bool]:
    """Whether the first of an operator's results is floating point, and the others."""
    name, found = node.op_type, _attributes(node)
    if name in _LABELS:
        return False, False
    if name in _CLASSIFIERS:
        return False, True
    if name == "Cast":
        return "to" in found and found["to"].i in _FLOATS, False
    if name == "Constant":
        return all(a.t.data_type in _FLOATS or a.name in ("value_float", "value_floats") for a in found.values()), False
    if name in _ML_OPERATORS and name not in _AS_GIVEN:
        return True, True
    giving = node.input[1:2] if name == "Where" else node.input[:1]
    same = all(known.get(each, False) for each in giving)
    return same, same


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {a.name: a for a in node.attribute}


def _integers(attributes: dict[str, Any], name: str) -> Any:
    return np.array(attributes[name].ints if name in attributes else [], dtype=np.int64)


def _check_trees(found: dict[str, Any]) -> None:
    """Trees of nodes that have a number in their tree."""
    trees, nodes, yes, no = (
        _integers(found, f"nodes_{n}") for n in ("treeids", "nodeids", "truenodeids", "falsenodeids")
    )
    modes = list(found["nodes_modes"].strings) if "nodes_modes" in found else []
    if not 0 < len(nodes) == len(trees) == len(yes) == len(no) == len(modes):
        raise Bad("its trees have arrays of other lengths than their nodes")
    if any(((part < 0) | (part > 2**31 - 1)).any() for part in (trees, nodes, yes, no)):
        raise Bad("its trees have numbers that are none of a node")
    inner = np.array([mode != b"LEAF" for mode in modes])
    names = trees << 31 | nodes
    order = np.argsort(names, kind="stable")
    if (np.diff(names[order]) == 0).any():
        raise Bad("a node of its trees stands twice")
    above = np.flatnonzero(inner)
    edges = []
    for children in (yes, no):
        wanted = trees[inner] << 31 | children[inner]
        at = np.minimum(np.searchsorted(names[order], wanted), len(names) - 1)
        if (names[order][at] != wanted).any():
            raise Bad("a tree has children that do not exist")
        edges.append(order[at])
    _check_edges(np.tile(above, 2), np.concatenate(edges), len(names))


def _check_flat_trees(found: dict[str, Any]) -> None:
    """Trees of nodes in one row, whose leaves lie in another (opset 5)."""
    if "membership_values" in found:
        raise Bad("its trees ask for members of sets, which no operator here does")
    roots, yes, no, yes_leaf, no_leaf, leaves = (
        _integers(found, n)
        for n in ("tree_roots", "nodes_truenodeids", "nodes_falsenodeids", "nodes_trueleafs", "nodes_falseleafs",
                  "leaf_targetids")
    )  # fmt: skip
    count = len(yes)
    if not 0 < count == len(no) == len(yes_leaf) == len(no_leaf):
        raise Bad("its trees have arrays of other lengths than their nodes")
    above, below = [], []
    for children, leaf in ((yes, yes_leaf), (no, no_leaf)):
        if ((children < 0) | (children >= np.where(leaf == 1, len(leaves), count))).any() or set(leaf) - {0, 1}:
            raise Bad("a tree has children that do not exist")
        above.append(np.flatnonzero(leaf == 0))
        below.append(children[leaf == 0])
    if ((roots < 0) | (roots >= count)).any():
        raise Bad("a tree has a root that does not exist")
    _check_edges(np.concatenate(above), np.concatenate(below), count)


def _check_edges(above: Any, below: Any, nodes: int) -> None:
    """No node hangs on two, and from each the way up ends, soon."""
    if len(np.unique(below)) != len(below):
        raise Bad("a node of its trees hangs on two others")
    parent = np.full(nodes, -1)
    parent[below] = above
    at = np.arange(nodes)
    for _ in range(DEEPEST_TREE + 1):
        at = parent[at[at >= 0]]
        if not (at >= 0).any():
            return
    raise Bad(f"its trees are deeper than {DEEPEST_TREE}, or turn back on themselves")
