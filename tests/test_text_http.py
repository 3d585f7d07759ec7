"""Texts of POST /v1/generate in a real server process: lines, events, bounds, hang-ups, clients."""

import asyncio
import http.client
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import text_bundles
import tiny
from servers import Serving, Uvicorn, until

import serving
from serving import UsageError
from serving.client import AsyncClient, Client, ServerError

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("texts")


@pytest.fixture(scope="module")
def server(folder):
    bundles = [
        text_bundles.write(folder / "chain"),
        text_bundles.write(folder / "slow", "slow", ends=False, depth=8),
        text_bundles.write(folder / "deep", "deep", ends=False, depth=256),
        tiny.points(folder / "points"),
    ]
    with Serving(*bundles, "--max-streams", 2, "--max-values", 20_000) as found:
        found.bundle = serving.Bundle(folder / "chain", threads=1)
        yield found
        assert found.process.poll() is None, "the server must still run after all tests"
        assert "Traceback" not in found.log


def ask(server, **fields):
    body = json.dumps({"model": "chain", **fields}).encode()
    return server.ask("/v1/generate", body, JSON)


def url(server):
    return f"http://127.0.0.1:{server.port}"


def events(response):
    """Parses server-sent events as the HTML standard does: by lines, blank lines between."""
    name, data = "message", []
    for line in response:
        line = line.decode().rstrip("\r\n")
        if not line:
            if data:
                yield name, json.loads("\n".join(data))
            name, data = "message", []
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif line.startswith("event:"):
            name = line[6:].removeprefix(" ")


def begin(server, query):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", f"/v1/generate?{query}")
    return connection, connection.getresponse()


def streams(server):
    """Returns the number of streams for which the server has no place."""
    return server.ask("/v1/generate?model=slow&stream=1&length=1").status


def test_lines_are_those_of_the_bundle(server):
    options = {"temperature": 0.7, "prefix": "a", "pattern": "[a-d]+", "length": 12}
    expected = server.bundle.texts(range(3, 90), **options)
    answer = ask(server, seed=3, count=87, format="jsonl", **options)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/jsonl")
    assert [json.loads(x) for x in answer.body.splitlines()] == [t.to_json() for t in expected]
    answer = ask(server, seeds=[5, 1], vocabulary=["a", "b"])
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    expected = server.bundle.texts([5, 1], vocabulary=["a", "b"])
    assert answer.body.decode() == "".join(text.text + "\n" for text in expected)
    assert answer.headers["x-model"] == "chain"
    query = "model=chain&seeds=5,1&vocabulary=a,b&temperature=1&format=txt"
    assert server.ask(f"/v1/generate?{query}").body == answer.body


def test_a_stream_is_an_event_for_each_token(server):
    expected = server.bundle.texts([7], length=40, pattern="[a-d ]{30,40}")[0]
    connection, response = begin(
        server, "model=chain&seed=7&stream=1&length=40&pattern=[a-d%20]{30,40}"
    )
    assert (response.status, response.getheader("content-type")) == (200, "text/event-stream")
    assert response.getheader("cache-control") == "no-cache"
    *tokens, last = events(response)
    connection.close()
    assert last == ("end", expected.to_json())
    assert {name for name, _ in tokens} == {"message"}
    assert [content["index"] for _, content in tokens] == list(range(len(tokens)))
    assert "".join(content["token"] for _, content in tokens) == expected.text
    assert 30 <= len(tokens) <= 40


def test_the_first_token_comes_before_the_last_is_sampled(server):
    with Client(url(server)) as client:
        with client.stream_text(1, model="slow", length=1000) as stream:
            first = [next(stream) for _ in range(3)]
            assert stream.result is None
        expected = client.texts([1], model="slow", length=3)[0]["text"]
    assert "".join(first) == expected


def test_a_client_that_hangs_up_frees_its_place(server):
    query = "model=slow&stream=1&length=1024"
    held = [begin(server, query) for _ in range(2)]
    for _, response in held:
        assert response.status == 200
        response.readline()
    assert streams(server) == 503
    for connection, response in held:
        response.close()
        connection.close()
    until(lambda: streams(server) == 200)


