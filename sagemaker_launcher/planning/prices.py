"""What a machine costs an hour by AWS's price list; what that said last is kept on this machine."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sagemaker_launcher.clock import utc_now
from sagemaker_launcher.documents import read_document
from sagemaker_launcher.errors import LauncherError, NotFoundError, UnavailableError
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.unique import unique_name
from sagemaker_launcher.user_cache import cache_folder, place

if TYPE_CHECKING:
    from sagemaker_launcher.aws import Aws

PRICE_LIST, CACHE = "price list", "cache"
_SERVICE = "AmazonSageMaker"
_PRODUCTS_MAX = 100  # a type in a region is one product
_HOURS = {"hrs", "hours"}
_FOLDER = "prices"


@frozen
class Price:
    """The on-demand price of one machine that trains.

    Attributes:
        usd_per_hour: US dollars.
        as_of: When AWS said so (ISO 8601, UTC).
        source: `price list` when AWS has just been asked, `cache` when it was asked at another time.
    """

    usd_per_hour: float
    as_of: str
    source: str = PRICE_LIST


def ask(aws: Aws, region: str, instance_type: str) -> Price:
    """The price by the Price List API, which is also kept.

    Filters and answer: https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-price-list-query-api.html,
    botocore model pricing/2017-10-15.

    Raises:
        NotFoundError: The list has no such machine, or no price of it in US dollars.
        UnavailableError: The answer is none, or has several prices.
        LauncherError: And the other errors of `aws.aws_errors`.
    """
    from sagemaker_launcher.aws import answered, aws_errors  # noqa: PLC0415 - boto3 only where AWS is asked

    wanted = {"regionCode": region, "component": "Training", "instanceName": instance_type}
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()]
    action = "ask for the price"
    with aws_errors(action):
        pages = aws.price_list_client().get_paginator("get_products")
        products = pages.paginate(ServiceCode=_SERVICE, Filters=filters)
        items = (item for page in products for item in answered(page, "PriceList", action)["PriceList"])
        listed = list(islice(items, _PRODUCTS_MAX))
    price = Price(hourly_rate(listed, f"{instance_type} in {region}"), utc_now())
    with suppress(OSError, LauncherError):  # what may be lost need not be kept
        _keep(region, instance_type, price)
    return price


def kept(region: str, instance_type: str) -> Price | None:
    """The price that AWS said when it was last asked from this machine; None when it never was."""
    try:
        values = json.loads(_file(place(), region, instance_type).read_bytes())
        price = read_document(Price, {**values, "source": CACHE})
    except (OSError, ValueError, TypeError):
        return None
    return price if _is_price(price.usd_per_hour) else None


def hourly_rate(products: Iterable[object], what: str) -> float:
    """The one price that products of the price list have.

    Args:
        products: `PriceList` of GetProducts: each product with its terms, as a JSON text.
        what: What was asked for, for messages.

    Raises:
        NotFoundError: There is no price in US dollars an hour.
        UnavailableError: There are several, or this is no price list.
    """
    try:
        rates = {rate for product in products for rate in _rates(json.loads(str(product)))}
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise UnavailableError(f"AWS's price list is not what it was: {error}") from error
    if not rates:
        raise NotFoundError(f"AWS's price list has no price for training on {what}", code="no_price")
    if len(rates) > 1:
        shown = ", ".join(f"{rate:g}" for rate in sorted(rates))
        raise UnavailableError(f"AWS's price list has several prices for training on {what}: {shown}")
    return rates.pop()


def _rates(product: Mapping[str, Any]) -> Iterator[float]:
    """The prices on demand of a product, in US dollars an hour."""
    for term in product["terms"].get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            rate = float(dimension["pricePerUnit"].get("USD", 0))
            if dimension["unit"].lower() in _HOURS and _is_price(rate):
                yield rate


def _is_price(rate: float) -> bool:
    return math.isfinite(rate) and rate > 0


def _keep(region: str, instance_type: str, price: Price) -> None:
    path = _file(cache_folder(), region, instance_type)
    path.parent.mkdir(exist_ok=True)
    incomplete = path.with_name(f"{unique_name(8)}.incomplete")
    try:
        incomplete.write_text(json.dumps(asdict(price)))
        incomplete.replace(path)
    finally:
        incomplete.unlink(missing_ok=True)


def _file(cache: Path, region: str, instance_type: str) -> Path:
    """Where a price is kept. What answers at another endpoint is another list."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_PRICING") or os.environ.get("AWS_ENDPOINT_URL", "")
    return cache / _FOLDER / (quote(f"{region} {instance_type} {endpoint}".strip(), safe="") + ".json")
