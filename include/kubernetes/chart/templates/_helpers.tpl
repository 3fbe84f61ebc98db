{{- /* Labels of an object: (dict "root" $ "component" "scheduler") */ -}}
{{- define "millrace.labels" -}}
app.kubernetes.io/name: millrace
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- /* What selects a component's pods, or those of all components where none is named. */ -}}
{{- define "millrace.selector" -}}
app.kubernetes.io/name: millrace
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "millrace.image" -}}
{{- with .Values.images.platform -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{- /* Port of an address, by its scheme where it names none: (list "postgresql://db/name" 5432) */ -}}
{{- define "millrace.port" -}}
{{- $host := (urlParse (index . 0)).host -}}
{{- if regexMatch ":[0-9]+$" $host -}}
{{ regexFind "[0-9]+$" $host }}
{{- else -}}
{{ index . 1 }}
{{- end -}}
{{- end -}}

{{- define "millrace.mlflowPort" -}}
{{ include "millrace.port" (list .Values.services.mlflow (hasPrefix "https:" .Values.services.mlflow | ternary 443 80)) }}
{{- end -}}

{{- define "millrace.s3Port" -}}
{{- if .Values.services.s3 -}}
{{ include "millrace.port" (list .Values.services.s3 (hasPrefix "https:" .Values.services.s3 | ternary 443 80)) }}
{{- else -}}
443
{{- end -}}
{{- end -}}

{{- /* Pod Security `restricted`, and more than it asks for. */ -}}
{{- define "millrace.podSecurity" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- with .Values.pods.runAsUser }}
runAsUser: {{ . }}
{{- end }}
{{- with .Values.pods.fsGroup }}
fsGroup: {{ . }}
{{- end }}
{{- end -}}

{{- define "millrace.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* An egress rule to peers (any address where there are none) on ports: (list PEERS PORTS ["dns"]) */ -}}
{{- define "millrace.reach" -}}
{{- $udp := gt (len .) 2 -}}
- ports:
    {{- range index . 1 }}
    - {protocol: TCP, port: {{ . }}}
    {{- if $udp }}
    - {protocol: UDP, port: {{ . }}}
    {{- end }}
    {{- end }}
  {{- with index . 0 }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
