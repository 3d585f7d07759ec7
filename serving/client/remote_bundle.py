"""A model on a server, with the interface of a bundle."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np

from serving.client.arguments import check_arguments
from serving.client.blocking import Client
from serving.client.model import RemoteClasses, label_inputs
from serving.errors import UsageError


class RemoteBundle(RemoteClasses):
    """A model on a server, with the interface of a `Bundle`.

    Args:
        url: `http://HOST:PORT/NAME`, or without a name where the server has one model.
        token: bearer token; by default the environment variable KERAS_GAN_TOKEN.
        options: of `Client`.

    Raises:
        UsageError: no server at the URL, no such model, or one whose shapes it does not report.
    """

    def __init__(self, url: str, token: str | None = None, **options: Any):
        self._client = Client(url, token or os.environ.get("KERAS_GAN_TOKEN"), **options)
        model = self._client.run(self._client.session.find(check_arguments(0)))
        if model.shape is None or model.latent_dim is None:
            raise UsageError(
                "A server must report the shapes of a model's inputs and outputs. "
                f"Received: {model.name!r} at {url!r}"
            )
        super().__init__(model)
        self._model = model
        self._conditional = bool(model.class_count) or "labels" in dict(model.inputs)
        self.kind = model.kind or "array"
        self.shape, self.latent_dim = model.shape, model.latent_dim
        self.value_range = model.value_range
        self.sha256 = model.sha256 or "unknown"

    @property
    def device(self) -> str:
        """Host and port of the server."""
        return f"{self._client.endpoint.host}:{self._client.endpoint.port}"

    def label_ids(self, seeds: np.ndarray, labels: Any = None) -> np.ndarray | None:
        """Returns the class id of each sample, as `Bundle.label_ids` does."""
        if self._conditional and not self.num_classes:
            return label_inputs(self._model, check_arguments(seeds, labels=labels))["labels"]
        return super().label_ids(seeds, labels)

    def sample(
        self, seeds: Any, labels: Any = None, truncation: float = 1.0, batch_size: int = 64
    ) -> dict[str, np.ndarray]:
        """Returns samples with their seeds, latents and labels, as `Bundle.sample` does."""
        if not (isinstance(batch_size, int | np.integer) and batch_size >= 1):
            raise UsageError(
                f"`batch_size` must be at least 1. Received: batch_size={batch_size!r}"
            )
        request = check_arguments(seeds, truncation=truncation, model=self.name)
        ids = self.label_ids(request.seeds, labels)
        request = dataclasses.replace(request, labels=None if ids is None else ids.tolist())
        session = self._client.session
        session.batch_size = int(batch_size)
        drawn = {
            "samples": self._client.run(session.generate(request)),
            "seeds": request.seeds,
            "latents": request.latents(self.latent_dim),
        }
        return drawn if ids is None else drawn | {"labels": ids}
