"""Every loss, term, augmentation and constraint in every precision, with and without XLA.

Three steps on the device against three in float32 on the CPU, from the same weights and numbers.
"""

import gpu_games as games
import pytest

COMPONENTS = games.components()


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("precision", games.PRECISIONS)
@pytest.mark.parametrize("component", COMPONENTS, ids=str)
def test_trains_as_on_the_cpu_in_float32(component, precision, jit_compile, device):
    given = component.arguments() | {"conditional": component.conditional}
    found = games.train(device, precision, jit_compile, **given)
    games.assert_close(games.reference(component), found, games.TOLERANCES[precision])
