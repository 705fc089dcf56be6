/// Endpoints in the order of their nodes, then of their uids: a persistent balanced tree (treap) of short runs, with
/// sums of capacity.
///
/// A copy is free. A change, a choice by weight, and the part that is on one node take O(log n).
struct EndpointTree: Sendable {
    /// Longest run; a fuller one is cut in two.
    static let runLimit = 64

    private(set) var root: Node?

    /// The hash of a uid makes the tree's shape; Swift seeds it per process, so no chosen names can make it deep.
    ///
    /// Changed only through the one reference there is to it, which ``insert(_:_:_:)`` sees to; from the moment it is
    /// shared it does not change any more. That is what makes it sendable.
    final class Node: @unchecked Sendable {
        /// Sorted, never empty.
        fileprivate(set) var run: ContiguousArray<Workload>
        let priority: Int
        fileprivate(set) var left: Node?
        fileprivate(set) var right: Node?
        fileprivate(set) var runWeight: UInt64
        /// Of the run and of all below.
        fileprivate(set) var weight: UInt64
        fileprivate(set) var count: Int

        convenience init(_ run: ContiguousArray<Workload>, priority: Int, left: Node?, right: Node?) {
            let weight = run.reduce(0) { $0 + UInt64($1.capacity) }
            self.init(run, weight: weight, priority: priority, left: left, right: right)
        }

        private init(
            _ run: ContiguousArray<Workload>, weight runWeight: UInt64, priority: Int, left: Node?, right: Node?
        ) {
            self.run = run
            self.priority = priority
            self.left = left
            self.right = right
            self.runWeight = runWeight
            weight = runWeight + (left?.weight ?? 0) + (right?.weight ?? 0)
            count = run.count + (left?.count ?? 0) + (right?.count ?? 0)
        }

        fileprivate func with(left: Node?, right: Node?) -> Node {
            Node(run, weight: runWeight, priority: priority, left: left, right: right)
        }

        /// After a change of the run or of what is below.
        fileprivate func sum() {
            weight = runWeight + (left?.weight ?? 0) + (right?.weight ?? 0)
            count = run.count + (left?.count ?? 0) + (right?.count ?? 0)
        }

        var first: Workload { run[0] }
        var last: Workload { run[run.count - 1] }
    }

    var isEmpty: Bool { root == nil }
    var count: Int { root?.count ?? 0 }
    var weight: UInt64 { root?.weight ?? 0 }

    /// Adds an endpoint, in place of one with the same node and uid.
    mutating func insert(_ workload: Workload) {
        var overflow: ContiguousArray<Workload>?
        Self.insert(workload, &root, &overflow)
        if let overflow { root = Self.add(Self.leaf(overflow), to: root) }
    }

    /// Removes the endpoint with the same node and uid.
    mutating func remove(_ workload: Workload) { root = Self.remove(workload, root) }

    /// Calls the body for each, in order, until it returns false; says whether it never did.
    func forEach(_ body: (Workload) -> Bool) -> Bool { Self.visit(root, body) }

    /// The endpoint that the point `0..<weight` falls on.
    func at(_ point: UInt64) -> Workload? {
        var node = root
        var point = point
        while let current = node {
            let left = current.left?.weight ?? 0
            if point < left {
                node = current.left
                continue
            }
            point -= left
            if point < current.runWeight {
                for workload in current.run {
                    if point < workload.capacity { return workload }
                    point -= UInt64(workload.capacity)
                }
            }
            point -= current.runWeight
            node = current.right
        }
        return nil
    }

    /// Where the endpoints of one node lie among the points `0..<weight`.
    func points(onNode name: String) -> Range<UInt64> {
        let start = weight { $0.node < name }
        return start..<max(start, weight { $0.node <= name })
    }

    /// Sum of the capacities of the endpoints before the first that the condition does not hold for.
    private func weight(while holds: (Workload) -> Bool) -> UInt64 {
        var node = root
        var sum: UInt64 = 0
        while let current = node {
            guard holds(current.first) else {
                node = current.left
                continue
            }
            sum += current.left?.weight ?? 0
            if holds(current.last) {
                sum += current.runWeight
                node = current.right
                continue
            }
            for workload in current.run {
                guard holds(workload) else { return sum }
                sum += UInt64(workload.capacity)
            }
            return sum
        }
        return sum
    }

    // MARK: The tree

