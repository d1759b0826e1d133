{{/* All objects carry fixed names: a cluster holds one installation (docs/decisions/0020-one-installation.md). */}}
{{- define "mpc.name" -}}multi-platform-controller{{- end }}
{{- define "mpc.webhookName" -}}multi-platform-controller-webhook{{- end }}
{{/* The Secret of the webhook's own making. */}}
{{- define "mpc.certificateName" -}}multi-platform-controller-webhook-certificate{{- end }}
{{/* The Secret that cert-manager makes: another name, since Helm can neither take over nor spare what it did not make. */}}
{{- define "mpc.certManagerSecret" -}}multi-platform-controller-webhook-cert-manager{{- end }}

{{- define "mpc.serverEnabled" -}}
{{- if and .Values.webhook.enabled (eq .Values.webhook.mode "server") }}true{{ end }}
{{- end }}
{{- define "mpc.policyEnabled" -}}
{{- if and .Values.webhook.enabled (eq .Values.webhook.mode "policy") }}true{{ end }}
{{- end }}
{{/* The webhook makes its own certificate. */}}
{{- define "mpc.selfSigned" -}}
{{- if and (include "mpc.serverEnabled" .) (eq .Values.webhook.certificate "self") }}true{{ end }}
{{- end }}
{{/* The name of the Secret with a certificate that somebody else makes; empty where the webhook does. */}}
{{- define "mpc.mountedSecret" -}}
{{- if include "mpc.certManager" . }}{{ include "mpc.certManagerSecret" . }}
{{- else if include "mpc.serverEnabled" . }}{{ .Values.webhook.certificateSecret }}
{{- end }}
{{- end }}
{{- define "mpc.certManager" -}}
{{- if and (include "mpc.serverEnabled" .) (eq .Values.webhook.certificate "cert-manager") }}true{{ end }}
{{- end }}

{{/* Takes a dict with `root`, and `component` where the object belongs to one. What others add cannot replace ours. */}}
{{- define "mpc.labels" -}}
{{- $ours := dict
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version)
  "app.kubernetes.io/name" (include "mpc.name" .root)
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "app.kubernetes.io/managed-by" .root.Release.Service
  "app.kubernetes.io/part-of" (include "mpc.name" .root)
-}}
{{- with .component }}{{ $_ := set $ours "app.kubernetes.io/component" . }}{{ end -}}
{{- toYaml (merge $ours (default dict .extra) .root.Values.labels) }}
{{- end }}

{{- define "mpc.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mpc.name" .root }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "mpc.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{/* What the Pods of both have in common. Takes `root`, `component`, `values` (of the component) and `serviceAccount`. */}}
{{- define "mpc.podSpec" -}}
serviceAccountName: {{ .serviceAccount }}
automountServiceAccountToken: true
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
# No user is named: the image's own is 65532, and OpenShift gives one of its own.
securityContext:
  runAsNonRoot: true
  seccompProfile:
    type: RuntimeDefault
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
{{- with .values.topologySpreadConstraints }}
  {{- toYaml . | nindent 2 }}
{{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "mpc.selectorLabels" . | nindent 8 }}
{{- end }}
{{- end }}

{{/* Takes `root` and `values`. */}}
{{- define "mpc.container" -}}
image: {{ include "mpc.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
env:
  - name: POD_NAME
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  - name: POD_NAMESPACE
    valueFrom:
      fieldRef:
        fieldPath: metadata.namespace
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- with .values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "mpc.probes" -}}
livenessProbe:
  httpGet:
    path: /healthz
    port: health
  initialDelaySeconds: 10
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /readyz
    port: health
  periodSeconds: 2
  timeoutSeconds: 2
{{- end }}

{{/* Selects the namespaces in which TaskRuns are marked: as `namespaceSelector` in webhook/registration.ts does. */}}
{{- define "mpc.namespaceSelector" -}}
{{- $fixed := .Files.Get "files/admission.yaml" | fromYaml -}}
{{- with .Values.namespaceSelector.matchLabels }}
matchLabels:
  {{- toYaml . | nindent 2 }}
{{- end }}
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values:
      {{- toYaml (append $fixed.systemNamespaces .Release.Namespace) | nindent 6 }}
{{- with .Values.namespaceSelector.matchExpressions }}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
