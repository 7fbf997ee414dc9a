"""The price table refuses what cannot be true, finds what is there and says how old a price is."""

from __future__ import annotations

import datetime
import random
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.cost.prices import COLUMNS, OPTIONAL_COLUMNS, PriceQuote, PriceTable, parse_price_table, quotes
from orchestrator.errors import PriceError
from orchestrator.spec import PricingSpec

GOOD = "aws,g5.xlarge,A10G,1,4,us-east-1,1.006,0.41,0.63,a price list,2026-01-21"
TODAY = datetime.date(2026, 2, 1)


def table(*rows: str, columns: tuple[str, ...] = COLUMNS, today: datetime.date | None = None) -> PriceTable:
    return parse_price_table("\n".join([",".join(columns), *rows]), "prices.csv", today=today)


@pytest.fixture(scope="module")
def shipped() -> PriceTable:
    text = files("orchestrator.cost").joinpath("price_table.csv").read_text(encoding="utf-8")
    return parse_price_table(text, "price_table.csv")


def test_the_shipped_table_is_accepted_and_spans_three_clouds(shipped: PriceTable) -> None:
    assert {row.cloud for row in shipped.rows} == {"aws", "gcp", "azure"}
    assert 35 <= len(shipped.rows) <= 50
    assert shipped.find("aws/g5.xlarge", "us-east-1").on_demand_usd_h == 1.006
    assert shipped.find("gcp/t2d-standard-4", "us-central1").vcpus == 4


def test_every_cloud_of_the_shipped_table_has_machines_with_and_without_accelerators(shipped: PriceTable) -> None:
    kinds = {(row.cloud, row.accelerator_count > 0) for row in shipped.rows}

    assert kinds == {(cloud, has) for cloud in ("aws", "gcp", "azure") for has in (True, False)}
    assert any(row.accelerator.startswith("tpu-") for row in shipped.rows)
    for purchase in ("on_demand", "spot", "reserved"):
        assert any(row.usd_per_hour(purchase) is not None for row in shipped.rows)


def test_the_shipped_table_says_workers_source_and_date_in_every_row(shipped: PriceTable) -> None:
    for row in shipped.rows:
        assert row.workers_per_instance == (row.accelerator_count or 1), row.name
        assert row.source, row.name
        assert datetime.date(2023, 1, 1) <= row.date <= datetime.date(2026, 1, 21), row.name


def test_a_derived_spot_price_of_the_shipped_table_says_so_with_its_own_date(shipped: PriceTable) -> None:
    pricing = PricingSpec(instance="aws/g5.xlarge", region="us-east-1", purchase=("on_demand", "spot"))

    found = quotes(pricing, shipped, TODAY)

    assert found["spot"].cited.startswith("derived: on-demand x")
    assert (found["spot"].date, found["spot"].stale) == (datetime.date(2025, 7, 28), True)
    assert (found["on_demand"].date, found["on_demand"].stale) == (datetime.date(2026, 1, 21), False)


def test_an_empty_price_is_no_price() -> None:
    row = table("gcp,tpu-v6e-1,tpu-v6e,1,,us-central1,2.7,,,a list,2026-01-21").rows[0]

    assert (row.vcpus, row.spot_usd_h, row.reserved_usd_h) == (None, None, None)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (GOOD.replace("0.41", "1.2"), "spot price 1.2 is above the on-demand price 1.006"),
        (GOOD.replace("0.63", "2"), "reserved price 2 is above the on-demand price 1.006"),
        (GOOD.replace("0.41", "0.0041"), "spot price 0.0041 is less than 2% of the on-demand price 1.006"),
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
        (GOOD.replace("1.006", "inf"), "on_demand_usd_h must be above 0, got inf"),
        (GOOD.replace("1.006", "9999.99"), "on_demand_usd_h is 9999.99, which catalogues write"),
        (GOOD.replace("0.41", "0.0"), "spot_usd_h must be above 0, got 0.0"),
        (GOOD.replace("0.63", "-0.63"), "reserved_usd_h must be above 0, got -0.63"),
        (GOOD.replace("1.006", "1_006"), "on_demand_usd_h is not a number: '1_006'"),
        (GOOD.replace("A10G,1,", ",0,"), "g5.xlarge holds accelerators, and the row names none"),
        (GOOD.replace("g5.xlarge,A10G", "p2.8xlarge,K80"), "p2.8xlarge holds 8 accelerators, the row counts 1"),
        (GOOD.replace("aws,g5.xlarge", "azure,Standard_ND96isr_H100_v5"), "holds 8 accelerators, the row counts 1"),
        ("azure,Standard_NC6s_v3,,0,6,eastus,3.06,,,a list,2026-01-21", "Standard_NC6s_v3 holds accelerators"),
        ("gcp,tpu-v6e-8,tpu-v6e,1,,us-central1,21.6,,,a list,2026-01-21", "holds 8 accelerators, the row counts 1"),
        ("gcp,a2-highgpu-1g,,0,12,us-central1,0.74,,,a list,2026-01-21", "prices a part of a machine"),
        ("gcp,g2-standard-4,,0,4,us-central1,0.14,,,a list,2026-01-21", "prices a part of a machine"),
        ("gcp,host-only:a2-highgpu-1g,,0,12,us-central1,0.74,,,a list,2026-01-21", "prices a part of a machine"),
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
    with pytest.raises(PriceError, match="columns repeat: date; keep one of each"):
        parse_price_table(",".join([*COLUMNS, "date"]), "prices.csv")
    with pytest.raises(PriceError, match="holds no prices"):
        table()


