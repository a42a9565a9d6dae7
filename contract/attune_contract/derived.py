"""Events that are made of other events of their namespace (docs/event-patterns.md): the trigger types, and a field of payloads.

A Rule with one of these types lets its Sensor read the events of its namespace. So the names are fixed here: a Sensor that serves
Rules of other types can read nothing.
"""

from typing import Final

from attune_contract.emitted import MOST_HOPS

#: The trigger types whose Rules are about other Rules' events.
DERIVED_TRIGGER_TYPES: Final = frozenset(
    {"core.absent", "core.all", "core.count", "core.debounce", "core.sequence", "core.throttle"}
)
#: The field of the payload that says what the event is made of; its member ``hops`` counts derived and emitted events in a row.
ORIGIN: Final = "pattern"
#: So many derived and emitted events may follow one another. Those of a loop end there.
MOST_DERIVED_HOPS: Final = MOST_HOPS
#: Rules whose events may be asked for at once.
MOST_RULES: Final = 200
#: Bytes of a rule's state, as its Sensor packs it, and of the request that carries it (base64 in JSON).
MOST_STATE_BYTES: Final = 2 * 1024 * 1024
MOST_STATE_BODY_BYTES: Final = MOST_STATE_BYTES * 4 // 3 + 1024
