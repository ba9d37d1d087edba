"""Checks kubernetes.yaml, agones.yaml and grafana.json without a cluster: `manifests.py [VERSION OF KUBERNETES]`.

Needs kubernetes-validate of PyPI, which brings the schemas, and grafana-foundation-sdk, which is made of Grafana's. What
Agones' own schema says is checked only where AGONES_SCHEMA names a JSON or YAML file with the `openAPIV3Schema` of its
GameServer CRD: no package carries that.
"""

import copy
import json
import os
import pathlib
import re
import sys

import jsonschema
import kubernetes_validate
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

HERE = pathlib.Path(__file__).parent
VERSION = sys.argv[1] if len(sys.argv) > 1 else "1.33"


def documents(name):
    return [it for it in yaml.safe_load_all((HERE / name).read_text()) if it]


def check(name, manifest):
    kubernetes_validate.validate(manifest, VERSION, strict=True)
    print(f"{name}: {manifest['kind']} is well-formed (Kubernetes {VERSION}, strict)")


def sidecar(spec):
    """The container of glommproxy, and what no schema knows about it."""
    [container] = [it for it in spec["initContainers"] if it["name"] == "glommproxy"]
    security = container["securityContext"]
    assert container["restartPolicy"] == "Always", "not a sidecar"
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}
    # no_new_privs would take the capabilities of the program's file from it.
    assert security["allowPrivilegeEscalation"] is True
    assert security["seccompProfile"]["type"] == "Localhost"
    volumes = {it["name"] for it in spec["volumes"]}
    assert {it["name"] for it in container["volumeMounts"]} <= volumes
    ports = {it["name"] for it in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports, probe
    for arg in container["args"]:
        if path := re.search(r"=/lists/(.+)", arg):
            assert path[1] in lists["data"], f"the ConfigMap has no {path[1]}"
    return container


lists, deployment, service = documents("kubernetes.yaml")
for manifest in (lists, deployment, service):
    check("kubernetes.yaml", manifest)
ours = sidecar(deployment["spec"]["template"]["spec"])
named = {it["name"] for it in ours["ports"]}
assert {it["targetPort"] for it in service["spec"]["ports"]} <= named
assert lists["metadata"]["name"] == deployment["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"]

[game_server] = documents("agones.yaml")
spec = game_server["spec"]
pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "game"}, "spec": copy.deepcopy(spec["template"]["spec"])}
check("agones.yaml", pod)
theirs = sidecar(spec["template"]["spec"])
for field in ("env", "securityContext", "startupProbe", "readinessProbe", "livenessProbe", "volumeMounts"):
    assert ours[field] == theirs[field], f"{field} differs between kubernetes.yaml and agones.yaml"
containers = {it["name"] for part in ("containers", "initContainers") for it in spec["template"]["spec"][part]}
assert {spec["container"]} | {it.get("container", spec["container"]) for it in spec["ports"]} <= containers
if schema := os.environ.get("AGONES_SCHEMA"):
    jsonschema.validate(game_server, yaml.safe_load(pathlib.Path(schema).read_text()))
    print("agones.yaml: GameServer is well-formed")
else:
    print("NOT CHECKED: agones.yaml against the schema of Agones itself (set AGONES_SCHEMA)", file=sys.stderr)



def unknown(ours, theirs, where=""):
    """What Grafana's types have dropped or changed."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            yield from unknown(value, theirs.get(key), f"{where}/{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for at, (value, other) in enumerate(zip(ours, theirs)):
            yield from unknown(value, other, f"{where}/{at}")
    elif ours != theirs:
        yield f"{where}: {ours!r}"


dashboard = json.loads((HERE / "grafana.json").read_text())
queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
assert queries and all("glommproxy_" in it or "process_" in it for it in queries)
register_default_plugins()
typed = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
assert not list(unknown(dashboard, typed)), list(unknown(dashboard, typed))
panels = dashboard["panels"]
assert len({it["id"] for it in panels}) == len(panels), "two panels have one id"
[provider], [source] = (
    documents(f"grafana-{name}.yaml")[0][part] for name, part in (("provisioning", "providers"), ("datasource", "datasources"))
)
assert {it["datasource"]["uid"] for it in panels} == {source["uid"]}, "panels ask a datasource that there is not"
stack = documents("compose.yaml")[0]["services"]
mounted = [it.split(":")[1] for it in stack["grafana"]["volumes"]]
assert any(it.startswith(provider["options"]["path"] + "/") for it in mounted), "the dashboard is not mounted where it is looked for"
assert re.match(r"http://([a-z]+):9090$", source["url"])[1] in stack, source["url"]
print(f"grafana.json: {len(panels)} panels with {len(queries)} queries, all in Grafana's own terms")
