"""How messages name what a caller gave."""


def shown(name: str) -> str:
    """An argument in backticks; what is no name of one, such as "curve 'a'", as it is.

    Example:
        >>> shown("size"), shown("curve 'a'")
        ('`size`', "curve 'a'")
    """
    return f"`{name}`" if name.isidentifier() else name
