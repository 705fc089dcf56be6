/// The table of rooms in docs/architecture.md: the one place where layers are written down.
struct LayerTable {
    struct Room {
        let target: String
        let layer: String
        /// 0 is the lowest layer.
        let rank: Int
        let mayUseFoundation: Bool
    }

    let rooms: [String: Room]
    /// Top first, as in the document.
    let layers: [String]

    struct Problem: Error, CustomStringConvertible {
        let description: String
    }

    /// Reads rows `| layer | `target` | yes or no | text |` below the header that begins with `| layer | target |`.
    init(markdown: String) throws {
        let lines = markdown.split(separator: "\n", omittingEmptySubsequences: false)
        guard let header = lines.firstIndex(where: { $0.hasPrefix("| layer | target | Foundation |") }) else {
            throw Problem(description: "no table of rooms")
        }
        var rows: [(layer: String, target: String, foundation: String)] = []
        for line in lines[(header + 2)...] {
            guard line.hasPrefix("|") else { break }
            let cells = line.split(separator: "|").map { $0.trimmed }
            guard cells.count >= 4 else { throw Problem(description: "a row with too few cells: \(line)") }
            rows.append((cells[0], String(cells[1].filter { $0 != "`" }), cells[2]))
        }
        var layers: [String] = []
        for row in rows where layers.last != row.layer {
            guard !layers.contains(row.layer) else {
                throw Problem(description: "the layer \(row.layer) appears in two places")
            }
            layers.append(row.layer)
        }
        var rooms: [String: Room] = [:]
        for row in rows {
            guard ["yes", "no"].contains(row.foundation) else {
                throw Problem(description: "\(row.target): Foundation must be yes or no, not \(row.foundation)")
            }
            guard rooms[row.target] == nil else { throw Problem(description: "\(row.target) is listed twice") }
            let rank = layers.count - 1 - (layers.firstIndex(of: row.layer) ?? 0)
            rooms[row.target] = Room(
                target: row.target, layer: row.layer, rank: rank, mayUseFoundation: row.foundation == "yes")
        }
        self.rooms = rooms
        self.layers = layers
    }
}

extension Substring {
    fileprivate var trimmed: String {
        var text = self
        while text.first == " " { text.removeFirst() }
        while text.last == " " { text.removeLast() }
        return String(text)
    }
}
