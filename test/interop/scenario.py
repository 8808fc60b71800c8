"""Backs up and restores real shares with the real client: scenario.py ABACA

Each step builds on the ones before it. Whatever differs from what is wanted ends the run with exit code 1.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from harness import Client, Server, anybody, bearer, compare, expect, openstack, picture, until
from identity import Keystone

MISSING = "00000000-0000-4000-8000-000000000000"

SUMMARY = {"ID", "Name", "Share ID", "Status"}
DETAIL = SUMMARY | {"Description", "Size", "Created At", "Updated At", "Availability Zone", "Progress",
                    "Restore Progress", "Host", "Topic"}
# What an administrator sees at 2.95, which the client asks for.
BACKUP = {"id", "name", "share_id", "status", "description", "size", "created_at", "updated_at", "availability_zone",
          "progress", "restore_progress", "backup_type", "host", "topic"}


def directory_of(client, share):
    """The share's files, found as a user finds them: by the export location."""
    locations = client.ask("export", "location", "list", share)
    expect("number of export locations", len(locations), 1)
    host, path = locations[0]["Path"].split(":", 1)
    expect("the export host", host != "", True)
    root = pathlib.Path(path)
    expect(f"{root} is a directory", root.is_dir(), True)
    return root


def fill(root):
    """A small tree with what is easily lost: odd names, modes and times, links, empty things, one larger file."""
    (root / "empty directory").mkdir()
    deep = root.joinpath(*"abcdefgh")
    deep.mkdir(parents=True)
    (deep / "file").write_text("deep\n")
    (root / "ünïcode 備份\nline").write_text("odd name\n")
    with open(os.path.join(os.fsencode(root), b"not utf-8 \xff\xfe"), "wb") as f:
        f.write(b"bytes\n")
    (root / "empty").touch()
    (root / "large").write_bytes(os.urandom(5 << 20))
    (root / "script").write_text("#!/bin/sh\n")
    (root / "script").chmod(0o751)
    (root / "private").mkdir(mode=0o700)
    (root / "private" / "key").write_text("key\n")
    (root / "private" / "key").chmod(0o400)
    (root / "link").symlink_to("a/b/c")
    (root / "dangling").symlink_to("/nowhere/at all")
    for i in range(200):
        (root / f"small-{i}").write_text(f"{i}\n" * i)
    old = 1_000_000_000_123_456_789
    os.utime(root / "script", ns=(old, old))
    os.utime(root / "link", ns=(old, old), follow_symlinks=False)
    os.utime(root / "empty directory", ns=(old, old))
    os.utime(root, ns=(old, old))


def vandalise(root):
    """Changes, removes, adds, and swaps kinds."""
    (root / "script").write_text("#!/bin/false\n")
    (root / "private" / "key").unlink()
    shutil.rmtree(root / "a")
    (root / "a").write_text("a file where a directory was\n")
    (root / "empty").unlink()
    (root / "empty").mkdir()
    (root / "empty" / "added").write_text("a directory where a file was\n")
    (root / "link").unlink()
    (root / "link").symlink_to("/etc/passwd")
    (root / "small-7").unlink()
    (root / "small-7").symlink_to("/etc/hostname")
    (root / "added").mkdir()
    (root / "added" / "file").write_text("added\n")
    (root / "large").chmod(0o600)
    with (root / "large").open("r+b") as f:
        f.seek(1 << 20)
        f.write(b"vandalised")


def create_share(client):
    share = client.ask("create", "NFS", "1", "--name", "papers", "--description", "what matters", "--wait")
    expect("status", share["status"], "available")
    expect("size", share["size"], 1)
    expect("protocol", share["share_proto"], "NFS")
    expect("name", share["name"], "papers")
    expect("the list", [(s["Name"], s["Size"], s["Status"]) for s in client.ask("list")], [("papers", 1, "available")])
    expect("show by id", client.ask("show", share["id"])["name"], "papers")
    return share


def back_up(client, share):
    first = client.ask("backup", "create", "papers", "--name", "first", "--description", "one")
    expect("keys of a new backup", set(first), BACKUP)
    expect("status of a new backup", (first["status"], first["progress"], first["updated_at"]), ("creating", "0", None))
    expect("share of a new backup", first["share_id"], share["id"])
    client.until_status(["backup"], "first", "available")
    expect("the share afterwards", client.ask("show", "papers")["status"], "available")
    shown = client.ask("backup", "show", first["id"])
    expect("keys of a backup", set(shown), BACKUP)
    expect("progress", (shown["progress"], shown["restore_progress"]), ("100", "0"))
    expect("size", shown["size"], 1)
    expect("topic", shown["topic"], "manila-data")
    expect("show by name", client.ask("backup", "show", "first"), shown)

    client.ask("backup", "create", share["id"], "--name", "second", "--backup-options", "backup_type=nightly")
    client.until_status(["backup"], "second", "available")
    expect("backup type", client.ask("backup", "show", "second")["backup_type"], "nightly")
    client.ask("backup", "create", "papers")
    unnamed = until("the unnamed backup", lambda: [b for b in client.ask("backup", "list") if b["Name"] is None])[0]
    client.until_status(["backup"], unnamed["ID"], "available")
    return first, unnamed["ID"]


