"""Compiled implementation of the core; :mod:`kombu._core` chooses between it and :mod:`kombu._pure`."""
