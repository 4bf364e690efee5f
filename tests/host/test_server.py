"""Starting and stopping hosts, with a stand-in for main.py where a real one would behave too well."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from devtools.server import Host, HostFailed, free_port, link_pack, prepare_base

STUBBORN = """
import signal, subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"child": %d}' % child.pid
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Answer).serve_forever()
"""


@pytest.fixture
def stand_in(tmp_path):
    """Makes a Host that runs the given text as its main.py."""

    def make(main, **options):
        (tmp_path / "main.py").write_text(main)
        return Host(tmp_path, prepare_base(tmp_path / "base"), **options)

    return make


def is_running(pid: int) -> bool:
    """Whether a process lives; a dead one may stay a short while until somebody collects it."""
    for _ in range(50):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        with open(f"/proc/{pid}/stat") as file:
            if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                return False
        time.sleep(0.1)
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_stop_kills_the_whole_group(stand_in):
    with stand_in(STUBBORN) as host:
        pids = [host.process.pid, host.get("/system_stats")["child"]]
    assert [pid for pid in pids if is_running(pid)] == []
    host.stop()  # a second time does no harm


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_host_ends_with_the_tests(root, tmp_path):
    """A terminated run must not leave its host behind."""
    (tmp_path / "main.py").write_text(STUBBORN)
    script = f"""
import pathlib, time
from devtools.server import Host, prepare_base, stop_on_terminate
stop_on_terminate()
base = pathlib.Path({str(tmp_path)!r})
with Host(base, prepare_base(base / "base")) as host:
    print(host.process.pid, flush=True)
    time.sleep(600)
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as run:
        pid = int(run.stdout.readline())
        run.send_signal(signal.SIGTERM)
        assert run.wait(30) in (-signal.SIGINT, 128 + signal.SIGINT)
    assert not is_running(pid)


def test_early_end_shows_the_log(stand_in):
    with pytest.raises(HostFailed, match=r"(?s)code 7.*out of luck"):
        stand_in("print('out of luck'); exit(7)").start()


def test_silent_host_is_given_up(stand_in):
    host = stand_in("import time; time.sleep(600)", boot_timeout=0.5)
    with pytest.raises(HostFailed, match="no answer"):
        host.start()
    assert host.process is None


def test_taken_port_is_replaced():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        assert free_port(taken) not in (0, taken)


def test_link_follows_the_checkout(tmp_path):
    first, second, custom_nodes = (tmp_path / name for name in ["first", "second", "custom_nodes"])
    for folder in [first, second, custom_nodes]:
        folder.mkdir()
        (folder / "name.txt").write_text(folder.name)
    for checkout in [first, second, second]:
        link_pack(checkout, custom_nodes)
        assert (custom_nodes / "ComfyUI-TiM" / "name.txt").read_text() == checkout.name
    assert (first / "name.txt").exists()
