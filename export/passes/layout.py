"""Removal of Transposes between layouts, or their move to the borders of the graph.

Keras has channels last, onnxruntime's convolutions have them first. tf2onnx moves Transposes as far
as it can, and leaves pairs of them around operations that it does not know, such as the scales of
conditional batch normalization.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TypeGuard

import numpy as np
import onnx
from onnx import helper

from export.passes.batch_norm import read_dense, reshaped_rows, write_dense
from export.passes.graph import BINARY, UNARY, Graph, attribute

_RESIZES = ("Resize",)


def reorder(model: onnx.ModelProto) -> int:
    """Removes every Transpose that reordering the axes of the nodes in between makes redundant.

    Args:
        model: model, changed in place.

    Returns:
        The number of changes.
    """
    graph = Graph(model)
    for node in graph.nodes:
        rank = _rank(graph, node.output[0])
        if node.op_type == "Transpose" and attribute(node, "perm") is None and rank is not None:
            node.attribute.append(helper.make_attribute("perm", list(range(rank))[::-1]))
    changed = 0
    # Each rewrite removes more Transposes than it adds, including the merging of those that a
    # reordering duplicates. The bound guards against unforeseen cycles.
    rewrites = (_merge_equal, _absorb_into_dense, _reorder_regions)
    while changed < 10 * len(graph.nodes) and any(rewrite(graph) for rewrite in rewrites):
        changed += 1
    graph.write()
    return changed


# ------------------------------------------------------------------------ equal Transposes


def _merge_equal(graph: Graph) -> bool:
    """Merges two Transposes of one tensor to the same order."""
    seen: dict[tuple, onnx.NodeProto] = {}
    for node in graph.nodes:
        if not _is_transpose(node) or node.output[0] in graph.kept:
            continue
        first = seen.setdefault((node.input[0], tuple(_order(node))), node)
        if first is not node:
            graph.replace([node])
            graph.rename_reads(node.output[0], first.output[0])
            return True
    return False


# ------------------------------------------------------------------------ into a dense layer


def _absorb_into_dense(graph: Graph) -> bool:
    """Permutes the units of a dense layer in place of the Transpose after it."""
    for node in graph.nodes:
        if _is_transpose(node) and _order(node)[0] == 0 and _permute_units(graph, node):
            return True
    return False


def _permute_units(graph: Graph, transpose: onnx.NodeProto) -> bool:
    between: list[onnx.NodeProto] = []
    node = _private_producer(graph, transpose)
    reshape = None
    while node is not None and (
        node.op_type in UNARY or (node.op_type == "Reshape" and not reshape)
    ):
        if node.op_type == "Reshape":
            reshape = node
        between.append(node)
        node = _private_producer(graph, node)
    if node is None or reshape is None:
        return False
    layer = read_dense(graph, node)
    if layer is None:
        return False
    weights, bias = layer
    shape = reshaped_rows(graph, reshape, weights.shape[1])
    order = _order(transpose)
    if shape is None or len(shape) != len(order):
        return False
    units = np.arange(weights.shape[1]).reshape(1, *shape[1:]).transpose(order).ravel()
    write_dense(graph, node, weights[:, units], None if bias is None else bias[units])
    target = np.array([-1, *(shape[axis] for axis in order[1:])], np.int64)
    reshape.input[1] = graph.add_constant("shape", target)
    identity = graph.node("Identity", [transpose.input[0]], transpose.output[0])
    graph.replace([transpose], [identity])
    graph.remove(identity)
    return True


def _private_producer(graph: Graph, node: onnx.NodeProto) -> onnx.NodeProto | None:
    return graph.producer(node.input[0]) if graph.private(node.input[0]) else None


# ------------------------------------------------------------------------ regions


@dataclasses.dataclass
class _Region:
    """Connected nodes that compute the same in any order of the axes.

    Args:
        nodes: the nodes, in the graph's order.
        rank: rank of all their tensors that are not constant.
    """

    nodes: list[onnx.NodeProto]
    rank: int

    def has(self, node: onnx.NodeProto | None) -> bool:
        return any(node is other for other in self.nodes)


def _reorder_regions(graph: Graph) -> bool:
    """Reorders the axes of one region where that removes more Transposes than it adds."""
    done: list[onnx.NodeProto] = []
    for node in graph.nodes:
        if any(node is other for other in done) or not _any_order(graph, node):
            continue
        region = _grow(graph, node)
        done += region.nodes
        best: tuple[float, Sequence[int]] | None = None
        for order in _orders(graph, region):
            gain = _gain(graph, region, order)
            if gain > 0 and (best is None or gain > best[0]):
                best = gain, order
        if best is not None:
            _reorder_region(graph, region, best[1])
            return True
    return False


def _any_order(graph: Graph, node: onnx.NodeProto) -> bool:
    if node.op_type in _RESIZES:
        constant = len(node.input) == 3 and graph.constant(node.input[2]) is not None
        return constant and not node.input[1] and attribute(node, "axes") is None
    if node.op_type in BINARY:
        return _fits(graph, node)
    return node.op_type in UNARY


def _fits(graph: Graph, node: onnx.NodeProto) -> bool:
    """Checks that all operands have the same rank; constants may have a lower one."""
    ranks = [_rank(graph, name) for name in node.input if graph.constant(name) is None]
    if not ranks or None in ranks or len(set(ranks)) != 1:
        return False
    constants = [c for c in map(graph.constant, node.input) if c is not None]
    return all(constant.ndim <= ranks[0] for constant in constants)  # type: ignore[operator]


def _rank(graph: Graph, name: str) -> int | None:
    shape = graph.shape(name)
    return None if shape is None else len(shape)


def _grow(graph: Graph, seed: onnx.NodeProto) -> _Region:
    rank = _rank(graph, seed.output[0])
    found = [seed]
    waiting = [seed]
    while waiting:
        node = waiting.pop()
        beside = [graph.producer(name) for name in node.input]
        beside += graph.readers(node.output[0])
        for other in beside:
            if other is None or any(other is each for each in found):
                continue
            if _any_order(graph, other) and _rank(graph, other.output[0]) == rank:
                found.append(other)
                waiting.append(other)
    ordered = [node for node in graph.nodes if any(node is each for each in found)]
    return _Region(ordered, rank or 0)


def _entries(graph: Graph, region: _Region) -> list[str]:
    """Returns the tensors that enter a region, each once, without constants."""
    names: dict[str, None] = {}
    for node in region.nodes:
        for name in node.input[: 1 if node.op_type in _RESIZES else None]:
            if graph.constant(name) is None and not region.has(graph.producer(name)):
                names[name] = None
    return list(names)


def _exits(graph: Graph, region: _Region) -> list[str]:
    """Returns the tensors of a region that are read outside it."""
    names = [node.output[0] for node in region.nodes]
    return [
        name
        for name in names
        if name in graph.kept or not all(region.has(r) for r in graph.readers(name))
    ]


def _orders(graph: Graph, region: _Region) -> list[tuple[int, ...]]:
    """Returns the orders of axes that remove at least one Transpose at the region's border."""
    found: dict[tuple[int, ...], None] = {}
    for name in _entries(graph, region):
        node = graph.producer(name)
        if _is_transpose(node):
            found[_inverse(_order(node))] = None
    for name in _exits(graph, region):
        for reader in graph.readers(name):
            if _is_transpose(reader):
                found[tuple(_order(reader))] = None
    return list(found)


