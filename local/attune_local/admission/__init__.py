"""Whether manifests are what an API server with our CustomResourceDefinitions would take, with file and line where not.

Pure: text in, objects and problems out. ``attune up`` and ``attune lint`` judge by it alike::

    result = check_text(path.read_text(), source=str(path))
    for problem in result.problems:
        print(problem)          # packs/core/rule.yaml:9: spec.trigger.type: …
    for checked in result.objects:
        apply(checked.object)   # with defaults, as the API server would store it
"""

from attune_local.admission.checks import Checked, Problem, Result, Skipped, check_text
from attune_local.admission.files import STDIN, SUFFIXES, Found, Note, find, manifest_files

__all__ = [
    "STDIN",
    "SUFFIXES",
    "Checked",
    "Found",
    "Note",
    "Problem",
    "Result",
    "Skipped",
    "check_text",
    "find",
    "manifest_files",
]
