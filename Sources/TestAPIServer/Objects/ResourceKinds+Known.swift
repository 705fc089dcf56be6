extension ResourceKinds {
    /// What the server serves without any definition: Kubernetes's own kinds that Apus or its chart touches, and the
    /// kinds of Istio and the Gateway API that Apus reads.
    static let known: [ResourceKind] = core + workloads + machinery + mesh

    private static func kind(
        _ group: String, _ plural: String, _ kind: String, _ short: [String] = [], namespaced: Bool = true,
        status: Bool = false, generation: Bool = false, versions: [String] = ["v1"], builtIn: Bool = true,
        categories: [String] = []
    ) -> ResourceKind {
        ResourceKind(
            group: group, versions: versions, plural: plural, kind: kind, shortNames: short, isNamespaced: namespaced,
            hasStatus: status, hasGeneration: generation, isBuiltIn: builtIn, categories: categories)
    }

    private static let core = [
        kind("", "pods", "Pod", ["po"], status: true, generation: true, categories: ["all"]),
        kind("", "namespaces", "Namespace", ["ns"], namespaced: false, status: true),
        kind("", "nodes", "Node", ["no"], namespaced: false, status: true),
        kind("", "services", "Service", ["svc"], status: true, categories: ["all"]),
        kind("", "endpoints", "Endpoints", ["ep"]), kind("", "configmaps", "ConfigMap", ["cm"]),
        kind("", "secrets", "Secret"), kind("", "serviceaccounts", "ServiceAccount", ["sa"]),
        kind("", "events", "Event", ["ev"]), kind("", "limitranges", "LimitRange", ["limits"]),
        kind("", "resourcequotas", "ResourceQuota", ["quota"], status: true),
        kind("", "persistentvolumeclaims", "PersistentVolumeClaim", ["pvc"], status: true),
        kind("", "persistentvolumes", "PersistentVolume", ["pv"], namespaced: false, status: true),
    ]

    private static let workloads = [
        kind("apps", "deployments", "Deployment", ["deploy"], status: true, generation: true, categories: ["all"]),
        kind("apps", "daemonsets", "DaemonSet", ["ds"], status: true, generation: true, categories: ["all"]),
        kind("apps", "replicasets", "ReplicaSet", ["rs"], status: true, generation: true, categories: ["all"]),
        kind("apps", "statefulsets", "StatefulSet", ["sts"], status: true, generation: true, categories: ["all"]),
        kind("batch", "jobs", "Job", status: true, generation: true, categories: ["all"]),
        kind("batch", "cronjobs", "CronJob", ["cj"], status: true, generation: true, categories: ["all"]),
        kind(
            "autoscaling", "horizontalpodautoscalers", "HorizontalPodAutoscaler", ["hpa"], status: true,
            versions: ["v2"], categories: ["all"]),
        kind("policy", "poddisruptionbudgets", "PodDisruptionBudget", ["pdb"], status: true, generation: true),
    ]

    private static let machinery = [
        kind("coordination.k8s.io", "leases", "Lease"),
        kind("discovery.k8s.io", "endpointslices", "EndpointSlice", generation: true),
        kind("networking.k8s.io", "networkpolicies", "NetworkPolicy", ["netpol"], generation: true),
        kind("networking.k8s.io", "ingresses", "Ingress", ["ing"], status: true, generation: true),
        kind("networking.k8s.io", "ingressclasses", "IngressClass", namespaced: false, generation: true),
        kind("rbac.authorization.k8s.io", "clusterroles", "ClusterRole", namespaced: false),
        kind("rbac.authorization.k8s.io", "clusterrolebindings", "ClusterRoleBinding", namespaced: false),
        kind("rbac.authorization.k8s.io", "roles", "Role"),
        kind("rbac.authorization.k8s.io", "rolebindings", "RoleBinding"),
        kind("scheduling.k8s.io", "priorityclasses", "PriorityClass", ["pc"], namespaced: false, generation: true),
        kind("storage.k8s.io", "storageclasses", "StorageClass", ["sc"], namespaced: false),
        kind(
            "admissionregistration.k8s.io", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration",
            namespaced: false, generation: true),
        kind(
            "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration",
            namespaced: false, generation: true),
        kind(
            "apiextensions.k8s.io", "customresourcedefinitions", "CustomResourceDefinition", ["crd", "crds"],
            namespaced: false, status: true, generation: true),
    ]

    private static func istio(
        _ group: String, _ plural: String, _ kind: String, _ short: [String], _ versions: [String]
    )
        -> ResourceKind
    {
        self.kind(
            "\(group).istio.io", plural, kind, short, status: true, generation: true, versions: versions,
            builtIn: false, categories: ["istio-io"])
    }

    private static let mesh: [ResourceKind] = {
        let (security, networking) = (["v1", "v1beta1"], ["v1", "v1beta1", "v1alpha3"])
        func gateway(_ plural: String, _ kind: String, _ short: [String], _ versions: [String], namespaced: Bool = true)
            -> ResourceKind
        {
            Self.kind(
                "gateway.networking.k8s.io", plural, kind, short, namespaced: namespaced, status: true,
                generation: true, versions: versions, builtIn: false, categories: ["gateway-api"])
        }
        return [
            istio("security", "authorizationpolicies", "AuthorizationPolicy", ["ap"], security),
            istio("security", "peerauthentications", "PeerAuthentication", ["pa"], security),
            istio("security", "requestauthentications", "RequestAuthentication", ["ra"], security),
            istio("networking", "serviceentries", "ServiceEntry", ["se"], networking),
            istio("networking", "workloadentries", "WorkloadEntry", ["we"], networking),
            istio("networking", "workloadgroups", "WorkloadGroup", ["wg"], networking),
            istio("networking", "destinationrules", "DestinationRule", ["dr"], networking),
            istio("networking", "virtualservices", "VirtualService", ["vs"], networking),
            istio("networking", "gateways", "Gateway", ["gw"], networking),
            istio("networking", "sidecars", "Sidecar", [], networking),
            gateway("gatewayclasses", "GatewayClass", ["gc"], ["v1", "v1beta1"], namespaced: false),
            gateway("gateways", "Gateway", ["gtw"], ["v1", "v1beta1"]),
            gateway("httproutes", "HTTPRoute", [], ["v1", "v1beta1"]),
            gateway("grpcroutes", "GRPCRoute", [], ["v1"]),
            gateway("tlsroutes", "TLSRoute", [], ["v1alpha2"]), gateway("tcproutes", "TCPRoute", [], ["v1alpha2"]),
            gateway("referencegrants", "ReferenceGrant", ["refgrant"], ["v1beta1"]),
        ]
    }()
}
