"""Client with blocking sockets."""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import itertools
import socket
import threading
import time
from collections.abc import Generator
from typing import Any

import numpy as np

from serving.classification import Classification
from serving.client import films, texts
from serving.client.acting import act, check_acted
from serving.client.arguments import check_arguments
from serving.client.base import IDLE_CONNECTIONS, ClientBase
from serving.client.endpoint import BUSY, accept
from serving.client.films import FilmStream
from serving.client.http_types import Exchange, Request, Response, ServerError, T
from serving.client.sounds import check_sound, check_stream
from serving.client.streams import SoundStream
from serving.client.texts import TextStream, read_texts
from serving.client.uploads import check_classified, check_upload

_PIECE = 2**16  # bytes of a stream that are read at a time


class Client(ClientBase):
    """Client for every server that can serve a bundle.

    The protocol of the server is detected. Where a server takes no seeds, or the seeds do not
    describe the samples alone, the client computes the inputs; the samples are the same. A
    request to a server that is full or starting is repeated after its Retry-After and a little
    more; a repeated request makes the same samples. Connections are kept open. Several threads
    may share a client.

    Args:
        url: `http://HOST:PORT`, or with the `/NAME` of a model.
        token: bearer token, for a server that requires one.
        timeout: seconds for one request, repeats and waits included.
        retries: largest number of repeats of a request.
        protocol: `"keras_gan"`, `"tf_serving"` or `"v2"`; detected by default.
        bundle: folder of the bundle that is served, for what other servers do not report: how
            seeds fill the inputs, the names of the classes, the value range.
        batch_size: samples of one request.

    Raises:
        UsageError: a mistake of the caller. An error response of the server is a `ServerError`
            with the server's own line and the `status` of the response.
    """

    def __init__(self, url: str, token: str | None = None, timeout: float = 60.0, **options: Any):
        super().__init__(url, token, timeout, **options)
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def generate(self, seeds: Any = None, **arguments: Any) -> np.ndarray:
        """Returns samples `(n, *shape)`: the first output of the network.

        Args:
            seeds: integers, each `0 <= seed < 2**63`; a network without seeded inputs needs none.
            seed, count: instead of seeds, the first one and the number of them (default 1).
            labels: class ids or names, one for all or one for each; by default each seed's own.
            truncation: value of the input of this name, else factor on the latents (default 1).
            interpolate: instead of seeds, those to interpolate between on the sphere, in `count`
                points, both ends included.
            loop: the interpolation returns to its first seed, and ends one step before it.
            easing: of an interpolation: `"linear"` (default), or `"smooth"`, slower at each seed.
            around: a seed; the samples are its neighbors, in directions that the seeds name.
            radius: distance of the neighbors, 0 to 1 (default 0.3).
            model: name of a model, where the URL has none and the server has several.
            version: of the model; the newest by default.
            inputs: mapping of given inputs, for names that are arguments of this method as well.

        Any other argument is a given input: an array `(n, ...)`, or `(1, ...)` for all samples;
        or the path or the bytes of a file of its kind, such as a PNG.
        """
        return self.run(self.session.generate(check_arguments(seeds, **arguments)))

    def outputs(self, seeds: Any = None, **arguments: Any) -> dict[str, np.ndarray]:
        """Returns all outputs of the network by name; takes the arguments of `generate`."""
        return self.run(self.session.outputs(check_arguments(seeds, **arguments)))

    def files(
        self,
        seeds: Any = None,
        *,
        format: str | None = None,
        metadata: bool = True,
        **arguments: Any,
    ) -> list[bytes]:
        """Returns each sample as a file of its kind; takes the arguments of `generate`.

        Args:
            format: a format of the samples' kind, as `"png"`, `"wav"` or `"csv"`; by default the
                preferred one of the kind.
            metadata: the files say that a model made them, which one, and from which seed.
        """
        request = check_arguments(seeds, **arguments)
        return self.run(self.session.files(request, format, metadata))

    def pictures(
        self, seeds: Any = None, *, metadata: bool = True, **arguments: Any
    ) -> list[bytes]:
        """Returns samples as PNG files: `files` with the format `"png"`."""
        return self.files(seeds, format="png", metadata=metadata, **arguments)

    def animation(
        self,
        seeds: Any = None,
        *,
        frame_rate: float = 30.0,
        format: str = "webp",
        metadata: bool = True,
        **arguments: Any,
    ) -> bytes:
        """Returns one file whose frames are the samples; takes the arguments of `generate`.

        Args:
            frame_rate: 1 to 50 frames/s.
            format: `"webp"`, `"gif"`, `"apng"` or, with the extra `video`, `"mp4"`.
            metadata: the file says that a model made it, which one, and from which seeds.
        """
        request = check_arguments(seeds, **arguments)
        return self.run(self.session.animation(request, frame_rate, format, metadata))

    def translate(self, picture: Any, to: Any = None, **options: Any) -> Any:
        """Translates a picture of any size, and returns the answer in its form.

        Args:
            picture: a path or a PIL image, answered by a PIL image; a uint8 array `(height, width)`
                or `(height, width, channels)`, answered by an array; or the bytes of a file,
                answered by those of a file.
            to: file to write as well, whose ending is `.png`, `.jpg`, `.jpeg` or `.webp`; missing
                folders are created.
            model: name of a translator, where the URL has none and the server has several.
            version: of the model; the newest by default.
            tile: height and width in pixels of the tiles in which a large picture is translated,
                0 for the whole picture; by default the server chooses. The result is the same.
            seed: seed of a model with random inputs, from 0 to 2**63 - 1; by default 0.

        Returns:
            The translated picture, of exactly the height and width of the given one times the scale
            of the model.
        """
        return self.run(self.session.translate(check_upload(picture, to, **options)))

    def classify(self, picture: Any, **options: Any) -> Classification:
        """Returns the probabilities of the classes of a picture, as `serving.Bundle.classify` does.

        Args:
            picture: a path, a PIL image, a uint8 array `(height, width)` or `(height, width,
                channels)`, or the bytes of a file. The server crops and resizes it.
            model: name of a classifier, where the URL has none and the server has several.
            version: of the model; the newest by default.
        """
        return self.run(self.session.classify(check_classified(picture, **options)))

    def vocode(self, sound: Any, to: Any = None, **options: Any) -> Any:
        """Returns the sound that a vocoder makes of a spectrogram, or of that of a sound.

        Args:
            sound: a path, floats `(time,)` or `(time, 2)` in [-1, 1], or a spectrogram `(frames,
                mels)`, answered by float32 `(time,)`; or the bytes of a WAV or .npy file, answered
                by those of a WAV file.
            to: WAV file to write as well; missing folders are created.
            model: name of a vocoder, where the URL has none and the server has several.
            version: of the model; the newest by default.
            sample_rate: sampling rate of an array of samples in Hz, by default the model's.
            resample: resample a sound of another rate; otherwise the request is refused (422).
        """
        sent = check_sound(sound, to, **options)
        return sent.restore(self.run(self.session.vocode(sent)))

    def vocode_chunks(self, sound: Any, chunk: int | None = None, **options: Any) -> SoundStream:
        """Returns an iterator of the parts of `vocode`'s answer, as the server computes them.

        The first part has arrived when this returns; a `with` block closes the connection where
        not all parts are read. `timeout` is that of each part, and no part is asked for twice.

        Args:
            sound: as for `vocode`, always answered by float32 `(time,)`.
            chunk: frames of a part, from 1 to 1024; by default 0.2 s. A part may arrive divided.
            model, version, sample_rate, resample: as for `vocode`.

        Returns:
            A stream, which has the attribute `sample_rate` in Hz.
        """
        response = self.run(self.session.vocode(check_stream(sound, chunk, **options)))
        return SoundStream(response.pieces, self.retries)

    def frames(self, seed: int = 0, frames: int | None = None, **options: Any) -> FilmStream:
        """Returns an iterator of the frames of a video of any length, as the server makes them.

        Closing the iterator ends the video where not all frames are read. `timeout` is that of
        each part.

        Args:
            seed: from 0 to 2**63 - 1; by default 0.
            frames: number of frames, from 1 up; a longer video begins with the shorter one.
            label: id or name of the class; by default that of the seed.
            truncation: factor on the latents (default 1).
            model: name of a model, where the URL has none and the server has several.
            version: of the model; the newest by default.

        Returns:
            Iterator of float32 arrays `(height, width, channels)` in the range of the output.
        """
        response = self.run(films.ask(self.session, films.check_film(seed, frames, **options)))
        return FilmStream(response.pieces, self.retries)

    def act(self, observation: Any, **options: Any) -> Any:
        """Returns the action of a policy for an observation, as `serving.Bundle.act` does.

        Args:
            observation: numbers of the shape of one, or with one more axis for several.
            model: name of a policy, where the URL has none and the server has several.
            version: of the model; the newest by default.

        Returns:
            An int for a discrete action, float32 `(values,)` for a continuous one; for several
            observations an array with one more axis.
        """
        return self.run(act(self.session, check_acted(observation, **options)))

    def texts(self, seeds: Any, **fields: Any) -> list[dict[str, Any]]:
        """Samples texts token by token, as `serving.Bundle.texts` does.

        Args:
            seeds: integers, each `0 <= seed < 2**63`.
            temperature, prefix, pattern, vocabulary, length, labels: as for `Bundle.texts`.
            model: name of a model of texts, where the URL has none and the server has several.
            version: of the model; the newest by default.

        Returns:
            For each seed a dictionary of `seed`, `text` and `log_probability`.
        """
        return read_texts(self.run(texts.ask(self.session, seeds, False, **fields)))

    def stream_text(self, seed: int = 0, **fields: Any) -> TextStream:
        """Returns an iterator of the tokens of one text, as the server samples them.

        A `with` block closes the connection where not all tokens are read. Together the tokens are
        the text; after the last one, `result` has it with its log-probability.

        Args:
            seed: seed of the text.
            fields: as for `texts`.
        """
        response = self.run(texts.ask(self.session, seed, True, **fields))
        return TextStream(response.pieces, self.retries)

    def models(self) -> list[dict[str, Any]]:
        """Returns name, version, shape and more of each model; `None` for what is unknown."""
        return self.run(self.session.models())

    def close(self) -> None:
        """Closes the open connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, exchange: Exchange[T]) -> T:
        """Carries out a call of the session."""
        with contextlib.closing(exchange):
            response: Any = None
            while True:
                try:
                    request = exchange.send(response)
                except StopIteration as done:
                    return done.value
                response = self._send(request)

    def _send(self, request: Request) -> Response:
        """Sends a request, and repeats it while the server is busy or unreachable."""
        deadline = time.monotonic() + self.timeout
        for attempt in itertools.count():
            try:
                response = self._send_once(request, deadline)
            except (ConnectionError, http.client.HTTPException) as error:
                response, failure = None, self.retries.unreachable(error)
            except OSError as error:
                raise self.retries.unreachable(error) from error
            else:
                if response.status not in BUSY:
                    return accept(request, response)
                failure = ServerError(response.error_line(), response.status)
            wait = self.retries.next_wait(attempt, deadline, response)
            if wait is None:
                raise failure
            time.sleep(wait)
        raise RuntimeError("unreachable: itertools.count does not end")

    def _send_once(self, request: Request, deadline: float) -> Response:
        """Sends a request on an idle connection, else or if that was closed on a new one."""
        for fresh in (False, True):
            with self._lock:
                connection = None if fresh or not self._idle else self._idle.pop()
            reused = connection is not None
            connection = connection or self._open()
            try:
                remaining = max(deadline - time.monotonic(), 0.001)
                connection.timeout = remaining
                if connection.sock is not None:
                    connection.sock.settimeout(remaining)
                connection.response_class = functools.partial(_Reply, deadline)  # type: ignore
                sent = self.endpoint.headers | request.headers
                connection.request(request.method, request.path, request.body or None, sent)
                reply = connection.getresponse()
                body = None if request.is_streamed and reply.status == 200 else reply.read()
            except (ConnectionError, http.client.HTTPException):
                connection.close()
                if not reused:
                    raise
                self.close()  # the server has closed it, and probably the others as well
                continue
            except BaseException:
                connection.close()
                raise
            headers = {k.lower(): v for k, v in reply.getheaders()}
            if body is None:
                return Response(200, headers, b"", self._pieces(connection, reply))
            self._keep(connection, reply)
            return Response(reply.status, headers, body)
        raise ConnectionError("no connection")

    def _pieces(
        self, connection: http.client.HTTPConnection, reply: Any
    ) -> Generator[bytes, None, None]:
        """Yields the body of a response as it arrives, each piece within the timeout."""
        try:
            while True:
                reply.renew(time.monotonic() + self.timeout)
                if not (piece := reply.read1(_PIECE)):
                    break
                yield piece
            if reply.length:  # of a body that is not in chunks
                raise http.client.IncompleteRead(b"", reply.length)
        except BaseException:
            connection.close()
            raise
        reply.close()
        self._keep(connection, reply)

    def _keep(self, connection: http.client.HTTPConnection, reply: Any) -> None:
        """Keeps a connection whose response was read, unless the server closes it."""
        if reply.will_close:
            connection.close()
            return
        with self._lock:
            if len(self._idle) < IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()

    def _open(self) -> http.client.HTTPConnection:
        host, port, tls = self.endpoint.host, self.endpoint.port, self.endpoint.tls
        if tls is None:
            return http.client.HTTPConnection(host, port)
        return http.client.HTTPSConnection(host, port, context=tls)


class _Reply(http.client.HTTPResponse):
    """HTTP response that must be complete by a deadline.

    A socket's timeout applies to each read, so that a server which sends a byte now and then
    would never exceed it.

    Args:
        deadline: on the clock of `time.monotonic`.
    """

    def __init__(self, deadline: float, sock: socket.socket, *args: Any, **options: Any):
        super().__init__(sock, *args, **options)
        self.fp.close()
        self._reader = _DeadlineReader(sock, deadline)
        self.fp = io.BufferedReader(self._reader)

    def renew(self, deadline: float) -> None:
        """Sets another deadline, for the next piece of a stream."""
        self._reader.deadline = deadline


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket, with the time that is left before a deadline as its timeout."""

    def __init__(self, sock: socket.socket, deadline: float):
        self._sock = sock
        self.deadline = deadline
        self._raw: Any = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if (remaining := self.deadline - time.monotonic()) <= 0:
            raise TimeoutError
        self._sock.settimeout(remaining)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
