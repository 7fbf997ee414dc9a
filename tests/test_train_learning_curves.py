"""Training of the learned forecaster: what is held out stays out, and the same input gives the same networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import quantile_training
import train_learning_curves as script

from orchestrator.curves.quantile_net import MEDIAN

BRIEF = replace(script.SETTINGS, epochs=2)
SIZES = np.round(16 * 2 ** (np.arange(60) / 8))


def curves(count: int) -> list:
    rng = np.random.default_rng(0)
    return [
        script.Curve(name=f"c{i}", dataset=f"d{i % 5}", learner="tree", n=SIZES, seed_std=np.full(60, 0.01),
                     value=0.1 + rng.uniform(0.1, 0.5) * (SIZES / 16) ** -rng.uniform(0.2, 0.8))
        for i in range(count)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(1)
    examples = [example for curve in curves(30) for example in script.examples_of(curve, rng)]
    return script.tabulate([*examples, *script.synthetic(40, rng)])


def test_no_example_sees_its_target_or_anything_beyond_it() -> None:
    rng = np.random.default_rng(2)
    for curve in curves(5):
        for example in script.examples_of(curve, rng):
            assert example.measured.size[-1] < example.target_n
            assert example.target == curve.value[curve.n == example.target_n]


def test_thinned_sizes_lie_a_factor_of_1_4_apart_and_end_at_the_share() -> None:
    seen = SIZES[script._thinned(SIZES, 0.25, np.random.default_rng(0), is_standard=True)]

    assert seen[-1] == SIZES[0.25 * SIZES[-1] >= SIZES][-1]
    assert (seen[1:] / seen[:-1] >= 1.4 * 0.999).all()


def test_the_ladder_takes_the_sizes_nearest_to_1_2_5_10_and_20_percent() -> None:
    seen = SIZES[script._ladder(SIZES)] / SIZES[-1]

    assert seen == pytest.approx([0.01, 0.02, 0.05, 0.1, 0.2], rel=0.12)


def test_every_data_set_is_in_one_fold_and_never_in_the_rows_its_networks_learn_from(table) -> None:
    folds = quantile_training.folds_of(table.group, 5)

    assert sorted(name for fold in folds for name in fold) == ["d0", "d1", "d2", "d3", "d4"]
    for fold in folds:
        learned_from, held_out = table.of(fold, without=True), table.of(fold)
        assert not set(fold) & set(learned_from.group)
        assert set(held_out.group) == set(fold)  # made-up curves belong to no data set and are never held out
        assert len(learned_from.target) + len(held_out.target) == len(table.target)


def test_the_same_table_and_seed_give_the_same_networks_to_the_last_bit(table) -> None:
    first, second = (quantile_training.train(table, BRIEF, seed=3, n_members=1) for _ in range(2))

    for (weight, bias), (weight_again, bias_again) in zip(first.members[0], second.members[0], strict=True):
        assert (weight == weight_again).all()
        assert (bias == bias_again).all()


def test_the_spread_makes_intervals_hold_90_percent_of_what_it_was_derived_from_within_5_points(table) -> None:
    net = quantile_training.train(table, BRIEF, n_members=1)

    spread = quantile_training.spread_of([(net, table)])

    told = net.told(net.standardise(table.x))
    median = told[:, [MEDIAN]]
    ahead = table.x[:, table.inputs.index("ahead")]
    low, high = (median + (told - median) * spread.factors(ahead))[:, [quantile_training.LOW, quantile_training.HIGH]].T
    # Straight lines between four knots, where each knot holds 90% of its quarter: 5 points.
    assert np.mean((table.target >= low) & (table.target <= high)) == pytest.approx(0.9, abs=0.05)


def test_data_sets_of_one_name_or_with_the_same_curves_are_one_family() -> None:
    def curve(dataset: str, learner: str, level: float):
        return script.Curve(name="", dataset=dataset, learner=learner, n=SIZES, value=level + 1 / SIZES, seed_std=SIZES)

    twins = [curve(d, f"l{i}", i / 10) for d in ("7:car", "8:wagon") for i in range(script.N_TWINS)]
    others = [curve("9:segment", "l0", 0.7), curve("10:segment_brute", "l0", 0.8), curve("11:letter", "l0", 0.0)]

    family = script.families_of([*twins, *others])

    assert family["7:car"] == family["8:wagon"]
    assert family["9:segment"] == family["10:segment_brute"]
    assert len(set(family.values())) == 3  # one curve in common is no twin
