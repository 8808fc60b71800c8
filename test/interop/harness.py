"""A served abaca, the real client talking to it, and pictures of directory trees to compare."""

import hashlib
import json
import os
import pathlib
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request

import manilaclient.osc.plugin  # noqa: F401, imported here for all
import manilaclient.osc.v2.share_backups  # noqa: F401
import openstackclient.common.clientmanager  # noqa: F401
from openstackclient import shell


def expect(what, actual, wanted):
    """Fails with both values: an assertion alone would not show them."""
    if actual != wanted:
        raise AssertionError(f"{what}:\n  is     {actual!r}\n  wanted {wanted!r}")


def until(what, probe, seconds=60):
    """Asks again and again until probe returns something true, and returns it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := probe():
            return found
        time.sleep(0.1)
    raise AssertionError(f"after {seconds} s still not: {what}")


class Server:
    """An abaca that serves a new data directory on a free port of the loopback address."""

    def __init__(self, program, directory, **settings):
        self.program = program
        self.data = directory / "data"
        self.environment = os.environ | {f"ABACA_{name.upper()}": value for name, value in settings.items()}
        self.log = directory / "log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}/v2"
        self.health = f"http://127.0.0.1:{port}/healthcheck"
        self.command = [program, "serve", "--listen", f"127.0.0.1:{port}", "--data-dir", str(self.data)]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=self.log.open("ab"), stderr=subprocess.STDOUT,
                                        env=self.environment)
        try:
            until("the server answers", self.answers)
        except BaseException:
            self.process.kill()
            self.process.wait()
            print(self.log.read_text())
            raise
        return self

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended with {self.process.returncode}")
        try:
            with urllib.request.urlopen(self.health, timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def user(self, *words):
        """Runs "abaca user" and returns the last line that it prints."""
        done = subprocess.run([self.program, "user", *words, "--data-dir", str(self.data)], env=self.environment,
                              capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.splitlines()[-1] if done.stdout else ""

    def __exit__(self, kind, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = "no end within a minute"
        if kind is not None:
            print("--- the server's log ends with\n" + self.log.read_text()[-5000:])
            return
        expect("the server's exit after SIGTERM", code, 0)
        broken = [line for line in self.log.read_text().splitlines() if "level=ERROR" in line or "panic:" in line]
        expect("errors in the server's log", broken, [])


def openstack(words, seconds):
    """Runs one command of the client in a process of its own, which is killed after so many seconds."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = os.fork()
        if process == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            signal.alarm(seconds)
            sys.argv = ["openstack", *words]
            code = 1
            try:
                code = shell.main(words)
            except SystemExit as end:
                code = end.code or 0
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(process, 0)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(words, os.waitstatus_to_exitcode(status), out.read().decode(), err.read().decode())


class Client:
    """The openstack command, a process for each as its users have; it is imported once and forked, since it takes longer to load
    than to answer."""

    def __init__(self, *login):
        self.login = login
        # Nothing of the surroundings may choose another cloud.
        for name in [name for name in os.environ if name.startswith(("OS_", "ABACA_"))]:
            del os.environ[name]
        self.calls = 0

    def run(self, *words):
        self.calls += 1
        print("openstack share", *words, flush=True)
        return openstack([*self.login, "share", *words], 400)

    def do(self, *words):
        """Runs a command that must succeed, and returns what it printed."""
        done = self.run(*words)
        if done.returncode != 0 or "ERROR" in done.stderr:
            raise AssertionError(f"share {' '.join(words)} failed with {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout

    def ask(self, *words):
        """Runs a command that must succeed, and returns what its JSON says."""
        return json.loads(self.do(*words, "-f", "json"))

    def refused(self, *words):
        """Runs a command that must fail, and returns why it did."""
        done = self.run(*words)
        if done.returncode == 0:
            raise AssertionError(f"share {' '.join(words)} succeeded: {done.stdout}")
        return done.stderr

    def until_status(self, kind, name, wanted):
        """Waits for a status, as a script does where the client has no --wait."""
        def look():
            status = self.ask(*kind, "show", name)["status"]
            if "error" in status:
                raise AssertionError(f"{name} is in {status}")
            return status == wanted
        until(f"{name} is {wanted}", look, 120)


def anybody(endpoint):
    """Who asks a server directly, without saying who that is."""
    return Client("--os-auth-type", "none", "--os-endpoint", endpoint)


def bearer(endpoint, token):
    """Who asks a server directly, with a token."""
    return Client("--os-auth-type", "admin_token", "--os-token", token, "--os-endpoint", endpoint)


def picture(root):
    """Everything that a restore must bring back, by path: kind, mode, owner, time to the nanosecond, content or target."""
    root = os.fsencode(root)
    found = {}
    for directory, names, files in os.walk(root):
        for name in [b"."] + names + files if directory == root else names + files:
            path = os.path.join(directory, name)
            s = os.lstat(path)
            if stat.S_ISREG(s.st_mode):
                content = hashlib.sha256(pathlib.Path(os.fsdecode(path)).read_bytes()).hexdigest()
            elif stat.S_ISLNK(s.st_mode):
                content = os.readlink(path)
            else:
                content = None
            found[os.path.relpath(path, root)] = (oct(s.st_mode), s.st_uid, s.st_gid, s.st_mtime_ns, content)
    return found


def compare(what, actual, wanted):
    """Fails with the paths that differ."""
    different = [f"  {p!r}: is {actual.get(p)}, wanted {wanted.get(p)}"
                 for p in sorted(actual.keys() | wanted.keys()) if actual.get(p) != wanted.get(p)]
    if different:
        raise AssertionError(f"{what}: {len(different)} paths differ\n" + "\n".join(different[:20]))
