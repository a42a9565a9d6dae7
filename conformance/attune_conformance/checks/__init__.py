"""The checks, by what they look at; :func:`attune_conformance.check.all_checks` knows them all."""
