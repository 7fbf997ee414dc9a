"""Families: each recovers a curve of its own, and evidence moves belief to the family that made it."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.curves.families import FAMILIES, Family, fit_families, shapes

X = np.geomspace(0.02, 1.0, 10)
TARGET = np.array([5.0])


def curve(family: Family, cell: int, x: np.ndarray) -> np.ndarray:
    phi = family.shape(x, family.cells[cell][None, :])[0]
    value: np.ndarray = (0.1 if family.has_floor else 0.0) + 0.2 * phi / family.shape(X[:1], family.cells[cell][None])
    return value.ravel()


@pytest.mark.parametrize("position", range(len(FAMILIES)), ids=[family.name for family in FAMILIES])
def test_a_noise_free_curve_of_a_cell_is_forecast_by_its_family_to_a_millionth(position: int) -> None:
    family = FAMILIES[position]
    cell = len(family.cells) // 2
    fits = fit_families(shapes(X), curve(family, cell, X), np.ones(len(X)))

    best, _, _ = fits.forecasts(shapes(TARGET))

    assert best[position, 0] == pytest.approx(curve(family, cell, TARGET)[0], abs=1e-6)


def test_floor_and_amplitude_are_never_negative_and_a_rising_curve_is_told_flat() -> None:
    fits = fit_families(shapes(X), 0.3 + 0.1 * X, np.ones(len(X)))

    assert (fits.floor >= 0).all()
    assert (fits.amplitude >= 0).all()
    best, _, _ = fits.forecasts(shapes(TARGET))
    with_floor = [position for position, family in enumerate(FAMILIES) if family.has_floor]
    assert best[with_floor, 0] == pytest.approx(np.full(len(with_floor), (0.3 + 0.1 * X).mean()))


def test_weights_of_families_and_of_cells_within_each_family_sum_to_one() -> None:
    fits = fit_families(shapes(X), 0.1 + 0.2 * X**-0.3 + 0.01 * np.sin(np.arange(10.0)), np.ones(len(X)))

    assert fits.family_weight.sum() == pytest.approx(1)
    starts = np.cumsum([0, *(len(family.cells) for family in FAMILIES[:-1])])
    assert np.add.reduceat(fits.cell_weight, starts) == pytest.approx(np.ones(len(FAMILIES)))


@pytest.mark.parametrize("name", ["power law", "exponential"])
def test_belief_goes_to_the_family_that_made_the_curve(name: str) -> None:
    names = [family.name for family in FAMILIES]
    family = FAMILIES[names.index(name)]
    noise = 0.0005 * np.random.default_rng(0).standard_normal(len(X))

    fits = fit_families(shapes(X), curve(family, len(family.cells) // 2, X) + noise, np.ones(len(X)))

    assert names[int(fits.family_weight.argmax())] == name


def test_a_size_without_weight_changes_nothing() -> None:
    value = 0.1 + 0.2 * X**-0.4
    altered = np.append(value[:-1], 0.9)
    weight = np.append(np.ones(len(X) - 1), 0.0)

    first, second = (fit_families(shapes(X), each, weight).forecasts(shapes(TARGET))[1] for each in (value, altered))

    assert first == pytest.approx(second)
