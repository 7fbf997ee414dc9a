"""A market catalogue stays usable beside its bad rows, each of which is set aside with its number and reason."""

from __future__ import annotations

import datetime
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.cost.catalogue import CATALOGUE_COLUMNS, CatalogueResult, parse_catalogue, parse_prices
from orchestrator.cost.prices import COLUMNS, PriceTable, quotes
from orchestrator.errors import PriceError
from orchestrator.spec import PricingSpec

DAY = datetime.date(2026, 1, 21)
HEADER = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,AvailabilityZone"
GPU = "g5.xlarge,A10G,1.0,4.0,16.0,\"{'Gpus': [{'Name': 'A10G', 'Count': 1}]}\",1.006,0.41,us-east-1,use1-az1"
CPU = "c5.xlarge,,,4.0,8.0,,0.17,0.08,us-east-1,use1-az1"
GCP_HEADER = (
    "InstanceType,vCPUs,MemoryGiB,AcceleratorName,AcceleratorCount,GpuInfo,Region,AvailabilityZone,Price,SpotPrice"
)


def read(*rows: str, cloud: str = "aws", header: str = HEADER) -> CatalogueResult:
    return parse_catalogue("\n".join([header, *rows]), "vms.csv", cloud=cloud, date=DAY)


def gpu(**cells: str) -> str:
    """The good GPU row with some cells replaced."""
    values = dict(
        zip(
            HEADER.split(","),
            ["g5.xlarge", "A10G", "1.0", "4.0", "16.0", "", "1.006", "0.41", "us-east-1", "az1"],
            strict=True,
        )
    )
    return ",".join((values | cells).values())


def test_good_rows_become_a_table_with_source_and_date() -> None:
    found = read(GPU, CPU)

    row = found.table.find("aws/g5.xlarge", "us-east-1")
    assert (row.accelerator, row.accelerator_count, row.vcpus, row.workers_per_instance) == ("A10G", 1, 4, 1)
    assert (row.on_demand_usd_h, row.spot_usd_h, row.reserved_usd_h) == (1.006, 0.41, None)
    assert (row.source, row.date) == ("vms.csv", DAY)
    assert found.table.find("aws/c5.xlarge", "us-east-1").workers_per_instance is None
    assert (found.refused, found.row_count) == ((), 2)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (gpu(SpotPrice="1.2"), "spot price 1.2 is above the on-demand price 1.006"),
        (gpu(Price="0"), "Price must be above 0, got 0"),
        (gpu(Price="-1"), "Price must be above 0, got -1"),
        (gpu(Price="nan"), "Price must be above 0, got nan"),
        (gpu(Price="inf"), "Price must be above 0, got inf"),
        (gpu(Price="99999"), "Price is 99999, which catalogues write where there is no price"),
        (gpu(Price=""), "Price is not a number: ''"),
        (gpu(Price="$1"), "Price is not a number: '$1'"),
        (gpu(SpotPrice="0.0"), "SpotPrice must be above 0, got 0.0"),
        (gpu(AcceleratorName="", AcceleratorCount=""), "g5.xlarge holds accelerators, and the row names none"),
        (gpu(AcceleratorName="", AcceleratorCount="1"), "accelerator '' does not go with a count of 1"),
        (gpu(AcceleratorCount="4"), "g5.xlarge holds 1 accelerators, the row counts 4"),
        (gpu(AcceleratorCount="0.125"), "AcceleratorCount must be a whole number, 0 or more, got '0.125'"),
        (gpu(InstanceType="p2.8xlarge", AcceleratorName="K80", AcceleratorCount="4"), "holds 8 accelerators"),
        (gpu(InstanceType=""), "prices a part of a machine: an accelerator without its host"),
        (gpu(vCPUs="0"), "vcpus is 0"),
        (gpu(vCPUs="four"), "vCPUs must be a whole number"),
        (gpu(Region=""), "Region is missing"),
        (GPU, "repeats row 2"),
        (gpu(Price="5.006", AvailabilityZone="az2"), "costs 5.006 where row 2, of the same region, costs 1.006"),
        (gpu(SpotPrice="0.0041"), "spot price 0.0041 is less than 2% of the on-demand price 1.006"),
        (gpu(InstanceType="g5.xlarge", vCPUs="8"), "is another machine than row 2"),
        (gpu() + ",more", "does not have 10 cells"),
    ],
)
def test_a_row_that_cannot_be_true_is_set_aside_with_its_number_and_reason(row: str, reason: str) -> None:
    found = read(GPU, row)

    assert [bad.line for bad in found.refused] == [3]
    assert any(reason in told for told in found.refused[0].reasons)
    assert found.table.find("aws/g5.xlarge", "us-east-1").on_demand_usd_h == 1.006


