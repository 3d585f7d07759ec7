from keras_gan.games._game import Game
from keras_gan.games.behavior_cloning import BehaviorCloning
from keras_gan.games.cycle import Cycle
from keras_gan.games.gan import GAN
from keras_gan.games.imitation import Imitation
from keras_gan.games.sequence import SequenceGAN
from keras_gan.games.two_stage import TwoStage

__all__ = ["GAN", "BehaviorCloning", "Cycle", "Game", "Imitation", "SequenceGAN", "TwoStage"]
