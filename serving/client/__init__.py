"""Clients of `keras-gan serve`, TensorFlow Serving, Triton and other inference servers.

A call is a generator that yields requests and is sent their responses (`session`); `Client`
carries it out with blocking sockets, `AsyncClient` on an event loop.
"""

from serving.client.asynchronous import AsyncClient
from serving.client.blocking import Client
from serving.client.http_types import ServerError
from serving.client.remote_bundle import RemoteBundle
from serving.client.session import PROTOCOLS

__all__ = ["PROTOCOLS", "AsyncClient", "Client", "RemoteBundle", "ServerError"]
