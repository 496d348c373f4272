import pytest

from benchmarks import reason, reason_memory


def test_growth_is_of_memory_per_token_with_the_largest_vocabulary_over_that_with_the_smallest():
    used = reason_memory.Used({"10": [5.0, 7.0], "90": [105.0, 109.0]}, {"10": [5.0, 7.0], "90": [5.0, 7.0]}, 1.0, 1.0)
    assert used.growth_with_vocabulary == 2.0


def test_updates_of_more_words_take_more_memory_at_once_than_in_chunks():
    sizes = reason_memory.Sizes((40,), 24, preset="tiny")
    (chunked,) = reason_memory.updates(sizes, 4_096, whole=False)
    (whole,) = reason_memory.updates(sizes, 4_096, whole=True)
    assert whole - chunked > 960 * 4_096 * 4 / 1e6  # at least a table of logits, MB


@pytest.mark.slow
def test_every_target_is_measured(tmp_path):
    parts = reason.run(reason.SMALLEST, tmp_path)
    named = {each.name for part in parts for each in part.targets}
    assert named == set(reason.LEAST) | set(reason.MOST)
    assert (tmp_path / "reason.png").stat().st_size > 1_000
    assert all(part.lines[0].startswith("## ") for part in parts)
