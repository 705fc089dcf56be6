/// Who is told when a timer fires. `tag` is what was given when it was set, to tell one's timers apart.
public protocol TimerHandler: AnyObject {
    func timerFired(tag: Int)
}

/// Names a timer that was set. A timer that fired or was cancelled is gone: its name never means another one.
public struct TimerID: Hashable, Sendable {
    let slot: UInt32
    let generation: UInt32
}

/// A binary heap of deadlines that can be cancelled in place. Setting and cancelling allocate nothing once warm.
struct TimerQueue {
    private struct Slot {
        var handler: (any TimerHandler)?
        var tag = 0
        var generation: UInt32 = 0
        var position = 0
    }
    private struct Entry {
        var deadline: UInt64
        var slot: UInt32
    }

    private var slots: [Slot] = []
    private var freeSlots: [UInt32] = []
    private var heap: [Entry] = []

    var next: UInt64? { heap.first?.deadline }
    var count: Int { heap.count }

    mutating func set(at deadline: UInt64, _ handler: any TimerHandler, tag: Int) -> TimerID {
        let slot: UInt32
        if let free = freeSlots.popLast() {
            slot = free
        } else {
            slot = UInt32(slots.count)
            slots.append(Slot())
        }
        slots[Int(slot)].handler = handler
        slots[Int(slot)].tag = tag
        heap.append(Entry(deadline: deadline, slot: slot))
        slots[Int(slot)].position = heap.count - 1
        siftUp(heap.count - 1)
        return TimerID(slot: slot, generation: slots[Int(slot)].generation)
    }

    /// Does nothing for a timer that fired or was cancelled before.
    mutating func cancel(_ id: TimerID) {
        guard slots.indices.contains(Int(id.slot)), slots[Int(id.slot)].generation == id.generation,
            slots[Int(id.slot)].handler != nil
        else { return }
        remove(at: slots[Int(id.slot)].position)
        release(id.slot)
    }

    /// Takes the earliest timer that is due.
    mutating func popDue(_ now: UInt64) -> (handler: any TimerHandler, tag: Int)? {
        guard let first = heap.first, first.deadline <= now else { return nil }
        let slot = slots[Int(first.slot)]
        remove(at: 0)
        release(first.slot)
        return slot.handler.map { ($0, slot.tag) }
    }

    private mutating func release(_ slot: UInt32) {
        slots[Int(slot)].handler = nil
        slots[Int(slot)].generation &+= 1
        freeSlots.append(slot)
    }

    private mutating func remove(at position: Int) {
        let last = heap.removeLast()
        guard position < heap.count else { return }
        place(last, position)
        siftUp(position)
        siftDown(slots[Int(last.slot)].position)
    }

    private mutating func place(_ entry: Entry, _ position: Int) {
        heap[position] = entry
        slots[Int(entry.slot)].position = position
    }

    private mutating func siftUp(_ start: Int) {
        var position = start
        let entry = heap[position]
        while position > 0 {
            let parent = (position - 1) / 2
            guard entry.deadline < heap[parent].deadline else { break }
            place(heap[parent], position)
            position = parent
        }
        place(entry, position)
    }

    private mutating func siftDown(_ start: Int) {
        var position = start
        let entry = heap[position]
        while true {
            var child = 2 * position + 1
            guard child < heap.count else { break }
            if child + 1 < heap.count, heap[child + 1].deadline < heap[child].deadline { child += 1 }
            guard heap[child].deadline < entry.deadline else { break }
            place(heap[child], position)
            position = child
        }
        place(entry, position)
    }
}
