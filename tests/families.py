"""Architectures by what they generate samples from."""

from keras_gan import architectures
from keras_gan.registry import parameters_of


def of_latents():
    """Returns the names of the families whose generator takes latents."""
    return [
        name
        for name, family in architectures.families().items()
        if "latent_dim" in parameters_of(getattr(family, "generator", lambda: None))
    ]