def test_a_client_that_hangs_up_ends_a_long_request(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    body = json.dumps({"model": "slow", "length": 1000, "count": 20}).encode()
    connection.request("POST", "/v1/generate", body, JSON)
    time.sleep(0.2)
    connection.close()
    assert ask(server, model="slow", length=2).status == 200


def test_a_deadline(server):
    answer = ask(server, model="slow", length=1000, count=20, timeout=0.05)
    assert answer.status == 504
    # Of a stream it is that of each token: one takes long, or all of them do.
    answer = server.ask("/v1/generate?model=deep&stream=1&length=2&timeout=0.01")
    assert answer.status == 504
    connection, response = begin(server, "model=slow&stream=1&length=500&timeout=1")
    assert [name for name, _ in events(response)].index("end") == 500
    connection.close()


def test_files_are_refused(server):
    boundary = {"Content-Type": "multipart/form-data; boundary=xYz"}
    parts = {"model": "chain", "length": "5", "mask": "[1, 1, 1, 1, 1, 0]"}
    body = "".join(
        f'--xYz\r\nContent-Disposition: form-data; name="{name}"\r\n'
        + ("Content-Type: application/json\r\n" if name == "mask" else "")
        + f"\r\n{value}\r\n"
        for name, value in parts.items()
    )
    answer = server.ask("/v1/generate", f"{body}--xYz--\r\n".encode(), boundary)
    assert answer.status == 400
    assert answer.error == "Texts token by token take no files. Received: mask"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"temperature": -1}, "`temperature`"),
        ({"temperature": "x"}, "`temperature`"),
        ({"prefix": "xyz"}, "`prefix`"),
        ({"prefix": [[1, 2], [3]]}, "lists of equal lengths"),
        ({"prefix": "a" * 9}, "`prefix` must have at most `length` tokens, 8"),
        ({"prefix": "ab", "pattern": "a+"}, "`prefix` must begin a text"),
        ({"pattern": "(a"}, "`pattern` must consist of"),
        ({"pattern": "(a|b)*a(a|b){12}"}, "automaton of at most"),
        ({"pattern": "a{9}"}, "within `length`"),
        ({"vocabulary": ["x"]}, "`vocabulary`"),
        ({"vocabulary": "a"}, "`vocabulary`"),
        ({"length": 1025}, "`length`"),
        ({"length": 1000, "count": 100}, "at most 20000 tokens. Received: 100 texts of 1000"),
        ({"length": 5, "count": 10**9}, "`count`"),
        ({"length": 5, "truncation": 0.5}, "take the fields .* Received: truncation"),
        ({"length": 5, "lenght": 5}, "Did you mean"),
        ({"length": 5, "format": "npy"}, "`format` of texts must be one of txt, jsonl"),
        ({"stream": True, "count": 2}, "A stream of tokens is one text"),
        ({"stream": True, "format": "jsonl", "length": 5}, "A stream of tokens is one text"),
        ({"stream": True, "pattern": "a{9}"}, "within `length`"),
        ({"seeds": [1], "seed": 2, "length": 5}, "exclude each other"),
        ({"labels": 1, "length": 5}, "takes no labels"),
        ({"model": "points", "length": 5}, "samples token by token"),
    ],
)
def test_a_request_is_refused_in_one_line(server, fields, reason):
    answer = ask(server, **fields)
    assert answer.status == 400
    assert re.search(reason, answer.error)
    assert "\n" not in answer.error


def test_the_whole_network_still_answers(server):
    answer = ask(server, seeds=[1, 2], format="npy")
    assert answer.status == 200
    models = {x["name"]: x for x in server.ask("/v1/models").json["models"]}
    assert models["points"]["texts"] is None
    assert models["chain"]["texts"] == {
        "length": 8,
        "max_length": 1024,
        "vocabulary": 6,
        "ends": True,
    }
    document = server.ask("/openapi.json").json
    schema = document["paths"]["/v1/generate"]["post"]["requestBody"]["content"]
    assert "pattern" in schema["application/json"]["schema"]["properties"]


def test_clients(server):
    expected = [text.to_json() for text in server.bundle.texts([4, 9], pattern="[a-c]+")]
    with Client(f"{url(server)}/chain") as client:
        assert client.texts([4, 9], pattern="[a-c]+") == expected
        stream = client.stream_text(9, pattern="[a-c]+")
        assert "".join(stream) == expected[1]["text"]
        assert stream.result == expected[1]
        with pytest.raises(ServerError, match="within `length`"):
            client.stream_text(9, pattern="a{9}")
        with pytest.raises(UsageError, match="The arguments are seeds, model, temperature"):
            client.texts([1], tempo=3)

    async def later():
        client = AsyncClient(f"{url(server)}/chain")
        found = await client.texts([4, 9], pattern="[a-c]+")
        async with await client.stream_text(9, pattern="[a-c]+") as stream:
            tokens = [token async for token in stream]
        await client.close()
        return found, "".join(tokens), stream.result

    assert asyncio.run(later()) == (expected, expected[1]["text"], expected[1])


def test_many_streams_and_requests_together(server):
    expected = {seed: server.bundle.texts([seed], length=60)[0].text for seed in range(24)}

    def get(seed):
        with Client(f"{url(server)}/chain") as client:
            return client.texts([seed], length=60)[0]["text"]

    with ThreadPoolExecutor(8) as pool:
        assert dict(zip(range(24), pool.map(get, range(24)), strict=True)) == expected


def test_a_stream_by_asgi(folder):
    with Uvicorn(folder / "chain") as other:
        bundle = serving.Bundle(folder / "chain", threads=1)
        expected = bundle.texts([7])[0]
        until(lambda: other.ask("/readyz").status == 200)
        connection, response = begin(other, "seed=7&stream=1")
        *tokens, last = events(response)
        connection.close()
        assert last == ("end", expected.to_json())
        assert "".join(content["token"] for _, content in tokens) == expected.text