    private static func leaf(_ run: ContiguousArray<Workload>) -> Node {
        Node(run, priority: run[0].uid.hashValue, left: nil, right: nil)
    }

    private static func precedes(_ left: Workload, _ right: Workload) -> Bool {
        left.node == right.node ? left.uid < right.uid : left.node < right.node
    }

    /// Nodes that nobody else holds are changed where they are: a mesh that comes in is made so without a copy for each
    /// of its endpoints.
    private static func insert(_ new: Workload, _ slot: inout Node?, _ overflow: inout ContiguousArray<Workload>?) {
        // Asked before there is a reference here as well.
        let isOwn = isKnownUniquelyReferenced(&slot)
        guard let shared = slot else {
            slot = leaf([new])
            return
        }
        let node = isOwn ? shared : shared.with(left: shared.left, right: shared.right)
        if !isOwn { slot = node }
        if node.left != nil, precedes(new, node.first) {
            insert(new, &node.left, &overflow)
        } else if node.right != nil, precedes(node.last, new) {
            insert(new, &node.right, &overflow)
        } else {
            put(new, in: node, &overflow)
        }
        node.sum()
    }

    private static func put(_ new: Workload, in node: Node, _ overflow: inout ContiguousArray<Workload>?) {
        let index = position(of: new, in: node.run)
        if index < node.run.count, node.run[index].uid == new.uid, node.run[index].node == new.node {
            node.runWeight -= UInt64(node.run[index].capacity)
            node.run[index] = new
        } else {
            node.run.insert(new, at: index)
        }
        node.runWeight += UInt64(new.capacity)
        guard node.run.count > runLimit else { return }
        let half = node.run.count / 2
        let rest = ContiguousArray(node.run[half...])
        node.run.removeSubrange(half...)
        node.runWeight -= rest.reduce(0) { $0 + UInt64($1.capacity) }
        overflow = rest
    }

    /// The first that does not precede it.
    private static func position(of workload: Workload, in run: ContiguousArray<Workload>) -> Int {
        var range = 0..<run.count
        while !range.isEmpty {
            let middle = (range.lowerBound + range.upperBound) / 2
            range =
                precedes(run[middle], workload) ? (middle + 1)..<range.upperBound : range.lowerBound..<middle
        }
        return range.lowerBound
    }

    /// Adds a run that lies between two neighbouring ones.
    private static func add(_ new: Node, to node: Node?) -> Node {
        guard let node else { return new }
        if new.priority > node.priority {
            let (left, right) = split(node, new.first)
            return new.with(left: left, right: right)
        }
        return precedes(new.first, node.first)
            ? node.with(left: add(new, to: node.left), right: node.right)
            : node.with(left: node.left, right: add(new, to: node.right))
    }

    private static func remove(_ old: Workload, _ node: Node?) -> Node? {
        guard let node else { return nil }
        if precedes(old, node.first) {
            let left = remove(old, node.left)
            return left === node.left ? node : node.with(left: left, right: node.right)
        }
        if precedes(node.last, old) {
            let right = remove(old, node.right)
            return right === node.right ? node : node.with(left: node.left, right: right)
        }
        let index = position(of: old, in: node.run)
        guard index < node.run.count, node.run[index].uid == old.uid, node.run[index].node == old.node else {
            return node
        }
        if node.run.count == 1 { return merge(node.left, node.right) }
        var run = node.run
        run.remove(at: index)
        return Node(run, priority: node.priority, left: node.left, right: node.right)
    }

    /// The runs before and behind an endpoint that lies in none.
    private static func split(_ node: Node?, _ workload: Workload) -> (Node?, Node?) {
        guard let node else { return (nil, nil) }
        if precedes(workload, node.first) {
            let (left, right) = split(node.left, workload)
            return (left, node.with(left: right, right: node.right))
        }
        let (left, right) = split(node.right, workload)
        return (node.with(left: node.left, right: left), right)
    }

    private static func merge(_ left: Node?, _ right: Node?) -> Node? {
        guard let left else { return right }
        guard let right else { return left }
        return left.priority >= right.priority
            ? left.with(left: left.left, right: merge(left.right, right))
            : right.with(left: merge(left, right.left), right: right.right)
    }

    private static func visit(_ node: Node?, _ body: (Workload) -> Bool) -> Bool {
        guard let node else { return true }
        return visit(node.left, body) && node.run.allSatisfy(body) && visit(node.right, body)
    }
}
