"""Throughput of `keras-gan serve`, compared with other servers and a bare onnxruntime loop.

    python benchmarks/serve.py                              # this server and the bare loop
    python benchmarks/serve.py --server ours --server litserve --python litserve=ENV/bin/python
        --server ray --python ray=ENV/bin/python --server triton --python triton=ENV/bin/python

The models are those of benchmarks/inference.py, `dcgan` (the size of keras.io's) and `quickstart`,
or a bundle (`--bundle`). Each server runs alone, with one single-threaded session per CPU and the
same maximum batch size. The clients are wrk, in its own process on the same CPUs, which costs about
10 microseconds per request. Before each measurement the bare loop runs in its best configuration,
which the ratio refers to. `added ms` is the latency that a single client sees beyond the bare call
of the model: the median difference of interleaved calls. Each peer needs an environment of its own
with onnxruntime and numpy, given by --python.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
SERVERS = ("ours", "litserve", "ray", "triton")
NETS = ("dcgan", "quickstart")
CLIENTS = (1, 16, 64, 256)
CONFIGURATIONS = ((1, 2), (2, 1))  # sessions x threads of the bare loop on two CPUs
_REPORT = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nJSON {"requests":%d,"seconds":%f,"p50":%f,"p99":%f,"errors":%d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, e.connect + e.read + e.write + e.status + e.timeout))
end
"""


# --------------------------------------------------------------------- the models


def write_bundle(net: str, folder: pathlib.Path) -> pathlib.Path:
    """Exports a network of benchmarks/inference.py in its own process."""
    program = (
        "import sys; sys.path.append(sys.argv[3]); import export, inference_variants\n"
        "export.export_bundle(inference_variants.build(sys.argv[1]), sys.argv[2], name=sys.argv[1])"
    )
    command = [sys.executable, "-c", program, net, str(folder / net), str(HERE)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return folder / net


# --------------------------------------------------------------------- the bare loop


def bare(bundle: str, sessions: int, threads: int, batch: int, seconds: float) -> float:
    """Returns the samples per second of onnxruntime alone, with latents prepared."""
    import numpy as np

    import serving

    opened = serving.Bundle(bundle, threads=threads, device="cpu", sessions=sessions)
    latents = np.random.default_rng(0).normal(size=(batch, opened.latent_dim))
    feeds: dict[str, np.ndarray] = {"latents": latents.astype(np.float32)}
    if opened.num_classes:
        feeds["labels"] = np.arange(batch) % opened.num_classes
    counts = [0] * sessions
    runners = opened.runners()
    for run in runners:
        run(feeds)
    start = time.perf_counter()

    def work(number: int) -> None:
        while time.perf_counter() - start < seconds:
            runners[number](feeds)
            counts[number] += batch

    workers = [threading.Thread(target=work, args=(i,)) for i in range(sessions)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - start)


def in_new_process(what: str, *arguments: Any) -> float:
    """Returns the result of `bare` or `added` in a new process, undisturbed by this one."""
    command = [sys.executable, __file__, f"--{what}", *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment())
    return float(done.stdout)


def added(name: str, bundle: str, port: int, seconds: float) -> float:
    """Returns the milliseconds that a server adds to a model call, for one client and sample."""
    import serving
    from serving.seeds import labels_from_seeds, latents_from_seeds

    opened = serving.Bundle(bundle, threads=1, device="cpu", sessions=1)
    run = opened.runners()[0]
    feeds: dict[str, Any] = {"latents": latents_from_seeds([0], opened.latent_dim)}
    if opened.num_classes:
        feeds["labels"] = labels_from_seeds([0], opened.num_classes)
    path, headers, body = request_of(name, 1)
    lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{lines}content-length: {len(body)}"
    message = head.encode() + b"\r\n\r\n" + body
    found: tuple[list[float], list[float]] = ([], [])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(60)

        def ask() -> None:
            connection.sendall(message)
            read_response(connection)

        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for call, times in zip((lambda: run(feeds), ask), found, strict=True):
                call()  # warms the caches after the other call
                for _ in range(10):
                    start = time.perf_counter()
                    call()
                    times.append(time.perf_counter() - start)
    return 1000 * (statistics.median(found[1]) - statistics.median(found[0]))


def read_response(connection: socket.socket) -> None:
    """Reads a response with a content length or with chunked encoding."""

    def more() -> bytes:
        if not (piece := connection.recv(1 << 20)):
            raise RuntimeError("the server has closed the connection")
        return piece

    data = more()
    while b"\r\n\r\n" not in data:
        data += more()
    head, _, rest = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode("latin-1"))
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
    while len(rest) < int(length[1]) if length else not rest.endswith(b"0\r\n\r\n"):
        rest += more()


