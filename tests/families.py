"""Architectures by what they generate samples from."""

from keras_gan import Spec, architectures
from keras_gan.registry import parameters_of


def of_latents():
    """Returns the names of the families whose generator takes latents."""
    return [
        name
        for name, family in architectures.families().items()
        if "latent_dim" in parameters_of(getattr(family, "generator", lambda: None))
    ]


OF_SOUND = ("wavegan",)
OF_VIDEO = ("video", "video_clip")
FRAMES = 4  # of a video
OF_TEXT = ("text_resnet",)
OF_SPECTROGRAMS = ("hifi", "multi_period", "vocoder")


def spec(family, shape, length, num_classes=0):
    """Returns the data of a family: images or videos of a shape, sounds of a length, or texts."""
    if family in OF_VIDEO:
        return Spec("video", (FRAMES, *shape), (-1.0, 1.0), num_classes=num_classes)
    if family in OF_TEXT:
        return Spec("text", (6, 5), (0.0, 1.0), num_classes=num_classes)
    kind, shape = ("audio", (length, 1)) if family in OF_SOUND else ("image", shape)
    return Spec(kind, shape, (-1.0, 1.0), num_classes=num_classes)
