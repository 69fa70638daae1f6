"""How the JVM parts are run: small heaps, a quick start, one line a log entry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orders_platform.stack.jars import Report, classpath
from orders_platform.stack.java import find_java
from orders_platform.stack.part import Places
from orders_platform.stack.processes import Command

# The compiler's first tier alone, and the serial collector: a broker starts in half the time and holds half the memory,
# which on one machine matters more than the last third of its throughput.
JVM_OPTIONS = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Xms32m",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Dfile.encoding=UTF-8",
)

LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss.SSS} %-5p %m (%c{1})%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
logger.clients.name = org.apache.kafka.clients
logger.clients.level = warn
logger.common.name = org.apache.kafka.common
logger.common.level = warn
logger.config.name = org.apache.kafka.connect.runtime.distributed.DistributedConfig
logger.config.level = warn
logger.jetty.name = org.eclipse.jetty
logger.jetty.level = warn
"""
"""Every client of Connect's would tell all of its settings at each start: two megabytes."""


@dataclass(frozen=True)
class JvmProgram:
    """A Java program of the stack: its main class, arguments, and largest heap in megabytes."""

    main_class: str
    arguments: tuple[str, ...]
    heap_megabytes: int


def mark(places: Places) -> str:
    """The argument by which a JVM part is recognised; Java ignores a property that it does not know."""
    return f"-Dorders_platform.part={places.folder}"


def jvm_command(program: JvmProgram, places: Places, report: Report) -> Command:
    """The command line that runs it; jars are downloaded first if need be.

    Raises:
        StackError: if there is no Java, or a jar cannot be had.
    """
    java = find_java()
    places.folder.mkdir(parents=True, exist_ok=True)
    logging = places.folder / "log4j2.properties"
    logging.write_text(LOGGING, encoding="utf-8")
    return Command(
        arguments=(
            str(java.executable),
            *JVM_OPTIONS,
            f"-Xmx{program.heap_megabytes}m",
            f"-Dlog4j2.configurationFile={logging.as_uri()}",
            mark(places),
            program.main_class,
            *program.arguments,
        ),
        mark=mark(places),
        log_file=places.log_file,
        pid_file=places.pid_file,
        # In the environment, not on the command line: a hundred paths would drown it in `ps`.
        # The locale decides how Java names files that are not ASCII.
        environment={"CLASSPATH": classpath(report), "LC_ALL": "C.UTF-8"},
        cwd=places.folder,
    )


def write_properties(file: Path, values: dict[str, str]) -> None:
    """Writes a Java properties file, which is ASCII: other characters are escaped by their UTF-16 units."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = (f"{name}={_escaped(value)}\n" for name, value in values.items())
    file.write_text("".join(lines), encoding="ascii")


def _escaped(value: str) -> str:
    units = memoryview(value.replace("\\", "\\\\").encode("utf-16-le")).cast("H")
    return "".join(chr(unit) if unit < 128 else f"\\u{unit:04x}" for unit in units)
