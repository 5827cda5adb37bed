#!/bin/sh
# Writes prometheusrule.yaml anew: deploy/prometheus/bearerd.rules.yaml in the form that the Prometheus
# operator takes. A test tells when it is due.
set -eu
cd "$(dirname "$0")"
{
    cat <<'HEAD'
# Written by rules.sh out of deploy/prometheus/bearerd.rules.yaml.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: bearerd
  labels:
    release: prometheus
spec:
HEAD
    sed -e '/^---$/d' -e 's/^\(.\)/  \1/' ../../../prometheus/bearerd.rules.yaml
} > prometheusrule.yaml.new
mv prometheusrule.yaml.new prometheusrule.yaml
