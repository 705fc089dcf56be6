import Foundation
import Kubernetes
import ObjectSource
import Testing

@testable import Controller
@testable import Identity

/// Asking the API server whose a token is.
@Suite("Reviews of tokens", .serialized, .timeLimit(.minutes(2)))
struct TokenReviewerTests {
    private func reviewer(_ api: ClusterAPI, memory: Duration) -> TokenReviewer {
        var settings = TokenReviewer.Settings()
        settings.memory = memory
        settings.timeout = .seconds(2)
        return TokenReviewer(api.client(token: "controller"), audiences: ["istio-ca", "other"], settings: settings)
    }

    private func refusal(_ reviewer: TokenReviewer, _ token: String, now: Date = Date()) async -> IdentityError.Code? {
        do {
            _ = try await reviewer.caller(token: token, now: now)
            return nil
        } catch {
            return error.code
        }
    }

    @Test("R47: a service account's token, with its pod and node; no other")
    func who() async throws {
        let api = try await ClusterAPI()
        var groupless: JSON = ClusterAPI.podToken("web", pod: "web-1", uid: "u1", in: "shop")
        if case .object(var fields) = groupless {
            fields["groups"] = ["system:authenticated"]
            groupless = .object(fields)
        }
        api.tokens([
            "good": ClusterAPI.podToken("web", pod: "web-1", uid: "u1", in: "shop", node: "n1"),
            "groupless": groupless,
            "user": ["audiences": ["istio-ca"], "username": "system:admin", "groups": ["system:serviceaccounts"]],
            "elsewhere": ["audiences": ["api"], "username": "system:serviceaccount:shop:web", "groups": []],
        ])
        let reviewer = reviewer(api, memory: .zero)
        let caller = try await reviewer.caller(token: "good", now: Date())
        #expect(caller.account == ObjectName(namespace: "shop", name: "web") && caller.node == "n1")
        #expect(caller.pod == PodReference(name: ObjectName(namespace: "shop", name: "web-1"), uid: "u1"))
        #expect(await refusal(reviewer, "groupless") == .tokenSubject)
        #expect(await refusal(reviewer, "user") == .tokenSubject)
        #expect(await refusal(reviewer, "elsewhere") == .tokenSignature)
        #expect(await refusal(reviewer, "unknown") == .tokenSignature)
        // Withdrawn, it is refused from then on.
        api.tokens([:])
        #expect(await refusal(reviewer, "good") == .tokenSignature)
        await api.die()
        #expect(await refusal(reviewer, "good") == .authorityUnreachable)
    }

    @Test("R47: what was said is kept for a while, and never beyond the token's own end")
    func memory() async throws {
        let api = try await ClusterAPI()
        let claims = Data(#"{"exp":1800000000}"#.utf8).base64EncodedString().replacing("=", with: "")
        let token = "e30.\(claims).c2ln"
        api.tokens([token: ClusterAPI.podToken("web", pod: "web-1", uid: "u1")])
        let reviewer = reviewer(api, memory: .seconds(600))
        let before = Date(timeIntervalSince1970: 1_799_999_999)
        // Many at once are one question.
        try await withThrowingTaskGroup(of: Caller.self) { group in
            for _ in 0..<50 { group.addTask { try await reviewer.caller(token: token, now: before) } }
            for try await caller in group { #expect(caller.serviceAccount == "web") }
        }
        #expect(api.server.count("post tokenreviews") == 1)
        await api.die()
        #expect(await refusal(reviewer, token, now: before) == nil)
        // Expired: asked again, and there is nobody to ask.
        #expect(await refusal(reviewer, token, now: before + 2) == .authorityUnreachable)
        // What was refused is not kept.
        try await api.revive()
        api.tokens([:])
        #expect(await refusal(reviewer, "later") == .tokenSignature)
        api.tokens(["later": ClusterAPI.podToken("web", pod: "web-1", uid: "u1")])
        #expect(await refusal(reviewer, "later") == nil)
    }
}
