"""What the parts of Attune agree on: resources, claims, subjects, messages, files and variables.

The operator, the API and every sensor meet only through this package; it imports none of them. Names in it are
contracts: other programs, in other languages, rely on the same ones (``docs/sensor-protocol.md``).
"""

#: The project's version, as in pyproject.toml (a test holds the two together): images carry no package metadata.
__version__ = "0.1.0"