def refuse(client):
    expect("unknown share", "No share" in client.refused("backup", "create", "nothing"), True)
    for words in (["show", MISSING], ["show", "nothing"], ["restore", "nothing"], ["delete", MISSING],
                  ["set", "nothing", "--name", "x"], ["create", MISSING], ["list", "--share", "nothing"],
                  ["restore", "first", "--target-share", "nothing"]):
        client.refused("backup", *words)
    said = client.refused("backup", "create", "papers", "--name", "n" * 256)
    expect("a name too long", "HTTP 400" in said and "Request-ID: req-" in said, True)
    said = client.refused("delete", "papers")
    expect("a share with backups", "HTTP 403" in said, True)


def list_backups(client, share, unnamed):
    def names(*words):
        return [b["Name"] for b in client.ask("backup", "list", *words)]

    expect("keys of a list", [set(b) for b in client.ask("backup", "list")], [SUMMARY] * 3)
    detail = client.ask("backup", "list", "--detail")
    expect("keys of a detailed list", [set(b) for b in detail], [DETAIL] * 3)
    expect("progress in detail", [b["Progress"] for b in detail], ["100"] * 3)
    expect("newest first", names(), [None, "second", "first"])
    expect("oldest first", names("--sort-key", "id", "--sort-dir", "asc", "--name", "first"), ["first"])
    expect("by name", names("--sort-key", "name", "--sort-dir", "asc", "--status", "available")[-2:], ["first", "second"])
    expect("by name backwards", names("--sort-key", "name", "--sort-dir", "desc")[:2], ["second", "first"])
    expect("--name", names("--name", "second"), ["second"])
    expect("--name of none", names("--name", "secon"), [])
    expect("--name~", names("--name~", "eco"), ["second"])
    expect("--name~ with a wildcard", names("--name~", "s_cond"), [])
    expect("--description", names("--description", "one"), ["first"])
    expect("--description~", names("--description~", "on"), ["first"])
    expect("--status", names("--status", "error"), [])
    expect("--share by name", len(names("--share", "papers")), 3)
    expect("--share by id", len(names("--share", share["id"])), 3)
    expect("--limit", names("--limit", "2"), [None, "second"])
    expect("--limit and --offset", names("--limit", "2", "--offset", "2"), ["first"])
    expect("--offset", names("--offset", "1"), ["second", "first"])
    expect("the unnamed one", names("--limit", "1")[0] is None and unnamed != "", True)
    expect("all together", names("--share", "papers", "--name~", "s", "--status", "available", "--sort-key", "name",
                                 "--sort-dir", "asc", "--limit", "1", "--offset", "1", "--detail"), ["second"])


def change_backup(client, unnamed):
    client.do("backup", "set", "first", "--name", "monday", "--description", "")
    shown = client.ask("backup", "show", "monday")
    expect("after set", (shown["name"], shown["description"]), ("monday", ""))
    expect("updated_at is set", shown["updated_at"] is not None, True)
    for status in ("error", "creating", "deleting", "restoring"):
        client.do("backup", "set", "monday", "--status", status)
        expect("status by hand", client.ask("backup", "show", "monday")["status"], status)
    client.refused("backup", "restore", "monday")  # its status says that it is being restored
    client.do("backup", "set", "monday", "--name", "first", "--description", "one", "--status", "available")
    shown = client.ask("backup", "show", "first")
    expect("after set", (shown["description"], shown["status"]), ("one", "available"))
    client.do("backup", "unset", "first", "--description")
    expect("after unset", client.ask("backup", "show", "first")["description"], None)
    client.do("backup", "set", unnamed, "--name", "first")
    said = client.refused("backup", "show", "first")
    expect("a name that two have", "More than one" in said, True)
    client.do("backup", "unset", unnamed, "--name")
    expect("after unset", client.ask("backup", "show", unnamed)["name"], None)


