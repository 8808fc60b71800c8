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

    def system_login(self, user):
        """The client's arguments for a user of the whole system."""
        return ["--os-auth-url", self.url, "--os-username", user, "--os-password", "secret", "--os-user-domain-name", "Default",
                "--os-system-scope", "all", "--os-region-name", "RegionOne"]

    def login(self, user, project):
        """The client's arguments for a user in a project."""
        return ["--os-auth-url", self.url, "--os-username", user, "--os-password", "secret", "--os-user-domain-name", "Default",
                "--os-project-name", project, "--os-project-domain-name", "Default", "--os-region-name", "RegionOne"]

    def environment(self, user, project):
        """The same for the environment."""
        words = self.login(user, project)
        return {word.lstrip("-").replace("-", "_").upper(): value for word, value in zip(words[::2], words[1::2])}

    def settings(self):
        """What abaca is told."""
        return {"auth_strategy": "keystone", "auth_keystone_auth_url": self.url, "auth_keystone_username": "abaca",
                "auth_keystone_password": "secret"}

    def register(self, endpoint):
        """Puts abaca into the catalog."""
        for words in (["service", "create", "shared-file-system", "--name", "abaca"],
                      ["endpoint", "create", "shared-file-system", "public", endpoint, "--region", "RegionOne"]):
            done = openstack([*self.login("admin", "admin"), *words], 60)
            if done.returncode != 0:
                raise AssertionError(f"{words} failed: {done.stderr}")
