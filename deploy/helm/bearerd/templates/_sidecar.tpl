{{/*
The sidecar, for `initContainers` of a pod in a chart that depends on this one, before the others:

  initContainers:
    {{- include "bearerd.sidecar" . | nindent 8 }}
*/}}
{{- define "bearerd.sidecar" -}}
- {{ include "bearerd.container" . | nindent 2 | trim }}
  # This makes it a native sidecar: the next containers start once there is a token, and it ends after the app.
  restartPolicy: Always
  ports:
    # 8080 is not declared: it is on loopback, for this pod only.
    - name: bearerd-admin
      containerPort: 8081
  volumeMounts:
    {{- include "bearerd.mounts" . | nindent 4 }}
{{- end -}}

{{/* The sidecar's volumes, for `volumes` of the same pod. */}}
{{- define "bearerd.volumes" -}}
{{- $values := include "bearerd.values" . | fromYaml -}}
- name: bearerd-config
  configMap:
    name: {{ include "bearerd.name" . }}
- name: bearerd-credentials
  secret:
    secretName: {{ $values.credentialsSecret }}
    # The files belong to root, and bearerd is not root. Only bearerd's container mounts them.
    defaultMode: 0444
{{- with $values.admin.tls.secret }}
- name: bearerd-admin-tls
  secret:
    secretName: {{ . }}
    defaultMode: 0444
{{- end }}
{{- end -}}

{{/* Whole folders: with subPath, changes would never arrive. */}}
{{- define "bearerd.mounts" -}}
{{- $values := include "bearerd.values" . | fromYaml -}}
- name: bearerd-config
  mountPath: /etc/bearerd
  readOnly: true
- name: bearerd-credentials
  mountPath: /run/secrets/bearerd
  readOnly: true
{{- if $values.admin.tls.secret }}
- name: bearerd-admin-tls
  mountPath: /run/secrets/admin-tls
  readOnly: true
{{- end }}
{{- end -}}

{{/* What the sidecar and the container of the Deployment have in common. */}}
{{- define "bearerd.container" -}}
{{- $values := include "bearerd.values" . | fromYaml -}}
name: bearerd
image: "{{ $values.image.repository }}:{{ $values.image.tag }}"
imagePullPolicy: {{ $values.image.pullPolicy }}
args: [run, --config, /etc/bearerd/bearerd.yaml]
# If the issuer is down, the kubelet restarts the container after ten minutes. An earlier restart would only cause
# more token requests.
startupProbe:
  httpGet:
    path: /startupz
    port: bearerd-admin
    {{- if $values.admin.tls.secret }}
    scheme: HTTPS
    {{- end }}
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: 600
# Without a usable token, or during the shutdown, the pod gets no traffic. It stays ready if a refresh fails while
# the token is valid.
readinessProbe:
  httpGet:
    path: /readyz
    port: bearerd-admin
    {{- if $values.admin.tls.secret }}
    scheme: HTTPS
    {{- end }}
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 2
# Fails if a refresher sends no heartbeats, never because of the issuer or the tenant.
livenessProbe:
  httpGet:
    path: /livez
    port: bearerd-admin
    {{- if $values.admin.tls.secret }}
    scheme: HTTPS
    {{- end }}
  periodSeconds: 10
  timeoutSeconds: 2
  failureThreshold: 3
resources:
  {{- toYaml $values.resources | nindent 2 }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  readOnlyRootFilesystem: true
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
  seccompProfile:
    type: RuntimeDefault
{{- end -}}
