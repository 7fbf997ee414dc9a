"""Duplicates that are planted are found, and label noise of a known rate is read back."""

from __future__ import annotations

import itertools
import json

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import DataError
from orchestrator.quality import duplicates
from orchestrator.quality.duplicates import (
    candidate_pairs,
    equal_to,
    groups_of,
    in_conflict,
    is_blank,
    near_pairs,
    perceptual_hash,
    thumbnails,
)
from orchestrator.quality.findings import (
    Example,
    Finding,
    Findings,
    NoiseSummary,
    Where,
    balance_finding,
    from_plain,
    leak_status,
    noise_status,
    to_plain,
)
from orchestrator.quality.label_noise import (
    accuracy_ceiling,
    confident_joint,
    estimate_noise,
    prune_by_class,
    prune_by_noise_rate,
    suggested_labels,
)
from orchestrator.results import Interval

Hashes = npt.NDArray[np.uint64]


# --- duplicates -------------------------------------------------------------------------------------------------------


def some_hashes(n: int, seed: int = 0) -> Hashes:
    return np.random.default_rng(seed).integers(0, 2**64, n, dtype=np.uint64)


def with_bits_flipped(hashes: Hashes, n_bits: int, seed: int = 1) -> Hashes:
    rng = np.random.default_rng(seed)
    bits = np.argsort(rng.random((len(hashes), 64)), axis=1)[:, :n_bits].astype(np.uint64)
    return hashes ^ np.bitwise_or.reduce(np.uint64(1) << bits, axis=1) if n_bits else hashes.copy()


def pairs_found(hashes: Hashes, max_distance: int) -> list[tuple[int, int]]:
    return [
        pair
        for first, second in candidate_pairs(hashes, max_distance)
        for pair in zip(first.tolist(), second.tolist(), strict=True)
    ]


@pytest.mark.parametrize("max_distance", [0, 1, 3, 6, 8, 10, 12, 20])
@pytest.mark.parametrize("n", [0, 1, 2, 50, 1500])
def test_every_pair_within_the_distance_is_found_once_as_by_comparing_all(n: int, max_distance: int) -> None:
    base = some_hashes(n // 3)
    near = [with_bits_flipped(base, bits, seed=bits) for bits in (max_distance, max_distance + 1)]
    hashes = np.random.default_rng(2).permutation(np.concatenate([base, *near]))
    distance = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    expected = {(i, j) for i, j in zip(*np.nonzero(distance <= max_distance), strict=True) if i < j}

    found = pairs_found(hashes, max_distance)

    assert len(found) == len(set(found))
    assert set(found) == expected


@pytest.mark.parametrize("n_chosen", [0, 1, 2, 3, 4, 5])
def test_any_number_of_blocks_in_a_key_finds_the_same_pairs(monkeypatch: pytest.MonkeyPatch, n_chosen: int) -> None:
    base = some_hashes(100)
    hashes = np.concatenate([base, with_bits_flipped(base, 5), base[:10]])
    expected = sorted(pairs_found(hashes, 6))

    monkeypatch.setattr(duplicates, "_blocks_in_key", lambda n, distance: n_chosen)

    assert sorted(pairs_found(hashes, 6)) == expected
    assert len(expected) == 100 + 10 + 10


def test_a_hundred_thousand_hashes_are_not_compared_pair_by_pair() -> None:
    base = some_hashes(90_000)
    hashes = np.concatenate([base, with_bits_flipped(base[:500], 8)])

    found = pairs_found(hashes, 8)

    assert {(i, 90_000 + i) for i in range(500)} <= set(found)
    assert len(found) <= 502  # two random hashes of 64 bits lie that close with probability 3e-10


@given(st.lists(st.integers(0, 4), max_size=30))
def test_rows_with_one_digest_point_at_the_first_of_them(values: list[int]) -> None:
    digests = np.array(values, dtype=np.uint64)

    assert equal_to(digests).tolist() == [values.index(value) for value in values]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=30))
def test_a_conflict_is_two_labels_in_one_group(rows: list[tuple[int, int]]) -> None:
    group = np.array([row[0] for row in rows], dtype=np.int64)
    labels = np.array([row[1] for row in rows], dtype=np.int64)

    found = in_conflict(group, labels)

    assert found.tolist() == [len({label for other, label in rows if other == mine}) > 1 for mine, _ in rows]


def test_pairs_make_groups_through_common_rows() -> None:
    first, second = np.array([1, 4, 0]), np.array([4, 2, 5])

    assert groups_of(first, second, 7).tolist() == [0, 1, 1, 3, 1, 0, 6]


