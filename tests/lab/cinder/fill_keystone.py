"""Fills a new Keystone database: users, roles, the catalogue, an application credential.

Uses Keystone's API without a server: the WSGI application runs in this process.
"""

from keystone.wsgi.api import application
from werkzeug.test import Client

PASSWORD = "lab-secret"
KEYSTONE = "http://127.0.0.1:5000/v3"
CINDER = "http://127.0.0.1:8776/v3"

# User, project (None: system scope), role.
ROLES = [
    ("cinder", "service", "admin"),
    ("cinder", "service", "service"),
    # volboot itself: a member of the project that owns the boot volumes.
    ("volboot", "boot", "member"),
    # Users of volboot's API.
    ("owner", "service", "admin"),
    ("worker", "service", "member"),
    ("viewer", "service", "reader"),
    ("stranger", "boot", "admin"),
    ("system-viewer", None, "reader"),
]

client = Client(application)


def call(method, path, body=None, token=None):
    headers = {"X-Auth-Token": token} if token else {}
    answer = client.open(f"/v3/{path}", method=method, json=body, headers=headers)
    assert answer.status_code < 300, f"{method} {path}: {answer.status} {answer.text}"
    return answer


def login(user, project):
    domain = {"id": "default"}
    user = {"name": user, "domain": domain, "password": PASSWORD}
    identity = {"methods": ["password"], "password": {"user": user}}
    scope = {"project": {"name": project, "domain": domain}}
    answer = call("POST", "auth/tokens", {"auth": {"identity": identity, "scope": scope}})
    return answer.headers["X-Subject-Token"], answer.json["token"]["user"]["id"]


admin, _ = login("admin", "admin")


def create(kind, **fields):
    return call("POST", f"{kind}s", {kind: fields}, admin).json[kind]["id"]


roles = {role["name"]: role["id"] for role in call("GET", "roles", token=admin).json["roles"]}
projects = {name: create("project", name=name, domain_id="default") for name in ("service", "boot")}
users = {}
for user, project, role in ROLES:
    if user not in users:
        users[user] = create("user", name=user, domain_id="default", password=PASSWORD)
    scope = f"projects/{projects[project]}" if project else "system"
    call("PUT", f"{scope}/users/{users[user]}/roles/{roles[role]}", token=admin)

# Both forms of Cinder URLs in catalogues.
for kind, url in (("volumev3", f"{CINDER}/$(project_id)s"), ("block-storage", CINDER)):
    service = create("service", type=kind, name=kind)
    for interface in ("public", "internal"):
        create("endpoint", service_id=service, region_id="RegionOne", interface=interface, url=url)

own, volboot = login("volboot", "boot")
credential = {"name": "volboot", "secret": PASSWORD, "roles": [{"name": "member"}]}
call("POST", f"users/{volboot}/application_credentials", {"application_credential": credential}, own)
