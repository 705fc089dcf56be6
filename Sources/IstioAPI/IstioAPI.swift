/// The names under which resources travel: `type_url` of requests, and of each resource's `Any`.
public enum TypeURL {
    /// Workloads and services, `istio.workload.Address`.
    public static let address = "type.googleapis.com/istio.workload.Address"
    /// L4 policies, `istio.security.Authorization`.
    public static let authorization = "type.googleapis.com/istio.security.Authorization"
}
