"""`keras-gan serve` as replicas of Ray Serve.

    python -m serving.ray_app runs/fashion-mnist --max-replicas 4

or, on a cluster, `import_path: serving.ray_app:build` (serving/kubernetes/ray.yaml). Each replica
runs the same application and engine. Ray routes requests to the replicas, adds and removes
replicas by the number of open requests, and answers 503 when the queue is full.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from serving import programs
from serving.errors import UsageError

NAME = "keras-gan"
_RAY = {"min_replicas": 1, "max_replicas": 0, "target_requests": 32, "max_queued": 512}
_SETTINGS = (
    "tokens",
    "workers",
    "max_batch",
    "queue",
    "timeout",
    "device",
    "max_count",
    "versions",
)


class _UntilLoaded:
    """ASGI application whose startup completes when its bundles are loaded and warm."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_when_loaded(message: Any) -> None:
            if message["type"] == "lifespan.startup.complete":
                while not self.app.repository.loaded:
                    await asyncio.sleep(0.01)
                if not self.app.ready:
                    reason = str(self.app.repository.error or "No bundle could be loaded.")
                    message = {"type": "lifespan.startup.failed", "message": reason}
            await send(message)

        is_lifespan = scope["type"] == "lifespan"
        await self.app(scope, receive, send_when_loaded if is_lifespan else send)


class _Replica:
    """Class of a replica, which Ray Serve wraps around the application."""

    app: Any  # set by Ray Serve

    async def check_health(self) -> None:
        """Fails if the replica cannot serve, so that Ray replaces it."""
        if not self.app.app.ready:
            raise RuntimeError("A replica must have loaded its bundles. Received: no loaded bundle")