def best_bare(bundle: pathlib.Path, seconds: float) -> tuple[int, int, int]:
    """Returns the sessions, threads and batch size with which the bare loop is fastest."""
    found = {
        (sessions, threads, batch): in_new_process(
            "bare", bundle, sessions, threads, batch, seconds
        )
        for sessions, threads in CONFIGURATIONS
        for batch in (1, 8, 16)
    }
    for how, rate in found.items():
        print(f"  bare {how[0]} x {how[1]} threads, batch {how[2]}: {rate:.0f} samples/s")
    return max(found, key=found.__getitem__)


# --------------------------------------------------------------------- servers


@contextlib.contextmanager
def running(name: str, bundle: pathlib.Path, options: argparse.Namespace):
    """Starts a server; yields its port, its process, and the seconds until it was ready."""
    port = free_port()
    if name == "ours":
        command = [sys.executable, "-m", "serving.cli", "serve", str(bundle), "--port", str(port)]
        command += ["--queue", "4096", "--max-requests", "4096", "--no-access-log"]
        command += ["--workers", str(options.workers), "--max-batch", str(options.max_batch)]
    else:
        command = [options.pythons[name], str(HERE / "serve_peers.py"), name, str(bundle)]
        command += [str(port), str(options.workers), str(options.max_batch)]
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment(own=name == "ours"),
            start_new_session=True,
        )
        try:
            for line in process.stdout or ():
                if line.startswith(("ready", "Serving ")):
                    break
            else:
                log.seek(0)
                raise RuntimeError(f"{name} did not start:\n{log.read()[-2000:]}")
            yield port, process, time.perf_counter() - start
        finally:
            end(process)


