#!/usr/bin/env python3
"""Runs the fuzz targets, two at a time, and judges what libFuzzer says; part `fuzz` of the proof.

    fuzz/main.py run BUILT WORK SECONDS SEED [TARGET...]   mutates for so long; prints claims
    fuzz/main.py keep BUILT WORK [TARGET...]               takes what a run found into fuzz/corpus

BUILT is the folder with the executables, WORK an own one: it keeps logs, new inputs and, of a
target that failed, the input.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import corpus

HOME = pathlib.Path(__file__).parent

# Each target with its dictionary.
TARGETS = {
    "http_head": "http",
    "http_chunked": "http",
    "envelope": "json",
    "members": "json",
    "sse": "sse",
    "lines": "json",
    "config": "config",
    "template": "template",
    "filter": "filter",
    "challenge": "challenge",
    "redirect": "url",
    "jwt": "jwt",
    "sealed": None,
    "dns": None,
    "store_reply": "store",
    "discovery": "discovery",
    "form": "form",
    "listing": "json",
}

AT_ONCE = 2
UNIT_S = 1
# Of one input: src/lib.rs counts that. This is the process with its corpus and its tables.
PROCESS_MIB = 256
INPUT_BYTES = 16384
# Whoever does less has not looked.
LEAST_RUNS = 500
LEAST_EDGES = 50
# A busy machine stops anybody for a second.
LOOKS_AT_SLOW = 3

STAT = re.compile(r"^stat::(\w+): +(\d+)$", re.MULTILINE)
EDGES = re.compile(r" cov: (\d+) ")
TOOK = re.compile(r"^Executed .* in (\d+) ms$", re.MULTILINE)
MEMORY = re.compile(r"^memory allocation of|libFuzzer: out-of-memory", re.MULTILINE)
SLOW = re.compile(r"libFuzzer: timeout|^Slowest unit:", re.MULTILINE)


class Outcome:
    """What became of one target."""

    def __init__(self, target):
        self.target = target
        self.runs = self.found = self.edges = self.corpus = self.peak_mib = 0
        self.crashes = self.slow = self.over_memory = 0

    def add(self, log, is_over):
        stats = dict(STAT.findall(log))
        self.runs += int(stats.get("number_of_executed_units", 0))
        self.found += int(stats.get("new_units_added", 0))
        self.peak_mib = max(self.peak_mib, int(stats.get("peak_rss_mb", 0)))
        self.edges = max([self.edges, *map(int, EDGES.findall(log))])
        if MEMORY.search(log):
            self.over_memory = 1
        elif not is_over and not SLOW.search(log):
            self.crashes = 1

    def is_good(self):
        is_clean = not (self.crashes or self.slow or self.over_memory)
        return is_clean and self.runs >= LEAST_RUNS and self.edges >= LEAST_EDGES

    def claim(self):
        return (
            f"{'PASS' if self.is_good() else 'FAIL'} fuzz.{self.target} runs={self.runs}"
            f" corpus={self.corpus} new={self.found} coverage={self.edges}"
            f" crashes={self.crashes} slow={self.slow} over_memory={self.over_memory}"
            f" process_mib={self.peak_mib}"
        )


def options(target):
    chosen = [
        f"-timeout={UNIT_S}",
        f"-report_slow_units={UNIT_S}",
        f"-rss_limit_mb={PROCESS_MIB}",
        f"-max_len={INPUT_BYTES}",
    ]
    if TARGETS[target]:
        chosen.append(f"-dict={HOME}/dictionaries/{TARGETS[target]}.dict")
    return chosen


def mutate(built, work, seconds, seed, target):
    """One run; more where a busy machine ended one early."""
    place = work / target
    for name in ["seeds", "new"]:
        (place / name).mkdir(parents=True, exist_ok=True)
    outcome = Outcome(target)
    outcome.corpus = corpus.unpack(HOME / "corpus" / f"{target}.txt", place / "seeds")
    end = time.monotonic() + seconds
    while outcome.runs == 0 or not has_failed(outcome) and time.monotonic() + 1 < end:
        log, code = once(built, place, max(1, int(end - time.monotonic())), seed, target)
        outcome.add(log, code == 0)
        for path in [*place.glob("timeout-*"), *place.glob("slow-unit-*")]:
            if is_slow(built, path, target):
                outcome.slow = 1
            else:
                path.rename(place / f"was-stopped-{path.name}")
        if outcome.runs == 0:
            outcome.crashes = 1
            break
        seed += 1
    if has_failed(outcome):
        tell(place, target)
    return outcome


def has_failed(outcome):
    return outcome.crashes or outcome.slow or outcome.over_memory


def once(built, place, seconds, seed, target):
    command = [
        built / target,
        *options(target),
        f"-seed={seed % 2**32 or 1}",
        f"-max_total_time={seconds}",
        "-print_final_stats=1",
        f"-artifact_prefix={place}/",
        place / "new",
        place / "seeds",
    ]
    return output_of(command, place / "log", seconds + 60)


def is_slow(built, path, target):
    command = [built / target, f"-timeout={10 * UNIT_S}", path]
    for _ in range(LOOKS_AT_SLOW):
        log, code = output_of(command, path.with_name("looked"), 60)
        took_ms = sum(map(int, TOOK.findall(log)))
        if code == 0 and took_ms < 1000 * UNIT_S:
            return False
    return True


def output_of(command, file, limit_s):
    with open(file, "wb") as out:
        try:
            code = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=limit_s
            ).returncode
        except subprocess.TimeoutExpired:
            code = 1
    return file.read_text(errors="replace"), code


def tell(place, target):
    lines = (place / "log").read_text(errors="replace").splitlines()
    words = re.compile("panicked|assert|left:|right:|ERROR|allocation|Test unit|Base64|artifact")
    told = [line[:300] for line in lines if words.search(line)]
    print(f"{target}: see {place}", *told[-12:], sep="\n", file=sys.stderr)


def run(built, work, seconds, seed, targets):
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = [pool.submit(mutate, built, work, seconds, seed, one) for one in targets]
        outcomes = []
        for one in runs:
            outcomes.append(one.result())
            print(outcomes[-1].claim(), flush=True)
    return all(outcome.is_good() for outcome in outcomes)


def keep(built, work, targets):
    for target in targets:
        place, file = work / target, HOME / "corpus" / f"{target}.txt"
        shutil.rmtree(place / "kept", ignore_errors=True)
        (place / "kept").mkdir(parents=True)
        if file.exists():
            corpus.unpack(file, place / "seeds")
        given = [path for path in [place / "seeds", place / "new"] if path.exists()]
        command = [built / target, "-set_cover_merge=1", *options(target), place / "kept", *given]
        _, code = output_of(command, place / "merged", 600)
        if code != 0:
            sys.exit(f"failed to merge {target}: see {place}/merged")
        file.write_text(corpus.packed(place / "kept"), "ascii")


def main(arguments):
    match arguments:
        case ["run", built, work, seconds, seed, *targets]:
            places = pathlib.Path(built), pathlib.Path(work)
            if not run(*places, int(seconds), int(seed), targets or TARGETS):
                sys.exit(1)
        case ["keep", built, work, *targets]:
            keep(pathlib.Path(built), pathlib.Path(work), targets or TARGETS)
        case _:
            sys.exit(__doc__)


main(sys.argv[1:])
