"""Runs `keras-gan serve` in a process of its own, with a client, for the tests."""

import asyncio
import contextlib
import faulthandler
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
# The console script, with an import hook that refuses what a server must not import.
PROGRAM = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "keras", "keras_gan", "export", "tf2onnx"):
            sys.exit("imported " + name)
sys.meta_path.insert(0, Blocker())
from serving.cli import main
sys.exit(main(sys.argv[1:]))
"""


async def comes(event, seconds=120):
    """Waits for an event of another thread; prints the stacks of all threads on a timeout.

    The timeout is long because loading a model in a test process collects the garbage of others.
    """
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        faulthandler.dump_traceback(sys.__stderr__)
        raise


class Answer:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The message of an error response, checked to be one rule without a stack trace."""
        assert self.headers["content-type"] == "application/json", self.body
        line = self.json["error"]
        assert "Received: " in line, line
        assert "Traceback" not in line, line
        return line


class Serving:
    """A running server, for a `with` block."""

    def __init__(self, *args, wait=True, stderr=None):
        self.file = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the server
        command = [sys.executable, "-c", PROGRAM, "serve", "--port", "0", *map(str, args)]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr or self.file,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
        )
        self.port = 0
        if wait:
            self.wait()

    def wait(self):
        self.line = self.process.stdout.readline()
        found = re.search(r":(\d+)$", self.line.strip())
        assert found, self.line + self.log
        self.port = int(found[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop(kill=True)
        self.process.stdout.close()
        self._last_log = self.log
        self.file.close()

    def stop(self, kill=False):
        """Stops the server and returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        return self.process.wait(60)

    @property
    def log(self):
        """Returns the standard error so far."""
        if self.file.closed:
            return self._last_log
        self.file.flush()
        return os.pread(self.file.fileno(), 2**24, 0).decode()

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def ask(self, path, body=None, headers=None, method=None, connection=None):
        """Sends one request; the body is JSON unless it is bytes."""
        client = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        client.request(method or ("GET" if body is None else "POST"), path, body, headers)
        answer = client.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        content = answer.read()
        if connection is None:
            client.close()
        return Answer(answer.status, found, content)

    def raw(self, data, seconds=20):
        """Sends bytes on a connection and returns all that the server sends until it closes."""
        with self.connect() as connection:
            connection.settimeout(seconds)
            connection.sendall(data)
            return read_all(connection)

    def memory(self):
        """Returns the resident bytes of the server."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024


class Uvicorn(Serving):
    """A running uvicorn that serves a bundle, for a `with` block."""

    def __init__(self, bundle):
        self.file = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the server
        program = [sys.executable, "-m", "uvicorn", "--factory", "serving.app:create_app"]
        path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
        self.process = subprocess.Popen(
            [*program, "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=self.file,
            text=True,
            env=os.environ | {"PYTHONPATH": path, "KERAS_GAN_BUNDLES": str(bundle)},
        )
        until(lambda: re.search(r"http://127.0.0.1:\d+", self.log) or self.process.poll())
        found = re.search(r"http://127.0.0.1:(\d+)", self.log)
        assert found, self.log
        self.port = int(found[1])


def read_all(connection):
    found = b""
    with contextlib.suppress(TimeoutError, ConnectionResetError):
        while piece := connection.recv(65536):
            found += piece
    return found


def until(condition, seconds=20):
    """Waits until a condition holds and returns its value."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "the condition did not hold in time"
        time.sleep(0.02)
    return found
