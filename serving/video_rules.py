"""Rules of `video` in a manifest: facts of a generator whose videos have any number of frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving import kinds
from serving.port_rules import Wrong

MAX_FRAMES = 1_000_000  # of one video
_MOST = 2**16  # latents, or numbers of a state
_MAX_CHUNK = 1024  # frames
_LIMITS = {
    **dict.fromkeys(("content_dim", "start_dim", "motion_dim", "state"), _MOST),
    "chunk": _MAX_CHUNK,
}


def has_frames(kind: str) -> bool:
    """Returns True for a kind whose samples are pictures that follow each other."""
    return "frame_rate" in kinds.get(kind).meta


def find_wrong_video(value: Any) -> Wrong | None:
    """Returns the first broken rule of `video` in a manifest, `None` if all hold."""
    if not isinstance(value, dict) or value.keys() != _LIMITS.keys():
        return Wrong("video", f"an object with {', '.join(_LIMITS)}", value)
    for name, most in _LIMITS.items():
        if not (type(value[name]) is int and 0 < value[name] <= most):
            return Wrong(f"video.{name}", f"an integer from 1 to {most}", value[name])
    return None


def find_wrong_video_ports(manifest: Mapping[str, Any]) -> Wrong | None:
    """Returns the ports of a manifest with `video` that are not those of such a generator."""
    facts = manifest.get("video")
    if facts is None:
        return None
    inputs, shape = manifest["inputs"], manifest["outputs"][0]["shape"][1:]
    if not has_frames(manifest["outputs"][0]["kind"]) or not all(type(n) is int for n in shape):
        return Wrong("outputs", "videos of one size, beside `video`", manifest["outputs"])
    size = facts["content_dim"] + facts["start_dim"] + shape[0] * facts["motion_dim"]
    first = inputs[0]
    drawn = (first["fill"], first["stream"], first["shape"][1:]) == ("normal", 0, [size])
    others = [port["fill"] for port in inputs[1:]]
    if not drawn or others not in ([], ["class"]):
        rule = f"{size} normal latents, and classes or nothing else, beside `video`"
        return Wrong("inputs", rule, inputs)
    return None