def smooth_images(n: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Random low frequencies with a little texture, as photographs have them. Shape (n, 32, 32)."""
    rng = np.random.default_rng(seed)
    waves = np.cos(np.pi * np.outer(np.arange(8), np.arange(32) + 0.5) / 32)
    weights = rng.standard_normal((n, 8, 8)) / (1 + np.add.outer(np.arange(8), np.arange(8)))
    images = waves.T @ weights @ waves + 0.05 * rng.standard_normal((n, 32, 32))
    low, high = images.min(axis=(1, 2), keepdims=True), images.max(axis=(1, 2), keepdims=True)
    return (30 + 180 * (images - low) / (high - low)).astype(np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        lambda images: np.clip(images * 1.15, 0, 255),
        lambda images: images * 0.8 + 10,
        lambda images: images + np.random.default_rng(3).integers(-6, 7, images.shape),
    ],
    ids=["brighter", "less contrast", "noise"],
)
def test_an_image_is_known_again_after_small_changes_and_strangers_are_not(change) -> None:
    images = smooth_images(300)
    both = np.concatenate([images, np.clip(change(images.astype(float)), 0, 255).astype(np.uint8)])

    found = near_pairs(perceptual_hash(both), thumbnails(both), np.arange(600))

    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert found.is_complete
    assert {(i, 300 + i) for i in range(300)} <= pairs
    assert len(pairs) <= 303


def test_only_the_rows_asked_for_are_compared() -> None:
    images = np.concatenate([smooth_images(20)] * 3)

    found = near_pairs(perceptual_hash(images), thumbnails(images), np.arange(40))

    assert found.second.max() < 40
    assert len(found.first) == 20


def test_images_that_all_resemble_each_other_end_the_search() -> None:
    images = np.repeat(smooth_images(1), 300, axis=0)

    found = near_pairs(perceptual_hash(images), thumbnails(images), np.arange(300), max_pairs_per_row=5)

    assert not found.is_complete


def test_images_of_one_colour_are_blank_and_others_are_not() -> None:
    flat = np.full((2, 32, 32), 128, dtype=np.uint8)
    flat[1] += np.random.default_rng(0).integers(0, 3, (32, 32), dtype=np.uint8)

    assert is_blank(thumbnails(flat)).all()
    assert not is_blank(thumbnails(smooth_images(50))).any()


# --- label noise ------------------------------------------------------------------------------------------------------


def noisy(
    rate: float, *, n: int = 4000, k: int = 5, sharpness: float = 3.0, temperature: float = 1.0, seed: int = 0
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Probabilities, given labels, and which are wrong: classes drawn from what the model says, then flipped alike.

    ``temperature`` is by how much the model understates what it knows.
    """
    rng = np.random.default_rng(seed)
    logits = sharpness * rng.standard_normal((n, k))
    truth_p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    true = (rng.random((n, 1)) > truth_p.cumsum(axis=1)).sum(axis=1).clip(0, k - 1)
    wrong = rng.random(n) < rate
    labels = np.where(wrong, (true + rng.integers(1, k, n)) % k, true)
    said = np.exp(logits / temperature)
    return said / said.sum(axis=1, keepdims=True), labels, wrong


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.05, 0.2, 0.4])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_a_known_share_of_wrong_labels_is_read_back_within_two_points(rate: float, temperature: float) -> None:
    probabilities, labels, wrong = noisy(rate, temperature=temperature)

    found = estimate_noise(probabilities, labels)

    assert found.rate.median == pytest.approx(wrong.mean(), abs=0.02)
    assert found.temperature == pytest.approx(1 / temperature, rel=0.15)
    assert found.wrong_probability.mean() == pytest.approx(found.rate.median, abs=0.005)
    assert not found.is_upper_estimate


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    held = 0
    for seed in range(60):
        probabilities, labels, _ = noisy(0.08, n=1500, seed=seed)
        rate = estimate_noise(probabilities, labels).rate_if_alike
        held += rate.low <= 0.08 <= rate.high

    assert 48 <= held <= 60  # 90% of 60 is 54, standard deviation 2.3


def test_clean_labels_read_as_clean() -> None:
    probabilities, labels, _ = noisy(0.0)

    rate = estimate_noise(probabilities, labels).rate_if_alike

    assert rate.low == 0
    assert rate.high < 0.02


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("sharpness", [1.5, 3.0, 8.0])
def test_errors_between_two_classes_stay_below_the_upper_bound(rate: float, sharpness: float) -> None:
    probabilities, clean, _ = noisy(0.0, sharpness=sharpness)
    wrong = np.random.default_rng(1).random(len(clean)) < rate
    labels = np.where(wrong, (clean + 1) % 5, clean)
    # A model that was trained on such labels says so.
    learned = (1 - rate) * probabilities + rate * np.roll(probabilities, 1, axis=1)

    found = estimate_noise(learned, labels)

    assert found.rate_if_alike.low <= found.rate.low <= wrong.mean() <= found.rate.high


