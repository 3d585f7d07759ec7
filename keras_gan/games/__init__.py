from keras_gan.games._game import Game
from keras_gan.games.cycle import Cycle
from keras_gan.games.gan import GAN
from keras_gan.games.sequence import SequenceGAN
from keras_gan.games.two_stage import TwoStage

__all__ = ["GAN", "Cycle", "Game", "SequenceGAN", "TwoStage"]
