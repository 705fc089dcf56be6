/// Finds the word that was probably meant.
enum Suggestion {
    /// The candidate next to `word`, when it is so near that chance is unlikely: one slip in four or five letters, two
    /// in more. Letters in the wrong case are one slip altogether.
    static func nearest(to word: String, among candidates: some Sequence<String>) -> String? {
        var best: (distance: Int, word: String)?
        for candidate in candidates.sorted() {
            let length = min(word.utf8.count, candidate.utf8.count)
            guard length >= 3, word.utf8.count <= 64 else { continue }
            let distance: Int
            if word.lowercased() == candidate.lowercased() {
                distance = 1
            } else {
                let allowed = length >= 6 ? 2 : length >= 4 ? 1 : 0
                distance = self.distance(Array(word.utf8), Array(candidate.utf8))
                guard distance <= allowed else { continue }
            }
            if best.map({ distance < $0.distance }) ?? true { best = (distance, candidate) }
        }
        return best?.word
    }

    /// Letters added, left out, replaced, or swapped with their neighbour.
    private static func distance(_ left: [UInt8], _ right: [UInt8]) -> Int {
        var beforeLast = [Int](repeating: 0, count: right.count + 1)
        var last = Array(0...right.count)
        for i in left.indices {
            var row = [i + 1] + [Int](repeating: 0, count: right.count)
            for j in right.indices {
                let cost = left[i] == right[j] ? 0 : 1
                row[j + 1] = min(last[j + 1] + 1, row[j] + 1, last[j] + cost)
                if i > 0, j > 0, left[i] == right[j - 1], left[i - 1] == right[j] {
                    row[j + 1] = min(row[j + 1], beforeLast[j - 1] + 1)
                }
            }
            (beforeLast, last) = (last, row)
        }
        return last[right.count]
    }
}
