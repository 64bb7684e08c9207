#!/usr/bin/env python3
"""Recomputes generated data from seed and pattern alone, after the specification in connectors/source-datagen/README.md.

It shares no code with the connector and needs nothing but Python 3.9. The figure it prints is compared with what a foreign
Parquet reader finds (`parquet_hash.py`).

    datagen.py --pattern orders --seed 42 --rows 1000            count and hash as JSON
    datagen.py --pattern orders --seed 42 --rows 3 --print       the canonical lines themselves
"""

import argparse
import hashlib
import json
import sys
from datetime import datetime, timedelta, timezone

from canonical import line

MASK = (1 << 64) - 1


def mix(x):
    """The finalizer of SplitMix64."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def fnv1a64(text):
    """FNV-1a, 64 bits, over the UTF-8 of a text."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


class Draw:
    """One named sequence of random numbers with random access."""

    def __init__(self, seed, label):
        self.key = mix(seed ^ fnv1a64(label))

    def bits(self, row):
        return mix((self.key + 0x9E3779B97F4A7C15 * (row + 1)) & MASK)

    def below(self, row, bound):
        bits = self.bits(row)
        return ((bits >> 32) * bound) >> 32 if bound <= 1 << 32 else bits % bound

    def weighted(self, row, choices):
        """`choices` are pairs of word and weight; the weights add up to 100."""
        percent = self.below(row, 100)
        edge = 0
        for word, weight in choices:
            edge += weight
            if percent < edge:
                return word
        raise AssertionError("weights add up to 100")


STATUSES = [("pending", 8), ("paid", 17), ("shipped", 22), ("delivered", 45), ("cancelled", 5), ("refunded", 3)]
CURRENCIES = [("EUR", 40), ("USD", 35), ("GBP", 12), ("CHF", 8), ("SEK", 5)]
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def cents(amount):
    return f"{amount // 100}.{amount % 100:02d}"


def orders(seed, rows, start, interval_ms):
    columns = ["customer_id", "product_code", "status", "currency", "quantity", "unit_price", "is_gift", "coupon_code",
               "created_at", "updated_at"]
    draw = {name: Draw(seed, f"orders.{name}") for name in columns}
    interval = interval_ms * 1000
    for row in range(rows):
        customer = 1 + draw["customer_id"].below(row, 100_000)
        quantity = 1 + draw["quantity"].below(row, 10)
        unit_price = 99 + draw["unit_price"].below(row, 49_901)
        coupon = draw["coupon_code"].below(row, 10_000)
        created = start + row * interval + draw["created_at"].below(row, interval)
        updated = created + draw["updated_at"].below(row, 604_800) * 1_000_000
        yield {
            "order_id": row + 1,
            "customer_id": customer,
            "customer_email": f"customer{customer}@example.com",
            "product_code": f"SKU-{draw['product_code'].below(row, 20_000):05d}",
            "status": draw["status"].weighted(row, STATUSES),
            "currency": draw["currency"].weighted(row, CURRENCIES),
            "quantity": quantity,
            "unit_price": cents(unit_price),
            "amount": cents(quantity * unit_price),
            "is_gift": draw["is_gift"].below(row, 100) < 7,
            "coupon_code": f"SAVE{5 + 5 * (coupon % 6)}" if coupon < 1500 else None,
            "created_at": EPOCH + timedelta(microseconds=created),
            "updated_at": EPOCH + timedelta(microseconds=updated),
        }


def sequence(seed, rows, _start, _interval_ms):
    value = Draw(seed, "sequence.value")
    for row in range(rows):
        yield {"id": row + 1, "value": value.below(row, 1_000_000)}


PATTERNS = {"orders": orders, "sequence": sequence}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pattern", choices=sorted(PATTERNS), default="orders")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--start-time", default="2024-01-01T00:00:00+00:00")
    parser.add_argument("--interval-ms", type=int, default=1000)
    parser.add_argument("--columns", help="names with commas; all by default")
    parser.add_argument("--print", action="store_true", help="print the canonical lines instead of their hash")
    options = parser.parse_args()
    start = (datetime.fromisoformat(options.start_time) - EPOCH) // timedelta(microseconds=1)
    names = options.columns.split(",") if options.columns else None
    digest = hashlib.sha256()
    count = 0
    for values in PATTERNS[options.pattern](options.seed, options.rows, start, options.interval_ms):
        text = line(values[name] for name in names) if names else line(values.values())
        if options.print:
            sys.stdout.write(text)
        digest.update(text.encode())
        count += 1
    if not options.print:
        print(json.dumps({"count": count, "sha256": digest.hexdigest()}))


if __name__ == "__main__":
    main()
