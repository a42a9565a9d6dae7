"""The command line ``attune``: a look at Sensors, Rules and events, in a cluster or under ``attune up``.

One module per group of commands in :mod:`attune_cli.commands`, imported only when it is called. What they share: which system
is asked (:mod:`attune_cli.targets`), how answers are printed (:mod:`attune_cli.output`), how it ends (:mod:`attune_cli.errors`).
"""
