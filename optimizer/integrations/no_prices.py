"""The price book of an operator who keeps prices with the arms: it knows nothing else."""

from datetime import datetime

from optimizer.targets import Price


class NoPrices:
    """Every model without a price of its own stays unknown; nothing is ever guessed."""

    def price(self, _model: str, _provider: str | None, _at: datetime) -> Price | None:
        """None: not known."""
        return None
