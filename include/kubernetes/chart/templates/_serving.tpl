{{- /* An image by its values: (list $ .Values.images.serving) */ -}}
{{- define "millrace.imageOf" -}}
{{- $root := index . 0 -}}
{{- with index . 1 -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $root.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{- /* What the parts of the shared prediction server are made of, and of each that serves one pipeline with code of its
       own. All templates below take one of these: root, component, name, image, and values as `serving` has them. */ -}}
{{- define "millrace.servers" -}}
{{- $serving := .Values.serving -}}
{{- $servers := list -}}
{{- if $serving.enabled -}}
{{- $apart := list -}}
{{- range $serving.code.pipelines }}{{ $apart = append $apart .pipeline }}{{ end -}}
{{- $own := dict "apart" $apart "alone" false "secret" ($serving.secret | default .Values.secret) "online" .Values.services.online "callers" .Values.network.callers -}}
{{- $image := dict "name" (include "millrace.imageOf" (list $ .Values.images.serving)) "pullPolicy" .Values.images.serving.pullPolicy -}}
{{- $servers = append $servers (dict "component" "serving" "image" $image "values" (merge $own (omit $serving "code"))) -}}
{{- end -}}
{{- range $each := $serving.code.pipelines -}}
{{- $own := dict "apart" list "alone" true "only" (list .pipeline) "online" (.online | default $.Values.services.online) "callers" (.callers | default $.Values.network.callers) -}}
{{- $shared := pick $serving "leaveSeconds" "drainSeconds" "log" -}}
{{- $empty := dict "tokens" "" "oidc" "" "tls" "" "variables" dict "serviceAccount" dict "ship" list "autoscaling" (dict "enabled" false) -}}
{{- $image := dict "name" (.image | default (include "millrace.imageOf" (list $ $.Values.images.code))) "pullPolicy" $.Values.images.code.pullPolicy -}}
{{- $component := printf "serving-code-%s" (.name | default (replace "_" "-" .pipeline)) -}}
{{- $servers = append $servers (dict "component" $component "image" $image "values" (merge $own (deepCopy .) (omit $serving.code "pipelines") $shared $empty)) -}}
{{- end -}}
{{ dict "servers" $servers | toYaml }}
{{- end -}}

{{- /* What the server's pods and those that ship its log have in common. */ -}}
{{- define "millrace.servingPod" -}}
{{- $fsGroup := .root.Values.pods.fsGroup | default .values.log.fsGroup -}}
{{- $spec := include "millrace.podSpec" (dict "root" .root "token" false) | fromYaml -}}
{{- with $fsGroup }}
{{- $_ := set $spec "securityContext" (merge $spec.securityContext (dict "fsGroup" (int .) "fsGroupChangePolicy" "OnRootMismatch")) }}
{{- end -}}
{{ toYaml $spec }}
serviceAccountName: {{ .name }}
{{- if .root.Values.priorityClasses.create }}
priorityClassName: {{ .root.Values.priorityClasses.platform.name }}
{{- end }}
{{- end -}}

{{- /* Where the store is. */ -}}
{{- define "millrace.servingEnv" -}}
{{- $secrets := "/run/secrets/millrace" -}}
- {name: MILLRACE_STORE, value: {{ .root.Values.services.store | quote }}}
{{- with .root.Values.services.s3 }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
- {name: AWS_DEFAULT_REGION, value: {{ .root.Values.services.region }}}
- {name: AWS_SHARED_CREDENTIALS_FILE, value: {{ $secrets }}/aws-credentials}
{{- range $name, $value := .values.variables }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{- /* Where features are read. */ -}}
{{- define "millrace.servingOnline" -}}
{{- $secrets := "/run/secrets/millrace" -}}
- {name: MILLRACE_FEAST_ONLINE, value: {{ .values.online | quote }}}
{{- if hasPrefix "redis" .values.online }}
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

{{- /* Of the Secret they see what their services ask for, and nothing of Airflow's: with "reads" true they read the
       online store. */ -}}
{{- define "millrace.servingVolumes" -}}
{{- $secret := .values.secret -}}
{{- $password := ternary "redis-password" "postgres-password" (hasPrefix "redis" .values.online) -}}
- name: scratch
  emptyDir: {sizeLimit: 256Mi}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- if .reads }}
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

