"""Writes what the real oslo.policy decides, for policy_oslo_test.go to compare: `make oslo`.

Each line is a set of rules with the decisions about the rule "asked", a digit for each caller and owner of the first line: 1 where
it is allowed. Where oslo.policy cannot read a rule, which it then denies without a word or raises an error at, there is "malformed".
"""

import itertools
import json
import logging
import random

from oslo_config import cfg
from oslo_policy import policy

CALLERS = [
    {"user": "u1", "project": "p1", "roles": ["reader"], "admin": False},
    {"user": "u2", "project": "p1", "roles": ["Member", "reader"], "admin": False},
    {"user": "u3", "project": "p2", "roles": ["admin", "member", "reader"], "admin": True},
    {"user": "u4", "project": "p2", "roles": [], "admin": False},
    {"user": "u5", "project": "p2", "roles": ["compute:admin", "p1-reader", "50%"], "admin": False},
]
OWNERS = [{"project": "p1", "user": "u1"}, {"project": "p2", "user": "u3"}, {"project": "p1", "user": ""}]

BASE = {
    "admins": "role:admin",
    "project-member": "role:member and project_id:%(project_id)s",
    "share:get": "rule:admins or rule:project-member",
    "closed": "!",
    "open": "@",
}

WRITTEN = [
    "", "@", "!", "role:member", "role:MEMBER", "role:Member", "roles:Member", "roles:member", "role:compute:admin",
    "role:%(project_id)s-reader", "role:50%%", "project_id:%(project_id)s", "project_id:%(target.project_id)s", "tenant:%(tenant_id)s",
    "tenant_id:%(project_id)s", "user:%(user_id)s", "user_id:%(user_id)s", "not user_id:%(user_id)s", "user_id:u%%", "user_id:u1",
    "'p1':%(project_id)s", '"p1":%(project_id)s', "'p1-u1':%(project_id)s-%(user_id)s", "True:True", "1:1", "-1:-1", "None:None",
    "None:%(project_id)s", "'member':member", "is_admin:True", "is_admin:False", "not is_admin:True", "system_scope:all",
    "not system_scope:all", "system_scope:None", "domain_id:None", "domain_id:default", "rule:admins", "rule:share:get", "rule:closed",
    "not rule:closed", "rule:open and rule:project-member", "@ and !", "@ or !", "not !", "not not @", "not @ or @", "not ! and !",
    "! and ! or @", "@ or ! and !", "(@ or !) and !", "not (@ and !)", "((@))", "( @ )", "not (not (not @))",
    "role:reader AND role:member", "role:reader Or role:admin", "NOT role:admin", "role:reader\nor\trole:admin", "  @  ",
    "@ or @ and !", "! or @ and @ and !", "role:admin or role:reader and not role:member or role:none",
    "role:admin and role:member or role:reader and project_id:%(project_id)s and not user_id:%(user_id)s",
    "not role:admin and not (role:member or role:reader)", "(role:admin or role:member) and (role:reader or role:x)",
    [], [[]], [["role:reader"]], ["role:reader"], [["role:admin"], ["role:member", "project_id:%(project_id)s"]],
    [[], ["role:admin"]], ["@"], ["!"], [["@", "!"], "role:compute:admin"],
    " ", "\t", "()", "(", ")", "@ @", "and", "@ and", "or @", "not", "@ not", "(@", "@)", "((@)", "@ and and @", "@ or not",
    "admin", "'admin'", "role:a role:b", "not(role:admin)", "@ and (", "@()", "user_id:%(user_id)", "user_id:%", "user_id:%(user_id)d",
    "role:x or", "& role:x", "role:admin && role:member", "(@ or @", "'a b':%(project_id)s", "@ xor @",
]

ATOMS = [
    "@", "!", "role:reader", "role:member", "ROLE", "role:admin", "role:compute:admin", "rule:admins", "rule:share:get", "rule:project-member",
    "rule:closed", "project_id:%(project_id)s", "user_id:%(user_id)s", "tenant:%(target.tenant_id)s", "'p1':%(project_id)s",
    "is_admin:True", "user_id:u4", "roles:reader", "True:False",
]


def generated(rng, depth):
    """Returns a rule of random shape, spacing and case."""
    kind = rng.randrange(6) if depth else 0
    if kind < 2:
        atom = rng.choice(ATOMS)
        return rng.choice(["role:Member", "role:READER"]) if atom == "ROLE" else atom
    if kind == 2:
        return rng.choice(["not", "NOT", "Not"]) + " " + generated(rng, depth - 1)
    if kind == 3:
        space = rng.choice(["", " "])
        return "(" + space + generated(rng, depth - 1) + space + ")"
    operator = rng.choice(["and", "or", "AND", "Or"])
    return generated(rng, depth - 1) + rng.choice([" ", "  ", "\n"]) + operator + " " + generated(rng, depth - 1)


class Complaints(logging.Handler):
    """Notes that oslo.policy has complained of a rule, which it denies then."""

    def __init__(self):
        super().__init__()
        self.some = False

    def emit(self, record):
        self.some = True


def decide(rules):
    complaints = Complaints()
    log = logging.getLogger("oslo_policy._parser")
    log.handlers, log.propagate = [complaints], False
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[])
    enforcer = policy.Enforcer(conf, use_conf=False)
    enforcer.set_rules(policy.Rules.from_dict(rules), use_conf=False)
    digits = ""
    for caller, owner in itertools.product(CALLERS, OWNERS):
        project = caller["project"]
        creds = {
            "user_id": caller["user"], "user": caller["user"], "roles": caller["roles"], "is_admin": caller["admin"],
            "project_id": project, "project": project, "tenant_id": project, "tenant": project, "system_scope": None, "domain_id": None,
        }
        target = {}
        for key in "project_id", "tenant_id":
            target[key] = target["target." + key] = owner["project"]
        if owner["user"]:
            target["user_id"] = target["target.user_id"] = owner["user"]
        try:
            digits += "1" if enforcer.enforce("asked", target, creds) else "0"
        except (SyntaxError, TypeError, ValueError):
            complaints.some = True
    return {"malformed": True} if complaints.some else {"decisions": digits}


def main():
    rng = random.Random(20260901)
    rules = list(WRITTEN)
    while len(rules) < 500:
        rule = generated(rng, 5)
        if rule not in rules:
            rules.append(rule)
    print(json.dumps({"callers": CALLERS, "owners": OWNERS, "rules": BASE}))
    for rule in rules:
        print(json.dumps({"asked": rule} | decide(BASE | {"asked": rule}), ensure_ascii=False))


main()
