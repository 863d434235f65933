"""What a judge may spend: no request leaves that could exceed it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from lm_eval_trust.core.errors import ExternalError
from lm_eval_trust.judges.settings import JudgeSettings

#: Tokens that a server may add to a prompt for its chat template.
_TEMPLATE_TOKENS = 100
_MILLION = 1e6


@dataclass
class Budget:
    """Counts requests and their cost, for several threads at once.

    A request is let go when the budget bears the most that it can cost: a token for each byte. When
    its true cost is known, the rest is free again.

    Attributes:
        settings: The limits and prices.
        requests: Sent so far.
        cost: Of all that were answered.
    """

    settings: JudgeSettings
    requests: int = 0
    cost: float = 0.0
    _reserved: float = 0.0
    _in_flight: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def reserve(self, sent: str, reply_tokens: int) -> float:
        """Wait until a request is affordable, count it, and return what was set aside for it.

        Raises:
            ExternalError: It is not, and nothing in flight can change that.
        """
        most = self.price(len(sent.encode()) + _TEMPLATE_TOKENS, reply_tokens)
        with self._changed:
            while not self._bears(most):
                self._changed.wait()
            self.requests += 1
            self._in_flight += 1
            self._reserved += most
        return most

    def settle(self, reserved: float, cost: float) -> None:
        """Replace what was set aside by what the request cost."""
        with self._changed:
            self._in_flight -= 1
            self._reserved -= reserved
            self.cost += cost
            self._changed.notify_all()

    def price(self, input_tokens: int, output_tokens: int) -> float:
        """Return the cost of so many tokens."""
        prices = self.settings.price_input or 0.0, self.settings.price_output or 0.0
        return (input_tokens * prices[0] + output_tokens * prices[1]) / _MILLION

    def _bears(self, most: float) -> bool:
        """Tell whether a request may go; raise where it never may."""
        limit, cost_limit = self.settings.max_requests, self.settings.max_cost
        if limit is not None and self.requests >= limit:
            raise ExternalError(
                f"The judge's budget of {limit} requests is spent; raise judge_max_requests."
            )
        if cost_limit is None or self.cost + self._reserved + most <= cost_limit:
            return True
        if self._in_flight:
            return False
        raise ExternalError(
            f"The judge's budget of {cost_limit:g} does not bear another request of up to "
            f"{most:.2g}; {self.cost:.4g} is spent. Raise judge_max_cost."
        )
