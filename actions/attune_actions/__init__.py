"""``attune-actions``: carries out the actions of Rules (docs/actions.md).

What is to be done is decided by pure functions (:mod:`attune_kit.actions.plan`, :mod:`.settling`, :mod:`.limits`,
:mod:`.addresses`, :mod:`.masking`). Thin handlers around them take events and waiting runs from NATS (:mod:`.events`,
:mod:`.waiting`), make attempts (:mod:`.carrying`, :mod:`.kinds`) and keep what came of them (:mod:`.journal`).
"""