def end(process: subprocess.Popen) -> None:
    """Stops a server and every process that it has started."""
    children = family(process.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(15)
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(15)
    if process.stdout:
        process.stdout.close()


def family(pid: int) -> list[int]:
    """Returns a process and all its descendants."""
    found = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found += family(int(child))
    return found


def memory(pid: int) -> float:
    """Returns the MiB of a server's processes, with shared pages counted once."""
    total = 0
    for one in family(pid):
        with contextlib.suppress(OSError):
            text = pathlib.Path(f"/proc/{one}/smaps_rollup").read_text()
            total += int(re.findall(r"^Pss:\s+(\d+)", text, re.M)[0])
    return total / 1024


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(own: bool = True) -> dict[str, str]:
    """Returns the environment of a child process, with this package only if `own`."""
    found = os.environ | {"OMP_NUM_THREADS": "1"}
    path = found.pop("PYTHONPATH", "")
    if own:
        found["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), path]))
    return found


# --------------------------------------------------------------------- clients


def request_of(name: str, samples: int) -> tuple[str, dict[str, str], bytes]:
    """Returns path, headers and body of a request for samples as tensors."""
    seeds = list(range(samples))
    if name == "triton":
        data = b"".join(seed.to_bytes(8, "little") for seed in seeds)
        tensor = {"name": "seeds", "shape": [samples, 1], "datatype": "INT64"}
        tensor["parameters"] = {"binary_data_size": len(data)}
        output = {"name": "samples", "parameters": {"binary_data": True}}
        text = json.dumps({"inputs": [tensor], "outputs": [output]}).encode()
        headers = {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(text)),
        }
        return "/v2/models/generator/infer", headers, text + data
    headers = {"Content-Type": "application/json"}
    if name == "ours":
        body = {"seeds": seeds, "format": "npy"}
        return "/v1/generate", headers, json.dumps(body).encode()
    path = "/predict" if name == "litserve" else "/"
    return path, headers, json.dumps({"seeds": seeds}).encode()


def check(name: str, port: int, bundle: pathlib.Path) -> None:
    """Checks that a server returns the samples of the bundle."""
    import numpy as np

    import serving

    path, headers, body = request_of(name, 3)
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        content = answer.read()
    expected = serving.Bundle(bundle, device="cpu").generate(range(3))
    found = np.frombuffer(content[-expected.nbytes :], "<f4").reshape(expected.shape)
    if not np.allclose(found, expected, atol=1e-4):
        raise RuntimeError(f"{name} must return the samples of the bundle. Received: other samples")


def load(name: str, port: int, clients: int, samples: int, seconds: float) -> dict[str, Any]:
    """Loads a server with wrk; returns requests, seconds, p50, p99 in ms, and errors."""
    path, headers, body = request_of(name, samples)
    escaped = "".join(f"\\{byte:03d}" for byte in body)
    lines = [f'wrk.method = "POST"\nwrk.body = "{escaped}"']
    lines += [f'wrk.headers["{key}"] = "{value}"' for key, value in headers.items()]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write("\n".join(lines) + _REPORT)
        script.flush()
        command = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s"]
        command += ["--timeout", "600s"]
        command += ["-s", script.name, f"http://127.0.0.1:{port}{path}"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.rpartition("JSON ")[2])


def measure(
    name: str, net: str, bundle: pathlib.Path, how: tuple[int, int, int], options: Any
) -> list[dict[str, Any]]:
    """Returns all measurements of a server with a model."""
    rows = []
    starts = []
    for _ in range(options.repeats - 1):
        with running(name, bundle, options) as (_, _, ready):
            starts.append(ready)
    with running(name, bundle, options) as (port, process, ready):
        ready = statistics.median([*starts, ready])
        check(name, port, bundle)
        load(name, port, 16, 1, 1)  # warm
        for samples in options.samples:
            for clients in options.clients:
                ratios, found = [], []
                seconds = options.seconds
                for _ in range(options.repeats):
                    alone = in_new_process("bare", bundle, *how, options.seconds / 2)
                    # With a slow model, long enough for two responses to every client.
                    seconds = max(seconds, 2 * clients * samples / alone)
                    seen = load(name, port, clients, samples, seconds)
                    rate = seen["requests"] * samples / seen["seconds"]
                    ratios.append(rate / alone)
                    found.append(seen | {"rate": rate})
                row = {
                    "model": net,
                    "server": name,
                    "clients": clients,
                    "samples": samples,
                    "samples_per_second": statistics.median(x["rate"] for x in found),
                    "of_bare": statistics.median(ratios),
                    "p50_ms": statistics.median(x["p50"] for x in found),
                    "p99_ms": statistics.median(x["p99"] for x in found),
                    "errors": sum(x["errors"] for x in found),
                    "mib": memory(process.pid),
                    "ready_seconds": ready,
                }
                if clients == samples == 1:
                    adds = [
                        in_new_process("added", name, bundle, port, seconds)
                        for _ in range(options.repeats)
                    ]
                    row["added_ms"] = statistics.median(adds)
                rows.append(row)
                print(line(row), flush=True)
    return rows


def line(row: dict[str, Any]) -> str:
    more = f"{row['added_ms']:.2f}" if "added_ms" in row else ""
    return (
        f"| {row['model']} | {row['server']} | {row['clients']} | {row['samples']} | "
        f"{row['samples_per_second']:.0f} | {row['of_bare']:.2f} | {row['p50_ms']:.2f} | "
        f"{row['p99_ms']:.2f} | {more} | {row['errors']} | {row['mib']:.0f} | "
        f"{row['ready_seconds']:.2f} |"
    )


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore
    add = parser.add_argument
    add("--net", action="append", choices=NETS, help="a model (default: both)")
    add("--bundle", type=pathlib.Path, help="a bundle instead of those")
    add("--server", action="append", choices=SERVERS, help="a server (default: ours)")
    add("--python", action="append", default=[], metavar="SERVER=PATH", help="Python of a peer")
    add("--clients", type=int, nargs="+", default=CLIENTS)
    add("--samples", type=int, nargs="+", default=(1, 8), help="samples per request")
    add("--seconds", type=float, default=4.0, help="seconds per measurement")
    add("--repeats", type=int, default=3, help="repetitions, of which the median is shown")
    add("--workers", type=int, default=len(os.sched_getaffinity(0)))
    add("--max-batch", type=int, default=16)
    add("--json", type=pathlib.Path, help="write the rows to a file")
    add("--work", type=pathlib.Path, help="keep the bundles here")
    options = parser.parse_args(argv)
    options.pythons = dict(entry.split("=", 1) for entry in options.python)
    for name in options.server or ():
        if name != "ours" and name not in options.pythons:
            parser.error(f"--server {name} needs --python {name}=PATH")
    return options


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    if not shutil.which("wrk"):
        print("wrk must be installed, as by `apt-get install wrk`", file=sys.stderr)
        return 2
    rows: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        work = options.work or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        bundles = {options.bundle.name: options.bundle} if options.bundle else {}
        for net in () if bundles else options.net or NETS:
            bundles[net] = work / net if (work / net).exists() else write_bundle(net, work)
        for net, bundle in bundles.items():
            print(f"{net}:")
            how = best_bare(bundle, options.seconds / 2)
            print(
                "| model | server | clients | samples | samples/s | of bare | p50 ms | p99 ms | "
                "added ms | errors | MiB | ready s |\n" + "|---" * 12 + "|"
            )
            for name in options.server or ["ours"]:
                rows += measure(name, net, bundle, how, options)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        folder, sessions, threads, batch, seconds = sys.argv[2:]
        print(bare(folder, int(sessions), int(threads), int(batch), float(seconds)))
    elif sys.argv[1:2] == ["--added"]:
        name, folder, port, seconds = sys.argv[2:]
        print(added(name, folder, int(port), float(seconds)))
    else:
        sys.exit(main())
