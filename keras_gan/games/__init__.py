"""Games: one file each. `gan` is the game of one generator and one discriminator."""

from keras_gan.games._game import Game
from keras_gan.games.gan import GAN

__all__ = ["GAN", "Game"]
