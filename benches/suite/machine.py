"""Processes and the machine they run on."""

import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
# More of a core than this in use by others, and wall times mean little.
QUIET_CORES = 0.15


def say(text):
    print(f"==> {text}", flush=True)


def stat(pid):
    """Fields of /proc/<pid>/stat after the name: [1] parent, [11] utime, [12] stime, [21] resident pages."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()


def tree(root):
    children, stats = {}, {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = stat(name)
        except OSError:
            continue
        stats[int(name)] = fields
        children.setdefault(int(fields[1]), []).append(int(name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        if pid in stats:
            found.append((pid, stats[pid]))
            todo += children.get(pid, [])
    return found


def server_cpu(pid):
    """CPU seconds of the postmaster, its live children and those it has waited for."""
    own = stat(pid)
    return (int(own[13]) + int(own[14]) + sum(int(f[11]) + int(f[12]) for _, f in tree(pid))) / TICK


def machine_cpu():
    """CPU seconds of the machine: busy, and stolen by its host."""
    values = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]))
    return (values[0] + values[1] + values[2] + values[5] + values[6]) / TICK, values[7] / TICK


def cores_in_use(seconds=3.0):
    """How many cores are busy now, with nothing of ours running."""
    (before, _), began = machine_cpu(), time.monotonic()
    time.sleep(seconds)
    return (machine_cpu()[0] - before) / (time.monotonic() - began)


def measured(command, server, environment, directory):
    """Runs a command; wall seconds, CPU seconds and summed peak resident memory of its process tree, and what it said."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    server0, (machine0, steal0) = server_cpu(server), machine_cpu()
    log = tempfile.TemporaryFile()
    began = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=directory)
    peak, done = [0], threading.Event()

    def sample():
        while True:
            # The sum over processes of what is resident at one moment.
            peak[0] = max(peak[0], sum(int(fields[21]) for _, fields in tree(process.pid)) * PAGE)
            if done.wait(0.02):
                return

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        code = process.wait(timeout=1800)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    wall = time.monotonic() - began
    done.set()
    sampler.join()
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    machine1, steal1 = machine_cpu()
    log.seek(0)
    words = log.read().decode(errors="replace")
    if code != 0:
        sys.exit(f"error: {command[0]} failed with code {code}:\n{words[-3000:]}")
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    of_server = server_cpu(server) - server0
    return {
        "wall": wall,
        "cpu": cpu,
        "server_cpu": of_server,
        "other_cpu": max(0.0, machine1 - machine0 - cpu - of_server),
        "steal": steal1 - steal0,
        "peak_rss_mb": peak[0] / 2**20,
    }


def facts():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    return {"cpu": model, "cores": os.cpu_count(), "memory_gb": round(memory, 1), "kernel": platform.release(), "load": os.getloadavg()[0]}
