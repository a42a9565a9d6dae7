"""The console: pages in the browser under ``/console`` (docs/console.md).

From the bottom up: ``session`` keeps who is signed in, ``cluster`` asks the Kubernetes API with the caller's own token,
``listing`` keeps what it answered while somebody looks, ``state`` is all of that for :mod:`attune_api.services`. Above the
services, ``visit`` turns a request into a visitor and what a page returns into an answer, ``views`` computes what is shown
(pure), ``pages`` has one module for each page, and ``routes`` lists them.
"""
