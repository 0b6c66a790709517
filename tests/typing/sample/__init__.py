"""A mail service: orders come in, a worker sends mail for them, and callers may ask how it stands.

Checked by ``mypy --strict``, never run.
"""
