"""The price file: list prices with unit, region, source and date."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from smartstream.errors import PriceUnknown

PRICE_FILE = Path(__file__).with_name("prices.json")
EVERYWHERE = "*"


@dataclass(frozen=True, slots=True)
class Price:
    """One list price.

    Attributes:
        item: what is priced, like ``rds.db.t3.micro``.
        region: the region whose price it is; ``*`` for all.
        usd: for one ``per``.
        source: the public page that has it.
        date: when the figure was entered.
        estimate: it was not confirmed, or is another region's.
    """

    item: str
    region: str
    usd: float
    per: str
    source: str
    date: str
    estimate: bool = False


class Prices:
    """Prices by item and region."""

    def __init__(self, prices: Iterable[Price], reference_region: str) -> None:
        self._by_key = {(price.item, price.region): price for price in prices}
        self.reference_region = reference_region

    @staticmethod
    def load(path: Path = PRICE_FILE) -> Prices:
        """Return the prices of a file; the one that comes with the package by default.

        Raises:
            PriceUnknown: it cannot be read, or one of its prices lacks a field.
        """
        try:
            content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return Prices([Price(**entry) for entry in content["prices"]], content["reference_region"])
        except OSError as error:
            raise PriceUnknown(f"{path}: cannot be read: {error.strerror}") from error
        except json.JSONDecodeError as error:
            raise PriceUnknown(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise PriceUnknown(f"{path}: not a file of prices: {error}") from error

    def all(self) -> tuple[Price, ...]:
        """Every price there is."""
        return tuple(self._by_key.values())

    def knows(self, region: str) -> bool:
        """Whether the file has a price of this region."""
        return any(of == region for _, of in self._by_key)

    def of(self, item: str, region: str) -> Price:
        """Return the price of an item in a region, or the reference region's as an estimate.

        Raises:
            PriceUnknown: neither has one; similar items are named.
        """
        for place in (region, EVERYWHERE):
            if (item, place) in self._by_key:
                return self._by_key[item, place]
        reference = self._by_key.get((item, self.reference_region))
        if reference is None:
            raise PriceUnknown(f"there is no price for {_named(item)}{self._suggestion(item)}")
        return replace(reference, estimate=True)

    def _suggestion(self, item: str) -> str:
        """What may have been meant."""
        family = f"{item.partition('.')[0]}."
        known = sorted({name for name, _ in self._by_key if name.startswith(family)})
        close = difflib.get_close_matches(item, known, n=1, cutoff=0.6)
        if close:
            return f"; did you mean {_named(close[0])}?"
        return f"; known: {', '.join(map(_named, known))}" if known else ""


def _named(item: str) -> str:
    """An item as the configuration names it: the class alone."""
    family, _, rest = item.partition(".")
    return rest if family in ("rds", "dms") else item
