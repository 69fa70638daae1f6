"""Becomes another program: `python -I -S launch.py [--pid-file FILE] [--user NAME] [--cwd FOLDER] -- COMMAND…`.

A shell may have started us with SIGINT and SIGTERM ignored, and a server inherits that and then cannot be stopped; so
their handlers are reset. `--user` gives up root first: PostgreSQL refuses to run as root. `--pid-file` leaves the
program behind, with a session of its own and nobody's child, so that no Ctrl-C reaches it and nobody waits for it.
A small program of its own, because doing this between fork and exec is not safe in a process with threads.
"""

from __future__ import annotations

import argparse
import os
import pwd
import signal
import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Replaces this process, or leaves another behind and returns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pid-file", type=Path)
    parser.add_argument("--user")
    parser.add_argument("--cwd")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    if options.pid_file:
        pid = os.fork()
        if pid:
            temporary = options.pid_file.with_suffix(".new")
            temporary.write_text(f"{pid}\n", encoding="ascii")
            temporary.replace(options.pid_file)
            return
        os.setsid()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(name, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if options.cwd:
        os.chdir(options.cwd)
    if options.user:
        account = pwd.getpwnam(options.user)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        os.environ["HOME"] = account.pw_dir
    os.execv(options.command[0], options.command)


if __name__ == "__main__":
    main(sys.argv[1:])
