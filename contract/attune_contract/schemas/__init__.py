"""JSON Schemas that strangers wrote, checked within bounds: the operator checks parameters of Rules, the API payloads of events.

Needs jsonschema and google-re2, which the rest of the contract does not: sensors import none of this.
"""
