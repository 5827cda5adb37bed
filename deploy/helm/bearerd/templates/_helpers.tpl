{{/* The values of this chart, also if the caller is a chart that depends on it. The image has its tag. */}}
{{- define "bearerd.values" -}}
{{- $here := . -}}
{{- if ne .Chart.Name "bearerd" -}}
{{- $here = .Subcharts.bearerd | required "add the chart bearerd to the dependencies of this chart" -}}
{{- end -}}
{{- $values := deepCopy ($here.Values | merge dict) -}}
{{- $_ := set $values.image "tag" ($values.image.tag | default $here.Chart.AppVersion) -}}
{{- toYaml $values -}}
{{- end -}}

{{/* The name of the objects. */}}
{{- define "bearerd.name" -}}
{{- if contains "bearerd" .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}{{ printf "%s-bearerd" .Release.Name | trunc 63 | trimSuffix "-" }}{{ end -}}
{{- end -}}

{{/* The name that Prometheus finds in the admin listener's certificate. A sidecar has no Service. */}}
{{- define "bearerd.serverName" -}}
{{- if .Values.admin.tls.serverName }}{{ .Values.admin.tls.serverName }}
{{- else if .Values.standalone.enabled }}{{ printf "%s.%s.svc" (include "bearerd.name" .) .Release.Namespace }}
{{- else }}{{ fail "the PodMonitor needs admin.tls.serverName: a name in the certificate of admin.tls.secret" }}
{{- end -}}
{{- end -}}

{{- define "bearerd.labels" -}}
app.kubernetes.io/name: bearerd
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "bearerd.selector" -}}
app.kubernetes.io/name: bearerd
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