def build(arguments: dict[str, Any]) -> Any:
    """Builds the Ray Serve application.

    Args:
        arguments: `paths`, folders as for `keras-gan serve`, which every node must see; `host`
            (default 0.0.0.0); `tokens`, `max_batch`, `queue`, `timeout`, `device`, `max_count` and
            `versions` as for `keras-gan serve`; `workers`, which is also the number of CPUs of a
            replica (1); `min_replicas` (1); `max_replicas` (as many as the cluster has CPUs for);
            `target_requests`, open requests that a replica should have (32); `max_queued`,
            requests that wait for a replica, beyond which clients receive 503 (512).

    Raises:
        UsageError: an unknown argument, or a value that is not allowed.
    """
    ray: Any = importlib.import_module("ray")
    serve: Any = importlib.import_module("ray.serve")
    settings, scale = _read(arguments)

    def make() -> Any:  # runs in the replica: sessions and threads cannot be pickled
        from serving.app import create_app

        return _UntilLoaded(create_app(settings))

    cpus = settings.workers
    most = scale["max_replicas"] or max(1, int(ray.cluster_resources().get("CPU", 1)) // cpus)
    deployment = serve.deployment(
        serve.ingress(make)(_Replica),
        name="generator",
        max_ongoing_requests=settings.max_requests,
        max_queued_requests=scale["max_queued"],
        autoscaling_config={
            "min_replicas": scale["min_replicas"],
            "max_replicas": max(most, scale["min_replicas"]),
            "target_ongoing_requests": scale["target_requests"],
        },
        ray_actor_options={"num_cpus": cpus},
        graceful_shutdown_timeout_s=settings.drain_seconds,
    )
    return deployment.bind()


def _read(arguments: dict[str, Any]) -> tuple[Any, dict[str, int]]:
    from serving.limits import Settings

    known = ("paths", "host", *_SETTINGS, *_RAY)
    if unknown := sorted(arguments.keys() - set(known)):
        raise UsageError(f"An argument must be one of {', '.join(known)}. Received: {unknown[0]!r}")
    # `serve run` passes every value as text.
    numbers = {"workers", "max_batch", "queue", "max_count", *_RAY}
    arguments = {
        key: int(value) if key in numbers and str(value).isdecimal() else value
        for key, value in arguments.items()
    }
    if isinstance(timeout := arguments.get("timeout"), str):
        try:
            arguments["timeout"] = float(timeout)
        except ValueError as error:
            raise UsageError(
                f"`timeout` must be a number of seconds. Received: timeout={timeout!r}"
            ) from error
    paths = arguments.get("paths")
    paths = paths.split(os.pathsep) if isinstance(paths, str) and paths else paths
    if not isinstance(paths, list | tuple) or not paths:
        raise UsageError(f"`paths` must name folders of bundles. Received: paths={paths!r}")
    scale = _RAY | {key: arguments[key] for key in _RAY if arguments.get(key) is not None}
    for key, value in scale.items():
        least = 0 if key == "max_replicas" else 1
        if type(value) is not int or value < least:
            raise UsageError(f"`{key}` must be at least {least}. Received: {key}={value!r}")
    given: Any = {key: arguments[key] for key in _SETTINGS if arguments.get(key) is not None}
    if isinstance(given.get("tokens"), str):  # see `paths` below
        given["tokens"] = os.path.abspath(os.path.expanduser(given["tokens"]))
    settings = Settings(
        # Replicas run in other working directories.
        paths=tuple(os.path.abspath(os.path.expanduser(path)) for path in paths),
        host=arguments.get("host") or "0.0.0.0",
        access_log=False,
        **({"workers": 1} | given),
    )
    return settings, scale


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.ray_app",
        description="Serve bundles through Ray Serve: on this machine, or on the cluster that "
        "RAY_ADDRESS names.",
    )
    add = parser.add_argument
    add("paths", nargs="+", metavar="PATH", help="as for keras-gan serve")
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=int, default=8000, help="port (default: 8000)")
    add("--tokens", metavar="FILE", help="require a bearer token from this file, one on each line")
    add("--device", metavar="auto|cpu|cuda|tensorrt", help="device to run on (default: auto)")
    add("--workers", type=int, help="sessions and CPUs of a replica (default: 1)")
    add("--max-batch", type=int, help="largest batch, in samples (default: 16)")
    add("--queue", type=int, help="largest number of queued samples of a replica (default: 512)")
    add("--timeout", type=float, help="timeout of one request, in seconds (default: 30)")
    add("--min-replicas", type=int, help="smallest number of replicas (default: 1)")
    add(
        "--max-replicas",
        type=int,
        help="largest number of replicas (default: by the number of CPUs)",
    )
    add(
        "--target-requests",
        type=int,
        help="open requests that a replica should have (default: 32)",
    )
    add(
        "--max-queued",
        type=int,
        help="requests that wait for a replica; more receive 503 (default: 512)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0, or 2 for a user error."""
    programs.escape_output()
    arguments = vars(_parser().parse_args(argv))
    try:
        return _serve(arguments, arguments.pop("port"))
    except UsageError as error:
        print(f"serving.ray_app: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _serve(arguments: dict[str, Any], port: int) -> int:
    try:
        ray: Any = importlib.import_module("ray")
        serve: Any = importlib.import_module("ray.serve")

        from serving.app import create_app
    except ModuleNotFoundError as error:
        raise UsageError(
            "Serving with Ray needs extra packages: pip install 'keras-gan[serve,scale]'. "
            f"Received: no module {error.name!r}"
        ) from error
    settings, _ = _read(arguments)
    create_app(settings).close()  # reports wrong paths here rather than in a replica
    stop = threading.Event()
    own = not os.environ.get("RAY_ADDRESS")
    with programs.safe_children(), contextlib.chdir(os.sep):  # Ray imports from it, too
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        serve.start(http_options={"host": settings.host, "port": port})
        serve.run(build(arguments), name=NAME, route_prefix="/")
        for number in (signal.SIGINT, signal.SIGTERM):  # Ray has replaced the handlers
            signal.signal(number, lambda *_: stop.set())
        print(f"Serving {' '.join(settings.paths)} at http://{settings.host}:{port}", flush=True)
        stop.wait()
        serve.delete(NAME)
        if own:
            serve.shutdown()
    except (ray.exceptions.RayError, RuntimeError, TimeoutError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UsageError(
            "Ray must start the server and its replicas; see its logs, by default in "
            f"/tmp/ray/session_latest/logs. Received: {reason}"
        ) from error
    finally:
        ray.shutdown()
    return 0


if __name__ == "__main__":
    # Imported by name, so that replicas can unpickle the classes of this module.
    from serving import ray_app

    sys.exit(ray_app.main())
