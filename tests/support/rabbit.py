"""A private RabbitMQ server that tests may freeze, kill and start again.

Everything it has is its own: ports, node name, cookie, data and log folder, and the ``epmd`` that Erlang finds its
nodes with.  It runs as the current user and never meets a server that already runs on the machine, nor that of
another test session.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import amqp

import certificates
from ports import free_ports

# Distributions put a wrapper into PATH that insists on the user "rabbitmq"; the scripts behind it do not.
SCRIPT_FOLDERS = (
    "/usr/lib/rabbitmq/bin",
    "/usr/local/sbin",
    "/opt/homebrew/sbin",
    "/usr/local/opt/rabbitmq/sbin",
)

# Ends the server's process groups when the test process is gone, however it went: then the pipe closes.
GUARD = """
import os, shutil, signal, sys
sys.stdin.buffer.read()
for group in sys.argv[2:]:
    try:
        os.killpg(int(group), signal.SIGKILL)
    except ProcessLookupError:
        pass
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""

CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
listeners.ssl.1 = 127.0.0.1:{tls_port}
ssl_options.cacertfile = {authority}
ssl_options.certfile = {certificate}
ssl_options.keyfile = {key}
ssl_options.verify = verify_none
ssl_options.fail_if_no_peer_cert = false
disk_free_limit.absolute = 1MB
"""


class RabbitUnavailable(Exception):
    """No RabbitMQ server is installed here; the text says what was looked for."""


class RabbitFailed(Exception):
    """The server did not start, or a command to it failed; the text holds the end of what it said."""


def find_scripts() -> Path:
    """Return the folder with ``rabbitmq-server`` and ``rabbitmqctl``.

    Raises:
        RabbitUnavailable: no such folder, or no Erlang.
    """
    candidates = [Path(folder) for folder in SCRIPT_FOLDERS]
    in_path = shutil.which("rabbitmq-server")
    if in_path is not None:
        candidates.append(Path(in_path).resolve().parent)
    for folder in candidates:
        if (folder / "rabbitmq-server").exists() and (folder / "rabbitmqctl").exists():
            if shutil.which("erl") is None:
                raise RabbitUnavailable(f"RabbitMQ is in {folder}, but there is no Erlang (erl) in PATH")
            return folder
    raise RabbitUnavailable("no rabbitmq-server in PATH or where packages put it")


class Rabbit:
    """One RabbitMQ node, with guest/guest and the virtual host ``/``, over TCP and TLS on 127.0.0.1.

    Args:
        scripts: the folder from :func:`find_scripts`.

    Attributes:
        port, tls_port: where it listens, the same after a restart.
        certificates: of the TLS side.
        node: the Erlang node's name.
    """

    def __init__(self, scripts: Path) -> None:
        self.scripts = scripts
        # A short path: Erlang's and the socket's limits are met early in a deep one.
        self.folder = Path(tempfile.mkdtemp(prefix="kombu-rabbit-"))
        self.certificates = certificates.make(self.folder / "tls")
        self.node = f"kombu-{secrets.token_hex(4)}@localhost"
        self._server: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._frozen = False
        self._choose_ports()

    # -- addresses

    def url(self, virtual_host: str = "/") -> str:
        """Return the URL over TCP; *virtual_host* as it is, unquoted."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{_quoted(virtual_host)}"

    def tls_url(self, virtual_host: str = "/") -> str:
        """Return the URL over TLS, to be used with :meth:`tls_options`."""
        return f"amqps://guest:guest@127.0.0.1:{self.tls_port}/{_quoted(virtual_host)}"

    def tls_options(self) -> dict[str, Any]:
        """Return ``Connection``'s ``ssl`` argument for :meth:`tls_url`."""
        return self.certificates.client_options()

    # -- life

    @property
    def running(self) -> bool:
        """Whether the server's process lives, frozen or not."""
        server = self._server  # another thread may be about to restart it
        return server is not None and server.poll() is None

    def start(self, timeout: float = 120.0) -> None:
        """Start the server and wait until it takes connections; nothing to do when it runs."""
        if self.running:
            return
        self._end_processes()
        self._write_configuration()
        deadline = time.monotonic() + timeout
        self._epmd = self._spawn("epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1")
        self._server = self._spawn(str(self.scripts / "rabbitmq-server"))
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-c", GUARD, str(self.folder), str(self._server.pid), str(self._epmd.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self.wait_ready(deadline - time.monotonic())

    def wait_ready(self, timeout: float = 120.0) -> None:
        """Wait until a whole AMQP connection can be opened over TCP.

        Raises:
            RabbitFailed: the server ended, or *timeout* seconds have passed.
        """
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            if not self.running:
                raise RabbitFailed(f"RabbitMQ ended while it started:\n{self.log_end()}")
            if left <= 0:
                raise RabbitFailed(f"RabbitMQ took no connection within {timeout:.0f} s:\n{self.log_end()}")
            client = amqp.Connection(f"127.0.0.1:{self.port}", connect_timeout=left, read_timeout=left)
            try:
                client.connect()
            except (OSError, amqp.AMQPError):
                time.sleep(0.05)
            else:
                client.close()
                return

    def stop(self) -> None:
        """Shut the server down in order: clients get a ``connection.close``; durable queues stay."""
        if self.running:
            assert self._server is not None
            self.thaw()
            os.kill(self._server.pid, signal.SIGTERM)
            try:
                self._server.wait(30)
            except subprocess.TimeoutExpired:
                pass  # it is killed below
        self._end_processes()

    def kill(self) -> None:
        """End the server at once, as a crash of its machine would; clients see a reset or an end of file."""
        self._end_processes()

    def restart(self, *, kill: bool = False) -> None:
        """Stop (or kill) the server and start it again on the same ports with the same data."""
        if kill:
            self.kill()
        else:
            self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop the server's processes without closing anything: connections stay open and silent.

        Returns when each of their threads stands: until then they may still answer what they have read.

        Raises:
            RabbitFailed: some still run after 30 s.
        """
        self._signal(signal.SIGSTOP)
        self._frozen = True
        assert self._server is not None
        deadline = time.monotonic() + 30
        # What has ended and cannot be reaped, its parent being stopped, answers nothing either.
        while states := _states(self._server.pid) - {"T", "Z", "X"}:
            if time.monotonic() > deadline:
                raise RabbitFailed(f"RabbitMQ's processes were told to stop and are still in {sorted(states)}")
            time.sleep(0.001)

    def thaw(self) -> None:
        """Let a frozen server go on; harmless on one that is not."""
        if self._frozen:
            self._signal(signal.SIGCONT)
            self._frozen = False

    def recover(self) -> None:
        """Bring the server back for the next test, whatever the last one did to it."""
        self.thaw()
        if not self.running:
            self.start()

    def close(self) -> None:
        """End everything and remove the server's folder."""
        self._end_processes()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- administration

    def rabbitmqctl(self, *arguments: str, timeout: float = 60.0) -> str:
        """Run ``rabbitmqctl`` on this node and return what it printed; about a second a call.

        Raises:
            RabbitFailed: it exited with another code than 0.
        """
        done = subprocess.run(
            [str(self.scripts / "rabbitmqctl"), "--quiet", "--node", self.node, *arguments],
            env=self._environment(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if done.returncode:
            raise RabbitFailed(f"rabbitmqctl {' '.join(arguments)} exited with {done.returncode}: {done.stderr}")
        return done.stdout

    def rows(self, listing: str, *columns: str) -> list[dict[str, str]]:
        """Return e.g. ``rows("list_queues", "name", "messages")`` as dictionaries of strings."""
        printed = self.rabbitmqctl(listing, "--no-table-headers", *columns)
        return [dict(zip(columns, line.split("\t"), strict=True)) for line in printed.splitlines()]

    def put_on_disk(self) -> None:
        """See that what has been declared outlives a kill.

        RabbitMQ answers a declaration a moment before it is on disk, and confirms what goes to a queue that is lost
        with it.
        """
        self.rabbitmqctl("eval", "mnesia:sync_log().")

    def close_connections(self, reason: str = "closed by a test") -> None:
        """Make the server close every client's connection: 320 CONNECTION_FORCED with *reason*."""
        self.rabbitmqctl("close_all_connections", reason)

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """Hold a memory alarm for the block: publishers get ``connection.blocked``, afterwards ``unblocked``."""
        self.rabbitmqctl("set_vm_memory_high_watermark", "absolute", "1")
        try:
            yield
        finally:
            self.rabbitmqctl("set_vm_memory_high_watermark", "0.4")

    def log_end(self, lines: int = 40) -> str:
        """Return the last *lines* of what the server logged and printed."""
        said: list[str] = []
        for path in sorted(self.folder.glob("*.out")) + sorted((self.folder / "log").glob("*.log")):
            said += path.read_text(errors="replace").splitlines()
        return "\n".join(said[-lines:])

    # -- inside

    def _choose_ports(self) -> None:
        self.port, self.tls_port, self._distribution_port, self._epmd_port = free_ports(4)

    def _environment(self) -> dict[str, str]:
        folder = str(self.folder)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RABBITMQ_", "ERL_", "NOTIFY_SOCKET"))}
        return inherited | {
            "HOME": folder,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{folder}/config",
        }

    def _write_configuration(self) -> None:
        files = self.certificates
        (self.folder / "rabbitmq.conf").write_text(
            CONFIGURATION.format(
                port=self.port,
                tls_port=self.tls_port,
                authority=files.authority,
                certificate=files.certificate,
                key=files.key,
            )
        )
        (self.folder / "enabled_plugins").write_text("[].\n")
        cookie = self.folder / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(secrets.token_hex(16))
            cookie.chmod(0o400)

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        with open(self.folder / f"{Path(command[0]).name}.out", "ab") as output:
            return subprocess.Popen(
                command,
                env=self._environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _signal(self, number: signal.Signals) -> None:
        if not self.running:
            raise RabbitFailed(f"RabbitMQ does not run and cannot be sent {number.name}")
        assert self._server is not None
        os.killpg(self._server.pid, number)

    def _end_processes(self) -> None:
        # The guard goes first: it must not act on a process number that is free again.
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
            assert self._guard.stdin is not None
            self._guard.stdin.close()
        for process in (self._server, self._epmd):
            if process is not None:
                _kill_group(process)
        self._server = self._epmd = self._guard = None
        self._frozen = False


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has ended already, and all that it started
    process.wait()


def _states(group: int) -> set[str]:
    # The letters of ps(1), of every thread in the process group; a signal to stop takes effect in each on its own.
    if not Path("/proc/self/task").is_dir():  # not Linux; there ps(1) tells of processes only
        listing = subprocess.run(["ps", "-A", "-o", "pgid=,state="], capture_output=True, text=True, check=True)
        rows = (line.split() for line in listing.stdout.splitlines())
        return {state[0] for of, state in rows if int(of) == group}
    states = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            threads = [path.read_text() for path in process.glob("task/*/stat")]
        except OSError:
            continue  # it ended meanwhile
        # "pid (name) state parent group ...", and the name may hold anything.
        for state, _, of in (each.rpartition(")")[2].split()[:3] for each in threads):
            if int(of) == group:
                states.add(state)
    return states


def _quoted(virtual_host: str) -> str:
    # kombu takes "//" at the end of a URL for the virtual host "/".
    return virtual_host.replace("%", "%25")
