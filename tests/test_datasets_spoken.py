"""Data sets of sounds that are made from installed packages: digits, prompts, drums."""

import hashlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from keras_gan import UsageError, datasets
from keras_gan.datasets import asterisk_sounds, sonic_pi_samples, spoken_digits

needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="needs Debian's espeak-ng"
)
needs_asterisk = pytest.mark.skipif(
    not (asterisk_sounds.ROOT / "en_US_f_Allison").is_dir(),
    reason="needs Debian's asterisk-core-sounds-en-wav",
)
needs_sonic_pi = pytest.mark.skipif(
    not sonic_pi_samples.ROOT.is_dir(), reason="needs Debian's sonic-pi-samples"
)
FEW = {"voices": 12, "speeds": [190], "pitches": [50]}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return datasets.open("spoken-digits", cache=tmp_path_factory.mktemp("cache"), **FEW)


@needs_espeak
def test_digits_are_trimmed_centered_and_labeled(digits):
    assert digits.spec.shape == (8192, 1)
    assert digits.spec.class_names == spoken_digits.DIGITS
    samples, labels = digits.arrays("train")
    peaks = np.abs(np.asarray(samples).astype(int)).max(axis=(1, 2))
    np.testing.assert_allclose(peaks / 2**15, 0.95, atol=1e-3)
    assert set(labels) == set(range(10))
    for sample in np.asarray(samples)[:40]:
        loud = np.flatnonzero(sample[:, 0])
        assert abs(loud[0] - (8191 - loud[-1])) <= 80
    # "six" has its energy in noise, of which more samples change their sign than of "nine".
    changes = [np.count_nonzero(np.diff(np.sign(s[:, 0]))) for s in np.asarray(samples)]
    means = [np.mean(np.array(changes)[labels == digit]) for digit in (6, 9)]
    assert means[0] > 1.2 * means[1]


@needs_espeak
def test_a_voice_changes_with_every_accent():
    def speak(accent, voice):
        command = ["espeak-ng", "-v", f"{accent}+{voice}", "--stdout", "seven"]
        return subprocess.run(command, capture_output=True, check=True).stdout

    for accent in spoken_digits.ACCENTS:
        assert speak(accent, "klatt") != speak(accent, "f3"), accent


@needs_espeak
def test_no_family_of_voices_is_on_both_ends_of_the_split(tmp_path):
    _, names = spoken_digits._installed()
    assert len(names) == 92
    found = spoken_digits._find(names, [190], [50], True)
    families = {item.group for item in found.items}
    assert {"klatt", "robosoft", "ricishaymax"} <= families
    assert len(families) < len(names) - 20
    source = datasets.open("spoken-digits", cache=tmp_path, held_out=0.3, **FEW)
    total = source.count("train") + source.count("held_out")
    assert 0 < source.count("held_out") <= 0.3 * total
    assert source.count("held_out") % 10 == 0