@pytest.mark.parametrize(
    ("row", "name", "reason"),
    [
        (
            "a2-highgpu-1g,12.0,85.0,,,,us-central1,us-central1-a,0.73948,0.36975",
            "gcp/a2-highgpu-1g",
            "a part of a machine",
        ),
        ("a4-highgpu-8g,224.0,3968.0,,,,us-east1,us-east1-b,0.0,0.0", "gcp/a4-highgpu-8g", "Price must be above 0"),
        (",,,H100,8,{},us-central1,us-central1-a,33.60609,23.9408", "gcp/H100", "an accelerator without its host"),
        (",,,tpu-v6e-1,1,tpu-v6e-1,asia-east1,asia-east1-c,700.0,700.0", "gcp/tpu-v6e-1", "where a TPU has no price"),
        (",,,tpu-v6e-1,1,tpu-v6e-1,us-west9,us-west9-a,2.7,700.0", "gcp/tpu-v6e-1", "spot price 700 is above"),
    ],
)
def test_the_known_bad_rows_of_google_clouds_catalogue_are_set_aside(row: str, name: str, reason: str) -> None:
    found = read("n2-standard-4,4.0,16.0,,,,us-central1,us-central1-a,0.19,0.04", row, cloud="gcp", header=GCP_HEADER)

    assert [bad.name for bad in found.refused] == [name]
    assert reason in str(found.refused[0])


def test_a_tpu_is_called_by_its_accelerator_and_its_devices_counted_by_its_name() -> None:
    rows = [f",,,{name},1,{name},us-east1,us-east1-d,21.6,4.35" for name in ("tpu-v6e-8", "tpu-v5p-12288", "tpu-v3-8")]
    table = read(*rows, cloud="gcp", header=GCP_HEADER).table

    counts = [
        table.find(f"gcp/{name}", "us-east1").workers_per_instance
        for name in ("tpu-v6e-8", "tpu-v5p-12288", "tpu-v3-8")
    ]
    assert counts == [8, 6144, 8]


def test_the_zones_of_a_region_become_one_row_with_the_highest_price_and_the_median_spot_price() -> None:
    zones = [("0.17", "0.0889"), ("0.17", "0.0704"), ("0.18", "0.0832"), ("0.17", "0.17")]
    rows = [f"c5.xlarge,,,4.0,8.0,,{price},{spot},us-east-1,az{i}" for i, (price, spot) in enumerate(zones)]

    row = read(*rows).table.find("aws/c5.xlarge", "us-east-1")

    assert row.on_demand_usd_h == 0.18
    assert row.spot_usd_h == 0.0832  # the last zone's, which is its on-demand price, counts as none


def test_a_zone_that_is_set_aside_leaves_the_others_of_its_region() -> None:
    found = read(GPU, GPU.replace("0.41", "4.1").replace("az1", "az2"))

    assert found.table.find("aws/g5.xlarge", "us-east-1").spot_usd_h == 0.41
    assert [bad.line for bad in found.refused] == [3]


def test_a_config_that_names_a_refused_row_is_told_its_number_and_reason() -> None:
    table = read(CPU, gpu(SpotPrice="1.2"), gpu(SpotPrice="1.3", AvailabilityZone="az2")).table

    with pytest.raises(
        PriceError, match=r"row 3 \(aws/g5.xlarge us-east-1\): spot price 1.2 is above.*1 more such row"
    ):
        quotes(PricingSpec(instance="aws/g5.xlarge", region="us-east-1"), table, DAY)
    with pytest.raises(PriceError, match="in any region: row 3"):
        table.find("aws/g5.xlarge", "eu-west-1")
    with pytest.raises(PriceError, match=r"aws/c9\.xlarge is not in vms\.csv; did you mean aws/c5\.xlarge"):
        table.find("aws/c9.xlarge", "us-east-1")


