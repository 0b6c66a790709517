"""What a connection is made with: arguments and URLs in, ``info()`` and URIs out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from operator import itemgetter

from ._core import shared
from ._lazy import TYPE_CHECKING, LazyLogger, LazyModule
from .channels import ConnectionMarker
from .failover import check_alternate, check_url_transport, failover_strategies, parameters_of
from .transport import get_transport_cls
from .utils.collections import HashedSeq
from .utils.url import as_url, maybe_sanitize_url, parse_url, ssl_available

if TYPE_CHECKING:
    import ssl as tls
    from typing import Any, TypeVar
    from urllib import parse

    _Self = TypeVar("_Self", bound="ConnectionParameters")
else:
    parse, tls = LazyModule("urllib.parse"), LazyModule("ssl")

__all__ = ("ConnectionParameters", "resolve_aliases")

logger = LazyLogger("kombu.connection")

#: Transports that :meth:`ConnectionParameters.info` shows under the name on the right.
resolve_aliases = {"pyamqp": "amqp", "librabbitmq": "amqp"}

#: Types whose values look the same for ever.
_UNCHANGING = frozenset({str, bytes, int, float, bool, type(None)})


class ConnectionParameters(ConnectionMarker):
    """Hold the parameters of :class:`kombu.Connection`, which is where they are described."""

    hostname: str | None = None
    userid: str | None = None
    password: Any = None
    port: int | None = None
    virtual_host = "/"
    login_method: str | None = None
    ssl: Any = None
    connect_timeout: float = 5
    uri_prefix: str | None = None

    #: Interval between heartbeats in seconds, 0 for none.
    heartbeat: float | None = None

    #: Options for the transport, as given.
    transport_options: dict[str, Any] | None = None

    #: Makes an iterator without end over the URLs of :attr:`alt`.
    failover_strategy: Any = "round-robin"

    #: What yields the next URL to try; None where there is only one.
    cycle: Iterator[str] | None = None

    resolve_aliases = resolve_aliases
    failover_strategies = failover_strategies

    _transport: Any = None

    #: What the connection was equal by last, its transport options then, and their items, if they cannot change inside.
    _known_identity: tuple[HashedSeq, Any, tuple[Any, ...] | None] | None = None

    def __init__(
        self,
        hostname: str | Iterable[str] | None = "localhost",
        userid: str | None = None,
        password: str | Callable[[], str] | None = None,
        virtual_host: str | None = None,
        port: int | None = None,
        insist: bool = False,
        ssl: Any = False,
        transport: Any = None,
        connect_timeout: float = 5,
        transport_options: dict[str, Any] | None = None,
        login_method: str | None = None,
        uri_prefix: str | None = None,
        heartbeat: float | None = 0,
        failover_strategy: Any = "round-robin",
        alternates: Iterable[str] | None = None,
        credential_provider: Any = None,
        **kwargs: Any,
    ) -> None:
        urls: list[Any] = list(alternates or ())
        first: Any = hostname
        if hostname and not isinstance(hostname, str):
            urls.extend(hostname)
            first = urls[0]
        if first and ";" in first:
            urls[:0] = first.split(";")
            first = urls[0]
        parameters: dict[str, Any] = {
            "hostname": first,
            "userid": userid,
            "password": password,
            "virtual_host": virtual_host,
            "port": port,
            "insist": insist,
            "ssl": ssl,
            "transport": transport,
            "connect_timeout": connect_timeout,
            "login_method": login_method,
            "heartbeat": heartbeat,
            "credential_provider": credential_provider,
        }
        if first:
            from_url, prefix = parameters_of(first, transport)
            parameters.update(from_url)
            uri_prefix = uri_prefix or prefix
        for url in urls:
            check_alternate(url)
        #: All URLs that may be connected to, if there is more than one to choose from.
        self.alt = urls
        self._initial_params = parameters
        self._init_params(**parameters)
        # info() and pickle show what was given, not the callable that it stands for.
        self._failover_strategy = failover_strategy or "round-robin"
        self.failover_strategy = self.failover_strategies.get(self._failover_strategy) or self._failover_strategy
        if urls:
            self.cycle = self.failover_strategy(urls)
            next(self.cycle)  # the first is what we start with
        self.transport_options = {} if transport_options is None else transport_options
        if uri_prefix:
            self.uri_prefix = uri_prefix
        self._start()

    def _start(self) -> None:
        """Do what else is due when the connection object is made."""

    def _init_params(
        self,
        hostname: str | None,
        userid: str | None,
        password: Any,
        virtual_host: str | None,
        port: int | None,
        insist: bool,
        ssl: Any,
        transport: Any,
        connect_timeout: float,
        login_method: str | None,
        heartbeat: Any,
        credential_provider: Any,
    ) -> None:
        transport = transport or "amqp"
        if transport == "rediss" and ssl_available and not ssl:
            logger.warning("rediss:// was given without ssl options: the server's certificate will not be verified")
            ssl = {"ssl_cert_reqs": tls.CERT_NONE}
        self.hostname, self.port = hostname, port or self.port
        self.userid, self.password, self.login_method = userid, password, login_method
        self.virtual_host = virtual_host or self.virtual_host
        self.transport_cls = transport
        self.ssl, self.insist, self.connect_timeout = ssl, insist, connect_timeout
        self.heartbeat = heartbeat and float(heartbeat)
        self.credential_provider = credential_provider

    def _take_url(self, url: str) -> None:
        """Replace the parameters by those of *url*, which may be a host name.

        Raises:
            ValueError: if the scheme is not the plain name of a transport.
        """
        parameters = parse_url(url) if "://" in url else {"hostname": url}
        if parameters.get("transport"):
            check_url_transport(parameters["transport"])
        self._init_params(**{**self._initial_params, **parameters})

    # -- the transport -------------------------------------------------------------------------------------------

    def get_transport_cls(self) -> Any:
        """Return the class of the transport."""
        transport_cls = self.transport_cls
        if not transport_cls or isinstance(transport_cls, str):
            transport_cls = get_transport_cls(transport_cls)
        return transport_cls

    def create_transport(self) -> Any:
        """Make a new transport for this connection."""
        return self.get_transport_cls()(client=self)

    @property
    def transport(self) -> Any:
        """The transport, made when first used."""
        if self._transport is None:
            self._transport = self.create_transport()
        return self._transport

    # -- showing, copying ----------------------------------------------------------------------------------------

    @property
    def host(self) -> str:
        """Host name and port, with a colon between them."""
        hostname: Any = self.hostname
        return ":".join([hostname, str(self.port)])

    def info(self) -> dict[str, Any]:
        """Return the arguments that make an equal connection; what was left out is what the transport chooses."""
        return dict(self._info())

    def _info(self, resolve: bool = True) -> tuple[tuple[str, Any], ...]:
        """Return what :meth:`info` does, as items in the order of the constructor's parameters.

        With *resolve* false the transport goes by the name that it was given.
        """
        defaults = self.transport.default_connection_params
        hostname = self.hostname
        if not hostname and defaults.get("hostname"):
            hostname = defaults["hostname"]
            logger.warning(f"No hostname was supplied. Reverting to default '{hostname}'")
        if self.uri_prefix:
            hostname = f"{self.uri_prefix}+{hostname}"
        transport = self.transport_cls
        if resolve:
            transport = self.resolve_aliases.get(transport, transport)
        return (
            ("hostname", hostname),
            ("userid", self.userid or defaults.get("userid")),
            ("password", self.password or defaults.get("password")),
            ("virtual_host", self.virtual_host or defaults.get("virtual_host")),
            ("port", self.port or defaults.get("port")),
            ("insist", self.insist),
            ("ssl", self.ssl),
            ("transport", transport),
            ("connect_timeout", self.connect_timeout),
            ("transport_options", self.transport_options),
            ("login_method", self.login_method or defaults.get("login_method")),
            ("uri_prefix", self.uri_prefix),
            ("heartbeat", self.heartbeat),
            ("failover_strategy", self._failover_strategy),
            ("alternates", self.alt),
            ("credential_provider", self.credential_provider),
        )

    def as_uri(
        self,
        include_password: bool = False,
        mask: str = "**",
        getfields: Callable[[Any], Any] = itemgetter("port", "userid", "password", "virtual_host", "transport"),  # noqa: B008
    ) -> str:
        """Return the parameters as a URL; *mask* stands for the password unless it is asked for.

        A password that is a callable is called then.
        """
        hostname = self.hostname or "localhost"
        uri: Any = f"{self.uri_prefix}+{hostname}" if self.uri_prefix else self.hostname
        if self.transport.can_parse_url:
            try:
                uri = self.transport.as_uri(self.hostname, include_password, mask)
                return uri  # type: ignore[no-any-return]
            except NotImplementedError:
                return uri if include_password else maybe_sanitize_url(uri)  # type: ignore[no-any-return]
        if self.uri_prefix:
            return uri if include_password else maybe_sanitize_url(uri)  # type: ignore[no-any-return]
        port, userid, password, virtual_host, transport = getfields(self.info())
        if not include_password:
            password = mask
        elif callable(password):
            password = password()
        return as_url(
            transport,
            hostname,
            port,
            userid,
            password,
            parse.quote(virtual_host),
            sanitize=not include_password,
            mask=mask,
        )

    def clone(self: _Self, **kwargs: Any) -> _Self:
        """Return a connection with the same parameters, but for those in *kwargs*."""
        copy: _Self = self._unpooled_class()(**{**dict(self._info(resolve=False)), **kwargs})
        return copy

    def _unpooled_class(self) -> Any:
        return type(self)

    def __copy__(self: _Self) -> _Self:
        return self.clone()

    def __reduce__(self) -> tuple[Any, ...]:
        return self._unpooled_class(), tuple(self.info().values()), None

    __eqhash__ = shared.identity

    def _new_identity(self) -> HashedSeq:
        """Return what this connection is equal by, and remember it for as long as the parameters stay what they are."""
        options = self.transport_options
        key = HashedSeq(
            self.transport_cls,
            self.hostname,
            self.userid,
            self.password,
            self.virtual_host,
            self.port,
            repr(options),
        )
        items: tuple[Any, ...] | None = None
        if not options or (type(options) is dict and all(type(value) in _UNCHANGING for value in options.values())):
            items = tuple(chain.from_iterable((options or {}).items()))
        self._known_identity = key, options, items
        return key

    def __repr__(self) -> str:
        return f"<Connection: {self.as_uri()} at {id(self):#x}>"
