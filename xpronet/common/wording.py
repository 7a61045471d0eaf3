"""Numbers in sentences."""


def number(count: int, what: str) -> str:
    """`1 study`, `2,000 studies`."""
    plural = f"{what.removesuffix('y')}ies" if what.endswith("y") else f"{what}s"
    return f"{count:,} {what if count == 1 else plural}"
