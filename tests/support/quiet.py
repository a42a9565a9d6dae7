"""Less logging, for benchmarks."""

import logging

import structlog


def quiet() -> None:
    """Log warnings and worse only: writing lines is not what is measured."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
