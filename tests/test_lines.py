"""Tests of the files of texts and videos: lines of several texts, and MP4."""

import io
import json

import numpy as np
import pytest
import tiny
from servers import Serving
from test_page import describe

import serving
from serving import cli, extras, kinds, pictures
from serving.kinds import text

TOKENS = ["a", "b", "\n", "\\", "\u2028"]  # a vocabulary with line breaks, as of documents
av = pytest.importorskip("av", reason="needs the extra video")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Bundles of texts in two classes and of videos."""
    found = tmp_path_factory.mktemp("bundles")
    poem = tiny.write(found / "poem", "poem", "text", (6, 5), 4, ("odd", "even"))
    describe(poem, vocabulary=TOKENS)
    describe(tiny.write(found / "clip", "clip", "video", (6, 7, 10, 3), 4), frame_rate=12.5)
    return found


@pytest.fixture(scope="module")
def server(folder):
    with Serving(folder / "poem", folder / "clip", "--no-access-log") as found:
        yield found


@pytest.fixture(scope="module")
def strings(folder):
    """The texts of the seeds 0 to 99, from their numbers alone."""
    drawn = serving.Bundle(folder / "poem").generate(seeds=range(100))
    return ["".join(TOKENS[i] for i in sample.argmax(axis=-1)) for sample in drawn]


def asked(server, query):
    answer = server.ask(f"/v1/generate?model=poem&{query}")
    assert answer.status == 200, answer.body
    return answer


def test_a_text_is_one_line_and_back():
    given = "a\\b\\n\nc\rd\u2028e\x85f\x0b"
    line = text.to_line(given)
    assert line == r"a\\b\\n\nc\rd\u2028e\u0085f\u000b"
    assert len(line.splitlines()) == 1
    assert text.from_line(line) == given
    assert text.from_line(r"\x") == r"\x"  # not of `to_line`: as it is


def test_several_texts_are_lines(server, strings):
    """Line breaks are escaped, so that n samples are n lines, whatever the texts hold."""
    answer = asked(server, "count=20&format=txt")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert any("\n" in x for x in strings[:20])
    lines = answer.body.decode().splitlines()
    assert [text.from_line(x) for x in lines] == strings[:20]
    answer = asked(server, "seeds=7,3&format=jsonl&labels=even")
    assert answer.headers["content-type"] == "application/jsonl"
    rows = [json.loads(x) for x in answer.body.decode().splitlines()]
    assert [(row["seed"], row["label"]) for row in rows] == [(7, 1), (3, 1)]
    rows = [json.loads(x) for x in asked(server, "count=100&format=jsonl").body.splitlines()]
    assert rows == [{"seed": i, "label": i % 2, "text": x} for i, x in enumerate(strings)]


def test_one_text_is_a_document(server, strings):
    seed = next(i for i, x in enumerate(strings) if "\n" in x.strip())
    assert asked(server, f"seed={seed}&format=txt").body.decode() == strings[seed] + "\n"
    row = {"seed": seed, "label": seed % 2, "text": strings[seed]}
    assert asked(server, f"seed={seed}&format=jsonl").json == row
    plain = asked(server, f"seed={seed}&format=jsonl&metadata=false")
    assert plain.json == {"text": strings[seed]}
    meta = {"vocabulary": TOKENS}
    back = kinds.get("text").decode(plain.body, "jsonl", (6, 5), meta)
    assert text.string_of(back, meta) == strings[seed]


def test_streams_of_lines(server):
    """A stream is the same lines; one of JSON ends with a line that says so."""
    whole, stream = (asked(server, f"count=200&format=txt&stream={x}") for x in ("false", "true"))
    assert stream.body == whole.body
    assert stream.headers["content-type"] == "text/plain; charset=utf-8"
    whole, stream = (asked(server, f"count=200&format=jsonl&stream={x}") for x in ("false", "true"))
    assert stream.body == whole.body + b'{"done":200}\n'
    assert stream.headers["content-type"] == "application/jsonl"


def test_walks_of_texts_name_their_places(server):
    rows = asked(server, "interpolate=1,2&count=3&format=jsonl").body.splitlines()
    facts = [{k: v for k, v in json.loads(row).items() if k != "text"} for row in rows]
    assert facts == [{"from": 1, "to": 2, "at": at, "label": 1} for at in (0.0, 0.5, 1.0)]


def test_models_say_which_formats_have_lines(server):
    found = {x["name"]: x["line_formats"] for x in server.ask("/v1/models").json["models"]}
    assert found == {"poem": ["txt", "jsonl"], "clip": []}


@pytest.mark.parametrize("form", ["txt", "jsonl"])
def test_files_of_a_client_do_not_depend_on_their_number(server, strings, form):
    with serving.Client(f"http://127.0.0.1:{server.port}/poem") as client:
        several = client.files(range(20), format=form)
        assert several == [client.files([seed], format=form)[0] for seed in range(20)]
    if form == "txt":
        assert [x.decode() for x in several] == [x + "\n" for x in strings[:20]]


def test_samples_on_the_command_line(folder, server, strings, tmp_path):
    """One file has all texts, equal to the server's; with --each a file is a document."""

    def sample(*options):
        assert cli.main(["sample", str(folder / "poem"), *map(str, options)]) == 0

    for form in ("txt", "jsonl"):
        sample("--seed", 3, "--count", 20, "--out", tmp_path / f"all.{form}")
        wanted = asked(server, f"seed=3&count=20&format={form}").body
        assert (tmp_path / f"all.{form}").read_bytes() == wanted
        sample("--seed", 4, "--count", 1, "--out", tmp_path / f"one.{form}")
        wanted = asked(server, f"seed=4&format={form}").body
        assert (tmp_path / f"one.{form}").read_bytes() == wanted
        sample("--count", 5, "--each", tmp_path / form, "--format", form)
        wanted = asked(server, f"seed=4&format={form}").body
        assert (tmp_path / form / f"seed000004.{form}").read_bytes() == wanted
    sample("--out", tmp_path / "default.txt")
    lines = (tmp_path / "default.txt").read_text("utf-8").split("\n")[:-1]
    assert [text.from_line(x) for x in lines] == strings[:64]


