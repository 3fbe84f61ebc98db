"""ONNX models of tables, made with the package onnx as converters make them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from onnx import TensorProto, helper

ML = "ai.onnx.ml"
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def model(
    nodes: Sequence[Any], inputs: dict[str, list[Any]], outputs: Sequence[Any], *tensors: Any, ml: int = 3
) -> Any:
    """A model; `inputs` name -> shape, `outputs` names of floating point, or values as onnx has them."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(o, FLOAT, None) if isinstance(o, str) else o for o in outputs],
        list(tensors),
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, ml)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def data(made: Any) -> bytes:
    return bytes(made.SerializeToString(deterministic=True))


def logistic(weights: Sequence[float], bias: float, *, zipmap: bool = False, names: Sequence[str] = ()) -> Any:
    """A logistic regression as sklearn-onnx writes it: missing values filled with 0, label and `probabilities`; `names`
    for one input each."""
    inputs = {name: [None, 1] for name in names} or {"X": [None, len(weights)]}
    joined = [helper.make_node("Concat", list(names), ["X"], axis=1)] if names else []
    filled = helper.make_node("Imputer", ["X"], ["filled"], domain=ML, imputed_value_floats=[0.0] * len(weights),
                              replaced_value_float=float("nan"))  # fmt: skip
    classed = helper.make_node(
        "LinearClassifier", ["filled"], ["label", "scores"], domain=ML, post_transform="LOGISTIC",
        coefficients=[*(-w for w in weights), *weights], intercepts=[-float(bias), float(bias)],
        classlabels_ints=[0, 1],
    )  # fmt: skip
    label = helper.make_tensor_value_info("label", INT64, [None])
    if not zipmap:
        last = helper.make_node("Normalizer", ["scores"], ["probabilities"], domain=ML, norm="L1")
        return model([*joined, filled, classed, last], inputs, [label, "probabilities"])
    last = helper.make_node("ZipMap", ["scores"], ["probabilities"], domain=ML, classlabels_int64s=[0, 1])
    kind = helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, []))
    maps = helper.make_value_info("probabilities", helper.make_sequence_type_proto(kind))
    return model([*joined, filled, classed, last], inputs, [label, maps])


def trees(width: int = 2, **changes: Any) -> Any:
    """Two stumps, of feature 0 (missing: to the right) and of feature 1 (missing: to the left)."""
    said: dict[str, Any] = {
        "n_targets": 1, "nodes_treeids": [0, 0, 0, 1, 1, 1], "nodes_nodeids": [0, 1, 2, 0, 1, 2],
        "nodes_featureids": [0, 0, 0, 1, 0, 0], "nodes_values": [900.0, 0, 0, 12.0, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"] * 2, "nodes_truenodeids": [1, 0, 0] * 2,
        "nodes_falsenodeids": [2, 0, 0] * 2, "nodes_missing_value_tracks_true": [0, 0, 0, 1, 0, 0],
        "nodes_hitrates": [1.0] * 6, "target_treeids": [0, 0, 1, 1], "target_nodeids": [1, 2, 1, 2],
        "target_ids": [0] * 4, "target_weights": [-1.0, 1.0, 0.25, 0.5],
    }  # fmt: skip
    node = helper.make_node("TreeEnsembleRegressor", ["X"], ["Y"], domain=ML, **{**said, **changes})
    return model([node], {"X": [None, width]}, ["Y"])


def flat_trees(**changes: Any) -> Any:
    """One tree of two splits as opset 5 has it: 1 where feature 0 is at most 900, else 2 or 3 by feature 1."""
    said: dict[str, Any] = {
        "n_targets": 1, "tree_roots": [0], "nodes_featureids": [0, 1], "nodes_truenodeids": [0, 1],
        "nodes_trueleafs": [1, 1], "nodes_falsenodeids": [1, 2], "nodes_falseleafs": [0, 1],
        "leaf_targetids": [0, 0, 0],
        "nodes_splits": helper.make_tensor("splits", FLOAT, [2], [900.0, 12.0]),
        "nodes_modes": helper.make_tensor("modes", TensorProto.UINT8, [2], [0, 0]),
        "leaf_weights": helper.make_tensor("weights", FLOAT, [3], [1.0, 2.0, 3.0]),
    }  # fmt: skip
    node = helper.make_node("TreeEnsemble", ["X"], ["Y"], domain=ML, **{**said, **changes})
    return model([node], {"X": [None, 2]}, ["Y"], ml=5)


def of_booster(booster: Any, width: int) -> Any:
    """XGBoost's trees of a binary label as a converter writes them: sums of leaves, and a sigmoid."""
    found: dict[str, list[Any]] = {name: [] for name in (
        "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_values", "nodes_modes", "nodes_truenodeids",
        "nodes_falsenodeids", "nodes_missing_value_tracks_true", "target_treeids", "target_nodeids", "target_ids",
        "target_weights")}  # fmt: skip

    def add(tree: int, node: dict[str, Any]) -> None:
        leaf = "leaf" in node
        row = (tree, node["nodeid"], 0 if leaf else int(node["split"][1:]),
               0.0 if leaf else float(node["split_condition"]), "LEAF" if leaf else "BRANCH_LT",
               0 if leaf else node["yes"], 0 if leaf else node["no"],
               0 if leaf else int(node["missing"] == node["yes"]))  # fmt: skip
        for name, value in zip(found, row, strict=False):
            found[name].append(value)
        if leaf:
            for name, value in zip(list(found)[8:], (tree, node["nodeid"], 0, float(node["leaf"])), strict=True):
                found[name].append(value)
        for child in node.get("children", ()):
            add(tree, child)

    for number, text in enumerate(booster.get_dump(dump_format="json")):
        add(number, json.loads(text))
    (base,) = json.loads(json.loads(booster.save_config())["learner"]["learner_model_param"]["base_score"])
    nodes = [
        helper.make_node("TreeEnsembleRegressor", ["X"], ["raw"], domain=ML, n_targets=1,
                         base_values=[math.log(base / (1 - base))], **found),
        helper.make_node("Sigmoid", ["raw"], ["Y"]),
    ]  # fmt: skip
    return model(nodes, {"X": [None, width]}, ["Y"])


def chain(depth: int) -> Any:
    """A tree that is as deep as that: each node's left child is a leaf."""
    count = 2 * depth + 1
    inner = [at % 2 == 0 and at < 2 * depth for at in range(count)]
    leaves = [at for at in range(count) if not inner[at]]
    return trees(
        nodes_treeids=[0] * count, nodes_nodeids=list(range(count)), nodes_featureids=[0] * count,
        nodes_values=[0.5] * count, nodes_modes=["BRANCH_LEQ" if is_inner else "LEAF" for is_inner in inner],
        nodes_truenodeids=[at + 1 if inner[at] else 0 for at in range(count)],
        nodes_falsenodeids=[at + 2 if inner[at] else 0 for at in range(count)],
        nodes_missing_value_tracks_true=[0] * count, nodes_hitrates=[1.0] * count, target_treeids=[0] * len(leaves),
        target_nodeids=leaves, target_ids=[0] * len(leaves), target_weights=[1.0] * len(leaves),
    )  # fmt: skip


def network(width: int = 2, classes: int = 3) -> Any:
    """A softmax layer as torch exports one: as many classes, of which the last is the likelier the larger feature 0."""
    weights = helper.make_tensor(
        "w", FLOAT, [width, classes], [float(at % classes) / 1000 for at in range(width * classes)]
    )
    bias = helper.make_tensor("b", FLOAT, [classes], [0.0] * classes)
    nodes = [helper.make_node("Gemm", ["X", "w", "b"], ["raw"]), helper.make_node("Softmax", ["raw"], ["Y"], axis=1)]
    return model(nodes, {"X": [None, width]}, ["Y"], weights, bias)


def with_external(made: Any, location: str = "../../../etc/passwd") -> Any:
    """The model with a tensor whose values lie in a file."""
    tensor = made.graph.initializer.add(name="outside", data_type=FLOAT, dims=[4])
    _outside(tensor, location)
    return made


def _outside(tensor: Any, location: str) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)


