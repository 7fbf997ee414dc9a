"""Prices that read wrong beside listed ones are told; those of far regions and other providers are not."""

from __future__ import annotations

import pytest

from orchestrator.cost.accelerators import accelerators_of, has_accelerators
from orchestrator.cost.price_check import implausible_price, implausible_prices
from orchestrator.cost.prices import COLUMNS, PriceTable, parse_price_table

LISTED = {"p2.8xlarge,K80,8": 7.2, "g3.16xlarge,M60,4": 4.56, "p3.2xlarge,V100,1": 3.06, "p3.16xlarge,V100,8": 24.48}


def listed(prices: dict[str, float], region: str = "us-east-1") -> PriceTable:
    rows = [f"aws,{machine},8,{region},{usd},,,a list,2026-01-21" for machine, usd in prices.items()]
    return parse_price_table("\n".join([",".join(COLUMNS), *rows]), "prices.csv")


def test_two_swapped_prices_are_both_told() -> None:
    swapped = {"p2.8xlarge,K80,8": 4.56, "g3.16xlarge,M60,4": 7.2, "p3.2xlarge,V100,1": 3.06}

    told = implausible_prices(listed(swapped), listed(LISTED))

    assert len(told) == 2
    assert told[0].startswith("aws/p2.8xlarge us-east-1: 4.56 dollars is what aws/g3.16xlarge costs")
    assert told[1].endswith("is what aws/p2.8xlarge costs, and aws/g3.16xlarge is listed at 4.56: are they swapped?")


@pytest.mark.parametrize("factor", [0.55, 1.0, 1.3, 1.9])
def test_a_price_of_another_region_or_year_is_not_told(factor: float) -> None:
    assert implausible_price(24.48 * factor, listed(LISTED), instance="aws/p3.16xlarge") is None


@pytest.mark.parametrize("factor", [0.01, 0.49, 2.1, 100])
def test_a_price_far_from_the_listed_one_of_its_type_is_told(factor: float) -> None:
    told = implausible_price(24.48 * factor, listed(LISTED), instance="aws/p3.16xlarge")

    assert told is not None
    assert "more than 2 times away from the listed 24.48" in told


@pytest.mark.parametrize(("usd", "is_told"), [(1.0632, False), (2.3, False), (20.0, False), (0.9, True), (30.6, True)])
def test_a_type_that_is_not_listed_is_compared_by_its_accelerators(usd: float, is_told: bool) -> None:
    told = implausible_price(usd * 4, listed(LISTED), instance="gcp/x", accelerator="V100", accelerator_count=4)

    assert (told is not None) is is_told


def test_what_cannot_be_compared_is_not_told() -> None:
    reference = listed(LISTED)

    assert implausible_price(1e6, reference) is None
    assert implausible_price(1e6, reference, instance="aws/x") is None
    assert implausible_price(1e6, reference, accelerator="TPU", accelerator_count=1) is None
    assert implausible_price(1e6, reference, accelerator="V100", accelerator_count=0) is None


@pytest.mark.parametrize(
    ("cloud", "instance", "count"),
    [
        ("aws", "p2.8xlarge", 8),
        ("aws", "p3.16xlarge", 8),
        ("aws", "p4d.24xlarge", 8),
        ("aws", "g4dn.12xlarge", 4),
        ("aws", "trn1.32xlarge", 16),
        ("azure", "Standard_ND96isr_H100_v5", 8),
        ("azure", "Standard_NC64as_T4_v3", 4),
        ("gcp", "a2-megagpu-16g", 16),
        ("gcp", "a3-edgegpu-8g-nolssd", 8),
        ("gcp", "g2-standard-24", 2),
        ("gcp", "tpu-v6e-8", 8),
        ("gcp", "tpu-v5p-8", 4),
        ("aws", "p9.xlarge", None),
        ("aws", "c5.xlarge", None),
        ("gcp", "n2-standard-8", None),
        ("azure", "Standard_D8s_v5", None),
        ("ibm", "p2.8xlarge", None),
    ],
)
def test_accelerators_are_told_by_the_name_of_large_families(cloud: str, instance: str, count: int | None) -> None:
    assert accelerators_of(cloud, instance) == count
    assert has_accelerators(cloud, instance) is (count is not None or instance == "p9.xlarge")
