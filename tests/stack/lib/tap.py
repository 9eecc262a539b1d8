"""What scripts/test.sh counts: one line `ok - name` or `not ok - name` per check."""

import time

DIFFERENCES_SHOWN = 10


class Tap:
    def __init__(self):
        self.failed = 0
        self.began = time.monotonic()

    def note(self, text):
        print(f"# {time.monotonic() - self.began:5.1f}s {text}", flush=True)

    def check(self, name, differences):
        """Passes if the list of differences is empty; shows the first few otherwise."""
        if not differences:
            print(f"ok - {name}", flush=True)
            return
        self.failed += 1
        print(f"not ok - {name}")
        for difference in differences[:DIFFERENCES_SHOWN]:
            print(f"#   {difference}")
        if len(differences) > DIFFERENCES_SHOWN:
            print(f"#   … and {len(differences) - DIFFERENCES_SHOWN} more")
        print(end="", flush=True)
