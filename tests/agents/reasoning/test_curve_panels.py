"""Which curves are drawn of training runs: in and out of distribution, of old runs and new."""

import pytest

from agents.reasoning.curve_panels import curves_of
from agents.reasoning.curves import arms_of, read_runs
from agents.reasoning.reasoner_plots import curves_figure
from core.errors import InputError
from tests.agents.reasoning.test_curves import write_run

FAR = "ood/far/test/"


def rows(*values: tuple[float, float]) -> list[dict]:
    """Accuracy on val and on the far set by epoch."""
    return [
        {"step": k, "epoch": k, "val_accuracy": near, f"{FAR}accuracy": far, "val_pass@2": near, f"{FAR}pass@2": far}
        for k, (near, far) in enumerate(values)
    ]


@pytest.fixture
def arms(tmp_path):
    """Two seeds looked at with a far set and one, older than that, without."""
    write_run(tmp_path / "a", rows((0.1, 0.1), (0.9, 0.2), (0.5, 0.6)), seed=0, val_ood=["x/far/test.jsonl"])
    write_run(tmp_path / "b", rows((0.3, 0.1), (0.7, 0.4), (0.5, 0.2)), seed=1, val_ood=["x/far/test.jsonl"])
    old = [{"step": k, "epoch": k, "val_accuracy": 0.4, "val_pass@2": 0.5, "loss": 1.0} for k in range(3)]
    write_run(tmp_path / "old", old, seed=2)
    return arms_of(read_runs([str(tmp_path / name) for name in ("a", "b", "old")]))


def test_a_set_out_of_distribution_stands_beside_val_with_the_seeds_that_saw_it_and_is_read_where_val_is_best(arms):
    panels, beside, told = curves_of(arms)
    assert list(arms) == ["grpo"] and told["ood"] == ["far/test"]
    assert list(panels) == list(beside) == ["accuracy, likeliest answers", "pass@2, T = 1"]
    assert panels["accuracy, likeliest answers"]["grpo"].mean.tolist() == pytest.approx([0.8 / 3, 2 / 3, 1.4 / 3])
    assert beside["accuracy, likeliest answers"]["far/test"]["grpo"].mean.tolist() == pytest.approx([0.1, 0.3, 0.4])
    near = told["over"]["accuracy on val, likeliest answers"]["grpo"]
    far = told["over"]["accuracy on far/test (out of distribution), likeliest answers"]["grpo"]
    assert (near["seeds"], far["seeds"]) == (3, 2) and "chosen" not in near
    assert far["chosen"]["value"] == pytest.approx(0.3)  # epoch 1 of both seeds
    assert far["max"]["value"] == pytest.approx(0.5)
    assert told["over"]["pass@2 on far/test (out of distribution), T = 1"]["grpo"]["chosen"]["value"] == pytest.approx(
        0.3
    )


def test_seeds_looked_at_with_other_files_of_one_name_are_refused(tmp_path):
    for seed, folder in enumerate("xy"):
        write_run(tmp_path / folder, rows((0.1, 0.1)), seed=seed, val_ood=[f"{folder}/far/test.jsonl"])
    with pytest.raises(InputError, match="two files by the name far/test"):
        curves_of(arms_of(read_runs([f"{tmp_path}/*"])))


def test_runs_without_such_sets_are_drawn_as_before(arms):
    panels, beside, told = curves_of({"grpo": [run for run in arms["grpo"] if run.seed == 2]})
    assert list(panels) == ["accuracy on val, likeliest answers", "loss", "pass@2 on val, T = 1"]
    assert beside == {} and told["ood"] == []
    assert curves_of({}) == ({}, {}, {"x": "epoch", "arms": {}, "ood": [], "over": {}})


@pytest.mark.parametrize("several", [False, True])
def test_the_legend_tells_in_from_out_of_distribution_and_axes_say_what_they_are(arms, several):
    panels, beside, _ = curves_of(arms | {"dapo": arms["grpo"]} if several else arms)
    figure = curves_figure(panels, "epoch", beside)
    (legend,) = figure.legends
    names = ["val, in distribution", "far/test, out of distribution"]
    assert [item.get_text() for item in legend.get_texts()] == (["grpo", "dapo"] if several else []) + names
    near, far = legend.get_lines()[-2:]
    assert near.get_linestyle() == "-" and far.get_linestyle() == "--"
    assert (near.get_color() != far.get_color()) != several  # several arms have the colours
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "share right")
    drawn = {(line.get_color(), line.get_linestyle()) for line in axes.get_lines() if line.get_linewidth() == 2}
    assert len(drawn - {("#1d2430", "-"), ("#1d2430", "--")}) == (4 if several else 2)
