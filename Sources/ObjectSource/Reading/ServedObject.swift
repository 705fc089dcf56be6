extension KubernetesObject {
    /// Reads an object as an API server sends it, keeping what the mesh looks at.
    ///
    /// Fields that this program does not know are let pass, as the server has checked the object; in policies they are a
    /// problem, because what is not understood may be the point.
    ///
    /// - Parameter name: What to call the object in a problem, as nobody knows it by file and line.
    public init(_ kind: ObjectKind, served node: DocumentNode, name: String) throws(ObjectProblem) {
        do throws(ObjectProblem) {
            try self.init(kind, Fields(node, file: name, path: "", origin: .server))
        } catch {
            var problem = error
            problem.line = 0
            throw problem
        }
    }
}
