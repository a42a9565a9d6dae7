"""The command line ``attune`` for Sensors, Rules and events, in a cluster or under ``attune up``.

One module per group of commands in :mod:`attune_cli.commands`, imported only when it is called. They share the choice of the
system (:mod:`attune_cli.targets`), the output (:mod:`attune_cli.output`) and the exit statuses (:mod:`attune_cli.errors`).
"""
