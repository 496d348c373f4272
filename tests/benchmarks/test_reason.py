import pytest

from benchmarks import reason, reason_memory
from benchmarks.reason_peer import Work


def test_growth_is_of_memory_per_token_with_the_largest_vocabulary_over_that_with_the_smallest():
    used = reason_memory.Used({"10": [5.0, 7.0], "90": [105.0, 109.0]}, {"10": [5.0, 7.0], "90": [5.0, 7.0]}, 1.0, 1.0)
    assert used.growth_with_vocabulary == 2.0


def test_an_update_takes_more_memory_with_the_logits_of_all_words_at_once_than_in_chunks():
    sizes = reason_memory.Sizes((40,), 24, (4_096,), "tiny", step=Work("tiny", 1, 2, 8))
    used = reason_memory.in_a_fresh_process(sizes)  # this one may serve both from memory it kept
    assert used.whole["4096"][0] - used.update["4096"][0] > 960 * 4_096 * 4 / 1e6  # at least a table of logits, MB


@pytest.mark.slow
def test_every_target_is_measured(tmp_path):
    parts = reason.run(reason.SMALLEST, tmp_path)
    named = {each.name for part in parts for each in part.targets}
    assert named == set(reason.LEAST) | set(reason.MOST)
    assert (tmp_path / "reason.png").stat().st_size > 1_000
    assert all(part.lines[0].startswith("## ") for part in parts)
