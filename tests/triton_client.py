"""Requests golden samples from a Triton server with tritonclient, and prints the results.

A program of its own, since tritonclient is installed in another environment.

    triton_client.py HTTP_PORT GRPC_PORT NAME GOLDEN.NPZ CONFIG.PBTXT
"""

import json
import pathlib
import sys
import time

import numpy as np
import tritonclient.grpc
import tritonclient.http
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2


def inputs_of(module, golden, rows):
    made = []
    for name, kind in (("latents", "FP32"), ("labels", "INT64")):
        if name in golden:
            value = golden[name][rows].reshape(len(rows), -1)
            made.append(module.InferInput(name, value.shape, kind))
            made[-1].set_data_from_numpy(value)
    return made


def statistics(client, name):
    time.sleep(1.0)  # a request is counted a little after it is answered
    return client.get_inference_statistics(name)["model_stats"][0]


def main():
    http_port, grpc_port, name, path, config = sys.argv[1:]
    golden = np.load(path)
    parsed = text_format.Parse(pathlib.Path(config).read_text(), model_config_pb2.ModelConfig())
    web = tritonclient.http.InferenceServerClient(f"127.0.0.1:{http_port}", concurrency=12)
    rpc = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{grpc_port}")
    found = {"backend": parsed.backend, "difference": {}}
    metadata = web.get_model_metadata(name)
    found["inputs"] = [[x["name"], x["datatype"], x["shape"]] for x in metadata["inputs"]]
    found["outputs"] = [[x["name"], x["datatype"], x["shape"]] for x in metadata["outputs"]]
    for batch in (1, 5, 64):
        rows = np.resize(np.arange(len(golden["seeds"])), batch)
        for client, module in ((web, tritonclient.http), (rpc, tritonclient.grpc)):
            samples = client.infer(name, inputs_of(module, golden, rows)).as_numpy("samples")
            difference = np.abs(samples - golden["samples"][rows]).max()
            found["difference"][f"{module.__name__} {batch}"] = float(difference)
    before = statistics(web, name)
    waiting = [
        web.async_infer(name, inputs_of(tritonclient.http, golden, [row])) for row in range(12)
    ]
    for row, request in enumerate(waiting):
        samples = request.get_result().as_numpy("samples")
        found["difference"][f"together {row}"] = float(
            np.abs(samples - golden["samples"][[row]]).max()
        )
    after = statistics(web, name)
    for key in ("inference_count", "execution_count"):
        found[key] = int(after[key]) - int(before[key])
    print("found " + json.dumps(found))


if __name__ == "__main__":
    main()
