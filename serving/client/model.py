"""Description of a model on a server."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving import kinds
from serving.client.arguments import SampleRequest
from serving.errors import UsageError, short_repr
from serving.inputs import Input, Inputs, Port
from serving.labels import number_of


@dataclasses.dataclass(frozen=True)
class RemoteModel:
    """Description of a model on a server.

    Args:
        name: of the model.
        version: the one described; `None` where the server does not say.
        versions: all that the server has.
        role: of the network, or `None`.
        ports: its inputs.
        outputs: its outputs, the samples first.
        sha256: of the bundle's model, or `None`.
        knows_fills: the inputs' fills are those of the bundle, so that seeds can be turned into
            inputs; else all inputs but `latents` and `labels` must be given.
        ranks: rank of each input on the server, where it differs from the network's.
        signatures: inputs of each signature of a SavedModel.
        takes_seeds: the server has an input `seeds`.
        binary: the server takes and returns binary tensors.
    """

    name: str
    version: int | None = None
    versions: tuple[int, ...] = ()
    role: str | None = None
    ports: tuple[Input, ...] = ()
    outputs: tuple[Port, ...] = ()
    sha256: str | None = None
    knows_fills: bool = True
    ranks: Mapping[str, int] = dataclasses.field(default_factory=dict)
    signatures: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    takes_seeds: bool = False
    binary: bool = False

    @functools.cached_property
    def inputs(self) -> Inputs:
        """The inputs, which seeds and given values fill."""
        return Inputs(self.ports)

    @property
    def first(self) -> Port:
        """The output that `generate` returns."""
        return self.outputs[0]

    @property
    def num_classes(self) -> int | None:
        """Number of classes; 0 for an unconditional network, `None` where it is not known."""
        port = self.inputs.classes
        return 0 if port is None else port.num_classes or None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, where they are known."""
        port = self.inputs.classes
        return () if port is None else tuple(port.meta.get("class_names") or ())

    def with_manifest(self, manifest: dict[str, Any] | None) -> RemoteModel:
        """Returns the description completed from a bundle's manifest."""
        if manifest is None:
            return self
        ports, outputs = read_ports(manifest["inputs"], manifest["outputs"])
        if self.first.sizes != outputs[0].sizes:
            raise UsageError(
                "`bundle` must be the bundle that the server serves. Received: a bundle of shape "
                f"{outputs[0].shape} and a model of shape {self.first.shape}"
            )
        return dataclasses.replace(
            self,
            role=manifest["role"],
            ports=ports,
            outputs=outputs,
            sha256=self.sha256 or manifest["files"]["model.onnx"]["sha256"],
            knows_fills=True,
        )

    def public(self) -> dict[str, Any]:
        """Returns the entry of `Client.models()`, with the keys of `keras-gan serve`."""
        count, limits = self.num_classes, self.first.meta.get("value_range")
        latents = self.inputs.normal
        return {
            "name": self.name,
            "version": self.version,
            "versions": list(self.versions),
            "role": self.role,
            "kind": self.first.kind,
            "shape": list(self.first.shape),
            "value_range": None if limits is None else list(limits),
            "latent_dim": latents[0].sizes[0] if latents and latents[0].shape else None,
            "classes": None if count is None else {"count": count, "names": list(self.class_names)},
            "inputs": [port.to_json() for port in self.ports],
            "outputs": [port.to_json() for port in self.outputs],
            "sha256": self.sha256,
        }

    def class_ids(self, request: SampleRequest) -> np.ndarray | None:
        """Returns the class id of each sample, int64; `None` for a network without classes.

        Raises:
            UsageError: labels of a model that takes none, an unknown class, or labels that only
                the bundle could resolve.
        """
        labels, port = request.labels, self.inputs.classes
        if port is None:
            if labels is not None:
                raise UsageError(
                    f"Model {self.name!r} takes no labels. Received: labels={short_repr(labels)}"
                )
            return None
        if not self.num_classes:
            return self._plain_ids(labels, request.batch)
        return self.inputs.class_ids(request.label_seeds(), labels)

    def _plain_ids(self, labels: Any, count: int) -> np.ndarray:
        """Returns labels that are ids, for a server that does not report the classes."""
        if labels is None:
            raise UsageError(
                "This server does not report the number of classes: pass `labels`, or the bundle "
                "that it serves as Client(..., bundle=FOLDER). Received: labels=None for "
                f"{self.name!r}"
            )
        several = labels if isinstance(labels, list) else [labels] * count
        ids = [number_of(label) for label in several]
        if any(number is None for number in ids):
            raise UsageError(
                "This server does not report the names of classes: labels must be ids. "
                f"Received: labels={short_repr(labels)}"
            )
        return np.array(ids, np.int64)