def test_a_misspelt_instance_is_answered_with_what_reads_alike(shipped: PriceTable) -> None:
    with pytest.raises(PriceError, match=r"did you mean aws/g5\.xlarge"):
        shipped.find("aws/g5.xlrge", "us-east-1")


def test_a_region_without_price_is_answered_with_the_regions_there_are(shipped: PriceTable) -> None:
    with pytest.raises(PriceError, match="it has eu-west-1, us-east-1, us-west-2"):
        shipped.find("aws/g5.xlarge", "us-east-9")


def test_a_quote_carries_price_source_date_and_age() -> None:
    pricing = PricingSpec(instance="aws/g5.xlarge", region="us-east-1", purchase=("spot", "reserved"))

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
    pricing = PricingSpec(instance="aws/g5.xlarge", region="us-east-1", purchase=("on_demand", "spot"))

    with pytest.raises(PriceError, match=r"has no spot price.*set pricing\.purchase to \['on_demand', 'reserved'\]"):
        quotes(pricing, table(GOOD.replace("0.41", "")), TODAY)


def test_the_owners_own_price_is_never_assumed_or_stale() -> None:
    quote = quotes(PricingSpec(usd_per_worker_hour=0.25), None, TODAY)["on_demand"]

    assert (quote.usd_per_instance_hour, quote.workers_per_instance) == (0.25, 1)
    assert (quote.assumed, quote.stale, quote.cited) == (False, False, "config")
    assert (quote.cloud, quote.region, quote.list_workers_per_instance) == (None, None, None)


def test_a_date_in_the_future_is_refused_where_today_is_known() -> None:
    with pytest.raises(PriceError, match=r"row 2 .*date 2026-01-21 lies in the future \(today is 2026-01-20\)"):
        table(GOOD, today=datetime.date(2026, 1, 20))

    assert table(GOOD, today=datetime.date(2026, 1, 21)).rows


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ("0,,", "workers_per_instance must be a whole number, 1 or more, got '0'"),
        ("two,,", "workers_per_instance must be a whole number, 1 or more, got 'two'"),
        (",a page,", "spot_source and spot_date go together"),
        (",,2026-01-01", "spot_source and spot_date go together"),
        (",a page,soon", "spot_date must read YYYY-MM-DD, got 'soon'"),
    ],
)
def test_the_optional_columns_are_checked_like_the_others(cells: str, reason: str) -> None:
    with pytest.raises(PriceError) as refused:
        table(f"{GOOD},{cells}", columns=COLUMNS + OPTIONAL_COLUMNS)

    assert reason in str(refused.value)


WITHOUT_ACCELERATOR = "aws,c5.xlarge,,0,4,us-east-1,0.17,,,a list,2026-01-21"


def quoted(row: str, workers: int | None = None) -> PriceQuote:
    cells = row.split(",")
    pricing = PricingSpec(instance=f"{cells[0]}/{cells[1]}", region=cells[5], workers_per_instance=workers)
    return quotes(pricing, table(row), TODAY)["on_demand"]


