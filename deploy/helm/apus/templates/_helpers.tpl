{{- /* What a platform changes: files/platforms/NAME.yaml, under the values given. */ -}}
{{- define "apus.platform" -}}
{{- $file := printf "files/platforms/%s.yaml" .Values.global.platform -}}
{{- $text := .Files.Get $file -}}
{{- if not $text }}{{ fail (printf "global.platform: %q is not known; see files/platforms" .Values.global.platform) }}{{ end -}}
{{- $text -}}
{{- end }}

{{- define "apus.image" -}}
{{- $tag := .root.Values.global.tag | default .root.Chart.AppVersion -}}
{{- with .root.Values.global.hub }}{{ . }}/{{ end }}{{ .image }}:{{ $tag }}
{{- end }}

{{- define "apus.labels" -}}
app.kubernetes.io/part-of: apus
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "apus.exemptNamespaces" -}}
{{- append .Values.agent.excludeNamespaces .Release.Namespace | uniq | sortAlpha | join "," -}}
{{- end }}

{{- define "apus.discoveryAddress" -}}
{{- printf "https://istiod.%s.svc:15012" .Release.Namespace -}}
{{- end }}

{{- define "apus.logFormat" -}}
{{- if .Values.global.logAsJson }}json{{ else }}text{{ end }}
{{- end }}

{{- /* Mistakes that a schema cannot see. */ -}}
{{- define "apus.check" -}}
{{- if and .Values.controller.enabled (ne .Release.Namespace "istio-system") -}}
{{- fail (printf "the release must be in the namespace istio-system, not %s: ztunnels look for the controller as istiod.istio-system.svc, and its certificate says so. Use --namespace istio-system, or controller.enabled=false" .Release.Namespace) -}}
{{- end -}}
{{- if and (ne (int .Values.node.updateStrategy.rollingUpdate.maxSurge) 0) (ne (toString .Values.node.updateStrategy.rollingUpdate.maxUnavailable) "0") -}}
{{- fail "node.updateStrategy.rollingUpdate: with maxSurge set maxUnavailable must be 0" -}}
{{- end -}}
{{- end }}

{{- define "apus.scrape" -}}
{{- if .root.Values.monitoring.scrapeAnnotations }}
prometheus.io/scrape: "true"
prometheus.io/port: {{ .port | quote }}
prometheus.io/path: {{ .path }}
{{- end }}
{{- end }}
