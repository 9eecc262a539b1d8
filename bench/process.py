"""A peer under measurement: one process, and what the system says of it."""

import json
import os
import re
import subprocess
import threading
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
LOG_LINES_SHOWN = 15


class Process:
    """`name` is for people. Its standard error goes to `log`, its lines of JSON are kept."""

    def __init__(self, name, command, log, environment=None):
        self.name = name
        self.log = log
        self.began = time.monotonic()
        with log.open("ab") as errors:
            self.child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                env={**os.environ, **(environment or {})},
            )
        self.told = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        with self.log.open("a") as log:
            for line in self.child.stdout:
                if line.startswith('{"') and line.rstrip().endswith("}"):
                    self.told.append(json.loads(line))
                else:
                    log.write(line)

    def cpu_seconds(self):
        return cpu_seconds(self.child.pid)

    def peak_mib(self):
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024

    def is_settled(self):
        """It has its share of the work. One alone has it from the beginning."""
        return True

    def memory(self):
        """Bytes that it holds now, by the names of proc(5)'s smaps_rollup: Rss, Pss, Pss_Anon, Pss_File, …"""
        rollup = Path(f"/proc/{self.child.pid}/smaps_rollup").read_text()
        return {name: int(kilobytes) * 1024 for name, kilobytes in re.findall(r"^(\w+): +(\d+) kB", rollup, re.MULTILINE)}

    def check_alive(self):
        if self.child.poll() is not None:
            raise RuntimeError(f"{self.name} ended by itself with {self.child.returncode}\n{self.log_tail()}")

    def wait_told(self, key, seconds):
        """The first line that has this key."""
        deadline = time.monotonic() + seconds
        while True:
            found = next((line for line in self.told if key in line), None)
            if found:
                return found
            self.check_alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} said nothing of {key!r} within {seconds} s\n{self.log_tail()}")
            time.sleep(0.05)

    def stop(self, seconds_max=30):
        """In good order, as SIGTERM asks for."""
        self.child.terminate()
        self.child.wait(seconds_max)

    def end(self):
        """Nothing of it is to be kept."""
        self.child.kill()
        self.child.wait()
        self.reader.join()

    def log_tail(self):
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n".join([f"last lines of {self.log}:", *lines])


def cpu_seconds(pid):
    """Of user and system together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) / 1024


def wait_idle(pid, seconds_max=20, share=0.1):
    """Until the process has as good as nothing to do: what one peer leaves to it must not cost the next."""
    deadline = time.monotonic() + seconds_max
    while time.monotonic() < deadline:
        before = cpu_seconds(pid)
        time.sleep(0.5)
        if cpu_seconds(pid) - before < 0.5 * share:
            return
