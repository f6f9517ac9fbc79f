"""The templates of the pages, and what fills them."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def templates() -> Environment:
    """Templates whose values are escaped, and refused where one is missing."""
    return Environment(
        loader=PackageLoader("optimizer.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
