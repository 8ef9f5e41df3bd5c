"""The estimate as Markdown: for the documentation, and for whoever passes it on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from smartstream.aws.cost.estimate import ASSUMPTIONS, NOT_INCLUDED, Estimate, Line
from smartstream.aws.cost.prices import Price

BEGIN, END = "<!-- cost:begin -->", "<!-- cost:end -->"


def bill(estimate: Estimate) -> str:
    """One configuration, line by line."""
    head = ["service", "item", "quantity", "unit price", "$ per month"]
    rows = [
        [line.service, line.item, quantity(line), unit_price(line.price), usd(line)]
        for line in estimate.lines
    ]
    rows.append(["**total**", "", "", "", f"**{estimate.monthly_usd:,.2f}**"])
    return _table(head, rows, left=2)


def profiles(estimates: Mapping[str, Estimate]) -> str:
    """Several configurations side by side, service by service."""
    services = dict.fromkeys(name for one in estimates.values() for name in one.by_service())
    rows = [
        [service, *(_amount(one.by_service().get(service, 0.0)) for one in estimates.values())]
        for service in services
    ]
    rows.append(["**total**", *(f"**{one.monthly_usd:,.2f}**" for one in estimates.values())])
    return _table(["$ per month", *estimates], rows, left=1)


def page(estimates: Mapping[str, Estimate], prices: Iterable[Price]) -> str:
    """The whole page of the documentation."""
    first = next(iter(estimates.values()))
    load, region = first.load, first.configuration.region
    sources = dict.fromkeys(f"{price.source} ({price.date})" for price in prices)
    parts = [
        _HEAD.format(
            region=region,
            rate=f"{load.records_per_s:g}",
            size=f"{load.record_bytes:,}",
            tables=load.tables,
        ),
        f"{BEGIN}\n{profiles(estimates)}{END}\n",
    ]
    for name, one in estimates.items():
        notes = "".join(f"\n{note}\n" for note in one.notes)
        parts.append(
            f"## {name}: {one.monthly_usd:,.2f} $ in {one.configuration.region}\n{notes}\n{bill(one)}"
        )
    parts.append("## Assumed\n\n" + _list(ASSUMPTIONS))
    parts.append("## Not included\n\n" + _list(NOT_INCLUDED))
    parts.append("## Where the prices are from\n\n" + _SOURCES + "\n" + _list(sources))
    return "\n".join(parts)


def with_table(text: str, estimates: Mapping[str, Estimate]) -> str:
    """A page with the table between its markers brought up to date; without markers, unchanged."""
    pattern = f"{re.escape(BEGIN)}\n.*?{re.escape(END)}"
    return re.sub(pattern, lambda _: f"{BEGIN}\n{profiles(estimates)}{END}", text, flags=re.DOTALL)


def quantity(line: Line) -> str:
    """How much, in the unit of the price."""
    value = line.quantity
    number = f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.3g}"
    return f"{number} {line.price.per}"


def unit_price(price: Price) -> str:
    """The price of one unit, without trailing noughts."""
    digits = f"{price.usd:.10f}".rstrip("0")
    whole, _, fraction = digits.partition(".")
    return f"{whole}.{fraction.ljust(2, '0')}"


def usd(line: Line) -> str:
    """What a line costs; ~ marks an estimate."""
    amount = _amount(line.monthly_usd)
    return f"~{amount}" if line.price.estimate and amount[0].isdigit() else amount


def _amount(value: float) -> str:
    """Dollars and cents; what is less than a cent is still not nothing."""
    return "<0.01" if 0 < value < 0.005 else f"{value:,.2f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, left: int) -> str:
    """A Markdown table; all but the first columns hold numbers."""
    marks = ["---" if number < left else "---:" for number in range(len(head))]
    return "".join(f"| {' | '.join(cell or ' ' for cell in row)} |\n" for row in (head, marks, *rows))


def _list(items: Iterable[str]) -> str:
    """Items of a list."""
    return "".join(f"- {item}\n" for item in items)


_HEAD = """\
# What the AWS stack costs

List prices a month in {region}, on demand, with {rate} change a second of {size} bytes over {tables} tables
that change all the time. `smartstream aws cost` prints the same for the plan at hand and for a load of
your own; it reads Terraform's files and a price file, and asks nothing of the network.

This page is made from the code: `python -m smartstream.cli.docs`.
"""

_SOURCES = """\
Each price stands with its unit, region, source and date in `src/smartstream/aws/cost/prices.json`; a `~`
marks what is not confirmed for the region. Correct or add a price there. The sources, all on
aws.amazon.com, and the day when their figures were entered:
"""
