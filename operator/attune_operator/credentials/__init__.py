"""Credentials of sensors: signing keys, tokens, NATS users, when they are renewed and which are still accepted.

``keys`` and ``policy`` decide from values alone; ``mint`` and ``nats_jwt`` create; ``keystore``, ``nats_auth`` and
``identities`` talk to Kubernetes and NATS (docs/credentials.md).
"""
