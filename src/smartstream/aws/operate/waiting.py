"""Waiting for something in AWS, with progress and an end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from smartstream.errors import AwsTooSlow

EVERY_S = 5.0

Found = TypeVar("Found")
Tell = Callable[[str], None]
"""Takes what is going on, in words; called again when it is the same."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, and by which clock.

    Attributes:
        timeout_s: of each wait.
        every_s: between two looks.
    """

    timeout_s: float
    tell: Tell
    every_s: float = EVERY_S
    monotonic: Callable[[], float] = time.monotonic
    pause: Callable[[float], object] = threading.Event().wait

    def until(self, what: str, look: Callable[[], tuple[Found | None, str]]) -> Found:
        """Look again and again until there is a result, and return it.

        Args:
            what: that is waited for, for the message.
            look: returns the result or None, and what there is so far.
        Raises:
            AwsTooSlow: there is none within ``timeout_s``; the first look always happens.
        """
        give_up = self.monotonic() + self.timeout_s
        while True:
            found, so_far = look()
            self.tell(f"{what}: {so_far}")
            if found is not None:
                return found
            if self.monotonic() + self.every_s > give_up:
                raise AwsTooSlow(f"{what}: {so_far} after {self.timeout_s:g} s")
            self.pause(self.every_s)
