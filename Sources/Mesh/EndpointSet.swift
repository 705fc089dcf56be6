/// The endpoints of one service: a persistent balanced tree (treap) in the order of uids, with sums of capacity.
///
/// A copy is free, a change and a choice by weight take O(log n), whatever the number of endpoints. Unhealthy ones are
/// kept apart, so that choosing among the healthy ones does not pass over them.
struct EndpointSet: Sendable {
    private var healthy: Node?
    private var unhealthy: Node?

    /// The hash of the uid makes the tree's shape; Swift seeds it per process, so no chosen names can make it deep.
    final class Node: Sendable {
        let workload: Workload
        let priority: Int
        let left: Node?
        let right: Node?
        let weight: UInt64
        let count: Int

        init(_ workload: Workload, priority: Int, left: Node?, right: Node?) {
            self.workload = workload
            self.priority = priority
            self.left = left
            self.right = right
            weight = UInt64(workload.capacity) + (left?.weight ?? 0) + (right?.weight ?? 0)
            count = 1 + (left?.count ?? 0) + (right?.count ?? 0)
        }
    }

    var isEmpty: Bool { healthy == nil && unhealthy == nil }
    var count: Int { (healthy?.count ?? 0) + (unhealthy?.count ?? 0) }

    mutating func insert(_ workload: Workload) {
        remove(workload.uid)
        let priority = workload.uid.hashValue
        switch workload.status {
        case .healthy: healthy = Self.insert(workload, priority, into: healthy)
        case .unhealthy: unhealthy = Self.insert(workload, priority, into: unhealthy)
        }
    }

    mutating func remove(_ uid: String) {
        healthy = Self.remove(uid, from: healthy)
        unhealthy = Self.remove(uid, from: unhealthy)
    }

    subscript(uid: String) -> Workload? { Self.find(uid, in: healthy) ?? Self.find(uid, in: unhealthy) }

    /// Calls the body for each endpoint the health policy admits, until it returns false.
    func forEach(_ health: LoadBalancing.HealthPolicy, _ body: (Workload) -> Bool) {
        guard Self.visit(healthy, body), health == .allowAll else { return }
        _ = Self.visit(unhealthy, body)
    }

    /// Sum of the capacities of the endpoints the health policy admits.
    func weight(_ health: LoadBalancing.HealthPolicy) -> UInt64 {
        (healthy?.weight ?? 0) + (health == .allowAll ? unhealthy?.weight ?? 0 : 0)
    }

    /// The endpoint that the point `0..<weight(health)` falls on.
    func at(_ point: UInt64) -> Workload? {
        let first = healthy?.weight ?? 0
        return point < first ? Self.pick(healthy, point) : Self.pick(unhealthy, point - first)
    }

    // MARK: The tree

    private static func insert(_ workload: Workload, _ priority: Int, into node: Node?) -> Node {
        guard let node else { return Node(workload, priority: priority, left: nil, right: nil) }
        if priority > node.priority {
            let (left, right) = split(node, workload.uid)
            return Node(workload, priority: priority, left: left, right: right)
        }
        return workload.uid < node.workload.uid
            ? copy(node, left: insert(workload, priority, into: node.left), right: node.right)
            : copy(node, left: node.left, right: insert(workload, priority, into: node.right))
    }

    private static func remove(_ uid: String, from node: Node?) -> Node? {
        guard let node else { return nil }
        if uid == node.workload.uid { return merge(node.left, node.right) }
        if uid < node.workload.uid {
            let left = remove(uid, from: node.left)
            return left === node.left ? node : copy(node, left: left, right: node.right)
        }
        let right = remove(uid, from: node.right)
        return right === node.right ? node : copy(node, left: node.left, right: right)
    }

    private static func find(_ uid: String, in root: Node?) -> Workload? {
        var node = root
        while let current = node {
            if uid == current.workload.uid { return current.workload }
            node = uid < current.workload.uid ? current.left : current.right
        }
        return nil
    }

    /// The nodes below and above a uid that is in neither.
    private static func split(_ node: Node?, _ uid: String) -> (Node?, Node?) {
        guard let node else { return (nil, nil) }
        if uid < node.workload.uid {
            let (left, right) = split(node.left, uid)
            return (left, copy(node, left: right, right: node.right))
        }
        let (left, right) = split(node.right, uid)
        return (copy(node, left: node.left, right: left), right)
    }

    private static func merge(_ left: Node?, _ right: Node?) -> Node? {
        guard let left else { return right }
        guard let right else { return left }
        return left.priority >= right.priority
            ? copy(left, left: left.left, right: merge(left.right, right))
            : copy(right, left: merge(left, right.left), right: right.right)
    }

    private static func copy(_ node: Node, left: Node?, right: Node?) -> Node {
        Node(node.workload, priority: node.priority, left: left, right: right)
    }

    private static func visit(_ node: Node?, _ body: (Workload) -> Bool) -> Bool {
        guard let node else { return true }
        return visit(node.left, body) && body(node.workload) && visit(node.right, body)
    }

    private static func pick(_ root: Node?, _ point: UInt64) -> Workload? {
        var node = root
        var point = point
        while let current = node {
            let left = current.left?.weight ?? 0
            if point < left {
                node = current.left
            } else if point < left + UInt64(current.workload.capacity) {
                return current.workload
            } else {
                point -= left + UInt64(current.workload.capacity)
                node = current.right
            }
        }
        return nil
    }
}