@needs_espeak
def test_the_digits_are_the_same_in_every_process_and_kept(digits, tmp_path):
    code = (
        "import sys, hashlib, numpy as np; from keras_gan import datasets;"
        f"s = datasets.open('spoken-digits', cache=sys.argv[1], **{FEW!r});"
        "print(hashlib.sha256(np.asarray(s.arrays('train')[0]).tobytes()).hexdigest())"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = hashlib.sha256(np.asarray(digits.arrays("train")[0]).tobytes()).hexdigest()
    assert done.stdout.split()[-1] == expected
    (entry,) = tmp_path.iterdir()
    written = (entry / "samples.npy").stat().st_mtime_ns
    datasets.open("spoken-digits", cache=tmp_path, **FEW)
    assert (entry / "samples.npy").stat().st_mtime_ns == written


@needs_asterisk
def test_prompts_are_divided_as_published_figures_are():
    source = datasets.open("asterisk-sounds", layout="one_shot", length=65_536)
    assert source.spec.samples.meta["sample_rate"] == 8000
    assert (source.count("train"), source.count("held_out")) == (300, 28)
    assert "30 sentences for validation left out" in source.description
    other = datasets.open("asterisk-sounds", layout="one_shot", held_out="validation")
    assert (other.count("train"), other.count("held_out")) == (300, 30)
    held = [np.asarray(of.arrays("held_out")[0]) for of in (source, other)]
    assert not {x.tobytes() for x in held[0]} & {x.tobytes() for x in held[1]}


@needs_asterisk
def test_prompts_come_with_their_spectrograms():
    source = datasets.open("asterisk-sounds", length=4096, mel={"hop": 64})
    batch = next(iter(source.dataset("train", 4, seed=0)))
    assert {name: value.shape.as_list() for name, value in batch.items()} == {
        "samples": [4, 4096, 1],
        "mel": [4, 64, 40],
    }
    assert source.count("train") > 50_000


@needs_sonic_pi
def test_drums_are_classes_by_their_names():
    pytest.importorskip("soundfile")
    source = datasets.open("sonic-pi-samples", families=["bd", "sn"], length=8192)
    assert source.spec.class_names == ("bd", "sn")
    assert source.spec.samples.meta["sample_rate"] == 16_000
    assert "resampled from 44,100 Hz" in source.description
    samples = np.asarray(source.arrays("train")[0])
    assert np.abs(samples[:, :800].astype(int)).max(axis=(1, 2)).min() > 500  # drums begin at 0


def test_missing_packages_are_named(tmp_path, monkeypatch):
    with pytest.raises(
        UsageError, match=r"asterisk-core-sounds-it-wav must be installed .*0 files"
    ):
        datasets.open("asterisk-sounds", language="it", root=tmp_path)
    with pytest.raises(UsageError, match=r"apt install sonic-pi-samples.*no .flac files in"):
        datasets.open("sonic-pi-samples", root=tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"apt install espeak-ng.*no espeak-ng on the PATH"):
        datasets.open("spoken-digits")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("asterisk-sounds", {"language": "de"}, "`language` must be en or .*Received: .*'de'"),
        ("asterisk-sounds", {"held_out": "dev"}, "`held_out` must be test or validation.*'dev'"),
        ("asterisk-sounds", {"layout": "x"}, "`layout` must be .*Received: layout='x'"),
        (
            "spoken-digits",
            {"speeds": [0]},
            r"`speeds` must be .* 80 to 450. Received: speeds=\[0\]",
        ),
        ("spoken-digits", {"pitches": "high"}, "`pitches` must be .*Received: pitches='high'"),
        ("spoken-digits", {"voices": 1}, "`voices` must be .*Received: voices=1"),
        pytest.param(
            "sonic-pi-samples",
            {"families": ["drums"]},
            "`families` must be among .*did you mean 'drum'.*Received: 'drums'",
            marks=needs_sonic_pi,
        ),
    ],
)
def test_options_out_of_range(name, options, message):
    with pytest.raises(UsageError, match=message):
        datasets.open(name, **options)


@needs_sonic_pi
def test_drums_at_several_speeds(tmp_path):
    """Twice the speed is an octave higher; all speeds of a sound are in one split."""
    pytest.importorskip("soundfile")
    options = {"families": ["bd"], "length": 8192, "held_out": 0.3, "cache": tmp_path}
    found = datasets.open("sonic-pi-samples", speeds=[1.0, 2.0], **options)
    once = datasets.open("sonic-pi-samples", **options)
    assert found.count("train") + found.count("held_out") == 26
    assert once.count("train") + once.count("held_out") == 13
    for split in ("train", "held_out"):
        clips = np.asarray(found.arrays(split)[0], np.float64)[..., 0]
        assert len(clips) % 2 == 0
        slow, fast = clips[::2], clips[1::2]
        power = [np.abs(np.fft.rfft(x, axis=1)) ** 2 for x in (slow, fast)]
        centers = [(p * np.arange(4097)).sum(1) / p.sum(1) for p in power]
        assert np.median(centers[1] / centers[0]) == pytest.approx(2, rel=0.25)


@pytest.mark.parametrize(
    ("speeds", "received"),
    [
        ([], r"speeds=\[\]"),
        ([0.1], r"speeds=\[0.1\]"),
        ("fast", "speeds='fast'"),
        ([1, 1], "different"),
    ],
)
def test_speeds_out_of_range(speeds, received):
    with pytest.raises(UsageError, match=rf"`speeds` must be .*{received}"):
        datasets.open("sonic-pi-samples", speeds=speeds)
