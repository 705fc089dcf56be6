import Testing

@testable import Discovery

@Suite("Which version of which resource is held")
struct ResourceVersionsTests {
    @Test("behaves as a dictionary does", arguments: [8, 5000])
    func againstModel(names: Int) {
        var versions = ResourceVersions()
        var model: [String: String] = [:]
        for step in 0..<20_000 {
            let name = "Kubernetes//Pod/ns/name-\(Int.random(in: 0..<names))"
            if Int.random(in: 0..<3) == 0 {
                versions.remove(name)
                model[name] = nil
            } else {
                versions.set(name, "\(step)")
                model[name] = "\(step)"
            }
            #expect(versions[name] == model[name])
            if step % 5000 == 0 { #expect(versions.all == model) }
        }
        #expect(versions.all == model && versions.count == model.count)
        for name in model.keys { versions.remove(name) }
        #expect(versions.all.isEmpty && versions["Kubernetes//Pod/ns/name-0"] == nil)
    }
}
