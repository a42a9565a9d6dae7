"""The operator as a program: construct it with settings and a backend, and run it."""

from attune_operator.app import Operator
from attune_operator.rules.options import RulesOptions
from attune_operator.settings import Settings
from attune_operator.supervise import TaskDiedError

__all__ = ["Operator", "RulesOptions", "Settings", "TaskDiedError"]
