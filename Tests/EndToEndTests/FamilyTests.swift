import Addressing
import Testing

@testable import LocalCluster

extension EndToEnd {
    @Suite("IPv6", .serialized)
    struct FamilyTests {
        @Test func versionSixIsCapturedEncryptedAndKeepsTheClientsAddress() throws {
            try TestMesh.run { stage in
                let observed = try stage.observedGet(.v6, "secret6")
                let tunnel = Stage.tunnelled(observed.traffic)
                #expect(observed.inClear == 0)
                #expect(tunnel.records > 0)
                #expect(tunnel.isPure)
                #expect(Stage.clientSeen(in: observed.answer) == "\(try stage.client.address(.v6))")
            }
        }

        @Test func anOldVersionSixConnectionLivesThroughEnrolmentAndBack() throws {
            try TestMesh.run(enrolled: false) { stage in
                try stage.driver.open("old6", to: stage.echo(.v6))
                try stage.enrol()
                #expect(try stage.driver.exchange("old6", "in the mesh") == "in the mesh")
                try stage.unenrol()
                #expect(try stage.driver.exchange("old6", "out of it") == "out of it")
                try stage.waitOnWire(tunnelled: false, .v6)
            }
        }
    }
}
