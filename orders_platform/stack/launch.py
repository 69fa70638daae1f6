"""Becomes another program, as an ordinary process: `python -I -S launch.py [--user NAME] [--cwd FOLDER] -- COMMAND…`.

A shell may have started us with SIGINT and SIGTERM ignored, and a server inherits that and then cannot be stopped; so
their handlers are reset. `--user` gives up root first: PostgreSQL refuses to run as root. A small program of its own,
because doing this between fork and exec is not safe in a process with threads.
"""

from __future__ import annotations

import argparse
import os
import pwd
import signal
import sys


def main(arguments: list[str]) -> None:
    """Replaces this process; returns only by an exception."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--user")
    parser.add_argument("--cwd")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
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
