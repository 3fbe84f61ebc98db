{{- /* Where everything is. The names are those of a laptop and of docker-compose; only the values differ. */ -}}
{{- define "millrace.env" -}}
{{- $secrets := "/run/secrets/millrace" -}}
- {name: AIRFLOW__CORE__EXECUTOR, value: millrace.airflow.runtime.executor.WarmLocalExecutor}
- {name: AIRFLOW__CORE__AUTH_MANAGER, value: airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager}
- {name: AIRFLOW__CORE__LOAD_EXAMPLES, value: "False"}
# Jobs run in pods here: what starts them is imported once, and not by every task.
- {name: MILLRACE_WARM_MODULES, value: "+millrace.airflow.pods.manifest"}
- {name: AIRFLOW__CORE__PARALLELISM, value: {{ .Values.scheduler.parallelism | quote }}}
- {name: AIRFLOW__CORE__DAGS_FOLDER, value: {{ .Values.project.path }}/dags}
- {name: AIRFLOW__CORE__PLUGINS_FOLDER, value: {{ .Values.project.path }}/plugins}
- name: AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST
  value: {{ list (dict "name" "project" "classpath" "airflow.dag_processing.bundles.local.LocalDagBundle" "kwargs" (dict "path" (printf "%s/dags" .Values.project.path) "refresh_interval" 30)) | toJson | quote }}
- {name: AIRFLOW__CORE__EXECUTION_API_SERVER_URL, value: "http://{{ .Release.Name }}-api-server:8080/execution/"}
- {name: AIRFLOW__API__BASE_URL, value: {{ .Values.apiServer.baseUrl | default (printf "http://%s-api-server:8080" .Release.Name) | quote }}}
# The pages fetch a running task's log from the pod that writes it, whose name no DNS knows.
- {name: AIRFLOW__CORE__HOSTNAME_CALLABLE, value: airflow.utils.net.get_host_ip_address}
- {name: AIRFLOW__USAGE_DATA_COLLECTION__ENABLED, value: "False"}
- {name: AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME, value: "0.2"}
- {name: AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL, value: "5"}
- {name: AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES, value: "1"}
# A pod that ends takes its tasks with it: they are found and run again after a minute, not after five.
- {name: AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT, value: "60"}
- {name: AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL, value: "30"}
# A task outlives an API server or a database that is away for a minute.
- {name: AIRFLOW__WORKERS__EXECUTION_API_RETRIES, value: "12"}
- {name: AIRFLOW__DATABASE__SQL_ALCHEMY_CONN, value: {{ .Values.services.airflow | quote }}}
- {name: AIRFLOW__CORE__FERNET_KEY_CMD, value: cat {{ $secrets }}/fernet-key}
- {name: AIRFLOW__API__SECRET_KEY_CMD, value: cat {{ $secrets }}/session-key}
- {name: AIRFLOW__API_AUTH__JWT_SECRET_CMD, value: cat {{ $secrets }}/jwt-secret}
- {name: PGPASSWORD_FILE, value: {{ $secrets }}/postgres-password}
- {name: PGPASSFILE, value: /tmp/pgpass}
{{- if .Values.services.logs }}
- {name: AIRFLOW__LOGGING__REMOTE_LOGGING, value: "True"}
- {name: AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER, value: {{ .Values.services.logs | quote }}}
- {name: AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID, value: millrace_logs}
- {name: AIRFLOW_CONN_MILLRACE_LOGS, value: "aws://"}
{{- end }}
- name: AIRFLOW__LOGGING__NAMESPACE_LEVELS
  value: great_expectations._docs_decorators=WARNING great_expectations.expectations.registry=WARNING alembic.runtime.migration=WARNING
- name: AIRFLOW_CONN_KUBERNETES_DEFAULT
  value: {{ dict "conn_type" "kubernetes" "extra" (dict "in_cluster" true "namespace" .Values.jobs.namespace) | toJson | quote }}