def restore(client, share, root, wanted):
    vandalise(root)
    client.do("backup", "restore", "first", "--wait")
    compare("the share after restore", picture(root), wanted)
    expect("the share's status", client.ask("show", "papers")["status"], "available")
    shown = client.ask("backup", "show", "first")
    expect("the backup", (shown["status"], shown["restore_progress"]), ("available", "100"))
    expect("the share's source", client.ask("show", "papers")["source_backup_id"], shown["id"])

    target = client.ask("create", "NFS", "2", "--name", "copy", "--wait")
    other = directory_of(client, "copy")
    (other / "in the way").mkdir()
    client.do("backup", "restore", shown["id"], "--target-share", "copy", "--wait")
    compare("the other share after restore", picture(other), wanted)
    compare("the share itself", picture(root), wanted)
    expect("the other share's source", client.ask("show", target["id"])["source_backup_id"], shown["id"])

    shutil.rmtree(other / "a")
    client.do("backup", "restore", "second", "--target-share", target["id"], "--wait")
    compare("the other share after the other backup", picture(other), wanted)
    client.do("backup", "create", "copy", "--name", "of two gibibytes")
    client.until_status(["backup"], "of two gibibytes", "available")
    said = client.refused("backup", "restore", "of two gibibytes", "--target-share", "papers")
    expect("a target that is too small", "HTTP 400" in said, True)
    client.do("backup", "delete", "of two gibibytes", "--wait")
    client.do("delete", "copy", "--wait")
    expect("the deleted share's files are gone", other.exists(), False)


def delete_backups(client, unnamed):
    client.do("backup", "delete", "second", unnamed, "--wait")
    expect("what is left", [b["Name"] for b in client.ask("backup", "list")], ["first"])
    client.refused("backup", "show", unnamed)
    said = client.refused("backup", "delete", "first", "nothing", "--wait")
    expect("one of two", "1 of 2 backups failed to delete" in said, True)
    expect("nothing is left", client.ask("backup", "list"), [])


def types(client):
    made = client.ask("type", "create", "fine", "false", "--description", "another", "--snapshot-support", "true")
    expect("the types", {t["Name"] for t in client.ask("type", "list")}, {"default", "fine"})
    share = client.ask("create", "NFS", "1", "--name", "typed", "--share-type", "fine", "--wait")
    expect("the share's type", share["share_type_name"], "fine")
    expect("a type in use", "HTTP 400" in client.refused("type", "delete", "fine"), True)
    client.do("delete", "typed", "--wait")
    client.do("type", "delete", made["id"])
    expect("the types", {t["Name"] for t in client.ask("type", "list")}, {"default"})


def snapshots(client):
    made = client.ask("snapshot", "create", "papers", "--name", "point", "--wait")
    expect("the snapshot", (made["status"], made["share_size"]), ("available", 1))
    expect("the snapshots", [s["Name"] for s in client.ask("snapshot", "list")], ["point"])
    expect("show", client.ask("snapshot", "show", "point")["id"], made["id"])
    said = client.refused("backup", "create", "papers")
    expect("a backup of a share with snapshots", "HTTP 400" in said, True)
    client.do("snapshot", "delete", "point", "--wait")
    expect("the snapshots", client.ask("snapshot", "list"), [])


def adopt(client, server, share):
    root = server.data / "shares" / "adopted"
    root.mkdir()
    (root / "file").write_text("was there before\n")
    wanted = picture(root)
    host = client.ask("show", share["id"])["host"]
    client.refused("adopt", host, "NFS", "127.0.0.1:/etc")
    client.refused("adopt", host, "NFS", f"127.0.0.1:{root}/../../..")
    client.refused("adopt", "elsewhere@nowhere#nothing", "NFS", f"127.0.0.1:{root}")
    adopted = client.ask("adopt", host, "NFS", f"127.0.0.1:{root}", "--name", "adopted", "--wait")
    expect("the adopted share", (adopted["status"], adopted["name"]), ("available", "adopted"))
    expect("where its files are", directory_of(client, "adopted"), root)
    client.refused("adopt", host, "NFS", f"127.0.0.1:{root}")  # it is a share already
    client.ask("backup", "create", "adopted", "--name", "of the adopted")
    client.until_status(["backup"], "of the adopted", "available")
    (root / "file").unlink()
    (root / "other").write_text("new\n")
    client.do("backup", "restore", "of the adopted", "--wait")
    compare("the adopted share after restore", picture(root), wanted)
    expect("a share with backups", "HTTP 403" in client.refused("abandon", "adopted"), True)
    client.do("backup", "delete", "of the adopted", "--wait")
    client.do("abandon", "adopted", "--wait")
    compare("the abandoned directory", picture(root), wanted)


def delete_share(client, root):
    client.do("delete", "papers", "--wait")
    expect("the shares", client.ask("list"), [])
    expect("the files are gone", root.exists(), False)


