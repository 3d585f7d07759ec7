"""Simplification of chains that only move elements to one Resize, one Transpose, or nothing.

tf2onnx converts Keras's nearest UpSampling2D to twenty nodes: Unsqueeze, Tile, Concat, Reshape and
Transpose. Such a chain maps positions to positions. So the chain is run on the positions
themselves, and where the result equals that of one Resize, the Resize replaces it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from export.passes.graph import Graph, attribute

_MOVES = frozenset(("Unsqueeze", "Squeeze", "Reshape", "Transpose", "Concat", "Tile", "Slice"))
_MOVES |= {"Identity", "Expand"}
_MAX_POSITIONS = 2**25  # largest tensor of positions to run a chain on
_BATCHES = (1, 2, 3)


def shorten(model: onnx.ModelProto) -> int:
    """Replaces chains of moves by at most one Resize and one Transpose.

    Args:
        model: model, changed in place.

    Returns:
        The number of replaced chains.
    """
    graph = Graph(model)
    changed = sum(_repeated(graph, node) for node in list(graph.nodes))
    changed += _plain_resizes(graph)
    for target in [node.output[0] for node in reversed(graph.nodes) if node.op_type in _MOVES]:
        changed += _shorten(graph, target)
    graph.write()
    return changed


def _repeated(graph: Graph, node: onnx.NodeProto) -> bool:
    """Replaces depth to space of equal copies, a nearest upsampling of any height and width."""
    if node.op_type != "DepthToSpace" or attribute(node, "mode", b"DCR") != b"DCR":
        return False
    factor, before = attribute(node, "blocksize"), graph.producer(node.input[0])
    moved, axes = None, (1, -3)
    if before is not None and before.op_type == "Transpose":
        if list(attribute(before, "perm")) != [0, 3, 1, 2]:
            return False
        moved, axes = before, (3, -1)
        before = graph.producer(before.input[0])
    if before is None or before.op_type != "Concat" or attribute(before, "axis") not in axes:
        return False
    if list(before.input) != [before.input[0]] * factor**2:
        return False
    source, new = before.input[0], []
    if moved is not None:
        new = [graph.node("Transpose", [source], perm=[0, 3, 1, 2])]
        source = new[0].output[0]
    new.append(nearest(graph, source, [1, 1, factor, factor], node.output[0]))
    graph.replace([node], new)  # copies that nothing else reads go with it
    return True


def _plain_resizes(graph: Graph) -> int:
    """Rewrites nearest upsampling by integer factors in the form that onnxruntime runs fastest."""
    changed = 0
    for node in list(graph.nodes):
        scales = whole_scales(graph, node)
        if scales is None:
            continue
        plain = nearest(graph, node.input[0], scales, node.output[0])
        if plain.attribute == node.attribute and list(plain.input[:2]) == list(node.input[:2]):
            continue
        graph.replace([node], [plain])
        changed += 1
    return changed


def nearest(graph: Graph, source: str, scales: Sequence[int], output: str = "") -> onnx.NodeProto:
    """Creates a Resize that repeats every element along each axis."""
    factors = graph.add_constant("scales", np.array(scales, np.float32))
    return graph.node(
        "Resize",
        [source, "", factors],
        output,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def whole_scales(graph: Graph, node: onnx.NodeProto) -> list[int] | None:
    """Returns the integer factors of a nearest upsampling; `None` for any other node."""
    if node.op_type != "Resize" or attribute(node, "mode", b"nearest") != b"nearest":
        return None
    scales = graph.constant(node.input[2]) if len(node.input) == 3 else None
    if scales is None or len(scales) < 3 or attribute(node, "axes") is not None:
        return None
    if any(s < 1 or s != int(s) for s in scales):
        return None
    # With integer factors, all of these select the element floor(position / factor).
    transformation = attribute(node, "coordinate_transformation_mode", b"half_pixel")
    rounding = attribute(node, "nearest_mode", b"round_prefer_floor")
    same = {
        (b"asymmetric", b"floor"),
        (b"half_pixel", b"round_prefer_floor"),
        (b"half_pixel", b"round_prefer_ceil"),
        (b"tf_half_pixel_for_nn", b"floor"),
    }
    return [int(s) for s in scales] if (transformation, rounding) in same else None


def _shorten(graph: Graph, target: str) -> int:
    chain = _chain(graph, target)
    for start in range(len(chain) - 1):  # from the longest part of the chain to the shortest
        source = chain[start].input[0]
        part = _part(graph, source, target)
        if part is None or len(part) < 2:
            continue
        found = _as_resize(graph, source, target, part)
        if found is None:
            continue
        new = _nodes(graph, source, target, *found)
        if len(new) >= len(part) or len(_owned(graph, part)) < max(len(new), 1):
            continue
        if not new:
            new = [graph.node("Identity", [source], target)]
        graph.replace([part[-1]], new)
        if new[0].op_type == "Identity":
            graph.remove(new[0])
        return 1
    return 0


def _chain(graph: Graph, target: str) -> list[onnx.NodeProto]:
    """Returns the moves that lead to a tensor along first inputs, in order of execution."""
    chain: list[onnx.NodeProto] = []
    node = graph.producer(target)
    while node is not None and _is_move(graph, node):
        chain.append(node)
        node = graph.producer(node.input[0])
    return chain[::-1]


def _is_move(graph: Graph, node: onnx.NodeProto) -> bool:
    if node.op_type not in _MOVES or len(node.output) != 1:
        return False
    if node.op_type == "Concat":
        return len(node.input) > 1
    return all(graph.constant(name) is not None for name in node.input[1:] if name)


def _part(graph: Graph, source: str, target: str) -> list[onnx.NodeProto] | None:
    """Returns the moves between two tensors, `None` if the target depends on others too."""
    found: list[onnx.NodeProto] = []

    def visit(name: str) -> bool:
        if name == source:
            return True
        node = graph.producer(name)
        if node is None or not _is_move(graph, node):
            return False
        if any(node is other for other in found):
            return True
        sources = node.input if node.op_type == "Concat" else node.input[:1]
        if not all(visit(each) for each in sources):
            return False
        found.append(node)
        return True

    return found if visit(target) else None


def _owned(graph: Graph, part: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Returns the moves that only the last of them needs, and that can be removed with it."""
    owned = [part[-1]]
    for node in reversed(part[:-1]):
        readers = graph.readers(node.output[0])
        inside = all(any(reader is other for other in owned) for reader in readers)
        if inside and node.output[0] not in graph.kept:
            owned.append(node)
    return owned