def _gain(graph: Graph, region: _Region, order: Sequence[int]) -> float:
    """Returns the elements of a sample that are no longer moved, minus those that then are."""
    gain = 0.0
    for name in _entries(graph, region):
        producer = graph.producer(name)
        size = _size(graph, name)
        if _is_transpose(producer):
            removable = name not in graph.kept and all(
                region.has(reader) for reader in graph.readers(name)
            )
            cancels = _order_after(producer, order) == tuple(range(region.rank))
            gain += (size if removable else 0) - (0 if cancels else size)
        elif not _is_single_axis(graph, name) and not _is_available(graph, name, order):
            gain -= size
    for name in _exits(graph, region):
        size, back = _size(graph, name), False
        for reader in graph.readers(name):
            if region.has(reader):
                continue
            if _is_transpose(reader):
                gain += size if tuple(_order(reader)) == tuple(order) else 0
            else:
                back = True
        gain -= size if back or name in graph.kept else 0
    return gain


def _size(graph: Graph, name: str) -> float:
    shape = graph.shape(name) or ()
    return math.prod(1 if size is None else size for size in shape)


def _is_single_axis(graph: Graph, name: str) -> bool:
    """Checks that at most one axis besides the batch has several elements: none would move."""
    shape = graph.shape(name)
    return shape is not None and sum(size != 1 for size in shape[1:]) <= 1


