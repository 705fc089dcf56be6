import LinuxNetwork
import Netlink

/// Behind capture by nf_tables, whose rules tell the proxy's packets by their mark: a classifier on every interface but lo
/// that drops what has the mark and opens a connection, or asks a name server, without the seal (``LinuxNetwork/Seal``).
///
/// nf_tables has no expression for anything of a socket that takes more than CAP_NET_RAW, its control group apart
/// (``SocketCreator``). What is dropped here has passed capture already, so it can be captured no more.
enum ForgedMarks {
    private static func filters(_ links: [Link]) -> [CaptureFilter] {
        links.filter { $0.index != CaptureFilter.loopback }
            .map { CaptureFilter(interface: $0.index, program: .forged, classID: 0) }
    }

    /// Of the calling thread's namespace, like all here.
    static func drop(_ programs: ForgedMarkProgram) throws(NetlinkError) {
        var places = CaptureFilters(routes: try RouteSocket())
        let links = try places.routes.links()
        try places.prepare(links.filter { $0.index != CaptureFilter.loopback })
        try places.put(filters(links), programs)
    }

    static func drift(_ programs: ForgedMarkProgram, isWanted: Bool) throws(NetlinkError) -> [Drift] {
        var places = CaptureFilters(routes: try RouteSocket())
        var found: [Drift] = []
        for link in try places.routes.links() {
            let wanted = isWanted ? filters([link]) : []
            found += try places.drift(link, .egress, wanted, programs)
        }
        return found
    }

    /// Those of an agent that asked for the seal, where this one does not and has no program to compare with.
    static func leftovers() throws(NetlinkError) -> [Drift] {
        var places = CaptureFilters(routes: try RouteSocket())
        var found: [Drift] = []
        for link in try places.routes.links() where link.index != CaptureFilter.loopback {
            found += try places.ours(link.index, .egress).filter { $0.name == CaptureProgram.forged.rawValue }
                .map { .programUnexpected(interface: link.name, program: $0.name) }
        }
        return found
    }

    /// Takes them away, and their places where nobody else needs them.
    static func remove() throws(NetlinkError) {
        var places = CaptureFilters(routes: try RouteSocket())
        for link in try places.routes.links() where link.index != CaptureFilter.loopback {
            let ours = try places.ours(link.index, .egress).filter { $0.name == CaptureProgram.forged.rawValue }
            for filter in ours { try places.routes.delete(filter) }
            if !ours.isEmpty { try places.clear(link.index) }
        }
    }
}
