"""Has tempest judge an abaca: judge.py ABACA [REGEX]

All tests that the regular expression finds, by default those of share backups, have to pass; none may be skipped.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

from harness import Server, expect
from identity import Keystone

BACKUPS = r"manila_tempest_tests\.tests\..*backup"

CONFIGURATION = """
[DEFAULT]
log_file = {directory}/tempest.log
[oslo_concurrency]
lock_path = {directory}/locks
[auth]
use_dynamic_credentials = true
admin_username = admin
admin_password = secret
admin_project_name = admin
admin_domain_name = Default
tempest_roles = member
[identity]
auth_version = v3
uri_v3 = {identity}
region = RegionOne
[identity-feature-enabled]
api_v3 = true
[service_available]
manila = true
cinder = false
glance = false
neutron = false
nova = false
swift = false
[share]
catalog_type = shared-file-system
multitenancy_enabled = false
create_networks_when_multitenancy_enabled = false
enable_protocols = nfs
run_driver_assisted_backup_tests = true
run_share_group_tests = false
run_quota_tests = true
max_api_microversion = 2.99
backend_names = local
# What is asked for again and again is done soon.
build_interval = 1
"""


def tempest(directory, *words):
    program = pathlib.Path(sys.executable).with_name("tempest")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OS_", "PYTHON"))}
    return subprocess.run([program, *words], cwd=directory, env=environment, capture_output=True, text=True)


def judge(program, directory, tests):
    with Keystone(directory / "keystone") as keystone, Server(program, directory, **keystone.settings()) as server:
        keystone.register(server.endpoint)
        workspace = directory / "tempest"
        done = tempest(directory, "init", "--workspace-path", directory / "workspaces.yaml", "tempest")
        expect("tempest init", (done.returncode, done.stderr if done.returncode else ""), (0, ""))
        (workspace / "etc" / "tempest.conf").write_text(CONFIGURATION.format(directory=workspace, identity=keystone.url))
        done = tempest(workspace, "run", "--regex", tests, "--concurrency", "2")
        return done.returncode, done.stdout, done.stderr


def main(program, tests=BACKUPS):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("interrupted"))  # so that the servers are stopped, too
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="abaca-tempest-") as directory:
        code, said, complaints = judge(os.path.abspath(program), pathlib.Path(directory), tests)
    counts = {word: int(n) for word, n in re.findall(r"^ - (Passed|Skipped|Failed): (\d+)$", said, re.M)}
    if code != 0 or counts.get("Skipped") != 0 or counts.get("Failed") != 0 or counts.get("Passed", 0) < 11 and tests == BACKUPS:
        sys.exit(f"{said}\n{complaints}\ntempest ends with {code}: {counts}")
    for line in re.findall(r"^\{\d+\} .*$", said, re.M):
        print(line)
    print(f"tempest: {counts['Passed']} tests passed, none was skipped, in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
