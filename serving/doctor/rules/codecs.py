"""Rules on codecs: file formats that Pillow or PyAV was built without."""

from __future__ import annotations

from collections.abc import Iterator

from serving.doctor.facts import Facts, Finding
from serving.doctor.rules._rule import rule

# Codec, level, what is concerned, and what needs it.
_PILLOW = {
    "zlib": ("error", "both", "PNG files cannot be written"),
    "webp": ("warning", "serving", "keras-gan walk and samples of images cannot be WebP files"),
    "jpg": ("warning", "training", "folders of JPEG files cannot be read"),
}


@rule
def pillow_codecs(facts: Facts) -> Iterator[Finding]:
    """Finds a Pillow that was built without a codec."""
    probe = facts.probe("codecs")
    for name, (level, concerns, consequence) in _PILLOW.items():
        if probe.value("PIL.features", name) is False:
            yield Finding(
                level,
                concerns,
                f"pillow-without-{name}",
                f"Pillow was built without {name}: {consequence}",
                "pip install --force-reinstall --only-binary :all: pillow",
            )


@rule
def video_codec(facts: Facts) -> Iterator[Finding]:
    """Finds a PyAV without the encoder of H.264."""
    if facts.probe("codecs").value("av", "libx264") is False:
        yield Finding(
            "warning",
            "serving",
            "av-without-libx264",
            "PyAV was built without libx264: keras-gan walk cannot write .mp4",
            "pip install --force-reinstall --only-binary :all: av",
        )
