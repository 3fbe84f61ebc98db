{{- define "millrace.servingImage" -}}
{{- with .Values.images.serving -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{- /* What the server's pods and those that ship its log have in common. */ -}}
{{- define "millrace.servingPod" -}}
{{- $fsGroup := .Values.pods.fsGroup | default .Values.serving.log.fsGroup -}}
{{- $spec := include "millrace.podSpec" (dict "root" . "token" false) | fromYaml -}}
{{- with $fsGroup }}
{{- $_ := set $spec "securityContext" (merge $spec.securityContext (dict "fsGroup" (int .) "fsGroupChangePolicy" "OnRootMismatch")) }}
{{- end -}}
{{ toYaml $spec }}
serviceAccountName: {{ .Release.Name }}-serving
{{- if .Values.priorityClasses.create }}
priorityClassName: {{ .Values.priorityClasses.platform.name }}
{{- end }}
{{- end -}}

{{- /* Where the store is. */ -}}
{{- define "millrace.servingEnv" -}}
{{- $secrets := "/run/secrets/millrace" -}}
- {name: MILLRACE_STORE, value: {{ .Values.services.store | quote }}}
{{- with .Values.services.s3 }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
- {name: AWS_DEFAULT_REGION, value: {{ .Values.services.region }}}
- {name: AWS_SHARED_CREDENTIALS_FILE, value: {{ $secrets }}/aws-credentials}
{{- range $name, $value := .Values.serving.variables }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{- /* Where features are read. */ -}}
{{- define "millrace.servingOnline" -}}
{{- $secrets := "/run/secrets/millrace" -}}
- {name: MILLRACE_FEAST_ONLINE, value: {{ .Values.services.online | quote }}}
{{- if hasPrefix "redis" .Values.services.online }}
- {name: REDISCLI_AUTH_FILE, value: {{ $secrets }}/redis-password}
{{- else }}
- {name: PGPASSWORD_FILE, value: {{ $secrets }}/postgres-password}
- {name: PGPASSFILE, value: /tmp/pgpass}
{{- end }}
{{- end -}}

{{- define "millrace.servingMounts" -}}
- {name: scratch, mountPath: /tmp}
- {name: log, mountPath: /var/lib/millrace/predictions}
- {name: secrets, mountPath: /run/secrets/millrace, readOnly: true}
{{- end -}}

{{- /* Of the Secret they see what their services ask for, and nothing of Airflow's: (dict "root" $ "online" true) */ -}}
{{- define "millrace.servingVolumes" -}}
{{- $secret := .root.Values.serving.secret | default .root.Values.secret -}}
{{- $password := ternary "redis-password" "postgres-password" (hasPrefix "redis" .root.Values.services.online) -}}
- name: scratch
  emptyDir: {sizeLimit: 256Mi}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- if .online }}
      - secret:
          name: {{ $secret }}
          items:
            - {key: {{ $password }}, path: {{ $password }}}
      {{- end }}
      - secret:
          name: {{ $secret }}
          optional: true
          items:
            - {key: aws-credentials, path: aws-credentials}
{{- end -}}
