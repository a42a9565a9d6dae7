"""One module per group of commands, each with its ``app``. :data:`attune_cli.app.COMMANDS` lists them.

They are imported when they are called. At their top they import what is cheap; what is not, inside the functions.
"""
