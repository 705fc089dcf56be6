import Addressing
import Synchronization
import Testing

@testable import Mesh

@Suite("Mesh store")
struct MeshStoreTests {
    @Test("observers hear of each change once, in order, with the state it made")
    func observers() {
        let store = MeshStore()
        let heard = Mutex<[(version: UInt64, change: MeshChange, count: Int)]>([])
        let observation = store.onChange { event in
            heard.withLock { $0.append((event.version, event.change, event.state.workloadCount)) }
        }
        store.apply([.workload(pod("a", [])), .workload(pod("b", []))])
        store.apply([.workload(pod("a", []))])
        store.apply([.remove(pod("a", []).uid)])
        observation.end()
        observation.end()
        store.apply([.workload(pod("c", []))])
        let events = heard.withLock { $0 }
        #expect(events.map(\.version) == [1, 2])
        #expect(events.map(\.count) == [2, 1])
        #expect(events.map(\.change.workloads.count) == [2, 1])
        #expect(store.version == 3 && store.snapshot().workloadCount == 2)
    }

    @Test("the revision is another after every change, and the same as long as nothing changes")
    func revision() {
        let store = MeshStore()
        var seen = [store.snapshot().revision]
        for update: MeshUpdate in [
            .workload(pod("a", ["10.0.0.1"])), .service(service("s", ["10.1.0.1"])), .remove(pod("a", []).uid),
        ] {
            store.apply([update])
            #expect(!seen.contains(store.snapshot().revision))
            seen.append(store.snapshot().revision)
            store.apply([.remove("nobody")])
            #expect(store.snapshot().revision == seen.last)
        }
        // Alone, and with a copy: each says what was changed in it alone.
        var state = store.snapshot()
        let before = state.revision
        _ = state.apply(.workload(pod("b", [])))
        let between = state.revision
        _ = state.apply(.workload(pod("c", [])))
        #expect(before < between && between < state.revision && store.snapshot().revision == before)
    }

    @Test("readers see whole changes only")
    func wholeChanges() async {
        let store = MeshStore()
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                for round in 0..<200 {
                    // Both of a round, or neither.
                    store.apply([
                        .workload(pod("a", ["10.0.0.\(round % 250)"])), .workload(pod("b", ["10.0.0.\(round % 250)"])),
                    ])
                }
            }
            for _ in 0..<2 {
                group.addTask {
                    for _ in 0..<2000 {
                        let state = store.snapshot()
                        let a = state.workload(uid: pod("a", []).uid)
                        let b = state.workload(uid: pod("b", []).uid)
                        #expect(a?.addresses == b?.addresses)
                    }
                }
            }
        }
        #expect(store.version == 200)
    }

    @Test("a reader is not kept waiting while a change is being made")
    func readersDoNotWait() {
        let store = MeshStore()
        store.update { state in
            let change = state.apply(.workload(pod("a", [])))
            // Inside the change the published state is still the old one, and can be had.
            #expect(store.snapshot().workloadCount == 0)
            #expect(store.version == 0)
            return change
        }
        #expect(store.snapshot().workloadCount == 1)
    }

    @Test("what a change has replaced is kept until no reader holds it, so that no reader frees it")
    func retired() {
        let store = MeshStore()
        store.apply([.workload(pod("a", []))])
        weak var replaced: Workload?
        do {
            let held = store.snapshot()
            replaced = held.workload(uid: pod("a", []).uid)
            store.apply([.remove(pod("a", []).uid)])
            #expect(store.reclaim() == 1)
            #expect(held.workloadCount == 1)
        }
        // The reader has let go, and what it held is still there for the writer to free.
        #expect(replaced != nil)
        #expect(store.reclaim() == 0)
        #expect(replaced == nil)
    }

    @Test("a state that nobody holds is let go with the change that replaces it")
    func reclaimed() {
        let store = MeshStore()
        for name in ["a", "b", "c"] { store.apply([.workload(pod(name, []))]) }
        #expect(store.reclaim() == 0)
    }
}