def in_a_subgraph(node: Any, *tensors: Any) -> Any:
    """A model whose operator If has this node in its branches."""
    branch = helper.make_graph(
        [node], "branch", [], [helper.make_tensor_value_info("inside", FLOAT, None)], list(tensors)
    )
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    chosen = helper.make_node("If", ["yes"], ["Y"], then_branch=branch, else_branch=branch)
    return model([chosen], {"X": [None, 2]}, ["Y"], yes)


def loop() -> Any:
    """A model that adds up without end."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["X"], ["next"])], "body",
        [helper.make_tensor_value_info("at", INT64, []), helper.make_tensor_value_info("go", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("next", FLOAT, None)],
    )  # fmt: skip
    return model([helper.make_node("Loop", ["", "yes"], ["Y"], body=body)], {"X": [None, 2]}, ["Y"],
                 helper.make_tensor("yes", TensorProto.BOOL, [], [True]))  # fmt: skip


def of_domain(domain: str) -> Any:
    made = model([helper.make_node("Execute", ["X"], ["Y"], domain=domain)], {"X": [None, 2]}, ["Y"])
    made.opset_import.add(domain=domain, version=1)
    return made


def with_function() -> Any:
    """A model whose operator Relu is a function of its own."""
    made = model([helper.make_node("Relu", ["X"], ["Y"])], {"X": [None, 2]}, ["Y"])
    made.functions.append(helper.make_function("", "Relu", ["x"], ["y"], [helper.make_node("Abs", ["x"], ["y"])],
                                               [helper.make_opsetid("", 17)]))  # fmt: skip
    return made


def divided(kind: int = INT64) -> Any:
    """A model that divides the smallest integer by -1, or the same of floating point."""
    nodes = [helper.make_node("Div", ["a", "b"], ["c"]), helper.make_node("Cast", ["c"], ["d"], to=FLOAT),
             helper.make_node("Add", ["X", "d"], ["Y"])]  # fmt: skip
    least = -(2**63) if kind == INT64 else -8.0
    return model(nodes, {"X": [None, 1]}, ["Y"], helper.make_tensor("a", kind, [1], [least]),
                 helper.make_tensor("b", kind, [1], [-1]))  # fmt: skip


def large() -> Any:
    """A model with a tensor of a terabyte, by its shape."""
    made = network()
    del made.graph.initializer[0].dims[:]
    made.graph.initializer[0].dims.extend([1 << 20, 1 << 18])
    return made
