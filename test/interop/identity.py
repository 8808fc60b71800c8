"""A real Keystone, and what its operator does for an abaca: README.md says it in the same words."""

import pathlib
import subprocess

from harness import openstack

RUN = pathlib.Path(__file__).parents[1] / "keystone" / "run"


class Keystone:
    """Serves for as long as it is entered; test/keystone/cloud.py tells who lives there."""

    def __init__(self, directory):
        self.directory = directory

    def __enter__(self):
        self.process = subprocess.Popen([RUN, self.directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            self.__exit__()
            raise AssertionError("there is no Keystone")
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def login(self, user, project):
        """The client's arguments for a user in a project."""
        return ["--os-auth-url", self.url, "--os-username", user, "--os-password", "secret", "--os-project-name", project,
                "--os-user-domain-name", "Default", "--os-project-domain-name", "Default", "--os-region-name", "RegionOne"]

    def settings(self):
        """What abaca is told."""
        return {"ABACA_AUTH_STRATEGY": "keystone", "ABACA_AUTH_KEYSTONE_AUTH_URL": self.url,
                "ABACA_AUTH_KEYSTONE_USERNAME": "abaca", "ABACA_AUTH_KEYSTONE_PASSWORD": "secret"}

    def register(self, endpoint):
        """Puts abaca into the catalog."""
        for words in (["service", "create", "shared-file-system", "--name", "abaca"],
                      ["endpoint", "create", "shared-file-system", "public", endpoint, "--region", "RegionOne"]):
            done = openstack([*self.login("admin", "admin"), *words], 60)
            if done.returncode != 0:
                raise AssertionError(f"{words} failed: {done.stderr}")