- {name: MILLRACE_PROJECT, value: {{ .Values.project.path }}}
- {name: MILLRACE_ENVIRONMENT, value: {{ .Values.project.environment }}}
- {name: MILLRACE_IMAGE, value: {{ include "millrace.image" . | quote }}}
- {name: MILLRACE_LEDGER, value: {{ .Values.services.ledger | quote }}}
- {name: MILLRACE_FEAST_REGISTRY, value: {{ .Values.services.registry | quote }}}
- {name: MILLRACE_FEAST_ONLINE, value: {{ .Values.services.online | quote }}}
- {name: MILLRACE_MLFLOW, value: {{ .Values.services.mlflow | quote }}}
- {name: MILLRACE_STORE, value: {{ .Values.services.store | quote }}}
- {name: MILLRACE_CACHE, value: /var/lib/millrace/cache}
# A request says where to spill, so it must be a folder that the pods of jobs have too.
- {name: MILLRACE_DUCKDB_TEMP, value: /tmp}
{{- if hasPrefix "redis" .Values.services.online }}
- {name: REDISCLI_AUTH_FILE, value: {{ $secrets }}/redis-password}
{{- end }}
{{- with .Values.services.s3 }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
- {name: AWS_DEFAULT_REGION, value: {{ .Values.services.region }}}
- {name: AWS_SHARED_CREDENTIALS_FILE, value: {{ $secrets }}/aws-credentials}
{{- range $name, $value := .Values.variables }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{- define "millrace.mounts" -}}
- {name: scratch, mountPath: /tmp, subPath: tmp}
- {name: scratch, mountPath: /var/lib/airflow, subPath: airflow}
- {name: scratch, mountPath: /var/lib/millrace, subPath: millrace}
- {name: secrets, mountPath: /run/secrets/millrace, readOnly: true}
{{- if .Values.project.volume }}
- {name: project, mountPath: {{ .Values.project.path }}, readOnly: true}
{{- end }}
{{- end -}}

{{- /* (dict "root" $ "more" (list "admin-password") "keys" (list "signing-key")): optional ones, and needed ones */ -}}
{{- define "millrace.volumes" -}}
- name: scratch
  emptyDir: {sizeLimit: {{ .root.Values.pods.scratch }}}
{{- $secret := .root.Values.secret }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ $secret }}
          items:
            {{- $keys := list "postgres-password" "fernet-key" "jwt-secret" "session-key" }}
            {{- if hasPrefix "redis" .root.Values.services.online }}{{ $keys = append $keys "redis-password" }}{{ end }}
            {{- range concat $keys .keys }}
            - {key: {{ . }}, path: {{ . }}}
            {{- end }}
      - secret:
          name: {{ $secret }}
          optional: true
          items:
            {{- range concat (list "aws-credentials") .more }}
            - {key: {{ . }}, path: {{ . }}}
            {{- end }}
{{- with .root.Values.project.volume }}
- name: project
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* What the pods of all components have in common: (dict "root" $ "token" true) */ -}}
{{- define "millrace.podSpec" -}}
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
automountServiceAccountToken: {{ .token }}
enableServiceLinks: false
securityContext:
  {{- include "millrace.podSecurity" .root | nindent 2 }}
{{- with .root.Values.pods.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.pods.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.pods.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* A Deployment: (dict "root" $ "component" "scheduler" "values" .Values.scheduler "token" true "grace" 600
       "job" "SchedulerJob" or "http" true, "ports" (dict "logs" 8793)) */ -}}
{{- define "millrace.deployment" -}}
{{- /* The process that runs tasks signs promotions, and nobody else sees the key. */ -}}
{{- $keys := ternary (list "signing-key" "signing-public-key") list (and .root.Values.signing (eq .component "scheduler")) }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .root.Release.Name }}-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "millrace.labels" . | nindent 4 }}
spec:
  replicas: {{ .values.replicas }}
  revisionHistoryLimit: 3
  selector:
    matchLabels:
      {{- include "millrace.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "millrace.labels" . | nindent 8 }}
    spec:
      {{- include "millrace.podSpec" . | nindent 6 }}
      serviceAccountName: {{ .root.Release.Name }}-{{ if .token }}worker{{ else }}airflow{{ end }}
      {{- if .root.Values.priorityClasses.create }}
      priorityClassName: {{ .root.Values.priorityClasses.platform.name }}
      {{- end }}
      terminationGracePeriodSeconds: {{ .grace }}
      {{- if gt (int .values.replicas) 1 }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "millrace.selector" . | nindent 14 }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "millrace.image" .root }}
          imagePullPolicy: {{ .root.Values.images.platform.pullPolicy }}
          args: [airflow, {{ .component }}]
          env:
            {{- include "millrace.env" .root | nindent 12 }}
            {{- if $keys }}
            - {name: MILLRACE_SIGNING_KEY, value: /run/secrets/millrace/signing-key}
            - {name: MILLRACE_SIGNING_PUBLIC_KEY, value: /run/secrets/millrace/signing-public-key}
            {{- end }}
          {{- with .ports }}
          ports:
            {{- range $name, $port := . }}
            - {name: {{ $name }}, containerPort: {{ $port }}}
            {{- end }}
          {{- end }}
          {{- if .http }}
          startupProbe:
            httpGet: {path: /api/v2/version, port: http}
            periodSeconds: 5
            failureThreshold: 60
          readinessProbe:
            httpGet: {path: /api/v2/version, port: http}
            timeoutSeconds: 5
          livenessProbe:
            httpGet: {path: /api/v2/version, port: http}
            periodSeconds: 20
            timeoutSeconds: 10
            failureThreshold: 6
          {{- else }}
          {{- $probe := list "python" "-I" "-c" (.root.Files.Get "files/alive.py") .job }}
          startupProbe:
            exec:
              command: {{ append $probe "starting" | toJson }}
            periodSeconds: 10
            timeoutSeconds: 20
            failureThreshold: 30
          livenessProbe:
            exec:
              command: {{ $probe | toJson }}
            periodSeconds: 60
            timeoutSeconds: 20
            failureThreshold: 5
          {{- end }}
          resources:
            {{- toYaml .values.resources | nindent 12 }}
          securityContext:
            {{- include "millrace.containerSecurity" .root | nindent 12 }}
          volumeMounts:
            {{- include "millrace.mounts" .root | nindent 12 }}
      volumes:
        {{- include "millrace.volumes" (dict "root" .root "more" list "keys" $keys) | nindent 8 }}
{{- end -}}
