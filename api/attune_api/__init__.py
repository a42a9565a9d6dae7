"""The API of Attune: takes events from sensors once each, finds them again, passes them on, and mints sensor tokens.

Where to look:

* ``__main__`` starts it; ``app`` puts the parts together; ``services`` is what they are handed around in;
* ``routes`` are thin: they read a request, ask one of the packages below, and answer;
* ``identity`` says who is calling and what they may do, and nothing else does;
* ``events`` validates, stores (group commit) and pages; ``streams`` is all that speaks NATS (outbox, revocation);
* ``storage`` holds tables and engines, ``migrations`` how the tables came to be.
"""
