"""dbt in a process that has imported it already: half of what a build of a few orders takes is the import.

A pass keeps a child that was forked before the pass had any thread. It forks again for each command of dbt's, so that
dbt runs in a process of its own, with the arguments, environment and folder of dagster-dbt, and may die there.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, NoReturn

import dagster_dbt.core.dbt_cli_invocation as invocation

LARGEST_REQUEST = 1 << 18


def use_forked_dbt() -> None:
    """From now on dagster-dbt starts dbt in this way. To be called before anything starts a thread."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        _serve(theirs)
    theirs.close()

    def start(args: Sequence[str], env: Mapping[str, str], cwd: Path, **_: Any) -> _ForkedDbt:
        return _ForkedDbt(ours, args, env, cwd)

    invocation.subprocess = SimpleNamespace(**{**vars(subprocess), "Popen": start})  # type: ignore[attr-defined]


class _ForkedDbt:
    """As much of a `subprocess.Popen` as dagster-dbt uses."""

    def __init__(self, server: socket.socket, args: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        self._server, self.args = server, args
        self.returncode: int | None = None
        reading, writing = os.pipe()
        request = json.dumps({"args": [str(arg) for arg in args], "env": dict(env), "cwd": str(cwd)})
        socket.send_fds(self._server, [request.encode()], [writing])
        os.close(writing)
        self.stdout: IO[bytes] = os.fdopen(reading, "rb")

    def wait(self, timeout: float | None = None) -> int:  # noqa: ARG002 as a Popen
        if self.returncode is None:
            self.returncode = int(self._server.recv(100))
        return self.returncode

    def poll(self) -> int | None:
        return self.returncode


def _serve(requests: socket.socket) -> NoReturn:
    """Runs each command in a process of its own and answers how it ended; ends with the pass."""
    while True:
        message, outputs, _, _ = socket.recv_fds(requests, LARGEST_REQUEST, 1)
        if not message:
            os._exit(0)
        child = os.fork()
        if child == 0:
            _run(json.loads(message), outputs[0])
        os.close(outputs[0])
        _, status = os.waitpid(child, 0)
        with suppress(OSError):  # the pass may be gone
            requests.send(str(os.waitstatus_to_exitcode(status)).encode())


def _run(request: Mapping[str, Any], output: int) -> NoReturn:
    """dbt's own command line, as its executable calls it."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = request["args"]
    code: Any = 1
    try:
        from dbt.cli.main import cli

        cli()
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 1)
