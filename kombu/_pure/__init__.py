"""Reference implementation of the core in plain Python; :mod:`kombu._core` chooses between it and the twin."""
