"""All prices of a config on a day: the tables that ship with the package, and the user's own files."""

from __future__ import annotations

from datetime import date
from importlib import resources
from pathlib import Path

from orchestrator.cost.availability import parse_availability
from orchestrator.cost.catalogue import parse_prices
from orchestrator.cost.prices import PriceTable, parse_price_table
from orchestrator.cost.rates import RateCard, rate_card
from orchestrator.cost.spot import SpotMarket
from orchestrator.cost.transfer import parse_transfer_table
from orchestrator.errors import PriceError
from orchestrator.spec import ExperimentSpec, PricingSpec


def rates_of(spec: ExperimentSpec, today: date) -> RateCard:
    """The rate card of a config. Raises PriceError."""
    listed = parse_transfer_table(_shipped("transfer_prices.csv"), "orchestrator's transfer prices", today=today)
    shipped = parse_price_table(_shipped("price_table.csv"), "orchestrator's price table", today=today)
    spot = _spot_history(spec.pricing.spot.history)
    if spec.pricing.catalogue is None:
        return rate_card(spec.pricing, shipped, listed, today, spot=spot)
    table = _catalogue_of(spec.pricing, spec.pricing.catalogue, today)
    return rate_card(spec.pricing, table, listed, today, reference=shipped, spot=spot)


def _shipped(name: str) -> str:
    return resources.files("orchestrator.cost").joinpath(name).read_text(encoding="utf-8")


def _catalogue_of(pricing: PricingSpec, path: str, today: date) -> PriceTable:
    text = _own_text(path, "pricing.catalogue", "of prices")
    stated = None if pricing.catalogue_date is None else date.fromisoformat(pricing.catalogue_date)
    return parse_prices(text, path, cloud=pricing.catalogue_cloud, date=stated, today=today)


def _spot_history(path: str | None) -> SpotMarket | None:
    return None if path is None else parse_availability(_own_text(path, "pricing.spot.history", "of runs"), path)


def _own_text(path: str, key: str, content: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise PriceError(f"{key} {path} cannot be read ({reason}); name a CSV file {content}") from error
