"""A real Kubernetes cluster for development and tests, wherever the project is checked out.

Three ways, one command line (`python3 -m attune_cluster up`, see `__main__`): `kind` where a Docker engine answers,
`local` where none does (the Kubernetes programs themselves, in namespaces of their own), `current` for a cluster that
is there already. Only Python's standard library is imported, so nothing has to be installed to run it.
"""
