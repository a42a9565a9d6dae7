"""JSON Schemas that strangers wrote, checked within bounds: the operator checks parameters of Rules, the API payloads of events.

:class:`.json_schema.JsonSchema` is the interface. It needs jsonschema-rs, which sensors do not: they import none of this.
"""
