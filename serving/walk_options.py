"""Options of `keras-gan walk`."""

from __future__ import annotations

import argparse

ABOUT = (
    "Animate a walk from seed to seed and back to the first, on the sphere in the "
    "normal inputs. It takes equal time from each seed to the next; the last frame is one step "
    "before the first, so that the animation loops without a jump."
)
EXAMPLES = (
    "examples: keras-gan walk runs/fashion-mnist --seeds 1,5,9 --out walk.webp; "
    "keras-gan walk runs/fashion-mnist --seeds 1,5 --labels bag,shoe --out walk.gif; "
    "keras-gan walk runs/gaussians-8 --count 1000 --out cloud.apng"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    add = parser.add_argument
    add("--seeds", default="0,1,2,3", help="seeds to pass through (default: 0,1,2,3)")
    add(
        "--count",
        type=int,
        default=1,
        help="walks side by side; walk i passes through the seeds plus i (default: 1)",
    )
    add(
        "--seconds",
        type=float,
        default=8.0,
        help="length, rounded to equally many frames between all seeds (default: 8)",
    )
    add("--frame-rate", type=float, default=30.0, help="frames/s, 1 to 50 (default: 30)")
    add(
        "--easing",
        default="linear",
        metavar="linear|smooth",
        help="linear: equal speed; smooth: slower near each seed (default: linear)",
    )
    add(
        "--out",
        metavar="FILE",
        default="walk.webp",
        help="file to write: .webp, .gif, .apng, or .mp4 with the extra 'video' "
        "(default: walk.webp)",
    )
