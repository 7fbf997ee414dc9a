"""The price table refuses what cannot be true, finds what is there and says how old a price is."""

from __future__ import annotations

import datetime
from importlib.resources import files

import pytest

from orchestrator.cost.prices import COLUMNS, PriceTable, parse_price_table, quotes
from orchestrator.errors import PriceError
from orchestrator.spec import PricingSpec

GOOD = "aws,g5.xlarge,A10G,1,4,us-east-1,1.006,0.41,0.63,a price list,2026-01-21"
TODAY = datetime.date(2026, 2, 1)


def table(*rows: str) -> PriceTable:
    return parse_price_table("\n".join([",".join(COLUMNS), *rows]), "prices.csv")


@pytest.fixture(scope="module")
def shipped() -> PriceTable:
    text = files("orchestrator.cost").joinpath("price_table.csv").read_text(encoding="utf-8")
    return parse_price_table(text, "price_table.csv")


def test_the_shipped_table_is_accepted_and_spans_three_clouds(shipped: PriceTable) -> None:
    assert {row.cloud for row in shipped.rows} == {"aws", "gcp", "azure"}
    assert 25 <= len(shipped.rows) <= 40
    assert shipped.find("aws/g5.xlarge", "us-east-1").on_demand_usd_h == 1.006
    assert shipped.find("gcp/t2d-standard-4", "us-central1").vcpus == 4


def test_an_empty_price_is_no_price() -> None:
    row = table("gcp,tpu-v6e-1,tpu-v6e,1,,us-central1,2.7,,,a list,2026-01-21").rows[0]

    assert (row.vcpus, row.spot_usd_h, row.reserved_usd_h) == (None, None, None)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (GOOD.replace("0.41", "1.2"), "spot price 1.2 is above the on-demand price 1.006"),
        (GOOD.replace("0.63", "2"), "reserved price 2 is above the on-demand price 1.006"),
        (GOOD.replace("1.006", "0"), "on_demand_usd_h must be above 0, got 0"),
        (GOOD.replace("1.006", "-1"), "on_demand_usd_h must be above 0, got -1"),
        (GOOD.replace("1.006", "nan"), "on_demand_usd_h must be above 0, got nan"),
        (GOOD.replace("1.006", ""), "on_demand_usd_h is not a number: ''"),
        (GOOD.replace("1.006", "99999"), "on_demand_usd_h is 99999, which catalogues write where there is no price"),
        (GOOD.replace("0.41", "free"), "spot_usd_h is not a number: 'free'"),
        (GOOD.replace("2026-01-21", ""), "date is missing"),
        (GOOD.replace("2026-01-21", "January"), "date must read YYYY-MM-DD, got 'January'"),
        (GOOD.replace("a price list", ""), "source is missing"),
        (GOOD.replace("us-east-1", ""), "region is missing"),
        (GOOD.replace("g5.xlarge", ""), "instance is missing"),
        (GOOD.replace("aws", "ibm"), "cloud must be one of aws, gcp, azure, got 'ibm'"),
        (GOOD.replace("A10G,1,", "A10G,1.5,"), "accelerator_count must be a whole number, 0 or more, got '1.5'"),
        (GOOD.replace("A10G,1,", "A10G,0,"), "accelerator 'A10G' does not go with a count of 0"),
        (GOOD.replace("A10G,1,", ",1,"), "accelerator '' does not go with a count of 1"),
        (GOOD.replace("1,4,us", "1,0,us"), "vcpus is 0"),
        (GOOD + ",more", "does not have 11 cells"),
        ("gcp,a2-highgpu-1g,,0,12,us-central1,0.74,,,a list,2026-01-21", "prices a part of a machine"),
        ("gcp,accelerator-only:L4,L4,1,,us-central1,0.56,,,a list,2026-01-21", "prices a part of a machine"),
    ],
)
def test_a_row_that_cannot_be_true_is_refused_with_its_number_and_reason(row: str, reason: str) -> None:
    with pytest.raises(PriceError) as refused:
        table(GOOD, row)

    assert "row 3" in str(refused.value)
    assert reason in str(refused.value)


def test_all_bad_rows_are_listed_together() -> None:
    with pytest.raises(PriceError) as refused:
        table(GOOD.replace("0.41", "9"), GOOD, GOOD, GOOD.replace("1.006", "x"))

    lines = str(refused.value).splitlines()
    assert lines[0] == "prices.csv: 3 prices cannot be used"
    assert [line.split(" (")[0].strip() for line in lines[1:]] == ["row 2", "row 4", "row 5"]
    assert "repeats row 3" in lines[2]


def test_missing_columns_and_an_empty_table_are_refused() -> None:
    with pytest.raises(PriceError, match="columns missing: source, date"):
        parse_price_table(",".join(COLUMNS[:-2]), "prices.csv")
    with pytest.raises(PriceError, match="holds no prices"):
        table()


def test_a_misspelt_instance_is_answered_with_what_reads_alike(shipped: PriceTable) -> None:
    with pytest.raises(PriceError, match=r"did you mean aws/g5\.xlarge"):
        shipped.find("aws/g5.xlrge", "us-east-1")


def test_a_region_without_price_is_answered_with_the_regions_there_are(shipped: PriceTable) -> None:
    with pytest.raises(PriceError, match="it has eu-west-1, us-east-1, us-west-2"):
        shipped.find("aws/g5.xlarge", "us-east-9")


def test_a_quote_carries_price_source_date_and_age() -> None:
    pricing = PricingSpec(
        instance="aws/g5.xlarge", region="us-east-1", purchase=("spot", "reserved"), spot_mean_uptime_h=5
    )

    found = quotes(pricing, table(GOOD), TODAY)

    assert list(found) == ["spot", "reserved"]
    spot = found["spot"]
    assert (spot.usd_per_instance_hour, spot.age_days, spot.stale, spot.assumed) == (0.41, 11, False, True)
    assert spot.cited == "a price list, 2026-01-21"
    assert spot.label == "aws/g5.xlarge us-east-1 spot"


@pytest.mark.parametrize(("age_days", "is_stale"), [(0, False), (90, False), (91, True), (-1, True)])
def test_a_price_is_stale_after_90_days_or_when_it_comes_from_the_future(age_days: int, is_stale: bool) -> None:
    pricing = PricingSpec(instance="aws/g5.xlarge", region="us-east-1")
    today = datetime.date(2026, 1, 21) + datetime.timedelta(days=age_days)

    assert quotes(pricing, table(GOOD), today)["on_demand"].stale is is_stale


def test_an_option_without_price_is_refused_with_those_there_are() -> None:
    pricing = PricingSpec(
        instance="aws/g5.xlarge", region="us-east-1", purchase=("on_demand", "spot"), spot_mean_uptime_h=5
    )

    with pytest.raises(PriceError, match=r"has no spot price.*set pricing\.purchase to \['on_demand', 'reserved'\]"):
        quotes(pricing, table(GOOD.replace("0.41", "")), TODAY)


def test_the_owners_own_price_is_never_assumed_or_stale() -> None:
    quote = quotes(PricingSpec(usd_per_worker_hour=0.25, workers_per_instance=4), None, TODAY)["on_demand"]

    assert (quote.usd_per_instance_hour, quote.workers_per_instance) == (0.25, 1)
    assert (quote.assumed, quote.stale, quote.cited) == (False, False, "config")