def test_a_class_that_is_never_predicted_bounds_nothing() -> None:
    probabilities = np.tile([0.9, 0.1], (100, 1))
    labels = np.arange(100) % 2

    assert estimate_noise(probabilities, labels).rate.high == 1


def test_two_classes_are_enough() -> None:
    probabilities, labels, wrong = noisy(0.1, k=2, n=8000)

    assert estimate_noise(probabilities, labels).rate.median == pytest.approx(wrong.mean(), abs=0.03)


def test_a_model_that_knows_little_gives_an_upper_estimate_only() -> None:
    probabilities, labels, _ = noisy(0.05, sharpness=0.5)

    found = estimate_noise(probabilities, labels)

    assert found.is_upper_estimate
    assert found.rate.low == 0


def test_the_probability_of_being_wrong_is_one_in_fact() -> None:
    probabilities, labels, wrong = noisy(0.15, n=20_000)

    said = estimate_noise(probabilities, labels).wrong_probability

    for low, high in itertools.pairwise([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]):
        inside = (said >= low) & (said < high)
        assert wrong[inside].mean() == pytest.approx(said[inside].mean(), abs=0.06)


def test_the_suggested_label_is_never_the_given_one_and_mostly_the_true_one() -> None:
    probabilities, labels, wrong = noisy(0.1, sharpness=6)
    found = estimate_noise(probabilities, labels)

    suggested = suggested_labels(probabilities, labels)

    sure = wrong & (found.wrong_probability > 0.9)
    assert (suggested != labels).all()
    assert (suggested == probabilities.argmax(axis=1))[sure].all()