def _is_available(graph: Graph, name: str, order: Sequence[int]) -> bool:
    """Checks whether a reader outside already transposes the tensor to that order."""
    readers = graph.readers(name)
    return any(_is_transpose(r) and tuple(_order(r)) == tuple(order) for r in readers)


def _reorder_region(graph: Graph, region: _Region, order: Sequence[int]) -> None:
    """Reorders the axes of every tensor of a region."""
    renamed: dict[str, str] = {}
    before: list[onnx.NodeProto] = []
    for name in _entries(graph, region):
        renamed[name] = _reordered(graph, name, order, before)
    exits = _exits(graph, region)
    outside = {name: [r for r in graph.readers(name) if not region.has(r)] for name in exits}
    after: list[onnx.NodeProto] = []
    for name in exits:
        renamed[name] = graph.name("flipped")
        if name in graph.kept or outside[name]:
            after.append(graph.node("Transpose", [renamed[name]], name, perm=list(_inverse(order))))
    for node in region.nodes:
        for i, name in enumerate(node.input):
            if name in renamed:
                node.input[i] = renamed[name]
            elif node.op_type in _RESIZES and i == 2:
                scales = graph.constant(name)
                reordered = scales[list(order)]  # type: ignore[index]
                node.input[i] = graph.add_constant("scales", reordered)
            elif (constant := graph.constant(name)) is not None:
                node.input[i] = graph.add_constant(
                    "constant", _padded(constant, region.rank).transpose(order)
                )
        if node.output[0] in renamed:
            node.output[0] = renamed[node.output[0]]
    graph.nodes = [*before, *graph.nodes, *after]
    graph.sort()
    for node in after:  # merges consecutive Transposes
        _compose_readers(graph, node)
    graph.sort()  # removes Transposes without readers, which must not count


def _reordered(graph: Graph, name: str, order: Sequence[int], new: list[onnx.NodeProto]) -> str:
    """Returns the name of a tensor with its axes reordered in the cheapest way."""
    producer = graph.producer(name)
    if _is_transpose(producer):
        composed = _order_after(producer, order)
        if composed == tuple(range(len(order))):
            return producer.input[0]
        new.append(graph.node("Transpose", [producer.input[0]], perm=list(composed)))
        return new[-1].output[0]
    shape = graph.shape(name) or ()
    if _is_single_axis(graph, name) and order[0] == 0 and None not in shape[1:]:
        target = np.array([-1, *(shape[axis] for axis in order[1:])], np.int64)
        new.append(graph.node("Reshape", [name, graph.add_constant("shape", target)]))
    else:
        new.append(graph.node("Transpose", [name], perm=list(order)))
    return new[-1].output[0]


def _compose_readers(graph: Graph, node: onnx.NodeProto) -> None:
    for reader in list(graph.readers(node.output[0])):
        if not _is_transpose(reader):
            continue
        order = _order_after(node, _order(reader))
        if order == tuple(range(len(order))):
            identity = graph.node("Identity", [node.input[0]], reader.output[0])
            graph.replace([reader], [identity])
            graph.remove(identity)
        else:
            composed = graph.node("Transpose", [node.input[0]], reader.output[0], perm=list(order))
            graph.replace([reader], [composed])


def _is_transpose(node: onnx.NodeProto | None) -> TypeGuard[onnx.NodeProto]:
    return node is not None and node.op_type == "Transpose" and bool(attribute(node, "perm"))


def _order(transpose: onnx.NodeProto) -> list[int]:
    return list(attribute(transpose, "perm"))


def _order_after(transpose: onnx.NodeProto, order: Sequence[int]) -> tuple[int, ...]:
    """Returns the combined order of a Transpose and a following one."""
    first = _order(transpose)
    return tuple(first[axis] for axis in order)


def _inverse(order: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(axis) for axis in np.argsort(order))


def _padded(constant: np.ndarray, rank: int) -> np.ndarray:
    return constant.reshape(*[1] * (rank - constant.ndim), *constant.shape)
