import pytest

from trix.lab.recipes import check_parameters, choose


def test_each_budget_gets_its_own_value():
    assert choose("quick", quick=3, full=7) == 3
    assert choose("full", quick=3, full=7) == 7


def test_parameters_out_of_range_are_named():
    check_parameters("full", 0)
    with pytest.raises(ValueError, match=r"'quick', 'full'.*got 'fast'"):
        choose("fast", quick=1, full=2)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        check_parameters("quick", -1)
    for seed in (0.5, True, "1"):
        with pytest.raises(TypeError, match="an integer, got"):
            check_parameters("quick", seed)  # pyright: ignore[reportArgumentType]
