"""Whether a price reads wrong beside those listed elsewhere: a slip that no single row gives away.

Two prices that were swapped are both good prices; only beside what the types cost elsewhere they read wrong. A price
that reads wrong may still be right (an old price, a far region, a cheap provider), so this warns and refuses nothing.
"""

from __future__ import annotations

import math

from orchestrator.cost.prices import PriceTable

# Up to this factor from the listed prices of the same type, a price may be that of another region: 83% of 1,070 AWS
# prices of January 2026 (tsaol/aws-gpu) are within it of the same type's in us-east-1.
_OTHER_REGION_FACTOR = 1.4
# Beyond this factor no price of the same type is expected: of the same 1,070, 4 are (all in cells of mobile networks or
# far cities), and the largest price cut known here is 44% (AWS P5, June 2025), a factor of 1.8.
_SAME_TYPE_FACTOR = 2.0
# The same for another type with such accelerators. Cheaper: a V100-hour was 1.06 to 3.06 dollars at the five providers
# of DAWNBench's entries (2018 to 2020), a factor of 2.9. Dearer: with one accelerator in a large host, up to 6.8 times
# the dearest listed here (g4dn.16xlarge in sa-east-1, January 2026).
_CHEAPER_FACTOR = 3.0
_DEARER_FACTOR = 8.0


def implausible_price(
    usd_per_hour: float,
    reference: PriceTable,
    *,
    instance: str | None = None,
    accelerator: str = "",
    accelerator_count: int = 0,
) -> str | None:
    """Why an on-demand price reads wrong beside those listed elsewhere; None when it does not, or nothing compares.

    A price is compared with the listed ones of the same type, whatever the region. It reads wrong when it is more than
    1.4 times away from them and is what another type of that cloud costs, or when it is more than 2 times away. For a
    type that is not listed, the price of one accelerator is compared with all that are listed of that kind: it reads
    wrong below a third of the cheapest and above 8 times the dearest.

    Args:
        usd_per_hour: Of one instance, on-demand.
        reference: Prices to trust.
        instance: ``cloud/type``.
        accelerator: Its kind, as ``reference`` spells it.
        accelerator_count: Of one instance.
    """
    own = [row.on_demand_usd_h for row in reference.rows if row.name == instance]
    if own and instance is not None:
        return _beside_same_type(usd_per_hour, min(own), max(own), instance, reference)
    each = [
        row.on_demand_usd_h / row.accelerator_count
        for row in reference.rows
        if accelerator and accelerator_count > 0 and row.accelerator == accelerator and row.accelerator_count > 0
    ]
    if not each:
        return None
    usd = usd_per_hour / accelerator_count
    if min(each) / _CHEAPER_FACTOR <= usd <= max(each) * _DEARER_FACTOR:
        return None
    return (
        f"{usd:.4g} dollars per {accelerator}-hour is below 1/{_CHEAPER_FACTOR:g} or above {_DEARER_FACTOR:g} times "
        f"the listed {_spread(min(each), max(each))}"
    )


def implausible_prices(table: PriceTable, reference: PriceTable) -> tuple[str, ...]:
    """`implausible_price` for every row of a table, told with its name; empty when all read right."""
    told = []
    for row in table.rows:
        reason = implausible_price(
            row.on_demand_usd_h, reference,
            instance=row.name, accelerator=row.accelerator, accelerator_count=row.accelerator_count,
        )  # fmt: skip
        if reason is not None:
            told.append(f"{row.name} {row.region}: {reason}")
    return tuple(told)


def _beside_same_type(usd: float, low: float, high: float, instance: str, reference: PriceTable) -> str | None:
    if _within(usd, low, high, _OTHER_REGION_FACTOR):
        return None
    cloud = instance.partition("/")[0]
    others = (row for row in reference.rows if row.cloud == cloud and row.name != instance)
    twin = next((row for row in others if math.isclose(row.on_demand_usd_h, usd, rel_tol=1e-3)), None)
    listed = _spread(low, high)
    if twin is not None:
        return f"{usd:.4g} dollars is what {twin.name} costs, and {instance} is listed at {listed}: are they swapped?"
    if _within(usd, low, high, _SAME_TYPE_FACTOR):
        return None
    return f"{usd:.4g} dollars is more than {_SAME_TYPE_FACTOR:g} times away from the listed {listed} of {instance}"


def _within(value: float, low: float, high: float, factor: float) -> bool:
    return low / factor <= value <= high * factor


def _spread(low: float, high: float) -> str:
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
