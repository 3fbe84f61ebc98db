"""Jobs in Kubernetes pods, through the KubernetesPodOperator."""