def test_vocabularies_of_any_script_but_without_control_characters(folder, tmp_path):
    describe(tiny.write(tmp_path / "a", "a", "text", (2, 3), 2), vocabulary=["\u200d", "\t", ""])
    serving.Bundle(tmp_path / "a")
    for token in ("\x1b", "\x00", "\ud800"):
        bundle = tiny.write(tmp_path / f"b{ord(token)}", "b", "text", (2, 1), 2)
        describe(bundle, vocabulary=[token])
        with pytest.raises(serving.UsageError, match=r"vocabulary` in .* without control .*Recei"):
            serving.Bundle(bundle)


# ------------------------------------------------------------------------------------ MP4


def frames_of(content):
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        film = np.stack([x.to_ndarray(format="rgb24") for x in container.decode(stream)])
        return film, float(stream.average_rate)


def test_a_video_is_an_mp4_file(folder, server, tmp_path):
    """Every frame, at its rate; odd heights are made even by repeating the last row."""
    answer = server.ask("/v1/generate?model=clip&seed=9&format=mp4")
    assert (answer.status, answer.headers["content-type"]) == (200, "video/mp4")
    film, rate = frames_of(answer.body)
    assert film.shape == (6, 8, 10, 3)
    assert rate == 12.5
    wanted = pictures.to_uint8(serving.Bundle(folder / "clip").generate(seeds=[9])[0])
    levels = [(x @ [0.299, 0.587, 0.114]).ravel() for x in (film[:, :7], wanted)]
    assert np.corrcoef(levels)[0, 1] > 0.95  # color has half the resolution
    assert np.abs(film[:, 7].astype(int) - film[:, 6]).mean() < 30
    with serving.Client(f"http://127.0.0.1:{server.port}/clip") as client:
        assert client.files([9, 10], format="mp4")[0] == answer.body
    for options in (("--out", tmp_path / "x.mp4"), ("--each", tmp_path / "y", "--format", "mp4")):
        assert cli.main(["sample", str(folder / "clip"), "--seed", "9", *map(str, options)]) == 0
    assert (tmp_path / "x.mp4").stat().st_size > 1000
    assert (tmp_path / "y" / "seed000009.mp4").read_bytes() == answer.body


LINE = (
    "A .mp4 file needs the extra 'video': pip install 'keras-gan[video]'. Received: no module 'av'"
)


def test_mp4_without_its_package_names_the_extra(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(serving.UsageError) as refused:
        kinds.get("video").encode(np.zeros((2, 4, 4, 1), np.float32), "mp4")
    assert str(refused.value) == LINE
    assert kinds.get("video").written == ("webp", "gif", "apng")
    out = tmp_path / "x.mp4"
    assert cli.main(["sample", str(folder / "clip"), "--count", "1", "--out", str(out)]) == 2
    assert capsys.readouterr().err == f"keras-gan: error: {LINE}\n"
    assert not out.exists()


NO_AV = """
import importlib.util, sys
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "av" else real(name, *more)
"""


def test_a_server_without_the_package_names_the_extra(folder, monkeypatch):
    import servers

    monkeypatch.setattr(servers, "PROGRAM", NO_AV + servers.PROGRAM)
    with Serving(folder / "clip", "--no-access-log") as server:
        answer = server.ask("/v1/generate?format=mp4")
        assert (answer.status, answer.error) == (400, LINE)
        (model,) = server.ask("/v1/models").json["models"]
        assert model["formats"] == ["webp", "gif", "apng", "npy", "npz", "json", "grid"]
        assert "mp4" not in json.dumps(server.ask("/openapi.json").json)


def test_mp4_is_not_a_format_of_pictures_nor_of_uploads():
    with pytest.raises(serving.UsageError, match=r"'image' must be one of .*Received: .*'mp4'"):
        kinds.get("image").encode(np.zeros((4, 4, 1), np.float32), "mp4")
    with pytest.raises(serving.UsageError, match=r"must be one of webp, gif, apng.*'mp4'"):
        kinds.get("video").decode(b"x", "mp4", (2, 4, 4, 1))
