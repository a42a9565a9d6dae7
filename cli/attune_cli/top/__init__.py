"""``attune top``: what happens now.

:mod:`.reading` asks the parts, :mod:`.view` computes rates and what is wrong from two readings, :mod:`.picture` draws it.
Only the first talks to anybody.
"""
