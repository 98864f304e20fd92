"""`price` as a whole: the commands on the price book, and those that ask AWS."""

import typer

from .price_aws import add_aws
from .prices import app

__all__ = ["register"]

add_aws(app)


def register(program: typer.Typer) -> None:
    """Add `price` to the program."""
    program.add_typer(app, name="price")