def test_workers_per_instance_are_the_accelerators_unless_the_config_or_the_table_says_otherwise() -> None:
    of_eight = GOOD.replace("g5.xlarge,A10G,1", "g5.48xlarge,A10G,8")
    assert (quoted(of_eight).workers_per_instance, quoted(of_eight).list_workers_per_instance) == (8, 8)
    assert (quoted(of_eight, 2).workers_per_instance, quoted(of_eight, 2).list_workers_per_instance) == (2, 8)

    stated = table(f"{WITHOUT_ACCELERATOR},3,,", columns=COLUMNS + OPTIONAL_COLUMNS)
    assert stated.rows[0].workers_per_instance == 3


def test_a_machine_of_unknown_workers_counts_as_one_with_the_reason() -> None:
    guessed = quoted(WITHOUT_ACCELERATOR)

    assert (guessed.workers_per_instance, guessed.list_workers_per_instance) == (1, None)
    assert "one worker for each is assumed" in guessed.workers_note
    assert quoted(WITHOUT_ACCELERATOR, 4).workers_note == quoted(GOOD).workers_note == ""


def test_a_quote_names_its_cloud_and_region() -> None:
    assert (quoted(GOOD).cloud, quoted(GOOD).region) == ("aws", "us-east-1")


PRICES = st.floats(min_value=1e-6, max_value=900.0)


@settings(deadline=None)
@given(PRICES, PRICES)
def test_a_dearer_row_gives_a_dearer_quote(one: float, other: float) -> None:
    cheap, dear = (
        quoted(GOOD.replace("1.006,0.41,0.63", f"{usd!r},,")).usd_per_instance_hour for usd in sorted((one, other))
    )

    assert (cheap, dear) == (min(one, other), max(one, other))


@settings(deadline=None)
@given(PRICES, st.floats(0.03, 1.0), st.dates(datetime.date(2020, 1, 1), datetime.date(2026, 1, 31)))
def test_every_price_of_a_row_comes_back_in_its_quote(usd: float, share: float, day: datetime.date) -> None:
    lower = usd * share
    row = f"aws,g5.xlarge,A10G,1,4,us-east-1,{usd!r},{lower!r},{lower!r},a list,{day}"
    pricing = PricingSpec(instance="aws/g5.xlarge", region="us-east-1", purchase=("reserved", "spot", "on_demand"))

    found = quotes(pricing, table(row), TODAY)

    assert [quote.usd_per_instance_hour for quote in found.values()] == [lower, lower, usd]
    assert {(quote.source, quote.date, quote.age_days) for quote in found.values()} == {
        ("a list", day, (TODAY - day).days)
    }


BAD = [
    GOOD.replace("1.006", "0"),
    GOOD.replace("0.41", "1.2"),
    GOOD.replace("0.63", "2"),
    GOOD.replace("A10G,1,", "A10G,4,"),
    GOOD.replace("A10G,1,", ",0,"),
    GOOD.replace("a price list", ""),
]


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.sampled_from(BAD))
def test_one_bad_row_among_good_ones_is_always_named(before: int, after: int, bad: str) -> None:
    good = [GOOD.replace("us-east-1", f"region-{i}") for i in range(before + after)]

    with pytest.raises(PriceError, match=rf"1 price cannot be used\n  row {before + 2} \(aws/g5"):
        table(*good[:before], bad, *good[before:])


def scribbles(seed: int, alphabet: str) -> str:
    """Text that looks like a price list in parts: some of its words, separators and noise."""
    rng = random.Random(seed)
    words = [
        *alphabet,
        *COLUMNS,
        ",".join(COLUMNS) + "\n",
        GOOD,
        GOOD + "\n",
        "nan",
        "-1",
        "1e400",
        "9999",
        "2026-02-30",
    ]
    return "".join(rng.choice(words) for _ in range(rng.randrange(60)))


def test_no_text_breaks_the_parser_in_another_way_than_a_price_error() -> None:
    outcomes = set()
    for seed in range(2000):
        text = scribbles(seed, ",\"'\n\r\t\x00\ufeff 0aé٣")
        try:
            outcomes.add(type(parse_price_table(",".join(COLUMNS) * (seed % 2) + text, "noise")))
        except PriceError:
            outcomes.add(PriceError)

    assert PriceError in outcomes
    assert outcomes <= {PriceError, PriceTable}
