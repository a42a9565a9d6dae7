"""CEL as in Kubernetes' own policies, for everything that takes expressions (docs/cel.md).

- :mod:`~attune_kit.cel.library` compiles and evaluates, in this process. It bounds neither time nor memory.
- :mod:`~attune_kit.cel.evaluator` does the same in processes of their own, with a deadline and a limit of memory. Programs
  that evaluate other people's expressions use this.

Importing the package itself costs nothing.
"""