def oracle(joint_rate: float, n: int = 6000, k: int = 4) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Probabilities that put 0.9 on the true class, and labels with class 0 flipped to class 1 at a rate."""
    rng = np.random.default_rng(0)
    true = np.arange(n) % k
    labels = np.where((true == 0) & (rng.random(n) < joint_rate), 1, true)
    probabilities = np.full((n, k), 0.1 / (k - 1))
    probabilities[np.arange(n), true] = 0.9
    return probabilities, labels


def test_the_confident_joint_of_an_oracle_is_the_true_joint() -> None:
    probabilities, labels = oracle(0.3)
    true = probabilities.argmax(axis=1)
    expected = np.zeros((4, 4))
    np.add.at(expected, (labels, true), 1 / len(labels))

    found = confident_joint(probabilities, labels)

    assert found.joint == pytest.approx(expected, abs=1e-9)
    assert found.joint.sum() == pytest.approx(1)
    assert found.noise_rate == pytest.approx(np.mean(labels != true))


@pytest.mark.parametrize("prune", [prune_by_class, prune_by_noise_rate])
def test_confident_learning_finds_exactly_the_wrong_labels_of_an_oracle(prune) -> None:
    probabilities, labels = oracle(0.3)

    chosen = prune(probabilities, labels, confident_joint(probabilities, labels).joint)

    assert chosen.tolist() == (labels != probabilities.argmax(axis=1)).tolist()


def test_the_thresholds_are_the_mean_self_confidence_of_each_class() -> None:
    probabilities = np.array([[0.9, 0.1], [0.5, 0.5], [0.3, 0.7]])

    found = confident_joint(probabilities, np.array([0, 0, 1]))

    assert found.thresholds == pytest.approx([0.7, 0.7])
    assert found.counts.tolist() == [[1, 0], [0, 1]]


def test_a_class_without_rows_does_no_harm() -> None:
    probabilities, labels, wrong = noisy(0.1)
    wider = np.concatenate([probabilities * 0.999, np.full((len(labels), 1), 0.001)], axis=1)

    assert confident_joint(wider, labels).joint[5].sum() == 0
    assert estimate_noise(wider, labels).rate.median == pytest.approx(wrong.mean(), abs=0.02)


def test_labels_of_one_class_say_nothing() -> None:
    with pytest.raises(DataError, match="at least 2 classes"):
        estimate_noise(np.full((3, 2), 0.5), np.ones(3, dtype=np.int64))


@pytest.mark.parametrize(
    ("probabilities", "labels"),
    [
        (np.zeros((0, 3)), np.zeros(0, dtype=np.int64)),
        (np.full((2, 1), 1.0), np.zeros(2, dtype=np.int64)),
        (np.full((2, 2), 0.5), np.zeros(3, dtype=np.int64)),
        (np.full((2, 2), 0.5), np.array([0, 2])),
        (np.full((2, 2), 0.5), np.array([0, -1])),
    ],
)
def test_arrays_that_do_not_fit_are_refused(probabilities, labels) -> None:
    for judge in (confident_joint, estimate_noise):
        with pytest.raises(DataError, match="label"):
            judge(probabilities, labels)


def test_the_ceiling_is_what_is_left_and_wider_than_the_rate_by_the_luck_of_the_rows() -> None:
    rate = Interval(low=0.04, median=0.05, high=0.07, mean=0.05)

    many, few = accuracy_ceiling(rate, 10**9), accuracy_ceiling(rate, 200)

    assert (many.low, many.median, many.high) == pytest.approx((0.93, 0.95, 0.96), abs=1e-4)
    assert few.low < 0.93
    assert 0.96 < few.high <= 1


# --- findings ---------------------------------------------------------------------------------------------------------


def finding(kind="exact leakage", status="warn", count=2, examples=()) -> Finding:
    return Finding(
        kind=kind, status=status, count=count, n_looked_at=100, sentence=f"{kind}: {count} rows", examples=examples
    )


def findings(*each: Finding, noise: NoiseSummary | None = None) -> Findings:
    return Findings(
        fingerprint="f" * 16, n_train=80, n_validation=20, n_images_looked_at={"train": 80, "validation": 20},
        findings=each, rows_per_s=5000.0, noise=noise,
    )  # fmt: skip


def test_findings_come_back_from_json_as_they_were() -> None:
    rate = Interval(low=0.04, median=0.05, high=0.06, mean=0.05)
    row, other = (Where(split="train", place=i, source_row=None if i else 7, label="<b>") for i in (0, 1))
    noise = NoiseSummary(
        rate=rate, rate_if_alike=rate, ceiling=accuracy_ceiling(rate, 100), is_upper_estimate=False,
        confident_joint_rate=0.4, n_suspects=3,
        model="cnn", model_accuracy=0.6, n_rows=80, by_class={"cat": 0.1},
    )  # fmt: skip
    examples = (
        Example(row=row, what="same image", other=other),
        Example(row=other, what="label", suggested="dog", probability=0.9),
    )
    original = findings(finding(examples=examples), finding("label noise", "pass", 3), noise=noise)

    again = from_plain(json.loads(json.dumps(to_plain(original))))

    assert again == original


@pytest.mark.parametrize("content", [{}, {"version": 99}, {"version": 1}, {"version": 1, "findings": [{}]}])
def test_plain_data_that_are_no_findings_are_refused(content) -> None:
    with pytest.raises(DataError, match="look again"):
        from_plain(content)


def test_the_status_is_the_worst_and_the_evidence_says_what_was_not_checked() -> None:
    found = findings(
        finding("missing values", "pass", 0), finding("exact duplicates", "warn"), finding("exact leakage", "fail"),
        finding("label noise", "not_checked", 0),
    )  # fmt: skip

    assert found.status == "fail"
    assert not found.is_clean
    assert found.evidence == (
        "exact leakage: 2 rows; exact duplicates: 2 rows; nothing found of: missing values; not checked: label noise"
    )
    assert findings(finding("label noise", "not_checked", 0)).status == "not_checked"
    assert findings(finding("missing values", "pass", 0), finding("label noise", "not_checked")).is_clean


def test_a_finding_takes_the_place_of_its_kind() -> None:
    found = findings(finding("missing values", "pass"), finding("label noise", "not_checked"))

    again = found.with_finding(finding("label noise", "warn")).with_finding(finding("class balance", "pass"))

    assert [(each.kind, each.status) for each in again.findings] == [
        ("missing values", "pass"), ("class balance", "pass"), ("label noise", "warn"),
    ]  # fmt: skip


def test_leaks_fail_when_they_can_move_the_accuracy_by_more_than_its_noise() -> None:
    # The standard error of an accuracy of one half on 10,000 rows is 0.005.
    assert [leak_status(n, 10_000) for n in (0, 1, 50, 51)] == ["pass", "warn", "warn", "fail"]


@pytest.mark.parametrize(
    ("train", "validation", "status", "said"),
    [
        ({"a": 100, "b": 100}, {"a": 20, "b": 20}, "pass", "2 classes of 100 training rows each"),
        ({"a": 1000, "b": 5}, {"a": 200, "b": 20}, "warn", "200 to 1"),
        ({"a": 100, "b": 50}, {"a": 20, "b": 2}, "warn", "fewer than 10 validation rows of b"),
        ({"a": 100, "b": 0}, {"a": 20, "b": 20}, "fail", "no rows of b in one of the splits"),
        ({"a": 0}, {"a": 2}, "fail", "no rows of any class"),
    ],
)
def test_class_balance_is_judged_on_both_splits(train, validation, status: str, said: str) -> None:
    found = balance_finding(train, validation)

    assert found.status == status
    assert said in found.sentence


def test_noise_is_worth_a_word_when_it_is_surely_more_than_usual() -> None:
    assert noise_status(Interval(low=0.02, median=0.05, high=0.08, mean=0.05)) == "pass"
    assert noise_status(Interval(low=0.04, median=0.05, high=0.06, mean=0.05)) == "warn"
