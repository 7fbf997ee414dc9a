"""Prices of moving and keeping data: one for each cloud and item, with its date, or none."""

from __future__ import annotations

import datetime
import random
from importlib.resources import files

import pytest

from orchestrator.cost.transfer import COLUMNS, ITEMS, TransferItem, TransferTable, parse_transfer_table
from orchestrator.errors import PriceError

GOOD = "internet_egress,aws,0.09,GB,US,first 10 TB,a page,2026-01-01"
TODAY = datetime.date(2026, 2, 1)


def table(*rows: str, today: datetime.date | None = None) -> TransferTable:
    return parse_transfer_table("\n".join([",".join(COLUMNS), *rows]), "transfer.csv", today=today)


@pytest.fixture(scope="module")
def shipped() -> TransferTable:
    text = files("orchestrator.cost").joinpath("transfer_prices.csv").read_text(encoding="utf-8")
    return parse_transfer_table(text, "transfer_prices.csv")


@pytest.mark.parametrize(
    ("item", "cloud", "usd"),
    [
        ("internet_egress", "aws", 0.09),
        ("internet_egress", "azure", 0.087),
        ("internet_egress", "gcp", 0.12),
        ("inter_region", "aws", 0.02),
        ("cross_zone", "aws", 0.02),
        ("cross_zone", "gcp", 0.01),
        ("object_storage", "aws", 0.023),
        ("object_storage", "azure", 0.018),
        ("object_storage", "gcp", 0.020),
    ],
)
def test_the_shipped_table_answers_with_a_dated_price(
    shipped: TransferTable, item: TransferItem, cloud: str, usd: float
) -> None:
    found = shipped.find(item, cloud)

    assert found is not None
    assert found.usd == usd
    assert found.unit == ("GB-month" if item == "object_storage" else "GB")
    assert found.source
    assert found.date <= datetime.date(2026, 1, 1)


@pytest.mark.parametrize(
    ("item", "cloud"), [("cross_zone", "azure"), ("inter_region", "gcp"), ("cross_cloud", "azure")]
)
def test_what_no_source_agrees_on_has_no_price(shipped: TransferTable, item: TransferItem, cloud: str) -> None:
    assert shipped.find(item, cloud) is None


def test_every_item_has_a_price_somewhere(shipped: TransferTable) -> None:
    assert {row.item for row in shipped.rows} == set(ITEMS)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (GOOD.replace("internet_egress", "egress"), "item must be one of internet_egress, inter_region"),
        (GOOD.replace("aws", "ibm"), "cloud must be one of aws, gcp, azure, got 'ibm'"),
        (GOOD.replace("0.09", "0"), "usd must be above 0, got 0"),
        (GOOD.replace("0.09", "-0.09"), "usd must be above 0, got -0.09"),
        (GOOD.replace("0.09", "nan"), "usd must be above 0, got nan"),
        (GOOD.replace("0.09", "free"), "usd is not a number: 'free'"),
        (GOOD.replace("0.09", "999"), "usd is 999, which catalogues write where there is no price"),
        (GOOD.replace("0.09", "90"), "usd is 90, and no list asks more than 1 per GB"),
        (GOOD.replace("GB", "TB"), "unit of internet_egress must be GB, got 'TB'"),
        (GOOD.replace("internet_egress", "object_storage"), "unit of object_storage must be GB-month, got 'GB'"),
        (GOOD.replace("a page", ""), "source is missing"),
        (GOOD.replace("US", ""), "where is missing"),
        (GOOD.replace("2026-01-01", ""), "date is missing"),
        (GOOD.replace("2026-01-01", "2026"), "date must read YYYY-MM-DD, got '2026'"),
        (GOOD.replace("2026-01-01", "2026-02-02"), "date 2026-02-02 lies in the future"),
        (GOOD.replace("0.09", "0.08"), "repeats row 2"),
        (GOOD + ",more", "does not have 8 cells"),
    ],
)
def test_a_row_that_cannot_be_true_is_refused_with_its_number_and_reason(row: str, reason: str) -> None:
    with pytest.raises(PriceError) as refused:
        table(GOOD, row, today=TODAY)

    assert "row 3" in str(refused.value)
    assert reason in str(refused.value)


def test_missing_columns_and_an_empty_table_are_refused() -> None:
    with pytest.raises(PriceError, match="columns missing: source, date"):
        parse_transfer_table(",".join(COLUMNS[:-2]), "transfer.csv")
    with pytest.raises(PriceError, match="holds no prices"):
        table()
    with pytest.raises(PriceError, match="is empty"):
        parse_transfer_table("", "transfer.csv")


@pytest.mark.parametrize(("age_days", "warning"), [(0, ""), (90, ""), (91, "91 days old"), (-1, "1 days after today")])
def test_a_price_that_is_too_old_says_so(age_days: int, warning: str) -> None:
    found = table(GOOD).rows[0]
    today = found.date + datetime.timedelta(days=age_days)

    assert found.age_days(today) == age_days
    assert found.is_stale(today) is bool(warning)
    assert warning in found.age_warning(today)
    assert bool(found.age_warning(today)) is bool(warning)
    assert found.cited == "a page (first 10 TB), 2026-01-01"


def test_no_text_breaks_the_parser_in_another_way_than_a_price_error() -> None:
    words = [
        *',"\n\r\x00\ufeff 0a',
        *COLUMNS,
        ",".join(COLUMNS) + "\n",
        GOOD + "\n",
        "nan",
        "-1",
        "1e400",
        "2026-02-30",
    ]
    outcomes = set()
    for seed in range(2000):
        rng = random.Random(seed)
        text = ",".join(COLUMNS) * (seed % 2) + "".join(rng.choice(words) for _ in range(rng.randrange(40)))
        try:
            outcomes.add(type(parse_transfer_table(text, "noise")))
        except PriceError:
            outcomes.add(PriceError)

    assert PriceError in outcomes
    assert outcomes <= {PriceError, TransferTable}
