"""``attune doctor``: checks, and a bundle of what support needs.

:mod:`.collect` says what belongs into the bundle and reads it, :mod:`.bundle` bounds and writes it, and all that is written goes
through :mod:`.masking`. :mod:`.checks` judges, purely, what was read.
"""