def test_either_layout_is_told_by_its_columns() -> None:
    ours = ",".join(COLUMNS) + "\naws,g5.xlarge,A10G,1,4,us-east-1,1.006,0.41,0.63,a price list,2026-01-21"

    assert parse_prices(ours, "prices.csv", cloud=None, date=None).rows[0].reserved_usd_h == 0.63
    assert parse_prices(f"{HEADER}\n{CPU}", "vms.csv", cloud="aws", date=DAY).rows[0].name == "aws/c5.xlarge"
    with pytest.raises(PriceError, match=r"is neither a price table .* nor a SkyPilot catalogue"):
        parse_prices("name,price\nx,1", "other.csv", cloud=None, date=None)


@pytest.mark.parametrize(
    ("cloud", "date", "keys"),
    [
        (None, None, "pricing.catalogue_cloud and pricing.catalogue_date"),
        (None, DAY, "pricing.catalogue_cloud"),
        ("aws", None, "pricing.catalogue_date"),
    ],
)
def test_a_catalogue_needs_its_cloud_and_date_from_the_config(
    cloud: str | None, date: datetime.date | None, keys: str
) -> None:
    with pytest.raises(PriceError, match=f"give {keys}$"):
        parse_prices(f"{HEADER}\n{CPU}", "vms.csv", cloud=cloud, date=date)


def test_a_catalogue_that_is_none_is_refused() -> None:
    with pytest.raises(PriceError, match="must be one of aws, gcp, azure, got 'ibm'"):
        read(CPU, cloud="ibm")
    with pytest.raises(PriceError, match=r"pricing\.catalogue_date 2026-01-21 lies in the future"):
        parse_catalogue(f"{HEADER}\n{CPU}", "vms.csv", cloud="aws", date=DAY, today=datetime.date(2026, 1, 20))
    with pytest.raises(PriceError, match="columns missing: Price, Region"):
        read(header="InstanceType,AcceleratorName,AcceleratorCount,vCPUs,SpotPrice")
    with pytest.raises(
        PriceError, match=r"holds no usable price\n  row 2 .*Price must be above 0(.*\n)+  and 3 more rows"
    ):
        read(*[gpu(Price="0", AvailabilityZone=f"az{i}") for i in range(8)])


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_every_row_is_either_usable_or_refused(is_good: list[bool]) -> None:
    rows = [gpu(Region=f"r{i}", Price="1.006" if good else "0") for i, good in enumerate(is_good)]

    found = read(CPU, *rows)

    assert len(found.table.rows) - 1 == sum(is_good)
    assert [bad.line for bad in found.refused] == [i + 3 for i, good in enumerate(is_good) if not good]


def test_no_text_breaks_the_parser_in_another_way_than_a_price_error() -> None:
    words = [
        *',"\n\r\x00\ufeff 0aé٣',
        *CATALOGUE_COLUMNS,
        HEADER + "\n",
        GPU + "\n",
        CPU,
        "nan",
        "-1",
        "1e400",
        "tpu-v2-",
        "999",
    ]
    outcomes = set()
    for seed in range(2000):
        rng = random.Random(seed)
        text = HEADER * (seed % 2) + "".join(rng.choice(words) for _ in range(rng.randrange(60)))
        try:
            outcomes.add(type(parse_prices(text, "noise", cloud="gcp" if seed % 3 else "aws", date=DAY)))
        except PriceError:
            outcomes.add(PriceError)

    assert outcomes == {PriceError, PriceTable}


def test_a_hundred_thousand_rows_are_read_in_seconds() -> None:
    rows = [
        gpu(Region=f"region-{i // 4}", AvailabilityZone=f"az{i % 4}", Price=f"{1 + i % 7 / 10}") for i in range(100_000)
    ]

    start = time.process_time()
    found = read(*rows)
    took_s = time.process_time() - start

    assert len(found.table.rows) == 25_000
    assert took_s < 15  # 1.5 s on one calm core; ten times that for a crowded one
