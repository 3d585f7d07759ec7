"""A model on a server, with the interface of a bundle."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np

from serving.checks import check_batch_size
from serving.client.arguments import check_arguments
from serving.client.blocking import Client
from serving.errors import UsageError
from serving.inputs import Inputs, Port


class RemoteBundle:
    """A model on a server, with the interface of a `Bundle`.

    Args:
        url: `http://HOST:PORT/NAME`, or without a name where the server has one model.
        token: bearer token; by default the environment variable KERAS_GAN_TOKEN.
        options: of `Client`.

    Raises:
        UsageError: no server at the URL, no such model, or one whose inputs it does not describe.
    """

    def __init__(self, url: str, token: str | None = None, **options: Any):
        self._client = Client(url, token or os.environ.get("KERAS_GAN_TOKEN"), **options)
        model = self._client.run(self._client.session.find(check_arguments(0)))
        if not model.knows_fills:
            raise UsageError(
                "A server must report how seeds fill a model's inputs. "
                f"Received: {model.name!r} at {url!r}"
            )
        self._model = model
        self.name, self.role = model.name, model.role or "generator"
        self.inputs: Inputs = model.inputs
        self.outputs: tuple[Port, ...] = model.outputs
        self._first = model.first.name
        self.kind, self.shape = model.first.kind, model.first.shape
        self.meta = model.first.meta
        limits = self.meta.get("value_range")
        self.value_range = None if limits is None else (float(limits[0]), float(limits[1]))
        self.num_classes, self.class_names = model.num_classes or 0, model.class_names
        self.latent_dim = model.public()["latent_dim"]
        self.sha256 = model.sha256 or "unknown"

    @property
    def device(self) -> str:
        """Host and port of the server."""
        return f"{self._client.endpoint.host}:{self._client.endpoint.port}"

    def generate(
        self,
        seeds: Any = None,
        labels: Any = None,
        truncation: float = 1.0,
        batch_size: int = 64,
        **given: Any,
    ) -> np.ndarray:
        """Returns the first output of `sample`."""
        drawn = self.sample(seeds, labels, truncation, batch_size, **given)
        return drawn[self._first]

    def translate(self, picture: Any, tile: Any = "auto", seed: int | None = None) -> Any:
        """Translates a picture of uint8 or a file, as `Bundle.translate` does."""
        size = {"auto": None, None: 0}.get(tile, tile)
        return self._client.translate(picture, model=self.name, tile=size, seed=seed)

    def sample(
        self,
        seeds: Any = None,
        labels: Any = None,
        truncation: float = 1.0,
        batch_size: int = 64,
        **given: Any,
    ) -> dict[str, np.ndarray]:
        """Returns outputs with their seeds and inputs, as `Bundle.sample` does."""
        batch_size = check_batch_size(batch_size)
        request = check_arguments(
            seeds, labels, truncation, model=self.name, inputs=self.inputs.check_given(given)
        )
        ids = self._model.class_ids(request)
        request = dataclasses.replace(request, labels=None if ids is None else ids.tolist())
        session = self._client.session
        session.batch_size = batch_size
        if len(self.outputs) > 1:
            drawn = self._client.run(session.outputs(request))
        else:
            drawn = {self._first: self._client.run(session.generate(request))}
        if self.inputs.seeded:
            drawn["seeds"] = request.seeds
        return drawn | request.feeds(self.inputs, ids)