def read_ports(
    inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
) -> tuple[tuple[Input, ...], tuple[Port, ...]]:
    """Builds the ports of a model from the form that a manifest has.

    Raises:
        KeyError, TypeError, ValueError: content of another form.
    """
    found = tuple(Input.from_json(x) for x in inputs), tuple(Port.from_json(x) for x in outputs)
    if not found[1]:
        raise ValueError("no outputs")
    return found


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Name, dtype and shape of an input or output, as servers of tensors report it.

    Args:
        name: of the tensor.
        dtype: name of numpy's dtype.
        shape: with the batch, -1 for a free dimension.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    def sizes(self) -> tuple[int | str, ...]:
        """Returns the shape of one sample, with a name for each free dimension."""
        rest = enumerate(self.shape[1:])
        return tuple(n if n > 0 else f"{self.name}_{axis}" for axis, n in rest)

    def static_sizes(self) -> tuple[int | None, ...]:
        """Returns the shape of one sample, with `None` for each free dimension."""
        return tuple(n if n > 0 else None for n in self.shape[1:])


def from_tensors(
    name: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    parameters: Mapping[str, Any],
    given: Sequence[str] | None = None,
) -> RemoteModel:
    """Describes a model by its tensors, and by what its server was configured with.

    Args:
        name: of the model.
        inputs: tensors.
        outputs: tensors.
        parameters: `role`, `inputs` and `outputs` in the form of a manifest, where the server has
            them; else `kind`, `value_range` and `classes`.
        given: names of the inputs that are given, where the server says which.

    Raises:
        ValueError: the model has no outputs.
    """
    ranks = {tensor.name: len(tensor.shape) for tensor in inputs}
    if "inputs" in parameters and "outputs" in parameters:
        ports, results = read_ports(parameters["inputs"], parameters["outputs"])
        role = parameters.get("role")
        return RemoteModel(name, role=role, ports=ports, outputs=results, ranks=ranks)
    classes = parameters.get("classes") or {}
    meta = {"num_classes": classes.get("count", 0), "class_names": classes.get("names") or ()}
    found = []
    for tensor in inputs:
        if tensor.name == "labels":
            found.append(Input("labels", tensor.dtype, (), "label", meta, "class", len(found)))
            continue
        fill = "given" if tensor.name != "latents" else "normal"
        found.append(Input(tensor.name, tensor.dtype, tensor.sizes(), fill=fill))
    ordered = sorted(outputs, key=lambda tensor: tensor.name != "samples")
    results = [Port(x.name, x.dtype, x.sizes(), kinds.of_shape(x.static_sizes())) for x in ordered]
    limits = parameters.get("value_range")
    results[:1] = [
        port.replace(
            kind=parameters.get("kind") or port.kind,
            meta={} if limits is None else {"value_range": limits},
        )
        for port in results[:1]
    ]
    if not results:
        raise ValueError("no outputs")
    others = {port.name for port in found if port.fill == "given"}
    return RemoteModel(
        name,
        ports=tuple(found),
        outputs=tuple(results),
        knows_fills=given is None or others <= set(given),
        ranks=ranks,
    )
