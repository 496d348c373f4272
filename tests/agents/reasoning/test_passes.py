from itertools import combinations

import pytest

from agents.reasoning.passes import chance_of_pass
from core.errors import InputError


def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer():
    for n in range(1, 6):
        for c in range(n + 1):
            for k in range(1, n + 1):
                drawn = [any(i < c for i in subset) for subset in combinations(range(n), k)]
                assert chance_of_pass(n, c, k) == pytest.approx(sum(drawn) / len(drawn))


def test_more_answers_asked_than_sampled_is_an_error():
    with pytest.raises(InputError, match="pass@8 cannot be estimated from 2 answers"):
        chance_of_pass(2, 1, 8)
    with pytest.raises(InputError, match="pass@0"):
        chance_of_pass(2, 1, 0)
    with pytest.raises(InputError, match="3 of 2"):
        chance_of_pass(2, 3, 1)
