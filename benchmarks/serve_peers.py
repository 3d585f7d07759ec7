# pyright: reportMissingImports=false, reportGeneralTypeIssues=false
"""Servers with a bundle's model in LitServe, Ray Serve and Triton (nvidia-pytriton).

Run by serve.py in the environment of one of them:

    serve_peers.py litserve|ray|triton BUNDLE PORT WORKERS MAX_BATCH

Each does the same work as `keras-gan serve`: it takes seeds and returns float32 samples, with one
single-threaded session in each of WORKERS workers (Triton: one session with as many threads),
without spinning and with the server's own batching. It prints "ready" once it responds.
"""

# Each peer has an environment of its own.
# pyright: reportMissingImports=false, reportGeneralTypeIssues=false, reportCallIssue=false
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

import io
import json
import os
import pathlib
import sys
import sysconfig
import threading
import time
import urllib.request

import numpy as np

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))

from serving.seeds import labels_from_seeds, latents_from_seeds  # needs only numpy

try:
    from litserve import LitAPI
except ImportError:
    LitAPI = object

DELAY = 0.003  # seconds to wait for a batch to fill, where a server supports it


class Model:
    """Model of a bundle, a callable from seeds to samples."""

    def __init__(self, folder, threads=1):
        import onnxruntime

        self.manifest = json.loads((pathlib.Path(folder) / "manifest.json").read_text())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = str(pathlib.Path(folder) / "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])

    def __call__(self, seeds):
        ports = {port["name"]: port for port in self.manifest["inputs"]}
        feeds = {"latents": latents_from_seeds(seeds, ports["latents"]["shape"][1])}
        if "labels" in ports:
            feeds["labels"] = labels_from_seeds(seeds, ports["labels"]["meta"]["num_classes"])
        return self.session.run(["samples"], feeds)[0]


def npy(samples):
    buffer = io.BytesIO()
    np.save(buffer, samples)
    return buffer.getvalue()


class Api(LitAPI):
    """LitServe API of the model; at module level because its workers are new processes."""

    folder = ""

    def setup(self, device):
        self.model = Model(self.folder)

    def decode_request(self, request):
        return request["seeds"]

    def batch(self, inputs):
        self.sizes = [len(seeds) for seeds in inputs]
        return [seed for seeds in inputs for seed in seeds]

    def predict(self, seeds):
        return self.model(np.array(seeds, np.int64))

    def unbatch(self, samples):
        return np.split(samples, np.cumsum(self.sizes)[:-1])

    def encode_response(self, samples):
        from fastapi import Response

        return Response(npy(samples), media_type="application/octet-stream")


def litserve(folder, port, workers, max_batch):
    from litserve import LitServer

    api = Api(max_batch_size=max_batch, batch_timeout=DELAY)
    api.folder = folder
    server = LitServer(api, accelerator="cpu", workers_per_device=workers)
    when_ready(f"http://127.0.0.1:{port}/health")
    server.run(port=port, host="127.0.0.1", generate_client_file=False, log_level="warning")


def ray(folder, port, workers, max_batch):
    # By default its replicas have the lowest priority, below the clients here.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    import ray as cluster
    from ray import serve
    from starlette.responses import Response

    cluster.init(
        num_cpus=workers,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        configure_logging=False,
        log_to_driver=False,
    )

    @serve.deployment(
        num_replicas=workers, max_ongoing_requests=512, ray_actor_options={"num_cpus": 1}
    )
    class Generator:
        def __init__(self):
            self.model = Model(folder)

        @serve.batch(max_batch_size=max_batch, batch_wait_timeout_s=DELAY)
        async def run(self, lists):
            sizes = [len(seeds) for seeds in lists]
            samples = self.model(np.array([s for seeds in lists for s in seeds], np.int64))
            return np.split(samples, np.cumsum(sizes)[:-1])

        async def __call__(self, request):
            samples = await self.run((await request.json())["seeds"])
            return Response(npy(samples), media_type="application/octet-stream")

    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Generator.bind())  # pyright: ignore[reportAttributeAccessIssue]
    print("ready", flush=True)
    threading.Event().wait()


def triton(folder, port, workers, max_batch):
    # Its stub must load the Python library of this interpreter, not one of the system.
    paths = [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH", "")]
    if paths[0] not in paths[1].split(os.pathsep):
        library = os.pathsep.join(filter(None, paths))
        os.execve(
            sys.executable, [sys.executable, *sys.argv], os.environ | {"LD_LIBRARY_PATH": library}
        )
    from pytriton.decorators import batch
    from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
    from pytriton.triton import Triton, TritonConfig

    # One instance, because the handshake of several times out on a busy machine.
    model = Model(folder, threads=workers)

    @batch
    def infer(seeds):
        return {"samples": model(seeds[:, 0])}

    shape = json.loads((pathlib.Path(folder) / "manifest.json").read_text())["shape"]
    config = TritonConfig(http_port=port, http_address="127.0.0.1", allow_grpc=False, log_verbose=0)
    with Triton(config=config) as server:
        server.bind(
            model_name="generator",
            infer_func=infer,
            inputs=[Tensor(name="seeds", dtype=np.int64, shape=(1,))],
            outputs=[Tensor(name="samples", dtype=np.float32, shape=tuple(shape))],
            config=ModelConfig(
                max_batch_size=max(max_batch, 64),
                batcher=DynamicBatcher(max_queue_delay_microseconds=int(DELAY * 1e6)),
            ),
        )
        server.run()
        print("ready", flush=True)
        threading.Event().wait()


def when_ready(url):
    """Prints "ready", from another thread, once a server that blocks this one responds."""

    def wait():
        while True:
            try:
                with urllib.request.urlopen(url, timeout=1):
                    break
            except OSError:
                time.sleep(0.02)
        print("ready", flush=True)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    name, bundle, port, workers, max_batch = sys.argv[1:]
    {"litserve": litserve, "ray": ray, "triton": triton}[name](
        os.path.abspath(bundle), int(port), int(workers), int(max_batch)
    )