def play(program, directory):
    with Server(program, directory) as server:
        client = anybody(server.endpoint)
        share = create_share(client)
        root = directory_of(client, "papers")
        fill(root)
        wanted = picture(root)
        _, unnamed = back_up(client, share)
        compare("the share after its backups", picture(root), wanted)
        refuse(client)
        list_backups(client, share, unnamed)
        change_backup(client, unnamed)
        restore(client, share, root, wanted)
        delete_backups(client, unnamed)
        types(client)
        snapshots(client)
        adopt(client, server, share)
        delete_share(client, root)
        return client.calls


def play_users(program, directory):
    """Local users: each in their project, and for as long as they have a token."""
    directory.mkdir()
    with Server(program, directory, auth_strategy="local") as server:
        def client(name, project, role):
            return bearer(server.endpoint, server.user("add", name, "--project", project, "--role", role))
        ann, bob, rita = client("ann", "p1", "member"), client("bob", "p2", "member"), client("rita", "p1", "reader")
        ann.do("create", "NFS", "1", "--name", "papers", "--wait")
        root = directory_of(ann, "papers")
        (root / "file").write_text("as it was\n")
        made = ann.ask("backup", "create", "papers", "--name", "first")
        ann.until_status(["backup"], "first", "available")
        (root / "file").unlink()
        ann.do("backup", "restore", "first", "--wait")
        expect("the restored file", (root / "file").read_text(), "as it was\n")
        expect("what another project has", bob.ask("backup", "list"), [])
        for word in ("show", "restore", "delete"):
            expect("another project's backup", "No sharebackup" in bob.refused("backup", word, made["id"]), True)
        expect("what a reader sees", [b["Name"] for b in rita.ask("backup", "list")], ["first"])
        expect("a reader's backup", "HTTP 403" in rita.refused("backup", "create", "papers"), True)
        server.user("remove", "ann")
        expect("a removed user", "HTTP 401" in ann.refused("backup", "list"), True)
        expect("nobody", "HTTP 401" in anybody(server.endpoint).refused("backup", "list"), True)
        return ann.calls + bob.calls + rita.calls + 1


def play_keystone(program, directory):
    """A cloud with a Keystone: the client finds the server in the catalog, and callers are who their tokens say."""
    directory.mkdir()
    with Keystone(directory / "keystone") as keystone, Server(program, directory, **keystone.settings()) as server:
        keystone.register(server.endpoint)
        anna, rita = Client(*keystone.login("anna", "alpha")), Client(*keystone.login("rita", "alpha"))
        bert, admin = Client(*keystone.login("bert", "beta")), Client(*keystone.login("admin", "admin"))
        anna.do("create", "NFS", "1", "--name", "papers", "--wait")
        root = directory_of(anna, "papers")
        (root / "file").write_text("as it was\n")
        made = anna.ask("backup", "create", "papers", "--name", "first")
        expect("what a member is not told", {"host", "topic"} & set(made), set())
        anna.until_status(["backup"], "first", "available")
        (root / "file").unlink()
        anna.do("backup", "restore", "first", "--wait")
        expect("the restored file", (root / "file").read_text(), "as it was\n")
        expect("what a reader sees", [b["Name"] for b in rita.ask("backup", "list")], ["first"])
        ours = subprocess.run([program, "backup", "list", "-o", "json"], env=os.environ | keystone.environment("rita", "alpha"),
                              capture_output=True, text=True, check=True, timeout=60)
        expect("what our own client shows a reader", [b["name"] for b in json.loads(ours.stdout)], ["first"])
        for words in (["create", "papers"], ["restore", "first"], ["delete", "first"], ["set", "first", "--name", "mine"]):
            expect(f"a reader's {words[0]}", "HTTP 403" in rita.refused("backup", *words), True)
        expect("what another project has", bert.ask("backup", "list"), [])
        for word in ("show", "restore", "delete"):
            expect("another project's backup", "No sharebackup" in bert.refused("backup", word, made["id"]), True)
        expect("an administrator's view", admin.ask("backup", "show", "first")["topic"], "manila-data")
        expect("the system's administrator", "HTTP 403" in Client(*keystone.system_login("admin")).refused("backup", "list"), True)
        anna.refused("backup", "set", "first", "--status", "error")
        admin.do("backup", "set", "first", "--status", "error")
        anna.do("backup", "delete", "first", "--wait")
        anna.do("delete", "papers", "--wait")
        return sum(client.calls for client in (anna, rita, bert, admin)) + 1


def main(program):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("interrupted"))  # so that the server is stopped, too
    started = time.monotonic()
    release = openstack(["--version"], 60).stdout.split()[-1]
    with tempfile.TemporaryDirectory(prefix="abaca-interop-") as directory:
        program, directory = os.path.abspath(program), pathlib.Path(directory)
        calls = (play_keystone(program, directory / "cloud") + play_users(program, directory / "users")
                 + play(program, directory))
    print(f"openstack {release}: all of {calls} commands did as they should, in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
