"""The operator as a program: construct it with settings and a backend, and run it."""

from attune_kit.supervisor import TaskDiedError
from attune_operator.app import Operator
from attune_operator.rules.options import RulesOptions
from attune_operator.settings import Settings

__all__ = ["Operator", "RulesOptions", "Settings", "TaskDiedError"]
