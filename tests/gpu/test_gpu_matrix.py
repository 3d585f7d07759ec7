"""Every loss, term, augmentation, constraint and game in every precision, with and without XLA.

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


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_a_comparison_fails_for_another_weight_of_a_term(jit_compile, device):
    """In the widest tolerance: half of the weight of R1 is found."""
    expected = games.reference(games.Component("term", "r1"))
    found = games.train(
        device, "mixed_bfloat16", jit_compile, terms=[{"name": "r1", "weight": 0.5}]
    )
    with pytest.raises(AssertionError):
        games.assert_close(expected, found, games.TOLERANCES["mixed_bfloat16"])
