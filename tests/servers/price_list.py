"""The Price List API on loopback: answers GetProducts as AWS does, for the machines that it is told of.

The shape of an answer: botocore model pricing/2017-10-15; of a product:
https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/reading-service-price-list-file-for-services.html
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from .clients import REGION


def product(instance_type: str, usd: str, region: str = REGION, unit: str = "Hrs") -> dict[str, Any]:
    """One product of AWS's list, with its terms."""
    sku = f"SKU{abs(hash((instance_type, region))):X}"
    return {
        "product": {
            "productFamily": "ML Instance",
            "attributes": {
                "regionCode": region,
                "component": "Training",
                "instanceName": instance_type,
                "servicecode": "AmazonSageMaker",
                "usagetype": f"USE1-Train:{instance_type}",
            },
            "sku": sku,
        },
        "serviceCode": "AmazonSageMaker",
        "terms": {
            "OnDemand": {
                f"{sku}.JRTCKXETXF": {
                    "priceDimensions": {
                        f"{sku}.JRTCKXETXF.6YS6EN2CT7": {
                            "unit": unit,
                            "endRange": "Inf",
                            "description": f"${usd} per hour for {instance_type} training",
                            "appliesTo": [],
                            "rateCode": f"{sku}.JRTCKXETXF.6YS6EN2CT7",
                            "beginRange": "0",
                            "pricePerUnit": {"USD": usd},
                        }
                    },
                    "sku": sku,
                    "effectiveDate": "2026-11-01T00:00:00Z",
                    "offerTermCode": "JRTCKXETXF",
                    "termAttributes": {},
                }
            }
        },
        "version": "20261101000000",
        "publicationDate": "2026-11-01T00:00:00Z",
    }


class PriceListServer(ThreadingHTTPServer):
    """See the module.

    Attributes:
        endpoint_url: For AWS_ENDPOINT_URL_PRICING.
        rates: US dollars an hour, by region and instance type.
        refusal: An error code that it answers instead; empty: none.
        delay_s: How long every answer takes.
        requests: The parameters of every request.
    """

    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint_url = f"http://127.0.0.1:{self.server_port}"
        self.rates: dict[tuple[str, str], str] = {}
        self.refusal = ""
        self.delay_s = 0.0
        self.requests: list[dict[str, Any]] = []

    def products(self, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What matches every filter of a request."""
        wanted = {one["Field"]: one["Value"] for one in parameters["Filters"] if one["Type"] == "TERM_MATCH"}
        listed = [product(name, usd, region) for (region, name), usd in self.rates.items()]
        return [
            one
            for one in listed
            if all(one["product"]["attributes"].get(key) == wanted[key] for key in wanted)
        ]


class _Handler(BaseHTTPRequestHandler):
    """Answers in AWS's JSON protocol 1.1."""

    protocol_version = "HTTP/1.1"
    server: PriceListServer

    def do_POST(self) -> None:
        parameters = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.headers["X-Amz-Target"] == "AWSPriceListService.GetProducts"
        self.server.requests.append(parameters)
        time.sleep(self.server.delay_s)
        refusal = self.server.refusal
        document = (
            {"__type": refusal, "Message": "no"}
            if refusal
            else {
                "FormatVersion": "aws_v1",
                # JSON in JSON: each product is a text.
                "PriceList": [json.dumps(one) for one in self.server.products(parameters)],
            }
        )
        body = json.dumps(document).encode()
        self.send_response(400 if refusal else 200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Nobody reads it."""


@contextmanager
def price_list() -> Iterator[PriceListServer]:
    """A server that lives as long as the `with` block."""
    with PriceListServer() as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()
