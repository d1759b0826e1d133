{{/* What the schema cannot say. Each message names the value. */}}
{{- define "mpc.validate" -}}
{{- $values := .Values -}}
{{- $found := lookup "rbac.authorization.k8s.io/v1" "ClusterRole" "" (include "mpc.name" .) -}}
{{- with $found -}}
{{- $owner := dict "name" (dig "annotations" "meta.helm.sh/release-name" "" .metadata) "namespace" (dig "annotations" "meta.helm.sh/release-namespace" "" .metadata) -}}
{{- if or (ne $owner.name $.Release.Name) (ne $owner.namespace $.Release.Namespace) -}}
{{- if $owner.name -}}
{{- fail (printf "this cluster has an installation already: release %q in namespace %q. A cluster holds one, because all of them would act on the same labels of the same TaskRuns: upgrade or uninstall that one" $owner.name $owner.namespace) -}}
{{- else -}}
{{- fail (printf "this cluster has an installation already, which was not made by Helm (ClusterRole %s). A cluster holds one: remove that first" .metadata.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $names := dict -}}
{{- range $values.hosts -}}
{{- if hasKey $names .name -}}
{{- fail (printf "hosts: there are two with the name %q" .name) -}}
{{- end -}}
{{- $_ := set $names .name true -}}
{{- end -}}
{{- if and $values.existingConfigMap (or $values.hosts $values.localPlatforms $values.waitTimeouts) -}}
{{- fail "existingConfigMap: with it hosts, localPlatforms and waitTimeouts must be empty: write them into your ConfigMap host-config" -}}
{{- end -}}
{{- if $values.existingConfigMap -}}
{{- with lookup "v1" "ConfigMap" .Release.Namespace "host-config" -}}
{{- $annotations := dig "metadata" "annotations" dict . -}}
{{- if and (eq (get $annotations "meta.helm.sh/release-name") $.Release.Name) (ne (get $annotations "helm.sh/resource-policy") "keep") -}}
{{- fail (printf "existingConfigMap: host-config is the chart's own, and Helm would delete it. To make it yours: kubectl annotate configmap host-config --namespace %s helm.sh/resource-policy=keep, then upgrade again" $.Release.Namespace) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (include "mpc.policyEnabled" .) (not (.Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy")) -}}
{{- fail "webhook.mode: policy needs MutatingAdmissionPolicy in admissionregistration.k8s.io/v1 (Kubernetes 1.36 or newer): use webhook.mode=server" -}}
{{- end -}}
{{- if and $values.webhook.issuerRef (ne $values.webhook.certificate "cert-manager") -}}
{{- fail "webhook.issuerRef: it is for webhook.certificate=cert-manager only" -}}
{{- end -}}
{{- if and $values.webhook.issuerRef (not $values.webhook.issuerRef.name) -}}
{{- fail "webhook.issuerRef: it needs a name" -}}
{{- end -}}
{{- $isGiven := eq $values.webhook.certificate "secret" -}}
{{- if and $isGiven (not $values.webhook.certificateSecret) -}}
{{- fail "webhook.certificateSecret: webhook.certificate=secret needs the name of your Secret" -}}
{{- end -}}
{{- if and (not $isGiven) (or $values.webhook.certificateSecret $values.webhook.caBundle) -}}
{{- fail "webhook.certificateSecret and webhook.caBundle: they are for webhook.certificate=secret only" -}}
{{- end -}}
{{- if has $values.webhook.certificateSecret (list (include "mpc.certificateName" .) (include "mpc.certManagerSecret" .)) -}}
{{- fail (printf "webhook.certificateSecret: %s is a name of the chart's own, which deletes what it does not use: give your Secret another" $values.webhook.certificateSecret) -}}
{{- end -}}
{{- if and (include "mpc.certManager" .) (not (.Capabilities.APIVersions.Has "cert-manager.io/v1/Certificate")) -}}
{{- fail "webhook.certificate: this cluster has no cert-manager (no Certificate in cert-manager.io/v1): install it first, or use webhook.certificate=self" -}}
{{- end -}}
{{- if and $values.podMonitor.enabled (not (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1/PodMonitor")) -}}
{{- fail "podMonitor.enabled: this cluster has no Prometheus operator (no PodMonitor in monitoring.coreos.com/v1): install it first, or leave it off" -}}
{{- end -}}
{{- end }}
