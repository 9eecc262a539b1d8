#!/usr/bin/env python3
"""What a reader of Milvus finds, and when: the truth that a reported lag is held against.

As a script, in a process of its own so that nothing else in a test makes it late, it asks one Milvus every few
milliseconds, by the collection's alias, which rows are there, and prints a line of JSON for each answer. `Probe` is
that process as a test sees it.

It asks with consistency "Strong". Such an answer has every row that Milvus had taken when it was *asked*, however long
Milvus takes to show it (a tick and more, which is no lag of ours): what a question does not find was not acknowledged
yet. When the *answer* is there, the row can be seen by anybody. So its acknowledgement lies between the last question
that did not find a row and the first answer that had it.

With consistency "Eventually" an answer has what Milvus shows just then: that is when a row is visible, to a reader who
waits for nothing.
"""

import json
import subprocess
import sys
import threading
import time

from pymilvus import connections
from pymilvus.client.prepare import Prepare

ANSWER_SECONDS_MAX = 2  # of one question; a later one finds what it would have found
UNANSWERED_MAX = 32


class Asking:
    """`bands`: of each source of rows the first id of interest and the first beyond; ids of a band are consecutive."""

    def __init__(self, uri, alias, consistency, bands):
        connections.connect(uri=uri)
        # Underneath pymilvus' own calls, which ask again by themselves and make a dictionary of each row.
        self.stub = connections._fetch_handler("default")._stub
        self.alias, self.consistency = alias, consistency
        self.bands = [[first, end, set()] for first, end in bands]
        self.lock = threading.Lock()
        self.unanswered = 0

    def ask(self):
        with self.lock:
            if self.unanswered >= UNANSWERED_MAX:
                return
            self.unanswered += 1
            wanted = " or ".join(f"(id >= {first} and id < {end})" for first, end, _ in self.bands)
        request = Prepare.query_request(self.alias, wanted, ["id"], None, consistency_level=self.consistency)
        asked = time.time()
        answer = self.stub.Query.future(request, timeout=ANSWER_SECONDS_MAX)
        answer.add_done_callback(lambda answer: self.take(asked, answer))

    def take(self, asked, answer):
        answered = time.time()
        with self.lock:
            self.unanswered -= 1
        if answer.exception() or (reply := answer.result()).status.code or reply.status.error_code:
            return  # Milvus is away, or not quite there yet: that question never was.
        columns = [field.scalars.long_data.data for field in reply.fields_data if field.field_name == "id"]
        ids = [each for column in columns for each in column]
        with self.lock:
            self.narrow(ids)
            print(json.dumps({"asked": asked, "answered": answered, "ids": ids}), flush=True)

    def narrow(self, ids):
        """Asks no more for what has been found from the first id on without a hole."""
        for band in self.bands:
            first, end, beyond = band
            beyond.update(each for each in ids if first <= each < end)
            while band[0] in beyond:
                beyond.remove(band[0])
                band[0] += 1


def main():
    uri, alias, consistency, every_ms, *bands = sys.argv[1:]
    asking = Asking(uri, alias, consistency, [tuple(map(int, band.split(":"))) for band in bands])
    # Whoever wants no more closes our standard input, by dying too.
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    every = int(every_ms) / 1000
    due = time.monotonic()
    while not ended.wait(max(0, due - time.monotonic())):
        asking.ask()
        due = max(due + every, time.monotonic())


class Probe:
    """Asks from its making on, until it is stopped. Times are of the wall clock, in seconds."""

    def __init__(self, uri, alias, every_ms, bands, consistency="Strong"):
        words = [f"{first}:{end}" for first, end in bands]
        command = [sys.executable, "-B", __file__, uri, alias, consistency, str(every_ms), *words]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.questions = []  # when each that got an answer was asked
        self.asked = {}  # {id: when the first question was asked that found it}
        self.seen = {}  # {id: when the first answer came that had it}
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self):
        for line in self.process.stdout:
            answer = json.loads(line)
            asked, answered = answer["asked"], answer["answered"]
            self.questions.append(asked)
            for each in answer["ids"]:
                self.asked[each] = min(asked, self.asked.get(each, asked))
                self.seen[each] = min(answered, self.seen.get(each, answered))

    def wait_begun(self, seconds_max=30):
        deadline = time.monotonic() + seconds_max
        while not self.questions:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the probe gets no answer (exit code {self.process.poll()})")
            time.sleep(0.05)

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.thread.join()
        self.questions.sort()


if __name__ == "__main__":
    main()
