import pytest
import torch

from agents.paid import Account, Payment
from core.errors import InputError

NAN = float("nan")


def row(*numbers):
    return torch.tensor(numbers, dtype=torch.float32)


def flags(*numbers):
    return torch.tensor(numbers, dtype=torch.bool)


def pay(account, scores, task=None, terminated=None, done=None, **options):
    """What is paid, as a list."""
    none = flags(*[0] * len(scores))
    task = torch.zeros(len(scores)) if task is None else row(*task)
    terminated = none if terminated is None else flags(*terminated)
    done = terminated if done is None else flags(*done)
    paid = account.pay(row(*scores), task, terminated, done, **options)[0].tolist()
    account.check()
    return paid


def test_scale_offset_and_the_tasks_share_add_up():
    paid = Payment(scale=2.0, offset=-1.0, task_weight=0.5)(row(0.25, 1.0), row(9, 9), row(4, 0), flags(0, 1))
    assert paid.tolist() == [2 * 0.25 - 1 + 2, 2 * 1.0 - 1]


def test_a_zero_score_is_paid_as_any_other():
    assert pay(Account(Payment(), 2), [0.0, 0.5]) == [0.0, 0.5]


def test_shaping_pays_the_change_and_nothing_is_left_where_the_task_ends():
    # m = 10 * score: start 1, then 3, then 2 at the end; gamma 0.5
    account = Account(Payment(scale=10.0, shaping=True, gamma=0.5), 2)
    first = pay(account, [0.3, 0.3], begun=[0, 1], first=row(0.1, 0.1))
    last = pay(account, [0.2, 0.2], terminated=[1, 0], done=[1, 1])
    assert first == pytest.approx([0.5, 0.5])  # 0.5 * 3 - 1
    assert last == pytest.approx([-3.0, 0.5 * 2 - 3])  # a time limit keeps the potential
    assert first[0] + 0.5 * last[0] == pytest.approx(-1.0)  # the sum is minus the start's, whatever came between


def test_shaping_without_the_first_frames_score_is_refused():
    with pytest.raises(InputError, match="StepFrame"):
        pay(Account(Payment(shaping=True), 1), [0.5], begun=[0])


def test_an_unanswered_score_holds_the_episodes_last_and_else_the_mean_of_all():
    account = Account(Payment(), 2)
    assert pay(account, [0.2, 0.6], done=[0, 1]) == pytest.approx([0.2, 0.6])
    # the second's next episode has no answer of its own: (0.2 + 0.6) / 2
    assert pay(account, [NAN, NAN]) == pytest.approx([0.2, 0.4])
    assert pay(account, [0.5, NAN]) == pytest.approx([0.5, 0.4])
    assert (account.answered, account.unanswered) == (3, 3)


def test_no_answer_at_all_is_an_error_and_never_0():
    with pytest.raises(InputError, match="not answered once"):
        pay(Account(Payment(), 2), [NAN, NAN])
    # one that comes in the same step counts
    assert pay(Account(Payment(), 2), [NAN, 0.5]) == [0.5, 0.5]


def test_patience_counts_in_one_environment_and_an_answer_restores_it():
    account = Account(Payment(patience=3), 2)
    for scores in ([0.5, 0.5], [NAN, 0.5], [NAN, 0.5], [0.5, NAN], [NAN, NAN], [NAN, 0.1]):
        pay(account, scores)
    with pytest.raises(InputError, match="3 steps in a row"):
        pay(account, [NAN, 0.1])


def test_rows_that_took_no_step_are_paid_nothing_and_change_nothing():
    account = Account(Payment(offset=1.0), 2)
    pay(account, [0.5, 0.5], task=[1, 1], done=[0, 1])
    assert pay(account, [0.25, NAN], task=[1, 0], stepped=flags(1, 0)) == [1.25, 0.0]
    assert account.returns.tolist() == [[2.75, 0.0], [2.0, 0.0]]
    assert (account.answered, account.unanswered) == (3, 0)


def test_returns_of_ended_episodes_are_told_once():
    account = Account(Payment(scale=2.0), 2)
    pay(account, [0.5, 0.25], task=[3, 5])
    pay(account, [1.0, 0.25], task=[4, 5], done=[1, 0])
    assert account.sums.tolist() == [[3.0, 1.0], [7.0, 10.0]]
    assert account.flush() == {"episodes": 1.0, "model_return": 3.0, "task_return": 7.0}
    assert account.flush() == {"episodes": 0.0}


def test_a_saved_account_goes_on_where_it_was():
    payment = Payment(shaping=True, task_weight=1.0)
    first, second = Account(payment, 2), Account(payment, 2)
    pay(first, [0.5, 0.25], task=[1, 2], begun=[0, 1], first=row(0.1, 0.2))
    second.load_state_dict(first.state_dict())
    for account in (first, second):
        pay(account, [NAN, 0.5], task=[1, 2], done=[0, 1])
    assert first.returns.tolist() == second.returns.tolist()
    last = [pay(account, [0.5, 0.5], begun=[1], first=row(0.3)) for account in (first, second)]
    assert last[0] == last[1]
    assert first.flush() == second.flush() and first.unanswered == second.unanswered == 1
    with pytest.raises(InputError, match="2 environments"):
        Account(payment, 3).load_state_dict(first.state_dict())


@pytest.mark.parametrize("wrong", [{"scale": NAN}, {"gamma": 1.5}, {"patience": 0}, {"task_weight": float("inf")}])
def test_impossible_payments_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Payment(**wrong)
