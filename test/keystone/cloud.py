"""A Keystone of its own on a port of the loopback address: cloud.py seed|serve DIRECTORY [PORT]

seed makes the directory with a database and keys, and these people, who all have the password "secret":

    user     role      project
    admin    admin     admin     (and of the system and of the domain)
    abaca    service   service   (abaca's own account)
    anna     member    alpha
    rita     reader    alpha
    vera     visitor   alpha     (a role that means nothing to abaca)
    bert     member    beta

It leaves a token of anna's in expired-token that ran out a day ago. serve takes such a directory and ends with its standard input.
"""

import datetime
import grp
import os
import pathlib
import pwd
import signal
import subprocess
import sys
import threading

PASSWORD = "secret"
PEOPLE = [("abaca", "service", "service"), ("anna", "member", "alpha"), ("rita", "reader", "alpha"), ("vera", "visitor", "alpha"),
          ("bert", "member", "beta")]

CONFIGURATION = """
[DEFAULT]
log_file = {0}/log
[database]
connection = sqlite:///{0}/keystone.db
[fernet_tokens]
key_repository = {0}/fernet-keys
[fernet_receipts]
key_repository = {0}/receipt-keys
[credential]
key_repository = {0}/credential-keys
[cache]
enabled = true
backend = dogpile.cache.memory
[identity]
# Tests log in often, and nobody attacks these passwords.
password_hash_rounds = 4
"""


def configure(directory):
    file = directory / "keystone.conf"
    file.write_text(CONFIGURATION.format(directory))
    os.environ["OS_KEYSTONE_CONFIG_FILES"] = str(file)
    return file


def manage(configuration, *words):
    program = pathlib.Path(sys.executable).with_name("keystone-manage")
    done = subprocess.run([program, "--config-file", configuration, *words], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"keystone-manage {words[0]}: {done.stdout}{done.stderr}")


def listen(port):
    """Returns the server and its URL; requests wait until the server runs."""
    from keystone.wsgi.api import application
    from waitress import create_server
    # One thread: Keystone makes ready what it needs as requests come, and several at once find it half made and answer 403 or 500.
    server = create_server(application, host="127.0.0.1", port=port, threads=1)
    return server, f"http://127.0.0.1:{server.effective_port}/v3"


def settle(url):
    """Makes the people, the way an operator does."""
    from keystoneauth1 import session
    from keystoneauth1.identity import v3
    from keystoneclient.v3 import client
    admin = v3.Password(url, username="admin", password=PASSWORD, project_name="admin", user_domain_id="default",
                        project_domain_id="default")
    keystone = client.Client(session=session.Session(admin), endpoint_override=url)
    roles = {role.name: role for role in keystone.roles.list()}
    roles["visitor"] = keystone.roles.create("visitor")
    projects = {name: keystone.projects.create(name, "default") for name in ("service", "alpha", "beta")}
    users = {}
    for name, role, project in PEOPLE:
        users[name] = keystone.users.create(name, domain="default", password=PASSWORD)
        keystone.roles.grant(roles[role], user=users[name], project=projects[project])
    keystone.roles.grant(roles["admin"], user=keystone.users.find(name="admin"), domain="default")
    return users["anna"].id, projects["alpha"].id


def expired(user, project):
    """Has Keystone issue a token as it would have done the day before yesterday."""
    from keystone.common import provider_api
    from keystone.server import flask  # noqa: F401, which loads the providers
    then = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None) - datetime.timedelta(days=1)
    provider = provider_api.ProviderAPIs.token_provider_api
    return provider.issue_token(user, ["password"], expires_at=then, project_id=project).id


def seed(directory):
    directory.mkdir(parents=True)
    for keys in ("fernet-keys", "receipt-keys", "credential-keys"):
        (directory / keys).mkdir(mode=0o700)
    configuration = configure(directory)
    manage(configuration, "db_sync")
    owner, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    manage(configuration, "fernet_setup", "--keystone-user", owner, "--keystone-group", group)
    manage(configuration, "bootstrap", "--bootstrap-password", PASSWORD, "--bootstrap-region-id", "RegionOne",
           "--bootstrap-public-url", "http://127.0.0.1/v3")
    server, url = listen(0)
    threading.Thread(target=server.run, daemon=True).start()
    (directory / "expired-token").write_text(expired(*settle(url)))


def serve(directory, port):
    configure(directory)
    server, url = listen(port)
    from keystone.common import provider_api
    catalog = provider_api.ProviderAPIs.catalog_api
    identity = {service["id"] for service in catalog.list_services() if service["type"] == "identity"}
    for endpoint in catalog.list_endpoints():
        if endpoint["service_id"] in identity:
            catalog.update_endpoint(endpoint["id"], {"url": url})

    def end_with_input():
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Thread(target=end_with_input, daemon=True).start()
    print(url, flush=True)
    server.run()


if __name__ == "__main__":
    command, where, *more = sys.argv[1:]
    del sys.argv[1:]  # Keystone would take them for its own
    where = pathlib.Path(where).resolve()
    if command == "seed":
        seed(where)
        os._exit(0)  # the server's threads have nothing left to do
    serve(where, int(more[0]))
