"""`price` as a whole: the commands on the price book, and those that ask AWS."""

import typer

from . import currency_rates
from .price_aws import add_aws
from .prices import app

__all__ = ["register"]

add_aws(app)
app.add_typer(currency_rates.app, name="rate")


def register(program: typer.Typer) -> None:
    """Add `price` to the program."""
    program.add_typer(app, name="price")
