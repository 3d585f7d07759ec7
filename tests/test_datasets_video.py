"""Folders of videos: windows, strides, splits by file, frame rates, damaged and short files."""

import numpy as np
import pytest
from PIL import Image

import keras_gan
from keras_gan import datasets
from keras_gan.datasets import decoding, video, video_files
from keras_gan.errors import UsageError

HEIGHT, WIDTH = 16, 24


def frames_of(count, base=0, step=10):
    """Returns gray frames, uint8 `(count, height, width)`; frame n is `base + step * n`."""
    levels = (base + step * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(levels[:, np.newaxis, np.newaxis], (count, HEIGHT, WIDTH)).copy()


def save(file, frames, duration=100, mode=None, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    pictures = [Image.fromarray(frame) for frame in frames]
    pictures = [picture.convert(mode) for picture in pictures] if mode else pictures
    more = {"append_images": pictures[1:], "duration": duration, "loop": 0, **options}
    more |= {"lossless": True} if file.suffix == ".webp" else {}
    more |= {"disposal": 1} if file.suffix == ".gif" else {}
    pictures[0].save(file, save_all=True, **more)
    return file


def save_container(file, frames, codec="ffv1", rate=8):
    av = pytest.importorskip("av")
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = {"ffv1": "gray", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return file


def fill(folder, number=6, count=8, suffix="gif", base=0):
    for n in range(number):
        save(folder / f"{n}.{suffix}", frames_of(count, base + 20 * n))
    return folder


def levels(samples):
    return samples.astype(int).mean(axis=(-3, -2, -1)).round().astype(int)


# ------------------------------------------------------------------------ reading


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_animations_are_videos(tmp_path, suffix):
    source = datasets.open(fill(tmp_path, suffix=suffix), frames=8)
    assert (source.spec.kind, source.spec.shape[:3]) == ("video", (8, HEIGHT, WIDTH))
    assert source.spec.samples.meta["frame_rate"] == 10.0
    assert (source.count("train"), source.count("held_out")) == (5, 1)
    found = {tuple(row) for split in source.split_names for row in levels(source.arrays(split)[0])}
    assert found == {tuple(20 * n + 10 * np.arange(8)) for n in range(6)}
    assert "all windows of 6 files" in source.description
    assert "as 8x16x24x" in source.description
    assert source.description.endswith(" at 10 Hz")


@pytest.mark.parametrize(
    ("file", "codec", "error"),
    [("a.mkv", "ffv1", 0), ("a.avi", "mjpeg", 3), ("a.mp4", "mpeg4", 3), ("a.mov", "mpeg4", 3)],
)
def test_containers_are_read_by_av(tmp_path, file, codec, error):
    save_container(tmp_path / file, frames_of(10), codec, rate=12)
    source = datasets.open(tmp_path / file, frames=5, channels=1)
    assert source.spec.samples.meta["frame_rate"] == 12.0
    assert source.split_names == ("train",)
    found = levels(source.arrays()[0])
    np.testing.assert_allclose(found, (10 * np.arange(10)).reshape(2, 5), atol=error)


def test_without_av_the_line_names_the_extra(tmp_path, monkeypatch):
    save_container(tmp_path / "a.mkv", frames_of(4))
    monkeypatch.setattr(video_files, "_av", lambda: None)
    with pytest.raises(UsageError, match=r"package av: pip install 'keras-gan\[video\]'\. Rec"):
        datasets.open(tmp_path, frames=4)


def test_windows_and_strides(tmp_path):
    save(tmp_path / "0.gif", frames_of(11))
    save(tmp_path / "1.gif", frames_of(7, 100))
    every = datasets.open(tmp_path, frames=3, held_out=0)
    np.testing.assert_array_equal(
        levels(every.arrays()[0]),
        [[0, 10, 20], [30, 40, 50], [60, 70, 80], [100, 110, 120], [130, 140, 150]],
    )
    second = datasets.open(tmp_path, frames=3, stride=2, held_out=0)
    # The last window of 0.gif ends with frame 10, the last one: 1 + (11 - 5) // 6 of them.
    np.testing.assert_array_equal(
        levels(second.arrays()[0]), [[0, 20, 40], [60, 80, 100], [100, 120, 140]]
    )
    assert second.spec.samples.meta["frame_rate"] == 5.0
    assert ", stride 2" in second.description
    first = datasets.open(tmp_path, frames=3, windows="first", held_out=0)
    np.testing.assert_array_equal(levels(first.arrays()[0]), [[0, 10, 20], [100, 110, 120]])
    assert "the first window of 2 files" in first.description


def test_windows_of_a_file_are_never_divided(tmp_path):
    for n in range(8):
        save(tmp_path / f"{n}.gif", frames_of(12, n))
    source = datasets.open(tmp_path, frames=3, held_out=0.25)
    file_of = {split: levels(source.arrays(split)[0])[:, 0] % 10 for split in ("train", "test")}
    assert sorted(np.bincount(file_of["test"], minlength=8)) == [0] * 6 + [4] * 2
    assert not set(file_of["test"]) & set(file_of["train"])
    # The choice depends on the names of the files, not on the place of the folder.
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    again = datasets.open(moved, frames=3, held_out=0.25)
    np.testing.assert_array_equal(again.arrays("test")[0], source.arrays("test")[0])


def test_subfolders_are_classes_and_splits(tmp_path):
    for n, (split, number) in enumerate((("train", 3), ("test", 2))):
        for name in ("walk", "run"):
            fill(tmp_path / split / name, number, base=len(name) + 5 * n)
    source = datasets.open(tmp_path, frames=8)
    assert source.spec.class_names == ("run", "walk")
    assert (source.count("train"), source.count("held_out")) == (6, 4)
    assert sorted(source.arrays("train")[1]) == [0, 0, 0, 1, 1, 1]
    assert datasets.open(tmp_path, frames=8, labels=False).spec.num_classes == 0


def test_sizes_and_channels_are_said(tmp_path):
    fill(tmp_path, 3)
    source = datasets.open(tmp_path, frames=4, size=8, channels=3, held_out=0)
    assert source.spec.shape == (4, 8, 8, 3)
    assert "(16x24 -> 8x8)" in source.description
    save(tmp_path / "large.gif", np.resize(frames_of(4), (4, 80, 90)))
    with pytest.warns(UserWarning, match=r"Videos smaller than 64x64 are enlarged"):
        assert datasets.open(tmp_path, frames=4).spec.shape == (4, 64, 64, 1)


def test_transparent_pixels_become_white(tmp_path):
    frames = np.zeros((4, HEIGHT, WIDTH, 4), np.uint8)
    frames[..., 0] = 10 * np.arange(4)[:, np.newaxis, np.newaxis] + 100
    frames[:, :, WIDTH // 2 :, 3] = 255
    for n in range(2):
        save(tmp_path / f"{n}.webp", frames + n, exact=True)
    source = datasets.open(tmp_path, frames=4, held_out=0)
    samples = source.arrays()[0]
    assert samples[:, :, :, : WIDTH // 2].min() > 250
    assert samples[0, 3, 0, -1].tolist() == [130, 0, 0]
    assert "2 videos with an alpha channel are composited onto white" in source.description
    assert datasets.open(tmp_path, frames=4, channels=4, held_out=0).spec.shape[-1] == 4


def test_frames_that_only_store_changes_are_whole(tmp_path):
    frames = np.full((6, HEIGHT, WIDTH), 50, np.uint8)
    for n, frame in enumerate(frames):
        frame[:, n] = 200
    for n in range(2):
        save(tmp_path / f"{n}.gif", frames + n, optimize=True)
    source = datasets.open(tmp_path, frames=6, held_out=0)
    np.testing.assert_array_equal(source.arrays()[0][0, ..., 0], frames)


# ------------------------------------------------------------------------ frame rates


def test_different_frame_rates_are_said_and_none_is_taken(tmp_path):
    save(tmp_path / "a.gif", frames_of(4), duration=100)
    save(tmp_path / "b.gif", frames_of(4, 50), duration=40)
    source = datasets.open(tmp_path, frames=4, held_out=0)
    assert "frame_rate" not in source.spec.samples.meta
    assert source.description.endswith(
        "frame rates from 10 to 25 Hz, none of which is taken: 8 Hz is assumed"
    )
    stated = datasets.open(tmp_path, frames=4, held_out=0, frame_rate=10)
    assert stated.spec.samples.meta["frame_rate"] == 10.0


# ------------------------------------------------------------------------ bad files


def test_a_short_video_is_named_with_what_to_set(tmp_path):
    fill(tmp_path, 3)
    save(tmp_path / "short.gif", frames_of(5))
    line = r"Every video must have at least 8 frames \(set `frames` or `stride`; skip_corrupt=true "
    with pytest.raises(UsageError, match=line + r".*Received: .*short\.gif with 5 frames$"):
        datasets.open(tmp_path, frames=8)
    source = datasets.open(tmp_path, frames=8, held_out=0, skip_corrupt=True)
    assert source.count() == 3
    assert source.skipped == [f"{tmp_path / 'short.gif'}: 5 frames"]
    assert "1 files skipped" in source.description
    with pytest.raises(UsageError, match=r"Videos must be readable\. Received: 0 of 4 files"):
        datasets.open(tmp_path, frames=20, skip_corrupt=True)


@pytest.mark.parametrize(
    ("name", "reason"), [("x.gif", ""), ("x.webp", ""), ("x.mkv", "ends after"), ("x.mp4", "")]
)
def test_truncated_files_are_named(tmp_path, name, reason):
    fill(tmp_path, 3)
    noise = np.random.default_rng(0).integers(256, size=(8, 64, 64), dtype=np.uint8)
    file = tmp_path / name
    if file.suffix in (".mkv", ".mp4"):
        save_container(file, noise, "ffv1" if file.suffix == ".mkv" else "mpeg4")
    else:
        save(file, noise)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    with pytest.raises(UsageError, match=rf"Every video .*x\{file.suffix}: .*{reason}"):
        datasets.open(tmp_path, frames=8)
    assert datasets.open(tmp_path, frames=8, held_out=0, skip_corrupt=True).count() == 3


def test_a_long_gif_without_its_end_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(256, size=(60, 32, 32), dtype=np.uint8)
    file = save(tmp_path / "long.gif", noise)
    content = file.read_bytes()
    for cut in (len(content) - 1, len(content) * 9 // 10):
        file.write_bytes(content[:cut])
        with pytest.raises(UsageError, match=r"long\.gif: it ends before the end of the GIF$"):
            datasets.open(file, frames=8)
    file.write_bytes(content + bytes(1000))  # some writers fill the last block of a disk
    assert datasets.open(file, frames=8).count() == 7


def test_files_of_other_content_are_named(tmp_path):
    pytest.importorskip("av")
    fill(tmp_path, 3)
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(UsageError, match=r"Every video .*text\.mp4: "):
        datasets.open(tmp_path, frames=8)
    (tmp_path / "text.mp4").write_bytes(b"")
    with pytest.raises(UsageError, match=r"text\.mp4: the file is empty"):
        datasets.open(tmp_path, frames=8)


def test_sound_without_pictures_is_named(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "tone.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.rate = 8000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    with pytest.raises(UsageError, match=r"tone\.mkv: it holds no video"):
        datasets.open(tmp_path / "tone.mkv")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"frames": 1}, r"`frames` must be .*Received: frames=1"),
        ({"stride": 0}, r"`stride` must be .*Received: stride=0"),
        ({"windows": "last"}, r"`windows` must be all or first\. Received: windows='last'"),
        ({"frame_rate": 0}, r"`frame_rate` must be in Hz, .*Received: frame_rate=0"),
        ({"channels": 2}, r"`channels` must be 1 .*Received: channels=2"),
        ({"channels": 0}, r"`channels` must be 1 .*Received: channels=0"),
        ({"held_out": 2}, r"`held_out` must be .*Received: held_out=2"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, line):
    with pytest.raises(UsageError, match=line):
        datasets.open(fill(tmp_path), **{"frames": 4, **options})


# ------------------------------------------------------------------------ recognition and cache


def test_folders_of_pictures_stay_such(tmp_path):
    for suffix in ("webp", "png", "gif"):
        folder = tmp_path / suffix
        for n in range(3):
            save(folder / f"{n}.{suffix}", frames_of(1, 40 * n))
        assert video.parse(str(folder)) is None
        assert datasets.open(folder, held_out=0).spec.kind == "image"
    mixed = fill(tmp_path / "mixed")
    Image.new("L", (WIDTH, HEIGHT)).save(mixed / "still.jpg")
    assert datasets.open(mixed, held_out=0).spec.kind == "image"
    again = datasets.open("folder", path=fill(tmp_path / "frames", 3), held_out=0)
    assert again.count() == 24  # every frame of an animation is a picture there
    assert datasets.open("video", path=mixed, frames=8, skip_corrupt=True).count() == 5


def test_a_folder_without_videos_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"files such as \.gif, \.webp or \.mp4\. Received: none"):
        datasets.open("video", path=tmp_path)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.apng"])
def test_one_animation_is_a_source(tmp_path, name):
    assert datasets.open(save(tmp_path / name, frames_of(8)), frames=4).count() == 2
    assert datasets.open(str(tmp_path / name), frames=4).spec.kind == "video"
    still = save(tmp_path / f"still{name}", frames_of(1))
    assert video.parse(str(still)) is None


def test_files_are_decoded_together_within_256_mib(tmp_path, monkeypatch):
    def chunk(counts, **more):
        options = {"frames": True, "skip_corrupt": False, "memory_limit": 0, "cache": None}
        options |= {"size": (64, 64), "channels": 3, "key": "", "length": 16, **more}
        return video.VideoOptions(counts=counts, **options).chunk

    # A sample has 16 * 64 * 64 * 3 = 196,608 bytes: 2**28 bytes are 1,365 of them.
    assert chunk({"a": 1, "b": 1}) == decoding.CHUNK == 256
    assert chunk({"a": 1, "b": 100}) == 13
    assert chunk({"a": 1_366}) == 1
    assert chunk({"a": 1}, size=(1024, 1024), length=100) == 1
    sizes, usual = [], decoding.in_threads

    def watched(function, items, chunk=decoding.CHUNK):
        sizes.append(chunk)
        return usual(function, items, chunk)

    monkeypatch.setattr(decoding, "in_threads", watched)
    datasets.open(fill(tmp_path), frames=4)
    assert sizes == [256, 256]  # of the headers, and of the videos
    monkeypatch.setattr(video, "_DECODED", 3 * 8 * HEIGHT * WIDTH)
    datasets.open(fill(tmp_path), frames=4)
    assert sizes[2:] == [256, 3]


def test_large_videos_are_kept_in_the_cache(tmp_path):
    folder, cache = fill(tmp_path / "videos"), tmp_path / "cache"
    first = datasets.open(folder, frames=4, memory_limit=0, cache=cache)
    again = datasets.open(folder, frames=4, memory_limit=0, cache=cache)
    in_memory = datasets.open(folder, frames=4)
    assert "kept in the cache folder" in first.description
    for split in ("train", "held_out"):
        for other in (again, in_memory):
            np.testing.assert_array_equal(first.arrays(split)[0], other.arrays(split)[0])
    batch = next(iter(first.dataset("train", 2)))
    assert batch.shape == (2, 4, HEIGHT, WIDTH, 1)


def test_a_folder_takes_the_place_of_moving_fashion(tmp_path):
    section = {"source": "moving-fashion", "frames": 8, "labels": "content"}
    found = datasets.with_folder(section, str(fill(tmp_path)))
    assert found == {"source": "video", "frames": 8, "path": str(tmp_path)}
    assert datasets.open(**found).spec.shape == (8, HEIGHT, WIDTH, 1)
    assert datasets.kind_of("video") == "video"


def test_training_without_a_recipe_names_those_for_videos(tmp_path):
    from keras_gan import automatic

    with pytest.raises(UsageError, match=r"name one for other data.* videos.*Received: video of"):
        automatic.plan(str(fill(tmp_path)), settings=["data.frames=8"])


def test_arrays_of_rank_five_are_videos():
    arrays = np.zeros((4, 3, 8, 8, 1), np.uint8)
    arrays[:, :, 2] = np.arange(4).reshape(-1, 1, 1, 1)
    with pytest.warns(UserWarning, match="has no frame_rate"):
        source = datasets.from_arrays(arrays, kind="video", held_out=0)
    assert source.spec.kind == "video"
    assert source.values(source.arrays()[0]).min() == -1.0
    assert keras_gan.Spec("video", (3, 8, 8, 1)).kind == "video"