def _as_resize(
    graph: Graph, source: str, target: str, part: list[onnx.NodeProto]
) -> tuple[list[int], list[int]] | None:
    """Finds factors and a permutation that equal a chain for every batch size."""
    given, wanted = graph.shape(source), graph.shape(target)
    if given is None or wanted is None or len(given) != len(wanted) or len(given) < 3:
        return None
    if given[0] is not None or None in given[1:] or None in wanted[1:]:
        return None
    if max(_BATCHES) * math.prod(size or 0 for size in wanted[1:]) > _MAX_POSITIONS:
        return None
    candidates = list(_candidates(given[1:], wanted[1:]))  # type: ignore[arg-type]
    if not candidates:
        return None
    for batch in _BATCHES:
        size = (batch, *given[1:])
        positions = np.arange(np.prod(size), dtype=np.int64).reshape(size)  # type: ignore[arg-type]
        try:
            moved = _run(graph, source, target, part, positions)
        except Exception:  # the chain holds for one batch size only
            return None
        candidates = [c for c in candidates if np.array_equal(_apply(positions, *c), moved)]
    return candidates[0] if candidates else None


def _candidates(given: tuple[int, ...], wanted: tuple[int, ...]):
    axes = range(len(given))
    for order in itertools.permutations(axes):
        if all(wanted[i] % given[axis] == 0 for i, axis in enumerate(order)):
            scales = [1] * len(given)
            for i, axis in enumerate(order):
                scales[axis] = wanted[i] // given[axis]
            yield [1, *scales], [0, *(axis + 1 for axis in order)]


def _apply(array: np.ndarray, scales: list[int], order: list[int]) -> np.ndarray:
    for axis, scale in enumerate(scales):
        array = np.repeat(array, scale, axis)
    return array.transpose(order)


def _run(
    graph: Graph,
    source: str,
    target: str,
    part: list[onnx.NodeProto],
    positions: np.ndarray,
) -> np.ndarray:
    names = {name for node in part for name in node.input}
    constants = {name: graph.constant(name) for name in names}
    holder = helper.make_graph(
        part,
        "moves",
        [helper.make_tensor_value_info(source, onnx.TensorProto.INT64, None)],
        [helper.make_tensor_value_info(target, onnx.TensorProto.INT64, None)],
        [
            numpy_helper.from_array(value, name)
            for name, value in constants.items()
            if value is not None
        ],
    )
    model = helper.make_model(
        holder, opset_imports=graph.model.opset_import, ir_version=graph.model.ir_version
    )
    return ReferenceEvaluator(model).run(None, {source: positions})[0]  # type: ignore[return-value]


def _nodes(
    graph: Graph, source: str, target: str, scales: list[int], order: list[int]
) -> list[onnx.NodeProto]:
    """Creates the Resize and the Transpose that are needed, with channels before pixels."""
    moves = order != sorted(order)
    grows = any(scale > 1 for scale in scales)
    if not (moves and grows):
        if moves:
            return [graph.node("Transpose", [source], target, perm=order)]
        return [nearest(graph, source, scales, target)] if grows else []
    if scales[1] == 1:
        first = nearest(graph, source, scales)
        return [first, graph.node("Transpose", [first.output[0]], target, perm=order)]
    first = graph.node("Transpose", [source], perm=order)
    permuted = [scales[axis] for axis in order]
    return [first, nearest(graph, first.output[0], permuted, target)]
