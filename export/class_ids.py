"""Check of class ids against the tables of a network, before anything is converted.

An id beyond the rows of an embedding fails on a CPU, and reads zeros on a GPU; an id beyond a
one-hot encoding silently becomes a vector of zeros.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from export.graph_checks import find_layer
from export.network import Network
from export.sizes import resolve
from keras_gan import UsageError, ranges


class _Table(NamedTuple):
    """Place in a graph where ids choose rows.

    Args:
        name: name of the op.
        count: number of its rows.
        what: what a row is.
    """

    name: str
    count: int
    what: str


def check_class_ids(network: Network) -> None:
    """Checks that every class has a row in the embeddings and encodings that read the ids.

    Raises:
        UsageError: a class without a row; the error names the layer.
    """
    port = next((port for port in network.inputs if port.fill == "class"), None)
    if port is None or port.num_classes < 2:
        return
    tables: list[_Table] = []
    specs = network.input_specs()

    def read(*inputs: tf.Tensor) -> list[tf.Tensor]:
        graph = tf.compat.v1.get_default_graph()
        network.run({spec.name: x for spec, x in zip(specs, inputs, strict=True)})
        found = [pair for op in graph.get_operations() if (pair := _table(op)) is not None]
        tables.extend(table for table, _ in found)
        return [ids for _, ids in found]

    function = tf.function(read, input_signature=specs, autograph=False)
    with tf.device("/CPU:0"):
        lowest, highest = (
            function(*_inputs(network, port.name, label)) for label in (0, port.num_classes - 1)
        )
    for table, low, high in zip(tables, lowest, highest, strict=True):
        reached = int(np.max(high, initial=0))
        depends = not np.array_equal(low, high)
        if depends and reached >= table.count:
            found = find_layer(network.model, table.name)
            where = (
                f"the layer {found[0]!r} ({type(found[1]).__name__})"
                if found
                else f"model {network.model.name!r}"
            )
            raise UsageError(
                "num_classes must fit the network. "
                f"Received: num_classes={port.num_classes}, so that {port.name} reach "
                f"{port.num_classes - 1}, and {where}, which reads {reached}, has "
                f"{table.count} {table.what}"
            )


def _table(op: Any) -> tuple[_Table, tf.Tensor] | None:
    """Returns the rows among which an op chooses, and the ids; `None` for other ops."""
    found = ranges.table_of(op)
    if found is None:
        return None
    count, ids = found
    return _Table(op.name, count, "values" if op.type == "OneHot" else "rows"), ids


def _inputs(network: Network, labels: str, label: int) -> list[tf.Tensor]:
    shapes = {port.name: (2, *resolve(port.shape, network.sizes[0])) for port in network.inputs}
    return [
        tf.fill(shapes[port.name], tf.constant(label if port.name == labels else 0, port.dtype))
        for port in network.inputs
    ]
