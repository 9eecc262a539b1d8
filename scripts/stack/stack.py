"""Starts, watches and stops the servers of the stack. Called by scripts/stack.sh; see its --help.

Everything lies in one folder: data/NAME, logs/NAME.log, tmp, and state.json, which holds the ports
and, for each process that was started, its id with the time of its start. A process is ours only
if both agree, so that a recycled id is never mistaken for a server, let alone killed.
"""

import argparse
import fcntl
import json
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from servers import REGIONS, THIRD_REGION, servers

READY_SECONDS_MAX = 180
POLL_SECONDS = 0.15
# Below the range from which Linux takes ports for outgoing connections, so that none of them can
# sit on a server's port while it restarts.
PORTS_FROM, PORTS_TO = 20000, 32000


# Commands that send a signal and do no more.
SIGNALS = {"kill": signal.SIGKILL, "pause": signal.SIGSTOP, "resume": signal.SIGCONT}


class Failure(Exception):
    """Something to tell the user, without a traceback."""


class Stack:
    def __init__(self, home):
        self.home = home
        self.python = sys.executable
        self.data = home / "data"
        self.logs = home / "logs"
        self.tmp = home / "tmp"
        self.state_file = home / "state.json"
        self.changing = threading.Lock()
        self.state = {"ports": {}, "processes": {}}
        if self.state_file.exists():
            self.state = json.loads(self.state_file.read_text())
        self.servers = servers(self.state.setdefault("brokers", dict.fromkeys(REGIONS, 1)))

    def create(self, brokers):
        """A fresh stack, unless there is one already. `brokers`: regions with more than one, or another number."""
        if self.state["ports"]:
            wanted = {**self.state["brokers"], **brokers}
            if wanted != self.state["brokers"]:
                raise Failure(f"this stack has {self.state['brokers']} brokers; `down` first, to have others")
            return
        self.state["brokers"].update(brokers)
        self.servers = servers(self.state["brokers"])
        for folder in (self.data, self.logs, self.tmp):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        names = [f"{server.name}.{port}" for server in self.servers.values() for port in server.ports]
        self.state["ports"] = dict(zip(names, free_ports(len(names))))
        self.save()

    def save(self):
        draft = self.state_file.with_suffix(".new")
        draft.write_text(json.dumps(self.state, indent=1))
        draft.replace(self.state_file)

    def port(self, server, port):
        return self.state["ports"][f"{server}.{port}"]

    def log_file(self, name):
        return self.logs / f"{name}.log"

    def log(self, name):
        return self.log_file(name).open("ab")

    def process(self, name):
        return self.state["processes"].get(name)

    def started_at(self, name):
        return self.process(name)["started_at"]

    def alive(self, name):
        process = self.process(name)
        if process is None or process["birth"] is None:
            return False  # The latter if it ended before it could be looked at.
        return birth(process["pid"]) == process["birth"]

    def spawn(self, name, command, environment):
        """Starts a server in a session of its own and notes it at once."""
        inherited = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TZ")}
        started_at = time.time()
        process = subprocess.Popen(
            command,
            cwd=self.data / name,
            # Servers read settings from variables with names as plain as HTTP_PORT: pass none on.
            env={**inherited, "TMPDIR": str(self.tmp), **environment, **self.wrong_clock(name)},
            stdin=subprocess.DEVNULL,
            stdout=self.log(name),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with self.changing:
            self.state["processes"][name] = {
                "pid": process.pid,
                "birth": birth(process.pid),
                "started_at": started_at,
            }
            self.save()

    def clock_file(self, name):
        return self.data / f"{name}.clock"

    def wrong_clock(self, name):
        """What makes a server's clock wrong, if `clock` asks for it."""
        if not self.clock_file(name).exists():
            return {}
        return {"LD_PRELOAD": str(self.wrong_clock_library()), "WRONG_CLOCK": str(self.clock_file(name))}

    def wrong_clock_library(self):
        library = self.data / "wrong_clock.so"
        if not library.exists():
            source = Path(__file__).with_name("wrong_clock.c")
            subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        return library

    def signal(self, name, number):
        if self.alive(name):
            os.kill(self.process(name)["pid"], number)

    def gone(self, name, seconds_max):
        return wait_until(lambda: not self.alive(name), seconds_max)


def birth(pid):
    """A process's start, as boot id and clock ticks since boot; None if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field, the command's name, is in parentheses and may hold anything.
    fields = stat.rpartition(")")[2].split()
    state, start_ticks = fields[0], fields[19]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None if state in "ZX" else f"{boot}/{start_ticks}"


def free_ports(count):
    """A run of free ports. At random, since two stacks may be choosing at the same time."""
    for _ in range(100):
        first = random.randrange(PORTS_FROM, PORTS_TO - count)
        block = range(first, first + count)
        if all(is_free(port) for port in block):
            return block
    raise Failure(f"found no {count} free ports between {PORTS_FROM} and {PORTS_TO}")


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))  # Every interface: Milvus knows no other way to listen.
            return True
        except OSError:
            return False


def wait_until(condition, seconds_max):
    deadline = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def with_needs(stack, names):
    """The servers and all that they need, in the order of their start."""
    wanted = set(names)
    for name in names:
        wanted |= set(with_needs(stack, stack.servers[name].needs))
    return [name for name in stack.servers if name in wanted]


def up(stack, names, brokers):
    stack.create(brokers)
    check_names(stack, names)
    start_missing(stack, with_needs(stack, names or stack.servers))


def start_missing(stack, names):
    missing = [name for name in names if not stack.alive(name)]
    if not missing:
        print(f"already up: {' '.join(names)}")
        return
    begin = time.monotonic()
    # An event is set when its server is ready or has failed: nobody waits for a lost cause.
    settled = {name: threading.Event() for name in missing}
    failures = {}

    def start_one(name):
        server = stack.servers[name]
        try:
            for need in server.needs:
                if need in settled:
                    settled[need].wait()
                if need in failures:
                    raise Failure(f"not started, since it needs {need}")
            start(stack, server)
            print(f"{name:<12} ready after {time.monotonic() - begin:5.1f} s", flush=True)
        except Exception as error:  # Whatever it is, the other servers' threads go on.
            failures[name] = error
        finally:
            settled[name].set()

    with ThreadPoolExecutor(len(missing)) as threads:
        for name in missing:
            threads.submit(start_one, name)
    if failures:
        reports = [f"{name}: {error}" for name, error in failures.items()]
        raise Failure("\n".join([*reports, "The others go on; `stack.sh down` stops them."]))
    print(f"up after {time.monotonic() - begin:.1f} s in {stack.home}")


def start(stack, server):
    (stack.data / server.name).mkdir(exist_ok=True)
    command, environment = server.prepare(stack)
    stack.spawn(server.name, command, environment)

    def ready_or_dead():
        return not stack.alive(server.name) or server.ready(stack)

    in_time = wait_until(ready_or_dead, READY_SECONDS_MAX)
    if not stack.alive(server.name):
        raise Failure("ended while starting" + last_words(stack, server.name))
    if not in_time:
        late = f"runs, but does not answer after {READY_SECONDS_MAX} s"
        raise Failure(late + last_words(stack, server.name))
    server.once_ready(stack)


def last_words(stack, name):
    lines = stack.log_file(name).read_text(errors="replace").splitlines()[-15:]
    return "\n".join([f"; the end of {stack.log_file(name)}:", *(f"  | {line}" for line in lines)])


def stop(stack, names):
    """Orderly, data kept: MirrorMaker before its brokers, without which it hangs for long."""
    running = [name for name in names or stack.servers if stack.alive(name)]
    for group in (["mm2"], [name for name in stack.servers if name != "mm2"]):
        stopping = [name for name in group if name in running]
        for name in stopping:
            stack.signal(name, signal.SIGTERM)
            stack.signal(name, signal.SIGCONT)  # One that is paused would never hear of it.
        for name in stopping:
            if not stack.gone(name, stack.servers[name].stop_seconds_max):
                print(f"{name} does not stop on SIGTERM: killed", file=sys.stderr)
                kill(stack, [name])
    print(f"stopped: {' '.join(running) or 'nothing was running'}")


def kill(stack, names):
    for name in names:
        stack.signal(name, signal.SIGKILL)
    for name in names:
        if not stack.gone(name, 10):
            raise Failure(f"{name} (process {stack.process(name)['pid']}) survives SIGKILL")


def wipe(stack, names):
    """As if their disks were new. Ports and addresses stay."""
    for name in names:
        if stack.alive(name):
            raise Failure(f"{name} runs; `kill` or `stop` it first")
        shutil.rmtree(stack.data / name, ignore_errors=True)


def check_names(stack, names):
    for name in names:
        if name not in stack.servers:
            raise Failure(f"no server {name!r}; there are {' '.join(stack.servers)}")


def down(stack):
    """Nothing is to be kept, so nobody needs time to save anything; only the logs stay."""
    kill(stack, [name for name in ("mm2", *stack.servers) if stack.alive(name)])
    for folder in (stack.data, stack.tmp):
        shutil.rmtree(folder, ignore_errors=True)
    stack.state_file.unlink(missing_ok=True)
    print("down")


def status(stack, names, as_json):
    known = names or list(stack.servers)

    def state_of(name):
        if not stack.process(name):
            return "not started"
        if not stack.alive(name):
            return "stopped"
        return "ready" if stack.servers[name].ready(stack) else "not answering"

    with ThreadPoolExecutor(len(known)) as threads:
        states = dict(zip(known, threads.map(state_of, known)))
    rows = []
    for name in known:
        alive, process, server = stack.alive(name), stack.process(name), stack.servers[name]
        rows.append({
            "name": name,
            "state": states[name],
            "pid": process["pid"] if alive else None,
            "address": server.address(stack) if alive and server.ports else None,
            "log": str(stack.log_file(name)) if process else None,
        })
    if as_json:
        print(json.dumps({"home": str(stack.home), "servers": rows}, indent=1))
    else:
        for cells in [(key.upper() for key in rows[0]), *(row.values() for row in rows)]:
            print("{:<12} {:<14} {:>7} {:<16} {}".format(*(str(cell or "-") for cell in cells)))
    if any(state != "ready" for state in states.values()):
        sys.exit(1)


def env(stack, names):
    variables = {
        "DRIFTLESS_PY": stack.python,
        "DRIFTLESS_STACK": os.environ["DRIFTLESS_STACK"],
        "DRIFTLESS_STACK_HOME": str(stack.home),
    }
    for name in names or stack.servers:
        if stack.process(name):
            variables.update(stack.servers[name].variables(stack))
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")


def clock(stack, name, seconds):
    """Seen by a running server only if it has begun under a wrong clock."""
    if not stack.data.exists():
        raise Failure("the stack is not up")
    if seconds:
        stack.clock_file(name).write_text(str(seconds))
    else:
        stack.clock_file(name).unlink(missing_ok=True)


def link(stack, arguments):
    if not stack.alive("link"):
        raise Failure("the link is not up")
    answer = stack.servers["link"].command(stack, " ".join(arguments))
    if "error" in answer:
        raise Failure(answer["error"])
    print(json.dumps(answer))


def parse(arguments):
    parser = argparse.ArgumentParser(prog="stack.sh", add_help=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("up", "start", "stop", "down", "wipe", "status", "env", *SIGNALS):
        sub = verbs.add_parser(verb, add_help=False)
        if verb == "status":
            sub.add_argument("--json", action="store_true")
        if verb == "up":
            sub.add_argument("--brokers", action="append", default=[], type=broker_count, metavar="REGION=N")
        if verb != "down":
            sub.add_argument("names", nargs="+" if verb in ("wipe", *SIGNALS) else "*", metavar="NAME")
    off = verbs.add_parser("clock", add_help=False)
    off.add_argument("name", metavar="NAME")
    off.add_argument("seconds", type=int)
    links = verbs.add_parser("link", add_help=False).add_subparsers(dest="link", required=True)
    for verb in ("cut", "heal", "delay", "status"):
        sub = links.add_parser(verb, add_help=False)
        if verb == "delay":
            sub.add_argument("ms", type=float)
        if verb != "status":
            sub.add_argument("region", nargs="?", choices=(*REGIONS, THIRD_REGION))
    return parser.parse_args(arguments)


def broker_count(text):
    """`us=3` as ("us", 3)."""
    region, _, count = text.partition("=")
    if region not in (*REGIONS, THIRD_REGION) or count not in ("1", "3"):
        raise argparse.ArgumentTypeError(f"{text!r}: write us=1, us=3, eu=1, eu=3, ap=1 or ap=3")
    return region, int(count)


def main():
    args = parse(sys.argv[1:])
    stack_home = Path(os.environ["DRIFTLESS_STACK_HOME"]).absolute()
    stack_home.mkdir(parents=True, exist_ok=True)
    # Whatever changes the stack does so alone; looking and cutting links may go on meanwhile.
    lock = (stack_home / "lock").open("w")
    if args.verb in ("up", "start", "stop", "down", "wipe", *SIGNALS):
        fcntl.flock(lock, fcntl.LOCK_EX)
    stack = Stack(stack_home)
    try:
        if args.verb not in ("up", "link", "down"):
            check_names(stack, [args.name] if args.verb == "clock" else args.names)
        match args.verb:
            case "up":
                up(stack, args.names, dict(args.brokers))
            case "start":
                start_missing(stack, with_needs(stack, args.names or list(stack.state["processes"])))
            case "stop":
                stop(stack, args.names)
            case "kill":
                kill(stack, args.names)
            case "wipe":
                wipe(stack, args.names)
            case "pause" | "resume":
                for name in args.names:
                    stack.signal(name, SIGNALS[args.verb])
            case "down":
                down(stack)
            case "status":
                status(stack, args.names, args.json)
            case "env":
                env(stack, args.names)
            case "clock":
                clock(stack, args.name, args.seconds)
            case "link":
                words = (args.link, vars(args).get("ms"), vars(args).get("region"))
                link(stack, [str(word) for word in words if word is not None])
    except Failure as failure:
        print(f"stack.sh: {failure}", file=sys.stderr)
        sys.exit(1)


main()
