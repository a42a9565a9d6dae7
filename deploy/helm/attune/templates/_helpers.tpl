{{/* The release's name is the prefix of everything, so "attune" unless the user chose another. */}}
{{- define "attune.fullname" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
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
{{- end -}}

{{/* Labels that select a component's pods: (dict "root" $ "component" "api") */}}
{{- define "attune.selector" -}}
app.kubernetes.io/name: attune-{{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{/* (dict "root" $ "image" .Values.api.image) */}}
{{- define "attune.image" -}}
{{- with .root.Values.imageRegistry }}{{ . }}/{{ end }}{{ .image.repository }}:{{ default (include "attune.plainVersion" .root.Chart.AppVersion) .image.tag }}
{{- end -}}

{{- define "attune.natsUrl" -}}
{{- if .Values.nats.enabled -}}
{{ ternary "tls" "nats" .Values.tls.enabled }}://{{ include "attune.fullname" . }}-nats.{{ .Release.Namespace }}.svc:4222
{{- else -}}
{{ required "nats.externalUrl is needed when nats.enabled is false, like nats://nats.messaging.svc:4222" .Values.nats.externalUrl }}
{{- end -}}
{{- end -}}

{{- define "attune.apiUrl" -}}
{{ ternary "https" "http" .Values.tls.enabled }}://{{ include "attune.fullname" . }}-api.{{ .Release.Namespace }}.svc:{{ .Values.api.service.port }}
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

{{/* Where a component's pods may run: its part of the values. */}}
{{- define "attune.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "attune.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The Secret with the certificate; empty without TLS. */}}
{{- define "attune.tlsSecret" -}}
{{- if .Values.tls.enabled -}}
{{- if .Values.tls.certManager.enabled -}}
{{ include "attune.fullname" . }}-tls
{{- else -}}
{{ required "tls.existingSecret is needed when tls.enabled is true and tls.certManager.enabled is not" .Values.tls.existingSecret }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Sensors' pods, in whatever namespace they are, as a peer in a NetworkPolicy. */}}
{{- define "attune.sensorPeer" -}}
namespaceSelector: {}
podSelector:
  matchExpressions: [{key: attune.dev/sensor, operator: Exists}]
{{- end -}}