{{- /* All objects of a server, but for its network. */ -}}
{{- define "millrace.server" -}}
{{- $server := . -}}
{{- $root := .root -}}
{{- $serving := .values -}}
{{- $name := .name -}}
{{- $labels := include "millrace.labels" . -}}
{{- $selector := include "millrace.selector" . -}}
{{- $scheme := ternary "HTTPS" "HTTP" (ne $serving.tls "") -}}
{{- $several := or $serving.autoscaling.enabled (gt (int $serving.replicas) 1) -}}
# It speaks to no API server.
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- $labels | nindent 4 }}
  {{- with $serving.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- $labels | nindent 4 }}
spec:
  selector:
    {{- $selector | nindent 4 }}
  ports:
    - {name: http, port: 8800, targetPort: http, appProtocol: {{ lower $scheme }}}
---
# Names of the replicas, which a StatefulSet asks for.
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}-replicas
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- $labels | nindent 4 }}
spec:
  clusterIP: None
  selector:
    {{- $selector | nindent 4 }}
  ports:
    - {name: http, port: 8800, targetPort: http, appProtocol: {{ lower $scheme }}}
---
# Each replica keeps its own prediction log on a claim, which stays when the replica goes: what was acknowledged is
# shipped by whoever opens the claim next.
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- $labels | nindent 4 }}
spec:
  {{- if not $serving.autoscaling.enabled }}
  replicas: {{ $serving.replicas }}
  {{- else }}
  {{- /* As many as there are: left out where a number stood before, Kubernetes would take it for one. */}}
  {{- with lookup "apps/v1" "StatefulSet" $root.Release.Namespace $name }}
  replicas: {{ .spec.replicas }}
  {{- end }}
  {{- end }}
  serviceName: {{ $name }}-replicas
  podManagementPolicy: Parallel
  revisionHistoryLimit: 3
  selector:
    matchLabels:
      {{- $selector | nindent 6 }}
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain, whenScaled: Retain}
  template:
    metadata:
      labels:
        {{- $labels | nindent 8 }}
    spec:
      {{- include "millrace.servingPod" $server | nindent 6 }}
      # First the pod leaves the Service, then it ends what was begun.
      terminationGracePeriodSeconds: {{ add $serving.leaveSeconds $serving.drainSeconds 10 }}
      {{- if $several }}
      topologySpreadConstraints:
        {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- $selector | nindent 14 }}
        {{- end }}
      {{- end }}
      containers:
        - name: serving
          image: {{ $server.image.name }}
          imagePullPolicy: {{ $server.image.pullPolicy }}
          command: [tini, "--", /opt/millrace/platform/entrypoint.sh, python, -m, millrace.serving]
          args:
            - --host=0.0.0.0
            - --port=8800
            - --log=/var/lib/millrace/predictions
            - --workers={{ $serving.workers }}
            - --memory-mb={{ $serving.memoryMb }}
            - --drain={{ $serving.drainSeconds }}
            {{- range $serving.only }}
            - --only={{ . }}
            {{- end }}
            {{- range $serving.apart }}
            - --except={{ . }}
            {{- end }}
            {{- if $serving.alone }}
            - --code
            {{- end }}
            {{- if not $serving.log.durable }}
            - --buffered
            {{- end }}
            {{- if $serving.tls }}
            - --tls-certificate=/run/secrets/tls/tls.crt
            - --tls-key=/run/secrets/tls/tls.key
            {{- end }}
          env:
            {{- include "millrace.servingEnv" $server | nindent 12 }}
            {{- include "millrace.servingOnline" $server | nindent 12 }}
            {{- if $serving.tokens }}
            - {name: MILLRACE_SERVING_TOKENS, value: /run/secrets/callers/tokens}
            {{- end }}
            {{- if $serving.oidc }}
            - {name: MILLRACE_SERVING_OIDC, value: /run/secrets/callers/oidc}
            {{- end }}
          ports:
            - {name: http, containerPort: 8800}
          startupProbe:
            httpGet: {path: /v2/health/ready, port: http, scheme: {{ $scheme }}}
            periodSeconds: 1
            timeoutSeconds: 2
            failureThreshold: 180
          readinessProbe:
            httpGet: {path: /v2/health/ready, port: http, scheme: {{ $scheme }}}
            periodSeconds: 5
            timeoutSeconds: 2
            failureThreshold: 2
          # Workers that hang are found by their parent; this finds a parent that hangs.
          livenessProbe:
            httpGet: {path: /v2/health/live, port: http, scheme: {{ $scheme }}}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          lifecycle:
            preStop:
              exec:
                command: [sleep, {{ $serving.leaveSeconds | quote }}]
          resources:
            {{- toYaml $serving.resources | nindent 12 }}
          securityContext:
            {{- include "millrace.containerSecurity" $root | nindent 12 }}
          volumeMounts:
            {{- include "millrace.servingMounts" $server | nindent 12 }}
            - {name: callers, mountPath: /run/secrets/callers, readOnly: true}
            {{- if $serving.tls }}
            - {name: tls, mountPath: /run/secrets/tls, readOnly: true}
            {{- end }}
      volumes:
        {{- include "millrace.servingVolumes" (merge (dict "reads" true) $server) | nindent 8 }}
        - name: callers
          projected:
            defaultMode: 0440
            sources:
              {{- with $serving.tokens }}
              - secret: {name: {{ . }}, items: [{key: tokens, path: tokens}]}
              {{- end }}
              {{- with $serving.oidc }}
              - configMap: {name: {{ . }}, items: [{key: oidc, path: oidc}]}
              {{- end }}
        {{- with $serving.tls }}
        - name: tls
          secret: {secretName: {{ . }}, defaultMode: 0440}
        {{- end }}
  volumeClaimTemplates:
    - metadata:
        name: log
        labels:
          {{- $selector | nindent 10 }}
      spec:
        accessModes: [ReadWriteOnce]
        {{- with $serving.log.storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests: {storage: {{ $serving.log.size }}}
{{- if $serving.autoscaling.enabled }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- $labels | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: {{ $name }}}
  minReplicas: {{ $serving.autoscaling.minReplicas }}
  maxReplicas: {{ $serving.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ $serving.autoscaling.cpu }}}
    {{- with $serving.autoscaling.metrics }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
{{- range $ordinal := $serving.ship }}
---
# Ships what replica {{ $ordinal }} left, which is gone. It mounts that replica's claim by name and asks the API server nothing.
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ $name }}-ship-{{ $ordinal }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "millrace.labels" (dict "root" $root "component" "serving-ship") | nindent 4 }}
  annotations:
    helm.sh/hook: post-install,post-upgrade
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  backoffLimit: 4
  activeDeadlineSeconds: 1800
  ttlSecondsAfterFinished: 3600
  template:
    metadata:
      labels:
        {{- include "millrace.labels" (dict "root" $root "component" "serving-ship") | nindent 8 }}
    spec:
      {{- include "millrace.servingPod" $server | nindent 6 }}
      restartPolicy: Never
      containers:
        - name: ship
          image: {{ $server.image.name }}
          imagePullPolicy: {{ $server.image.pullPolicy }}
          command: [tini, "--", /opt/millrace/platform/entrypoint.sh, millrace, ship-log]
          args: [/var/lib/millrace/predictions, --server={{ $name }}-{{ $ordinal }}]
          env:
            {{- include "millrace.servingEnv" $server | nindent 12 }}
          resources:
            requests: {cpu: 100m, memory: 256Mi}
            limits: {memory: 512Mi}
          securityContext:
            {{- include "millrace.containerSecurity" $root | nindent 12 }}
          volumeMounts:
            {{- include "millrace.servingMounts" $server | nindent 12 }}
      volumes:
        {{- include "millrace.servingVolumes" (merge (dict "reads" false) $server) | nindent 8 }}
        - name: log
          persistentVolumeClaim: {claimName: log-{{ $name }}-{{ $ordinal }}}
{{- end }}
{{- end -}}

{{- /* A server's network: its callers, the store, its online store. */ -}}
{{- define "millrace.serverNetwork" -}}
{{- $net := .root.Values.network -}}
{{- $online := include "millrace.port" (list .values.online (ternary 6379 5432 (hasPrefix "redis" .values.online))) -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "millrace.labels" (dict "root" .root) | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "millrace.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - ports:
        - {protocol: TCP, port: 8800}
      {{- with .values.callers }}
      from:
        {{- toYaml . | nindent 8 }}
      {{- end }}
  egress:
    {{- include "millrace.reach" (list $net.dns (list 53) "dns") | nindent 4 }}
    {{- include "millrace.reach" (list $net.to.online (list $online)) | nindent 4 }}
    {{- include "millrace.reach" (list $net.to.s3 (list (include "millrace.s3Port" .root))) | nindent 4 }}
    {{- if .values.oidc }}
    {{- include "millrace.reach" (list $net.to.issuer (list 443)) | nindent 4 }}
    {{- end }}
{{- end -}}
