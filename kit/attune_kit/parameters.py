"""How a rule's parameters that do not fit a type are named to the rule's author."""


def sentence(error: Exception) -> str:
    """What msgspec says of parameters, with ``parameters`` in place of its ``$``."""
    return str(error).replace("`$.", "`parameters.").replace("`$`", "`parameters`")
