"""Random weights in the shapes of the standard FID network, equal in all environments."""

import numpy as np

# Name of each convolution: filters, input channels, height and width of the kernel.
STEM = {
    "Conv2d_1a_3x3": (32, 3, 3, 3),
    "Conv2d_2a_3x3": (32, 32, 3, 3),
    "Conv2d_2b_3x3": (64, 32, 3, 3),
    "Conv2d_3b_1x1": (80, 64, 1, 1),
    "Conv2d_4a_3x3": (192, 80, 3, 3),
}


def block_a(width, pool):
    return {
        "branch1x1": (64, width, 1, 1),
        "branch5x5_1": (48, width, 1, 1),
        "branch5x5_2": (64, 48, 5, 5),
        "branch3x3dbl_1": (64, width, 1, 1),
        "branch3x3dbl_2": (96, 64, 3, 3),
        "branch3x3dbl_3": (96, 96, 3, 3),
        "branch_pool": (pool, width, 1, 1),
    }


def block_c(narrow):
    wide = {"branch1x1": (192, 768, 1, 1), "branch7x7_1": (narrow, 768, 1, 1)}
    wide |= {"branch7x7_2": (narrow, narrow, 1, 7), "branch7x7_3": (192, narrow, 7, 1)}
    wide |= {"branch7x7dbl_1": (narrow, 768, 1, 1)}
    for i, size in ((2, (7, 1)), (3, (1, 7)), (4, (7, 1)), (5, (1, 7))):
        wide[f"branch7x7dbl_{i}"] = (192 if i == 5 else narrow, narrow, *size)
    return {**wide, "branch_pool": (192, 768, 1, 1)}


def block_e(width):
    return {
        "branch1x1": (320, width, 1, 1),
        "branch3x3_1": (384, width, 1, 1),
        "branch3x3_2a": (384, 384, 1, 3),
        "branch3x3_2b": (384, 384, 3, 1),
        "branch3x3dbl_1": (448, width, 1, 1),
        "branch3x3dbl_2": (384, 448, 3, 3),
        "branch3x3dbl_3a": (384, 384, 1, 3),
        "branch3x3dbl_3b": (384, 384, 3, 1),
        "branch_pool": (192, width, 1, 1),
    }


BLOCKS = {
    "Mixed_5b": block_a(192, 32),
    "Mixed_5c": block_a(256, 64),
    "Mixed_5d": block_a(288, 64),
    "Mixed_6a": {
        "branch3x3": (384, 288, 3, 3),
        "branch3x3dbl_1": (64, 288, 1, 1),
        "branch3x3dbl_2": (96, 64, 3, 3),
        "branch3x3dbl_3": (96, 96, 3, 3),
    },
    "Mixed_6b": block_c(128),
    "Mixed_6c": block_c(160),
    "Mixed_6d": block_c(160),
    "Mixed_6e": block_c(192),
    "Mixed_7a": {
        "branch3x3_1": (192, 768, 1, 1),
        "branch3x3_2": (320, 192, 3, 3),
        "branch7x7x3_1": (192, 768, 1, 1),
        "branch7x7x3_2": (192, 192, 1, 7),
        "branch7x7x3_3": (192, 192, 7, 1),
        "branch7x7x3_4": (192, 192, 3, 3),
    },
    "Mixed_7b": block_e(1280),
    "Mixed_7c": block_e(2048),
}


def make():
    """Returns a state dictionary of float32 arrays."""
    rng = np.random.default_rng(0)
    shapes = dict(STEM)
    for name, block in BLOCKS.items():
        shapes |= {f"{name}.{branch}": shape for branch, shape in block.items()}
    weights = {}
    for name, shape in shapes.items():
        deviation = np.sqrt(2 / np.prod(shape[1:]))
        weights[f"{name}.conv.weight"] = rng.normal(size=shape) * deviation
        weights[f"{name}.bn.weight"] = rng.uniform(0.7, 1.3, shape[0])
        weights[f"{name}.bn.bias"] = rng.normal(size=shape[0]) / 5
        weights[f"{name}.bn.running_mean"] = rng.normal(size=shape[0]) / 5
        weights[f"{name}.bn.running_var"] = rng.uniform(0.5, 1.5, shape[0])
    weights["fc.weight"] = rng.normal(size=(1008, 2048)) / 100
    weights["fc.bias"] = rng.normal(size=1008)
    return {name: array.astype("float32") for name, array in weights.items()}


def images():
    """Returns two images of 40 x 52, uint8."""
    return np.random.default_rng(1).integers(0, 256, (2, 40, 52, 3)).astype("uint8")
