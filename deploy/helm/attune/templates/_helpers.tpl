{{/* The release's name is the prefix of everything, so "attune" unless the user chose another. */}}
{{- define "attune.fullname" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* The prefix of what belongs to no namespace: releases of the same name in several namespaces do not meet. */}}
{{- define "attune.clusterName" -}}
{{- .Release.Namespace }}-{{ include "attune.fullname" . }}
{{- end -}}

{{/* A version as a label's value: a "+" (Flux appends a digest with it) is not allowed there, nor in an image's tag. */}}
{{- define "attune.plainVersion" -}}
{{- . | replace "+" "_" | trunc 63 | trimAll "-_." -}}
{{- end -}}

{{- define "attune.labels" -}}
helm.sh/chart: {{ include "attune.plainVersion" (printf "%s-%s" .Chart.Name .Chart.Version) | quote }}
app.kubernetes.io/part-of: attune
app.kubernetes.io/version: {{ include "attune.plainVersion" .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels that select a component's pods: (dict "root" $ "component" "api") */}}
{{- define "attune.selector" -}}
app.kubernetes.io/name: attune-{{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{/* The metadata of a component's pods: (dict "root" $ "component" "api" "annotations" (dict …)). The values may replace the
annotations for Prometheus; what selects the pods, and our own annotations, they may not (values.schema.json). */}}
{{- define "attune.podMetadata" -}}
{{- $values := index .root.Values .component -}}
{{- $selector := include "attune.selector" . | fromYaml -}}
labels: {{- merge $selector $values.podLabels (include "attune.labels" .root | fromYaml) | toYaml | nindent 2 }}
annotations: {{- merge (dict) $values.podAnnotations .annotations | toYaml | nindent 2 }}
{{- end -}}

{{/* (dict "root" $ "image" .Values.api.image). With a digest the tag is only for the reader: the digest decides. */}}
{{- define "attune.image" -}}
{{- with .root.Values.imageRegistry }}{{ . }}/{{ end }}{{ .image.repository }}:{{ default (include "attune.plainVersion" .root.Chart.AppVersion) .image.tag }}{{ with .image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{/* The ServiceAccount of a component, the chart's or an existing one: (dict "root" $ "component" "api"). */}}
{{- define "attune.account" -}}
{{- $account := (index .root.Values .component).serviceAccount -}}
{{- default (printf "%s-%s" (include "attune.fullname" .root) .component) $account.name -}}
{{- end -}}

{{/* That ServiceAccount's manifest, unless it exists already. */}}
{{- define "attune.accountManifest" -}}
{{- $account := (index .root.Values .component).serviceAccount -}}
{{- if $account.create -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "attune.account" . }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "attune.labels" .root | nindent 4 }}
  {{- with $account.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
---
{{ end -}}
{{- end -}}

{{/* With several replicas: on separate nodes and zones, and only so many down at once for maintenance. */}}
{{- define "attune.spread" -}}
{{- $values := index .root.Values .component -}}
{{- if gt (int $values.replicas) 1 }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    # A node without a zone would never fit, so only separate nodes can be required.
    whenUnsatisfiable: {{ ternary $values.topologySpread.whenUnsatisfiable "ScheduleAnyway" (eq . "kubernetes.io/hostname") }}
    # Count pods of one rollout only, not those of the old one that are ending.
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels: {{- include "attune.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "attune.disruptionBudget" -}}
{{- $values := index .root.Values .component -}}
{{- if gt (int $values.replicas) 1 -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "attune.fullname" .root }}-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "attune.labels" .root | nindent 4 }}
spec:
  maxUnavailable: {{ $values.podDisruptionBudget.maxUnavailable }}
  selector:
    matchLabels: {{- include "attune.selector" . | nindent 6 }}
---
{{ end -}}
{{- end -}}

{{/* Names in a list are to differ: Kubernetes would take the one or the other without a word. */}}
{{- define "attune.distinct" -}}
{{- $seen := dict -}}
{{- range .items -}}
{{- $name := index . $.key -}}
{{- if hasKey $seen $name -}}
{{- fail (printf "%s: the %s %s is there already; the chart sets it, or it is listed twice. Choose another, or use the chart's value for it." $.where $.what $name) -}}
{{- end -}}
{{- $_ := set $seen $name true -}}
{{- end -}}
{{- end -}}

{{- define "attune.natsUrl" -}}
{{- if .Values.nats.enabled -}}
{{ ternary "tls" "nats" (eq "true" (include "attune.tls" .)) }}://{{ include "attune.fullname" . }}-nats.{{ .Release.Namespace }}.svc:4222
{{- else -}}
{{ required "nats.externalUrl is needed when nats.enabled is false, like nats://nats.messaging.svc:4222" .Values.nats.externalUrl }}
{{- end -}}
{{- end -}}

{{- define "attune.apiUrl" -}}
{{- $tls := include "attune.tls" . -}}
{{ ternary "https" "http" (eq "true" $tls) }}://{{ include "attune.fullname" . }}-api.{{ .Release.Namespace }}.svc:{{ ternary (include "attune.tlsPort" .) (toString .Values.api.service.port) (eq "true" $tls) }}
{{- end -}}

{{/* The restricted Pod Security level, for a pod and for a container. */}}
{{- define "attune.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "attune.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Where a component's pods may run, and what they find there: (dict "root" $ "component" "api"). */}}
{{- define "attune.placement" -}}
{{- $values := index .root.Values .component -}}
{{- with default .root.Values.priorityClassName $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with concat .root.Values.hostAliases $values.hostAliases }}
hostAliases: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values }}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "attune.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* "true" where NATS and the API have TLS, be it alone or beside what comes without. */}}
{{- define "attune.tls" -}}
{{- if .Values.tls.enabled -}}true{{- end -}}
{{- end -}}

{{/* "true" while clients without TLS are taken beside those with it. */}}
{{- define "attune.tlsTransition" -}}
{{- if eq "transition" (toString .Values.tls.enabled) -}}true{{- end -}}
{{- end -}}

{{/* The port of the API's Service for HTTPS. (A release that keeps the values of an older chart has none among them.) */}}
{{- define "attune.tlsPort" -}}
{{- int (default 443 .Values.api.service.tlsPort) -}}
{{- end -}}

{{/* "true" where NATS's certificate is checked by that Secret's ca.crt. The operator makes none for a server of your own. */}}
{{- define "attune.tlsOfNats" -}}
{{- if and (include "attune.tls" .) (or .Values.nats.enabled (not (include "attune.tlsManaged" .))) -}}true{{- end -}}
{{- end -}}

{{/* The Secret with the certificate; empty without TLS. */}}
{{- define "attune.tlsSecret" -}}
{{- if .Values.tls.enabled -}}
{{ default (printf "%s-tls" (include "attune.fullname" .)) (ternary "" .Values.tls.existingSecret .Values.tls.certManager.enabled) }}
{{- end -}}
{{- end -}}

{{/* "true" when the operator makes the certificate. */}}
{{- define "attune.tlsManaged" -}}
{{- if and .Values.tls.enabled (not .Values.tls.certManager.enabled) (not .Values.tls.existingSecret) -}}true{{- end -}}
{{- end -}}

{{/* How many servers store each stream. */}}
{{- define "attune.streamReplicas" -}}
{{- if .Values.nats.streamReplicas }}{{ .Values.nats.streamReplicas }}{{ else if .Values.nats.enabled }}{{ min 3 (int .Values.nats.replicas) }}{{ else }}1{{ end -}}
{{- end -}}

{{/* The names under which the servers of the chart's NATS cluster reach each other, as a list in YAML; empty for one server. */}}
{{- define "attune.natsPeers" -}}
{{- if and .Values.nats.enabled (gt (int .Values.nats.replicas) 1) }}
{{- if ne .Values.nats.auth "managed" }}
{{- fail "nats.replicas: several servers need nats.auth managed, since the operator writes the password by which they know each other." }}
{{- end }}
{{- range until (int .Values.nats.replicas) }}
- {{ include "attune.fullname" $ }}-nats-{{ . }}.{{ $.Release.Namespace }}.svc
{{- end }}
{{- end }}
{{- end -}}

{{/* The DNS names of API and NATS, as a list in YAML. */}}
{{- define "attune.tlsHosts" -}}
{{- range ternary (list "api" "nats") (list "api") .Values.nats.enabled }}
- {{ include "attune.fullname" $ }}-{{ . }}.{{ $.Release.Namespace }}.svc
- {{ include "attune.fullname" $ }}-{{ . }}.{{ $.Release.Namespace }}.svc.cluster.local
{{- end }}
{{- include "attune.natsPeers" . }}
{{- end -}}

{{/* Sensors' pods, in whatever namespace they are, as a peer in a NetworkPolicy. */}}
{{- define "attune.sensorPeer" -}}
namespaceSelector: {}
podSelector:
  matchExpressions: [{key: attune.dev/sensor, operator: Exists}]
{{- end -}}

{{/* The variables by which a pod of the chart exports spans; none without an endpoint. */}}
{{- define "attune.tracing" -}}
{{- with .Values.tracing }}
{{- if .endpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ .endpoint | quote }}}
- {name: OTEL_EXPORTER_OTLP_PROTOCOL, value: http/protobuf}
{{- with .sampler }}
- {name: OTEL_TRACES_SAMPLER, value: {{ . | quote }}}
{{- end }}
{{- with .samplerArg }}
- {name: OTEL_TRACES_SAMPLER_ARG, value: {{ . | quote }}}
{{- end }}
{{- with .headersSecret }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: headers}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
