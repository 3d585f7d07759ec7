"""The server of `keras-gan serve` as replicas of Ray Serve.

    python -m serving.ray_app runs/fashion-mnist --max-replicas 4

or, on a cluster, `import_path: serving.ray_app:build` (serving/kubernetes/ray.yaml). Each replica
is the same application around the same engine; Ray routes requests to the replicas, adds and
removes them by what is under way, and refuses with 503 what none of them could take soon.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

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
    """The application, which starts only when its bundles are loaded and warm."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def tell(message: Any) -> None:
            if message["type"] == "lifespan.startup.complete":
                while not self.app.repository.loaded:
                    await asyncio.sleep(0.01)
                if not self.app.ready:
                    told = str(self.app.repository.error or "There is nothing to serve.")
                    message = {"type": "lifespan.startup.failed", "message": told}
            await send(message)

        await self.app(scope, receive, tell if scope["type"] == "lifespan" else send)


class _Replica:
    """What Ray asks beside requests."""

    app: Any  # set by Ray Serve

    async def check_health(self) -> None:
        """Ends a replica that cannot serve, for another to take its place."""
        if not self.app.app.ready:
            raise RuntimeError("The replica must have its bundles. Received: it has none")


def build(arguments: dict[str, Any]) -> Any:
    """Gives Ray Serve's application.

    Args:
        arguments: `paths`, folders as `keras-gan serve` takes them, which every node
            must see; `host` (default 0.0.0.0); of `keras-gan serve` `tokens`, `workers` (default
            1, and as many CPUs a replica), `max_batch`, `queue`, `timeout`, `device`,
            `max_count`; `min_replicas` (1), `max_replicas` (as many as the cluster
            has CPUs for), `target_requests` under way that a replica should have (32),
            `max_queued` requests that wait for a replica, beyond which there is 503 (512).

    Raises:
        UsageError: an argument that does not exist, or a value that is not allowed.
    """
    ray: Any = importlib.import_module("ray")
    serve: Any = importlib.import_module("ray.serve")
    settings, scale = _read(arguments)

    def make() -> Any:  # in the replica: sessions and threads do not travel
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
        raise UsageError(f"The arguments are {', '.join(known)}. Received: {unknown[0]!r}")
    # `serve run` has nothing but text to give.
    numbers = {"workers", "max_batch", "queue", "max_count", *_RAY}
    arguments = {
        key: int(value) if key in numbers and str(value).isdecimal() else value
        for key, value in arguments.items()
    }
    if isinstance(timeout := arguments.get("timeout"), str):
        try:
            arguments["timeout"] = float(timeout)
        except ValueError as error:
            raise UsageError(f"timeout must be seconds. Received: timeout={timeout!r}") from error
    paths = arguments.get("paths")
    paths = paths.split(os.pathsep) if isinstance(paths, str) and paths else paths
    if not isinstance(paths, list | tuple) or not paths:
        raise UsageError(f"paths must name the folders of bundles. Received: paths={paths!r}")
    scale = _RAY | {key: arguments[key] for key in _RAY if arguments.get(key) is not None}
    for key, value in scale.items():
        if type(value) is not int or value < (0 if key == "max_replicas" else 1):
            raise UsageError(f"{key} must be at least 1. Received: {key}={value!r}")
    given: Any = {key: arguments[key] for key in _SETTINGS if arguments.get(key) is not None}
    settings = Settings(
        # Replicas have other working directories.
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
    add("paths", nargs="+", metavar="PATH", help="as of keras-gan serve")
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=int, default=8000, help="port (default: 8000)")
    add("--tokens", metavar="FILE", help="ask for a bearer token of this file, one a line")
    add("--device", metavar="auto|cpu|cuda|tensorrt", help="where to run (default: auto)")
    add("--workers", type=int, help="sessions, and CPUs, of a replica (default: 1)")
    add("--max-batch", type=int, help="most samples in a batch (default: 16)")
    add("--queue", type=int, help="most samples that wait in a replica (default: 512)")
    add("--timeout", type=float, help="most seconds for one request (default: 30)")
    add("--min-replicas", type=int, help="replicas that are always there (default: 1)")
    add("--max-replicas", type=int, help="most replicas (default: what the CPUs are enough for)")
    add(
        "--target-requests",
        type=int,
        help="requests under way that a replica should have (default: 32)",
    )
    add(
        "--max-queued",
        type=int,
        help="requests that wait for one; beyond, 503 (default: 512)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0, or 2 for a mistake of the user."""
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
            "Serving by Ray needs what `pip install 'keras-gan[serve,scale]'` installs. "
            f"Received: no module {error.name!r}"
        ) from error
    settings, _ = _read(arguments)
    create_app(settings).close()  # a mistake in the paths is told here, and not by a replica
    stop = threading.Event()
    own = not os.environ.get("RAY_ADDRESS")
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        serve.start(http_options={"host": settings.host, "port": port})
        serve.run(build(arguments), name=NAME, route_prefix="/")
        for number in (signal.SIGINT, signal.SIGTERM):  # Ray has set handlers of its own
            signal.signal(number, lambda *_: stop.set())
        print(f"Serving {' '.join(settings.paths)} at http://{settings.host}:{port}", flush=True)
        stop.wait()
        serve.delete(NAME)
        if own:
            serve.shutdown()
    except (ray.exceptions.RayError, RuntimeError, TimeoutError) as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UsageError(
            "Ray must start the server and its replicas; its logs, in /tmp/ray/session_latest/logs "
            f"by default, say more. Received: {told}"
        ) from error
    finally:
        ray.shutdown()
    return 0


if __name__ == "__main__":
    # By its own name: what Ray pickles is then found again in the replicas.
    from serving import ray_app

    sys.exit(ray_app.main())
