"""Programs as processes: started in sessions of their own, watched, and ended for certain.

``process`` runs one, ``guard`` ends them all when ``attune up`` itself is killed, and ``leftovers`` ends what a run left behind
whose guard was killed too.
"""

from attune_local.processes.leftovers import end_leftovers
from attune_local.processes.process import MARK, Guard, Process, Program

__all__ = ["MARK", "Guard", "Process", "Program", "end_leftovers"]
