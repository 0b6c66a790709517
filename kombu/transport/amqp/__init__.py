"""AMQP 0-9-1 over the ``amqp`` package, with this project's receive and write paths.

Handshake, TLS, SASL and the synchronous methods are the ``amqp`` package's; :mod:`.sockets`,
:mod:`.connection` and :mod:`.channel` take over what runs once a message, with the core's ``drain`` and ``output``.
"""
